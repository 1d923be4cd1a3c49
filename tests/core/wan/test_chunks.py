"""Test chunks of a long video: plan, frames, overlap, colours, and a resumed run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.cameras.path import CameraPath
from egox_core.cameras.presets import preset_camera
from egox_core.frame_store import FrameStore
from egox_core.frames import Frames
from egox_core.types import CameraTrajectory, DepthVideo
from egox_core.wan.chunks import (
    ChunkFiles,
    check_covers,
    hold_colours,
    plan_chunks,
    sample_chunks,
)
from tests.poses import make_path, replace_ego
from tests.refusals import refuses


@pytest.mark.parametrize("frames", [1, 9, 49, 53, 93, 97, 193, 1441])
@pytest.mark.parametrize("overlap", [1, 5, 9, 45])
def test_chunks_cover_the_video_and_overlap(frames, overlap):
    chunks = plan_chunks(frames, 49, overlap)
    assert (chunks[0].start, chunks[0].known, chunks[-1].frames.stop) == (0, 0, frames)
    assert {chunk.count for chunk in chunks} == {min(frames, 49)}
    for chunk_index, (previous_chunk, next_chunk) in enumerate(
        zip(chunks, chunks[1:], strict=False), start=1
    ):
        assert next_chunk.number == chunk_index
        assert previous_chunk.start < next_chunk.start
        assert (
            next_chunk.known == previous_chunk.frames.stop - next_chunk.start
            and next_chunk.known % 4 == 1
        )
        assert (
            next_chunk.known == overlap
            or next_chunk is chunks[-1]
            and overlap <= next_chunk.known < 49
        )


@pytest.mark.parametrize(
    ("frames", "length", "overlap", "expected_text"),
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
def test_impossible_chunk_counts_are_refused(frames, length, overlap, expected_text):
    with refuses(expected_text):
        plan_chunks(frames, length, overlap)


def draw_depth_and_path(frame_count: int) -> tuple[DepthVideo, CameraTrajectory]:
    camera = preset_camera("aria_released", 8)
    times_s = torch.arange(frame_count).double()
    exo_w2c = torch.eye(3, 4).double()
    depth = DepthVideo(
        depth_m=times_s.float()[:, None, None].expand(-1, 8, 8),
        exo=CameraPath.of_exo(camera, exo_w2c, Frames.timed(times_s)),
    )
    w2c = exo_w2c.repeat(frame_count, 1, 1) * times_s[:, None, None]
    return depth, make_path(w2c, camera, exo_w2c=exo_w2c)


def test_too_short_depth_and_paths_are_refused():
    depth, trajectory = draw_depth_and_path(13)
    check_covers(depth, trajectory, 13)
    check_covers(None, None, 17)
    with refuses("depth: got 13 frames; expected the video's 17"):
        check_covers(depth, None, 17)
    with refuses("ego trajectory: got 13 frames"):
        check_covers(None, trajectory, 17)
    with refuses("look-away memory: got no depth"):
        check_covers(None, trajectory, 13, needed=True)


def test_colours_are_matched_to_the_overlap():
    true_video = 0.2 + 0.5 * torch.rand(9, 16, 16, 3)
    assert (hold_colours(true_video, true_video[:5]) - true_video).abs().max() < 1e-5
    drifted_video = (0.9 * true_video + torch.tensor((0.08, 0.0, -0.05))).clamp(0, 1)
    matched_video = hold_colours(drifted_video, true_video[:5])
    assert (matched_video - true_video).abs().mean() < 0.25 * (
        drifted_video - true_video
    ).abs().mean()
    black_video = torch.zeros(5, 16, 16, 3)
    assert hold_colours(black_video, black_video[:1]).abs().max() < 1e-3, (
        "nothing to scale a flat picture by"
    )


def random_videos(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(frames, 16, 32, 3), torch.rand(frames, 16, 16, 3)


class DarkeningSampler:
    """Imitate a video sampler: return the prior at half brightness, and record each call's
    arguments."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.cancel_at = cancel_at

    def __call__(self, chunk, exo, prior, depth, trajectory, previous_frames) -> torch.Tensor:
        if chunk.number == self.cancel_at:
            raise KeyboardInterrupt
        assert len(exo) == len(prior) == chunk.count
        numbers = trajectory.ego.w2c[:, 0, 0].tolist()
        assert numbers == list(range(chunk.frames.start, chunk.frames.stop))
        assert depth is None or numbers == depth.depth_m[:, 0, 0].tolist()
        self.calls.append((chunk.number, prior, previous_frames))
        return 0.5 * prior


