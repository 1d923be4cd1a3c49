"""Test the check of a body model's hands on drawn people: accuracy and doubtful joints."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.frames import Frames
from egox_core.hands import HandTrack, judged_hands
from egox_core.hands.judge import TIPS
from egox_core.hands.track import WRIST_M
from egox_core.types import CameraTrajectory
from lab.drawn import SyntheticSpec
from lab.drawn.detected import exo_hits
from lab.drawn.layout import Layout, draw_layout
from lab.drawn.solids import MOVING_GROUPS
from lab.drawn.take import drawn_hands
from tests.core.hands.test_hand_track import angles_deg, draw_hands_at, random_rotations
from tests.refusals import refuses

FRAMES = 9


class LaidOutClip(NamedTuple):
    """Store the cameras, people and true hand joints of a drawn clip, without its pictures."""

    layout: Layout
    joints: torch.Tensor  # [T, 2, 21, 3] the truth

    def judge_joints(self, joints: torch.Tensor, *evidence_names: str) -> HandTrack:
        """Check hand joints against depth, mask or both, as named in ``used``."""
        evidence = self.evidence(joints)
        camera = self.layout.scene.exo.camera
        frames = Frames.timed(torch.arange(FRAMES) / 10)
        return judged_hands(
            joints, camera, frames=frames, **{name: evidence[name] for name in evidence_names}
        )[0]

    def evidence(self, joints: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the depth and the wearer's mask at the pixels of the hand joints."""
        scene = self.layout.scene
        camera = self.layout.scene.exo.camera
        width, height = camera.stored_size
        uv, pixels, _ = camera.look_up(joints)
        rays, _ = camera.unproject(uv.round())
        frames = torch.arange(FRAMES)[:, None, None].expand(pixels.shape)
        world_rays = (rays @ scene.exo.pose[:, :3]).reshape(-1, 3)
        distances, solid_indices = exo_hits(self.layout, world_rays, frames.flatten())
        maps = torch.zeros(2, FRAMES, height * width, dtype=torch.float64)
        maps[0, frames, pixels] = distances.view(pixels.shape) * rays[..., 2]
        is_moving = scene.group_table(*MOVING_GROUPS)[solid_indices]
        maps[1, frames, pixels] = is_moving.view(pixels.shape).double()
        return dict(zip(("depth_m", "mask"), maps.unflatten(2, (height, width)), strict=True))

    def whole_depth(self) -> tuple[torch.Tensor, CameraModel]:  # [T, 56, 98] metres
        """Compute the depth at all pixels of a small picture, with its camera."""
        camera = self.layout.scene.exo.camera.rescale(98, 56)
        rays = camera.pixel_rays()[0].reshape(-1, 3).double().repeat(FRAMES, 1)
        frames = torch.arange(FRAMES).repeat_interleave(98 * 56)
        world_rays = rays @ self.layout.scene.exo.pose[:, :3]
        distances, _ = exo_hits(self.layout, world_rays, frames)
        return (distances * rays[:, 2]).view(FRAMES, 56, 98), camera


def drawn_clip(seed: int, **spec_fields: Any) -> LaidOutClip:
    spec = SyntheticSpec(seed=seed, frames=FRAMES, fps=10.0, wearer="drawn", **spec_fields)
    layout = draw_layout(spec)
    return LaidOutClip(layout, drawn_hands(layout, layout.scene.exo).joints)


@pytest.fixture(scope="module")
def clips() -> list[LaidOutClip]:
    return [drawn_clip(seed) for seed in range(200, 212)]


