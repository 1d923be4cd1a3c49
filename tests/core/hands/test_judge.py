"""Hands of a body model on drawn people: how near the truth they are, and what isn't believed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from egox_core.frames import Frames
from egox_core.hands import HandTrack, judged_hands
from egox_core.hands.judge import TIPS
from egox_core.types import CameraTrajectory
from lab.drawn import SyntheticSpec
from lab.drawn.detected import exo_hits
from lab.drawn.layout import Layout, draw_layout
from lab.drawn.solids import MOVING_GROUPS
from lab.drawn.take import drawn_hands
from tests.core.hands.test_hand_track import angles_deg

FRAMES = 9


class Clip(NamedTuple):
    """A take that is laid out but not drawn."""

    layout: Layout
    joints: torch.Tensor  # [T, 2, 21, 3] the truth

    def judged(self, joints: torch.Tensor, *used: str) -> HandTrack:
        """Judge the joints by those of depth and mask that are named in ``used``."""
        evidence = self.evidence(joints)
        camera, frames = self.layout.scene.exo.camera, Frames.timed(torch.arange(FRAMES) / 10)
        return judged_hands(
            joints, camera, frames=frames, **{name: evidence[name] for name in used}
        )[0]

    def evidence(self, joints: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cast depth and mask at the places where joints are looked up."""
        scene, camera = self.layout.scene, self.layout.scene.exo.camera
        width, height = camera.stored_size
        uv, pixels, _ = camera.look_up(joints)
        rays, _ = camera.unproject(uv.round())
        frames = torch.arange(FRAMES)[:, None, None].expand(pixels.shape)
        world = (rays @ scene.exo.pose[:, :3]).reshape(-1, 3)
        far, solid = exo_hits(self.layout, world, frames.flatten())
        maps = torch.zeros(2, FRAMES, height * width, dtype=torch.float64)
        maps[0, frames, pixels] = far.view(pixels.shape) * rays[..., 2]
        moving = scene.group_table(*MOVING_GROUPS)[solid]
        maps[1, frames, pixels] = moving.view(pixels.shape).double()
        return dict(zip(("depth_m", "mask"), maps.unflatten(2, (height, width)), strict=True))


def drawn_clip(seed: int, **more: Any) -> Clip:
    spec = SyntheticSpec(seed=seed, frames=FRAMES, fps=10.0, wearer="drawn", **more)
    layout = draw_layout(spec)
    return Clip(layout, drawn_hands(layout, layout.scene.exo).joints)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [drawn_clip(seed) for seed in range(200, 212)]


@pytest.mark.parametrize(
    ("noise", "bars"),
    [
        # what, in which share of them at most: metres, degrees, px of the ego picture
        (0.0, [("wrist", 1.0, 0.01), ("tip", 0.95, 0.015), ("turn", 1.0, 5.0), ("px", 0.95, 2.0)]),
        (0.01, [("wrist", 0.5, 0.02), ("turn", 0.5, 13.0), ("turn", 0.95, 26.0)]),
    ],
)
def test_drawn_takes(clips, noise, bars):
    """The network has the body a little too large or small, and depth tells by how much."""
    random, errors = torch.Generator().manual_seed(0), {}
    valid = []
    for number, clip in enumerate(clips):
        scene, true = clip.layout.scene, HandTrack.of_joints(clip.joints)
        noisy_joints = (
            clip.joints + noise * torch.randn(clip.joints.shape, generator=random).double()
        )
        track = clip.judged((0.85 + 0.03 * number) * noisy_joints, "depth_m", "mask")
        path = CameraTrajectory(ego=scene.ego, exo=scene.exo)
        (ours, turns), (theirs, true_turns) = track.in_head(path), true.in_head(path)
        off, camera = (ours - theirs).norm(dim=-1), path.ego.camera.upright()
        (uv, _), (true_uv, in_picture) = (
            camera.project(each[:, :, TIPS]) for each in (ours, theirs)
        )
        tip_mask = track.valid[..., None] & in_picture & camera.inside(true_uv)
        errors_by_name = {
            "wrist": off[track.valid][:, 0],
            "tip": off[track.valid][:, TIPS].flatten(),
            "turn": angles_deg(turns, true_turns)[track.valid],
            "px": (uv - true_uv).norm(dim=-1)[tip_mask],
        }
        for name, values in errors_by_name.items():
            errors.setdefault(name, []).append(values)
        valid.append(track.valid.double().mean())
    assert sum(valid) / len(clips) > 0.9
    for name, share, bar in bars:
        assert torch.cat(errors[name]).quantile(share) < bar, name


