"""Chunks of a long video: their plan, their parts of depth and poses, colours, and a run that goes
on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.presets import preset_camera
from egox_core.frame_store import FrameStore
from egox_core.frames import Frames
from egox_core.types import CameraTrajectory, DepthVideo, of_frames
from egox_core.wan.chunks import (
    ChunkFiles,
    check_covers,
    check_overlap,
    hold_colours,
    plan_chunks,
    sample_chunks,
)
from tests.poses import path_of
from tests.refusals import refuses


@pytest.mark.parametrize("frames", [1, 9, 49, 53, 93, 97, 193, 1441])
@pytest.mark.parametrize("known", [1, 5, 9, 45])
def test_chunks_cover_the_video_and_each_goes_on_from_the_one_before(frames, known):
    chunks = plan_chunks(frames, 49, known)
    assert (chunks[0].start, chunks[0].known, chunks[-1].frames.stop) == (0, 0, frames)
    assert {chunk.count for chunk in chunks} == {min(frames, 49)}
    for number, (one, following) in enumerate(zip(chunks, chunks[1:], strict=False), start=1):
        assert following.number == number and one.start < following.start
        assert following.known == one.frames.stop - following.start and following.known % 4 == 1
        assert following.known == known or following is chunks[-1] and known <= following.known < 49


@pytest.mark.parametrize(
    ("frames", "length", "known", "words"),
    [
        (50, 49, 5, "50"),
        (97, 48, 5, "48"),
        (97, 49, 6, "6"),
        (97, 49, 0, "0"),
        (97, 49, 49, "fewer than its 49"),
        (97, 9, 13, "fewer than its 9"),
        (97, 1, 1, "fewer than its 1"),
    ],
)
def test_counts_that_cannot_be_are_refused(frames, length, known, words):
    with refuses(words):
        plan_chunks(frames, length, known)


def test_the_offered_overlap_is_taken():
    with refuses("use 1,"):
        check_overlap(5, 5)
    check_overlap(5, 1)


def clip(frames: int, moves: bool = False) -> tuple[DepthVideo, CameraTrajectory]:
    camera = preset_camera("aria_released", 8)
    times_s = torch.arange(frames).double()
    pose = torch.eye(3, 4).double()
    exo_w2c = pose.repeat(frames, 1, 1) * times_s[:, None, None] if moves else pose
    depth = DepthVideo(
        depth_m=times_s.float()[:, None, None].expand(-1, 8, 8),
        exo=CameraPath.of_exo(camera, exo_w2c, Frames.timed(times_s)),
    )
    w2c = pose.repeat(frames, 1, 1) * times_s[:, None, None]
    return depth, path_of(w2c, camera, exo_w2c=exo_w2c, guessed=times_s < 9)


@pytest.mark.parametrize("moves", [False, True])
def test_depth_and_poses_are_those_of_the_chunks_own_frames(moves):
    chunk = plan_chunks(17, 9, 1)[1]
    depth, trajectory = (of_frames(payload, chunk.frames) for payload in clip(17, moves))
    assert (
        depth.depth_m[:, 0, 0].tolist() == depth.exo.frames.times_s.tolist() == list(range(8, 17))
    )
    assert trajectory.ego.w2c[:, 0, 0].tolist() == list(range(8, 17))
    assert trajectory.guessed.tolist() == [True] + [False] * 8
    assert trajectory.exo.pose.shape == ((9, 3, 4) if moves else (3, 4))


def test_what_ends_before_the_video_is_refused():
    depth, trajectory = clip(13)
    check_covers(depth, trajectory, 13)
    check_covers(None, None, 17)
    with refuses("depth: got 13 frames; expected the video's 17"):
        check_covers(depth, None, 17)
    with refuses("ego trajectory: got 13 frames"):
        check_covers(None, trajectory, 17)
    with refuses("look-away memory: got no depth"):
        check_covers(None, trajectory, 13, needed=True)


def test_colours_are_held_to_the_overlap():
    true = 0.2 + 0.5 * torch.rand(9, 16, 16, 3)
    assert (hold_colours(true, true[:5]) - true).abs().max() < 1e-5
    drifted = (0.9 * true + torch.tensor((0.08, 0.0, -0.05))).clamp(0, 1)
    held_video = hold_colours(drifted, true[:5])
    assert (held_video - true).abs().mean() < 0.25 * (drifted - true).abs().mean()
    black = torch.zeros(5, 16, 16, 3)
    assert hold_colours(black, black[:1]).abs().max() < 1e-3, "nothing to scale a flat picture by"


def pictures(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(frames, 16, 32, 3), torch.rand(frames, 16, 16, 3)


class Sampler:
    """Returns the prior, darker. It records its arguments, and can be cancelled."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.asked: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.cancel_at = cancel_at

    def __call__(self, chunk, exo, prior, depth, trajectory, before) -> torch.Tensor:
        if chunk.number == self.cancel_at:
            raise KeyboardInterrupt
        assert len(exo) == len(prior) == len(trajectory.ego.w2c) == chunk.count
        self.asked.append((chunk.number, prior, before))
        return 0.5 * prior