@pytest.mark.parametrize(
    ("noise", "error_limits"),
    [
        # what, in which share of them at most: metres, degrees, px of the ego picture
        (0.0, [("wrist", 1.0, 0.01), ("tip", 0.95, 0.015), ("turn", 1.0, 5.0), ("px", 0.95, 2.0)]),
        (0.01, [("wrist", 0.5, 0.02), ("turn", 0.5, 13.0), ("turn", 0.95, 26.0)]),
    ],
)
def test_checked_hands_are_accurate_on_drawn_takes(clips, noise, error_limits):
    """Check that depth corrects the hands of a body model whose body size is slightly wrong."""
    rng = torch.Generator().manual_seed(0)
    errors = {}
    valid_shares = []
    for clip_index, clip in enumerate(clips):
        scene = clip.layout.scene
        true_track = HandTrack.of_joints(clip.joints)
        noisy_joints = clip.joints + noise * torch.randn(clip.joints.shape, generator=rng).double()
        hand_track = clip.judge_joints((0.85 + 0.03 * clip_index) * noisy_joints, "depth_m", "mask")
        path = CameraTrajectory(ego=scene.ego, exo=scene.exo)
        (hand_joints, wrist_rotations), (true_joints, true_wrist_rotations) = (
            hand_track.in_head(path),
            true_track.in_head(path),
        )
        joint_errors = (hand_joints - true_joints).norm(dim=-1)
        camera = path.ego.camera.upright()
        (uv, _), (true_uv, in_picture_mask) = (
            camera.project(joint_set[:, :, TIPS]) for joint_set in (hand_joints, true_joints)
        )
        tip_mask = hand_track.valid[..., None] & in_picture_mask & camera.inside(true_uv)
        errors_by_name = {
            "wrist": joint_errors[hand_track.valid][:, 0],
            "tip": joint_errors[hand_track.valid][:, TIPS].flatten(),
            "turn": angles_deg(wrist_rotations, true_wrist_rotations)[hand_track.valid],
            "px": (uv - true_uv).norm(dim=-1)[tip_mask],
        }
        for name, values in errors_by_name.items():
            errors.setdefault(name, []).append(values)
        valid_shares.append(hand_track.valid.double().mean())
    assert sum(valid_shares) / len(clips) > 0.9
    for name, quantile, limit in error_limits:
        assert torch.cat(errors[name]).quantile(quantile) < limit, name


def change_frame_4(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
    """Make a function that applies a change to the hand joints of frame 4 alone."""

    def change_one_frame(joints: torch.Tensor) -> torch.Tensor:
        joints = joints.clone()
        joints[4] = change(joints[4])
        return joints

    return change_one_frame


def mirror_hands(joints: torch.Tensor) -> torch.Tensor:
    wrists = joints[..., :1, :]
    return wrists + (joints - wrists) * joints.new_tensor((-1, 1, 1))


SHIFT_X = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("change_joints", "frames", "reason"),
    [
        (change_frame_4(lambda hands: hands * torch.nan), [4], "not given"),
        (change_frame_4(lambda hands: hands + 20 * SHIFT_X), [4], "outside the picture"),
        (change_frame_4(lambda hands: hands - 0.8 * SHIFT_X), [4], "outside the wearer's mask"),
        (change_frame_4(lambda hands: hands * 1.1), [4], "not where"),
        (change_frame_4(lambda hands: hands[:, :1] + 1.6 * (hands - hands[:, :1])), [4], "bones"),
        (change_frame_4(lambda hands: hands + 0.7 * SHIFT_X), [3, 4, 5], "faster than hands move"),
        (mirror_hands, range(FRAMES), "mirrored"),
        (lambda joints: joints.flip(1), range(FRAMES), "mirrored"),
        (change_frame_4(mirror_hands), [4], "mirrored"),
    ],
)
def test_doubtful_hands_are_marked_with_the_reason(clips, change_joints, frames, reason):
    """Check that each kind of doubt marks exactly the frames with wrong hands, and fills in no
    joint."""
    evidence_names = {"outside the wearer's mask": ["depth_m", "mask"], "not where": ["depth_m"]}
    doubtful_joints = change_joints(clips[0].joints)
    hand_track = clips[0].judge_joints(doubtful_joints, *evidence_names.get(reason, []))
    doubtful_mask = ~hand_track.valid
    assert doubtful_mask.nonzero()[:, 0].unique().tolist() == list(frames)
    assert doubtful_mask[frames].all()
    assert reason in hand_track.text()
    assert hand_track.joints.isnan().equal(doubtful_joints.isnan())


SENSES = {
    "shares of the picture, 0 to 1": lambda uv, size, camera, z: (uv + 0.5) / size,
    "shares of the picture, -1 to 1": lambda uv, size, camera, z: 2 * (uv + 0.5) / size - 1,
    "x / z and y / z": lambda uv, size, camera, z: (
        (uv - torch.tensor([camera.cx, camera.cy])) / torch.tensor([camera.fx, camera.fy])
    ),
    "pixels, beside z in mm": lambda uv, size, camera, z: (4 * uv + 1.5) / 1000,
    "pixels, beside z in cm": lambda uv, size, camera, z: (4 * uv + 1.5) / 100,
}
"""What x and y may be beside z, read as metres, for a video of 4 times the depth's size."""
MENDED = {
    "(u W - cx) z / fx": lambda u, W, cx, fx, z: (u * W - cx) * z / fx,
    "((u + 1) W / 2 - cx) z / fx": lambda u, W, cx, fx, z: ((u + 1) * W / 2 - cx) * z / fx,
    "u z": lambda u, W, cx, fx, z: u * z,
    "(u - cx) z / fx": lambda u, W, cx, fx, z: (u - cx) * z / fx,
}


