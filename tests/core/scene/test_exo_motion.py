"""Test the estimated motion of an exo camera: poses, corrected depth and refused input."""

import re
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import compose, invert
from egox_core.scene.exo_adjust import adjust
from egox_core.scene.exo_motion import estimate_exo_motion
from egox_core.scene.exo_tracks import find_tracks
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, SyntheticSpec, add_depth_errors, make_take
from tests.poses import replace_exo_pose
from tests.refusals import refuses
from tests.twins.exo_adjust import adjust_reference

FRAME_COUNT = 9
SIZE = (256, 160)
MOTIONS = {
    "still": {},
    "shake": {"exo_motion": 0.03, "exo_turn_deg": 2.0},
    "pan": {"exo_path": "pan", "exo_turn_deg": 25.0},
    "dolly": {"exo_path": "dolly", "exo_motion": 0.6},
    "walk": {"exo_path": "walk-around", "exo_turn_deg": 25.0},
}


@cache
def draw_clip(kind: str) -> tuple[torch.Tensor, DepthVideo, DepthVideo]:
    """Draw a clip of a moving exo camera: frames, erroneous depth and true depth."""
    take_sizes = {"exo_width": SIZE[0], "exo_height": SIZE[1], "ego_size": 16, "edge_samples": 1}
    take = make_take(
        SyntheticSpec(
            seed=1, frames=FRAME_COUNT, fps=10, texture="soft", **take_sizes, **MOTIONS[kind]
        )
    )
    exact_depth = take.depth_video()
    # Of eight draws of errors all are corrected in a pan, this one by the most.
    erroneous_depth = add_depth_errors(
        exact_depth, DepthErrors(low_frequency=0.06, flicker=0.03), 4
    )
    return take.exo_rgb, replace_exo_pose(erroneous_depth, None), exact_depth


def relative_to_first(w2c: torch.Tensor) -> torch.Tensor:
    return compose(w2c, invert(w2c[0]))


def largest_errors(estimated_w2c: torch.Tensor, true_w2c: torch.Tensor) -> tuple[float, float]:
    """Measure the largest errors of estimated camera poses in degrees and metres."""
    pose_difference = compose(relative_to_first(estimated_w2c), invert(relative_to_first(true_w2c)))
    rotation_angles = Rotation.from_matrix(pose_difference[:, :, :3].numpy()).magnitude()
    return float(np.degrees(rotation_angles.max())), float(
        pose_difference[:, :, 3].norm(dim=1).max()
    )


@pytest.mark.parametrize(
    "kind, motion, max_degrees, max_metres",
    [
        ("shake", "moves", 0.3, 0.02),
        ("pan", "turns", 0.3, 0.0),
        pytest.param("dolly", "moves", 1.0, 0.08, marks=pytest.mark.slow),
        ("walk", "moves", 1.0, 0.08),
    ],
)
def test_poses_and_depth_are_close_to_the_truth(kind, motion, max_degrees, max_metres):
    frames, depth, exact_depth = draw_clip(kind)
    corrected_depth, motion_report = estimate_exo_motion(frames, depth)
    error_deg, error_m = largest_errors(corrected_depth.exo.pose, exact_depth.exo.pose)
    assert (
        motion_report.motion == motion and error_deg <= max_degrees and error_m <= max_metres + 1e-9
    )
    assert (
        f"the exo camera {motion}" in motion_report.text() and "warning" not in motion_report.text()
    )
    original_error, corrected_error = (
        torch.log(depth_or_error.depth_m / exact_depth.depth_m).flatten(1)
        for depth_or_error in (depth, corrected_depth)
    )
    flicker_levels = [
        depth_or_error.median(1).values.diff().std()
        for depth_or_error in (original_error, corrected_error)
    ]
    assert flicker_levels[1] < 0.5 * flicker_levels[0]
    assert (corrected_error - corrected_error.median()).abs().mean() < (
        original_error - original_error.median()
    ).abs().mean()
    if kind == "pan":
        base_pose = exact_depth.exo.pose[5]
        placed_depth, _ = estimate_exo_motion(frames, replace_exo_pose(depth, base_pose))
        assert torch.equal(placed_depth.exo.pose, compose(corrected_depth.exo.pose, base_pose))
        camera = depth.exo.camera
        fov_deg = 2 * np.degrees(np.arctan(camera.width / 2 / camera.fx))
        longer_lens = replace(camera, fx=1.1 * camera.fx, fy=1.1 * camera.fy)
        _, motion_report = estimate_exo_motion(
            frames, replace(depth, exo=replace(depth.exo, lens=longer_lens))
        )
        fov_match = re.search(
            r"warning: the pictures are those of a turn seen (\d+)°", motion_report.text()
        )
        assert fov_match
        assert float(fov_match[1]) == pytest.approx(fov_deg, abs=1.5)


