"""An exo camera that moves: its poses, what is refused, and depth that agrees with them."""

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
from lab.drawn import DepthErrors, SyntheticSpec, make_take, with_errors
from tests.poses import with_exo
from tests.refusals import refuses
from tests.twins.exo_adjust import adjust_reference

T, SIZE = 13, (320, 192)
WAYS = {
    "still": {},
    "shake": {"exo_motion": 0.03, "exo_turn_deg": 2.0},
    "pan": {"exo_path": "pan", "exo_turn_deg": 25.0},
    "dolly": {"exo_path": "dolly", "exo_motion": 0.6},
    "walk": {"exo_path": "walk-around", "exo_turn_deg": 25.0},
}


@cache
def clip(kind: str) -> tuple[torch.Tensor, DepthVideo, DepthVideo]:
    """Draw a clip: frames, depth with a network's errors and without poses, and the true depth."""
    size = {"exo_width": SIZE[0], "exo_height": SIZE[1], "ego_size": 16, "edge_samples": 1}
    take = make_take(SyntheticSpec(seed=1, frames=T, fps=10, texture="soft", **size, **WAYS[kind]))
    exact = take.depth_video()
    # Of eight draws of errors two leave a pan's maps as wrong as they were.
    wrong = with_errors(exact, DepthErrors(low_frequency=0.06, flicker=0.03), 4)
    return take.exo_rgb, with_exo(wrong, None), exact


def from_start(w2c: torch.Tensor) -> torch.Tensor:
    return compose(w2c, invert(w2c[0]))


def off(found: torch.Tensor, true: torch.Tensor) -> tuple[float, float]:
    """Measure the worst error of all frames, in degrees and metres."""
    across = compose(from_start(found), invert(from_start(true)))
    turns = Rotation.from_matrix(across[:, :, :3].numpy()).magnitude()
    return float(np.degrees(turns.max())), float(across[:, :, 3].norm(dim=1).max())


@pytest.mark.parametrize(
    "kind, motion, degrees, metres",
    [
        ("shake", "moves", 0.3, 0.02),
        ("pan", "turns", 0.3, 0.0),
        pytest.param("dolly", "moves", 1.0, 0.08, marks=pytest.mark.slow),
        ("walk", "moves", 1.0, 0.08),
    ],
)
def test_poses_and_depth(kind, motion, degrees, metres):
    frames, depth, exact = clip(kind)
    mended, motion_report = estimate_exo_motion(frames, depth)
    turn, way = off(mended.exo.pose, exact.exo.pose)
    assert motion_report.motion == motion and turn <= degrees and way <= metres + 1e-9
    assert (
        f"the exo camera {motion}" in motion_report.text() and "warning" not in motion_report.text()
    )
    wrong, less = (torch.log(d.depth_m / exact.depth_m).flatten(1) for d in (depth, mended))
    flicker = [d.median(1).values.diff().std() for d in (wrong, less)]
    assert flicker[1] < 0.5 * flicker[0]
    assert (less - less.median()).abs().mean() < (wrong - wrong.median()).abs().mean()
    if kind == "pan":
        base = exact.exo.pose[5]
        placed_depth, _ = estimate_exo_motion(frames, with_exo(depth, base))
        assert torch.equal(placed_depth.exo.pose, compose(mended.exo.pose, base))
        camera = depth.exo.camera
        fov = 2 * np.degrees(np.arctan(camera.width / 2 / camera.fx))
        longer = replace(camera, fx=1.1 * camera.fx, fy=1.1 * camera.fy)
        _, motion_report = estimate_exo_motion(
            frames, replace(depth, exo=replace(depth.exo, lens=longer))
        )
        match = re.search(
            r"warning: the pictures are those of a turn seen (\d+)°", motion_report.text()
        )
        assert match and float(match[1]) == pytest.approx(fov, abs=1.5)