def test_each_chunk_begins_with_the_frames_that_the_one_before_ended_with():
    exo, prior = pictures(29)
    chunks, sampler = plan_chunks(29, 9, 5), Sampler()
    ego = sample_chunks(chunks, exo, prior, *clip(29), sampler)
    assert ego.shape == prior.shape and ego.dtype == torch.float32
    for chunk, (_, seen, before) in zip(chunks, sampler.asked, strict=True):
        assert torch.equal(before, ego[chunk.frames][: chunk.known]) and torch.equal(
            seen, prior[chunk.frames]
        )
    assert torch.equal(ego[:9], 0.5 * prior[:9]), "the first chunk's colours are its own"


class LightMemory:
    """Brings each chunk's prior nearer to white than the one before."""

    kept = 0

    def fill(self, exo, prior, depth, trajectory) -> torch.Tensor:
        return prior + (1 - prior) * self.kept / 9

    def keep(self, ego, trajectory) -> None:
        self.kept += 1


def test_the_prior_is_shown_as_the_chunk_of_each_frame_was_given_it():
    exo, prior = pictures(29)
    sampler, shown_prior = Sampler(), FrameStore(29, (16, 16, 3), np.float32)
    chunks = plan_chunks(29, 9, 5)
    sample_chunks(chunks, exo, prior, *clip(29), sampler, memory=LightMemory(), given=shown_prior)
    chunk_priors = [
        seen[chunk.known :] for chunk, (_, seen, _) in zip(chunks, sampler.asked, strict=True)
    ]
    assert torch.equal(shown_prior.tensor(), torch.cat(chunk_priors)) and not torch.equal(
        chunk_priors[1], prior[9:13]
    )


def test_a_cancelled_run_goes_on(tmp_path):
    exo, prior = pictures(29)
    chunks = plan_chunks(29, 9, 5)
    uncut_run = sample_chunks(chunks, exo, prior, *clip(29), Sampler())
    with pytest.raises(KeyboardInterrupt):
        sample_chunks(
            chunks, exo, prior, *clip(29), Sampler(cancel_at=3), ChunkFiles(tmp_path, "a")
        )
    assert len(list(tmp_path.iterdir())) == 3, "whole files and nothing else"
    rest, files = Sampler(), ChunkFiles(tmp_path, "a")
    assert torch.equal(sample_chunks(chunks, exo, prior, *clip(29), rest, files), uncut_run)
    assert [number for number, *_ in rest.asked] == [3, 4, 5]
    files.clear()
    assert not list(tmp_path.iterdir())


def test_only_the_same_work_is_taken_up(tmp_path):
    exo, prior = pictures(17)
    chunks = plan_chunks(17, 9, 1)
    depth, trajectory = clip(17)

    def computed(*inputs, origin: str = "a") -> list[int]:
        sampler = Sampler()
        sample_chunks(chunks, *inputs, sampler, ChunkFiles(tmp_path, origin))
        return [number for number, *_ in sampler.asked]

    assert (
        computed(exo, prior, depth, trajectory) == [0, 1]
        and computed(exo, prior, depth, trajectory) == []
    )
    assert computed(exo, prior, depth, trajectory, origin="b") == [0, 1]
    later = exo.clone()
    later[12] += 0.01
    assert computed(later, prior, depth, trajectory) == [1], "the first chunk is the same"
    assert computed(exo, prior, None, trajectory) == [0, 1]
    other_lens = replace(depth.exo, lens=depth.exo.lens.rescale(16, 16).crop(4, 4, 8, 8))
    assert computed(exo, prior, replace(depth, exo=other_lens), trajectory) == [0, 1]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    assert computed(exo, prior, depth, trajectory) == [0, 1], "damaged files are made anew"