def test_given_exo_path_is_checked_and_scaled():
    frames, depth, exact_depth = draw_clip("walk")
    exo_w2c = exact_depth.exo.pose
    corrected_depth, motion_report = estimate_exo_motion(frames, replace_exo_pose(depth, exo_w2c))
    assert (
        torch.equal(corrected_depth.exo.pose, exo_w2c)
        and motion_report.agree > 0.8
        and motion_report.depth_spread < 0.05
    )
    half_scale_path = CameraPath.of_exo(
        None, relative_to_first(exo_w2c) * torch.tensor([1, 1, 1, 0.5])
    )
    foreign_path = replace(half_scale_path, world="unknown")
    scaled_depth, motion_report = estimate_exo_motion(frames, depth, "auto", foreign_path)
    assert scaled_depth.exo.world == "exo"
    assert "scale from the depth: x " in motion_report.text()
    assert largest_errors(scaled_depth.exo.pose, exo_w2c)[1] < 0.08
    other_path = draw_clip("shake")[2].exo
    for wrong_path, reason in ((half_scale_path, "times its travel"), (other_path, "% of the mat")):
        with refuses(f"given path of the exo camera: .*{reason}.*Fix"):
            estimate_exo_motion(frames, depth, "auto", wrong_path)
    with refuses("given path of the exo camera: .*motion 'stands'"):
        estimate_exo_motion(frames, depth, "stands", exact_depth.exo)
    blank_frames = torch.full_like(frames, 128)
    kept_depth, motion_report = estimate_exo_motion(blank_frames, depth, "auto", exact_depth.exo)
    assert torch.equal(kept_depth.exo.pose, exo_w2c)
    assert "isn't checked" in motion_report.text()
    with refuses("given path of the exo camera: got the background can't be followed"):
        estimate_exo_motion(blank_frames, depth, "auto", foreign_path)


def test_rolling_shutter_is_not_taken_for_travel():
    """Check that a turning camera with a rolling shutter gives no estimated movement."""
    frames, _, exact_depth = draw_clip("still")
    lens = exact_depth.exo.camera
    axis_phases = np.arange(3)
    camera = replace(lens, fx=2 * lens.fx, fy=2 * lens.fy)
    rays = camera.pixel_rays(torch.float64)[0].numpy()

    def rotations_at(times: np.ndarray) -> np.ndarray:  # [n] -> [n, 3, 3]
        rotation_vector = np.sin(times[:, None] / 2 + axis_phases) - np.sin(axis_phases)
        return Rotation.from_rotvec(np.radians(3) * rotation_vector).as_matrix()

    rolling_frames = []
    for t in range(FRAME_COUNT):
        row_times = np.arange(SIZE[1]) / SIZE[1] / 2 - 0.25
        ray_directions = np.einsum("hji,hwj->hwi", rotations_at(t + row_times), rays)
        pixel_map = lens.project(torch.from_numpy(ray_directions))[0].float().numpy()
        rolling_frames.append(cv2.remap(frames[0].numpy(), pixel_map, None, cv2.INTER_LINEAR))
    poses = torch.from_numpy(np.pad(rotations_at(np.arange(FRAME_COUNT)), ((0, 0), (0, 0), (0, 1))))
    depth = DepthVideo(
        depth_m=torch.full((FRAME_COUNT, *SIZE[::-1]), 3.0), exo=CameraPath.of_exo(camera)
    )
    corrected_depth, motion_report = estimate_exo_motion(
        torch.from_numpy(np.stack(rolling_frames)), depth
    )
    assert motion_report.motion == "turns"
    assert "warning" not in motion_report.text()
    assert largest_errors(corrected_depth.exo.pose, poses)[0] < 0.5


def test_depth_of_a_still_camera_is_returned_unchanged():
    frames, depth, _ = draw_clip("still")
    assert estimate_exo_motion(frames, depth)[0] is depth
    assert estimate_exo_motion(frames, depth, "stands")[0] is depth


def test_untrackable_frames_are_refused_or_interpolated():
    frames, depth, exact_depth = draw_clip("walk")
    frames_with_gap = frames.clone()
    frames_with_gap[3:7] = 128
    kept_depth, motion_report = estimate_exo_motion(frames_with_gap, depth)
    assert kept_depth is depth
    assert "frames 3 to 6 can't be followed" in motion_report.text()
    with refuses("motion of the exo camera: .*frames 3 to 6.*Fix"):
        estimate_exo_motion(frames_with_gap, depth, "moves")
    frames_with_gap = frames.clone()
    frames_with_gap[4] = 128  # one frame is interpolated
    corrected_depth, motion_report = estimate_exo_motion(frames_with_gap, depth)
    assert (
        motion_report.motion == "moves"
        and largest_errors(corrected_depth.exo.pose, exact_depth.exo.pose)[1] < 0.1
    )


@pytest.mark.parametrize("kind", ["pan", "walk"])
def test_bundle_adjustment_agrees_with_scipy(kind):
    """Check that bundle adjustment of five frames reaches the same cost as SciPy's least
    squares."""
    frames, depth, _ = draw_clip(kind)
    empty_masks = torch.zeros(depth.depth_m.shape, dtype=torch.bool)
    all_tracks = find_tracks(frames[::2], depth.depth_m[::2], depth.exo.camera, list(empty_masks))
    chosen_points = np.arange(0, len(all_tracks.key_frame), len(all_tracks.key_frame) // 20)
    chosen_mask = np.isin(all_tracks.point, chosen_points)
    tracks = replace(
        all_tracks,
        point=np.searchsorted(chosen_points, all_tracks.point[chosen_mask]),
        **{
            key: getattr(all_tracks, key)[chosen_points]
            for key in ("key_frame", "ray", "depth_m", "key_uv")
        },
        **{
            key: getattr(all_tracks, key)[chosen_mask]
            for key in ("frame", "plane_uv", "map_depth_m", "uv", "px_per_unit")
        },
    )
    adjustment = adjust(tracks, turns=kind == "pan")
    assert adjustment.cost == pytest.approx(
        adjust_reference(tracks, adjustment, turns=kind == "pan"), rel=1e-3
    )