def test_a_given_path_is_checked_and_scaled():
    frames, depth, exact = clip("walk")
    path = exact.exo.pose
    mended, motion_report = estimate_exo_motion(frames, with_exo(depth, path))
    assert (
        torch.equal(mended.exo.pose, path)
        and motion_report.agree > 0.8
        and motion_report.depth_spread < 0.05
    )
    half = CameraPath.of_exo(None, from_start(path) * torch.tensor([1, 1, 1, 0.5]))
    of_another = replace(half, world="unknown")
    scaled, motion_report = estimate_exo_motion(frames, depth, "auto", of_another)
    assert scaled.exo.world == "exo"
    assert "scale from the depth: x " in motion_report.text()
    assert off(scaled.exo.pose, path)[1] < 0.08
    other = clip("shake")[2].exo
    for wrong, why in ((half, "times its travel"), (other, "% of the mat")):
        with refuses(f"given path of the exo camera: .*{why}.*Fix"):
            estimate_exo_motion(frames, depth, "auto", wrong)
    with refuses("given path of the exo camera: .*motion 'stands'"):
        estimate_exo_motion(frames, depth, "stands", exact.exo)
    blank = torch.full_like(frames, 128)
    kept_depth, motion_report = estimate_exo_motion(blank, depth, "auto", exact.exo)
    assert torch.equal(kept_depth.exo.pose, path) and "isn't checked" in motion_report.text()
    with refuses("given path of the exo camera: got the background can't be followed"):
        estimate_exo_motion(blank, depth, "auto", of_another)


def test_a_rolling_shutter_isnt_taken_for_travel():
    """A narrower view turned over one frame, each row at its own time."""
    frames, _, exact = clip("still")
    lens, phase = exact.exo.camera, np.arange(3)
    camera = replace(lens, fx=2 * lens.fx, fy=2 * lens.fy)
    rays = camera.pixel_rays(torch.float64)[0].numpy()

    def turned(times: np.ndarray) -> np.ndarray:  # [n] -> [n, 3, 3]
        way = np.sin(times[:, None] / 2 + phase) - np.sin(phase)
        return Rotation.from_rotvec(np.radians(3) * way).as_matrix()

    rolled = []
    for t in range(T):
        late = np.arange(SIZE[1]) / SIZE[1] / 2 - 0.25
        ways = np.einsum("hji,hwj->hwi", turned(t + late), rays)
        at = lens.project(torch.from_numpy(ways))[0].float().numpy()
        rolled.append(cv2.remap(frames[0].numpy(), at, None, cv2.INTER_LINEAR))
    poses = torch.from_numpy(np.pad(turned(np.arange(T)), ((0, 0), (0, 0), (0, 1))))
    depth = DepthVideo(depth_m=torch.full((T, *SIZE[::-1]), 3.0), exo=CameraPath.of_exo(camera))
    mended, motion_report = estimate_exo_motion(torch.from_numpy(np.stack(rolled)), depth)
    assert motion_report.motion == "turns" and "warning" not in motion_report.text()
    assert off(mended.exo.pose, poses)[0] < 0.5


def test_a_camera_that_stands_passes_bit_for_bit():
    frames, depth, _ = clip("still")
    assert estimate_exo_motion(frames, depth)[0] is depth
    assert estimate_exo_motion(frames, depth, "stands")[0] is depth


def test_what_cant_be_followed_is_refused():
    frames, depth, exact = clip("walk")
    gaps = frames.clone()
    gaps[4:9] = 128
    kept_depth, motion_report = estimate_exo_motion(gaps, depth)
    assert kept_depth is depth and "frames 4 to 8 can't be followed" in motion_report.text()
    with refuses("motion of the exo camera: .*frames 4 to 8.*Fix"):
        estimate_exo_motion(gaps, depth, "moves")
    gaps = frames.clone()
    gaps[5] = 128  # one frame is interpolated
    mended, motion_report = estimate_exo_motion(gaps, depth)
    assert motion_report.motion == "moves" and off(mended.exo.pose, exact.exo.pose)[1] < 0.1


@pytest.mark.parametrize("kind", ["pan", "walk"])
def test_the_adjustment_is_that_of_scipy(kind):
    """Every so many of a clip's points, in four frames."""
    frames, depth, _ = clip(kind)
    nothing = torch.zeros(depth.depth_m.shape, dtype=torch.bool)
    all_tracks = find_tracks(frames[::4], depth.depth_m[::4], depth.exo.camera, list(nothing))
    some = np.arange(0, len(all_tracks.home), len(all_tracks.home) // 20)
    rows = np.isin(all_tracks.point, some)
    tracks = replace(
        all_tracks,
        point=np.searchsorted(some, all_tracks.point[rows]),
        **{key: getattr(all_tracks, key)[some] for key in ("home", "ray", "depth_m", "home_uv")},
        **{key: getattr(all_tracks, key)[rows] for key in ("frame", "plane", "map_m", "uv", "px")},
    )
    fit = adjust(tracks, turns=kind == "pan")
    assert fit.cost == pytest.approx(adjust_reference(tracks, fit, turns=kind == "pan"), rel=1e-3)