@pytest.mark.parametrize("sense", SENSES)
def test_other_senses_of_x_and_y_are_named_by_the_depth_and_the_remedy_works(sense):
    """Check hands before a wall that turns away, whose wrists are where its depth is."""
    camera, video_size = CameraModel.pinhole(98, 56, 80.0), (392, 224)
    size = torch.tensor(camera.stored_size)
    row, column = torch.meshgrid(torch.arange(56.0), torch.arange(98.0), indexing="ij")
    depth_m = (2 + column / 25 + row / 40).double().expand(9, -1, -1)
    rng = torch.Generator().manual_seed(0)
    pixels = (torch.rand(9, 2, 2, generator=rng) * 0.8 + 0.1) * size
    z = depth_m[0, pixels[..., 1].long(), pixels[..., 0].long()]
    rays = camera.unproject(pixels.double())[0]
    wrists = rays / rays[..., 2:] * (z[..., None] + WRIST_M)
    joints = draw_hands_at(random_rotations(9))
    joints = joints - joints[:, :, :1] + wrists[:, :, None]
    uv, z = camera.project(joints)[0], joints[..., 2:]
    mixed = SENSES[sense](uv, size, camera, z)
    with refuses(re.escape(sense)) as refusal:
        HandTrack.of_joints(torch.cat((mixed, z), -1)).with_depth_check(depth_m, camera, video_size)
    formula = next(
        formula for formula in MENDED if f"x = {formula} if they are {sense}" in str(refusal.value)
    )
    units = 1000 if "mm" in sense else 100 if "cm" in sense else 1
    lens = camera.rescale(*video_size)
    x, y = (
        MENDED[formula](units * mixed[..., axis], side, centre, focal, z[..., 0])
        for axis, (side, centre, focal) in enumerate(
            ((video_size[0], lens.cx, lens.fx), (video_size[1], lens.cy, lens.fy))
        )
    )
    mended_joints = torch.stack((x, y, z[..., 0]), -1)
    HandTrack.of_joints(mended_joints).with_depth_check(depth_m, camera, video_size)
    assert float((mended_joints - joints).abs().max()) < 0.03  # half a pixel


def test_depth_of_another_scale_is_no_reason_to_doubt_metres(clips):
    for clip in clips[:2]:
        depth_m, camera = clip.whole_depth()
        video_size = (392, 224)
        for scale in (0.5, 0.9, 1.1, 2.0):
            HandTrack.of_joints(clip.joints).with_depth_check(scale * depth_m, camera, video_size)


@pytest.mark.parametrize(
    ("scale", "wave_height", "min_remarks"),
    [(1.0, 0.0, 0), (1.0, 0.04, 0), (1.03, 0.02, 0), (1.08, 0.0, 10), (0.9, 0.01, 10)],
)
def test_depth_of_another_scale_is_remarked(clips, scale, wave_height, min_remarks):
    """Check that depth of a wrong scale gives a remark for most of twelve clips, and wavy depth
    gives none."""
    clip_notes = []
    for clip in clips:
        depth_m = clip.evidence(clip.joints)["depth_m"]
        column_wave = torch.linspace(0, 19, depth_m.shape[2]).sin()
        depth_factor = scale * (
            1 + wave_height * column_wave * torch.linspace(0, 13, depth_m.shape[1]).sin()[:, None]
        )
        hand_track = HandTrack.of_joints(clip.joints)
        checked_track = hand_track.with_depth_check(
            depth_m * depth_factor, clip.layout.scene.exo.camera
        )
        assert checked_track.joints.equal(clip.joints)
        assert checked_track.valid.all()
        clip_notes.append(checked_track.note)
    scale_notes = [note for note in clip_notes if note]
    assert min_remarks <= len(scale_notes) <= (12 if min_remarks else 0)
    assert all(abs(float(note.split()[5]) - scale) < 0.03 for note in scale_notes)