def at_once(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
    """Apply a change to frame 4 alone."""

    def changed(joints: torch.Tensor) -> torch.Tensor:
        joints = joints.clone()
        joints[4] = change(joints[4])
        return joints

    return changed


def mirrored(joints: torch.Tensor) -> torch.Tensor:
    wrists = joints[..., :1, :]
    return wrists + (joints - wrists) * joints.new_tensor((-1, 1, 1))


SHIFT = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "frames", "reason"),
    [
        (at_once(lambda hands: hands * torch.nan), [4], "not given"),
        (at_once(lambda hands: hands + 20 * SHIFT), [4], "outside the picture"),
        (at_once(lambda hands: hands - 0.8 * SHIFT), [4], "outside the wearer's mask"),
        (at_once(lambda hands: hands * 1.1), [4], "not where"),
        (at_once(lambda hands: hands[:, :1] + 1.6 * (hands - hands[:, :1])), [4], "bones"),
        (at_once(lambda hands: hands + 0.7 * SHIFT), [3, 4, 5], "faster than hands move"),
        (mirrored, range(FRAMES), "mirrored"),
        (lambda joints: joints.flip(1), range(FRAMES), "mirrored"),
        (at_once(mirrored), [4], "mirrored"),
    ],
)
def test_doubts(clips, change, frames, reason):
    """Each is told where it is, and nothing is filled in."""
    evidence_names = {"outside the wearer's mask": ["depth_m", "mask"], "not where": ["depth_m"]}
    doubtful_joints = change(clips[0].joints)
    track = clips[0].judged(doubtful_joints, *evidence_names.get(reason, []))
    doubtful = ~track.valid
    assert doubtful.nonzero()[:, 0].unique().tolist() == list(frames)
    assert doubtful[frames].all() and reason in track.text()
    assert track.joints.isnan().equal(doubtful_joints.isnan())


def test_an_empty_mask_tells_nothing(clips):
    joints, camera = clips[0].joints, clips[0].layout.scene.exo.camera
    nobody = torch.zeros(FRAMES, *camera.stored_size[::-1], dtype=torch.bool)
    track, _ = judged_hands(
        joints, camera, frames=Frames.timed(torch.arange(FRAMES) / 10), mask=nobody
    )
    assert track.valid.all()


@pytest.mark.parametrize(
    ("scale", "wave", "noted"),
    [(1.0, 0.0, 0), (1.0, 0.04, 0), (1.03, 0.02, 0), (1.08, 0.0, 10), (0.9, 0.01, 10)],
)
def test_depth_that_disagrees_is_told(clips, scale, wave, noted):
    """In nearly all of twelve clips where it is off in all of them, in none where it is but wavy."""
    notes = []
    for clip in clips:
        depth_m = clip.evidence(clip.joints)["depth_m"]
        across = torch.linspace(0, 19, depth_m.shape[2]).sin()
        wavy = scale * (1 + wave * across * torch.linspace(0, 13, depth_m.shape[1]).sin()[:, None])
        track = HandTrack.of_joints(clip.joints)
        checked_track = track.beside(depth_m * wavy, clip.layout.scene.exo.camera)
        assert checked_track.joints.equal(clip.joints) and checked_track.valid.all()
        notes.append(checked_track.note)
    scale_notes = [note for note in notes if note]
    assert noted <= len(scale_notes) <= (12 if noted else 0)
    assert all(abs(float(note.split()[5]) - scale) < 0.03 for note in scale_notes)


def test_a_back_that_hides_the_wrists_is_no_other_depth(clips):
    """Nor is what lets them be seen in one frame."""
    behind = [drawn_clip(seed, exo_side="behind") for seed in range(300, 312)]
    for clip, factor in [(clips[0], 0.83), *((clip, 1.0) for clip in behind)]:
        depth_m, track = clip.evidence(clip.joints)["depth_m"], HandTrack.of_joints(clip.joints)
        depth_m[1:] *= factor
        assert not track.beside(depth_m, clip.layout.scene.exo.camera).note