def test_each_chunk_begins_with_the_last_frames_of_the_previous_one():
    exo_video, prior_video = random_videos(29)
    chunks = plan_chunks(29, 9, 5)
    sampler = DarkeningSampler()
    ego_video = sample_chunks(chunks, exo_video, prior_video, *draw_depth_and_path(29), sampler)
    assert ego_video.shape == prior_video.shape
    assert ego_video.dtype == torch.float32
    for chunk, (_, shown_prior, previous_frames) in zip(chunks, sampler.calls, strict=True):
        assert torch.equal(previous_frames, ego_video[chunk.frames][: chunk.known]) and torch.equal(
            shown_prior, prior_video[chunk.frames]
        )
    assert torch.equal(ego_video[:9], 0.5 * prior_video[:9]), (
        "the first chunk's colours are its own"
    )


class LighteningMemory:
    """Imitate a prior memory: make each chunk's prior lighter than the previous one."""

    chunk_count = 0

    def fill(self, exo, prior, depth, trajectory) -> torch.Tensor:
        return prior + (1 - prior) * self.chunk_count / 9

    def keep(self, ego, trajectory) -> None:
        self.chunk_count += 1
        self.kept_w2c = trajectory.ego.w2c


def test_shown_prior_is_the_one_given_to_each_chunk():
    exo_video, prior_video = random_videos(29)
    sampler = DarkeningSampler()
    shown_prior = FrameStore(29, (16, 16, 3), np.float32)
    chunks = plan_chunks(29, 9, 5)
    sample_chunks(
        chunks,
        exo_video,
        prior_video,
        *draw_depth_and_path(29),
        sampler,
        memory=(memory := LighteningMemory()),
        given=shown_prior,
        shown_poses=lambda ego, exo, depth, path: replace_ego(path, w2c=path.ego.w2c + len(ego)),
    )
    path = draw_depth_and_path(29)[1]
    assert torch.equal(memory.kept_w2c, path.ego.w2c[chunks[-1].frames] + chunks[-1].count)
    chunk_priors = [
        chunk_prior[chunk.known :]
        for chunk, (_, chunk_prior, _) in zip(chunks, sampler.calls, strict=True)
    ]
    assert torch.equal(shown_prior.tensor(), torch.cat(chunk_priors)) and not torch.equal(
        chunk_priors[1], prior_video[9:13]
    )


def test_cancelled_run_continues_from_its_files(tmp_path):
    exo_video, prior_video = random_videos(29)
    chunks = plan_chunks(29, 9, 5)
    uninterrupted_video = sample_chunks(
        chunks, exo_video, prior_video, *draw_depth_and_path(29), DarkeningSampler()
    )
    with pytest.raises(KeyboardInterrupt):
        sample_chunks(
            chunks,
            exo_video,
            prior_video,
            *draw_depth_and_path(29),
            DarkeningSampler(cancel_at=3),
            ChunkFiles(tmp_path, "a"),
        )
    assert len(list(tmp_path.iterdir())) == 3, "whole files and nothing else"
    second_sampler = DarkeningSampler()
    chunk_files = ChunkFiles(tmp_path, "a")
    assert torch.equal(
        sample_chunks(
            chunks, exo_video, prior_video, *draw_depth_and_path(29), second_sampler, chunk_files
        ),
        uninterrupted_video,
    )
    assert [number for number, *_ in second_sampler.calls] == [3, 4, 5]
    chunk_files.clear()
    assert not list(tmp_path.iterdir())


def test_stored_chunks_are_reused_only_for_equal_inputs(tmp_path):
    exo_video, prior_video = random_videos(17)
    chunks = plan_chunks(17, 9, 1)
    depth, trajectory = draw_depth_and_path(17)

    def sample_and_list_chunks(*inputs, origin: str = "a") -> list[int]:
        sampler = DarkeningSampler()
        sample_chunks(chunks, *inputs, sampler, ChunkFiles(tmp_path, origin))
        return [number for number, *_ in sampler.calls]

    assert (
        sample_and_list_chunks(exo_video, prior_video, depth, trajectory) == [0, 1]
        and sample_and_list_chunks(exo_video, prior_video, depth, trajectory) == []
    )
    assert sample_and_list_chunks(exo_video, prior_video, depth, trajectory, origin="b") == [0, 1]
    changed_exo = exo_video.clone()
    changed_exo[12] += 0.01
    assert sample_and_list_chunks(changed_exo, prior_video, depth, trajectory) == [1], (
        "the first chunk is the same"
    )
    assert sample_and_list_chunks(exo_video, prior_video, None, trajectory) == [0, 1]
    cropped_exo = replace(depth.exo, lens=depth.exo.lens.rescale(16, 16).crop(4, 4, 8, 8))
    assert sample_and_list_chunks(
        exo_video, prior_video, replace(depth, exo=cropped_exo), trajectory
    ) == [0, 1]
    for chunk_file in tmp_path.iterdir():
        chunk_file.write_bytes(chunk_file.read_bytes()[:200])
    assert sample_and_list_chunks(exo_video, prior_video, depth, trajectory) == [0, 1], (
        "damaged files are made anew"
    )
