"""An exo camera that moves: its poses, what is refused, and depth that agrees with them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.model import CameraModel, pixel_grid
from egox_core.scene.exo_adjust import adjust
from egox_core.scene.exo_motion import estimate_exo_motion
from egox_core.scene.exo_tracks import Tracks
from egox_core.trajectory.poses import compose
from egox_core.types import DepthVideo
from lab.drawn import DepthErrors, with_errors
from tests.refusals import refuses
from tests.twins.exo_adjust import adjust_reference

T, SIZE, FOCAL = 13, (320, 192), 300.0
CAMERA = CameraModel(lens="pinhole", width=320, height=192, fx=FOCAL, fy=FOCAL, cx=159.5, cy=95.5)
# Point and normal of each plane, metres: floor, back wall, side wall, a box's front and top.
PLANES = [
    ((0, 1.2, 0), (0, 1, 0), None),
    ((0, 0, 5), (0, 0, 1), None),
    ((-2, 0, 0), (1, 0, 0), None),
    ((0.6, 0.8, 2.6), (0, 0, 1), 0.45),
    ((-0.5, 0.5, 3.4), (0, 0, 1), 0.6),
]


@cache
def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = sum(
        cv2.GaussianBlur(rng.normal(size=(512, 512, 3)).astype(np.float32), (0, 0), sigma) * sigma
        for sigma in (2.0, 6.0)
    )
    return cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def pictures(w2c: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rgb [T, H, W, 3] uint8, z depth [T, H, W]) of planes and two boards."""
    grid = pixel_grid(CAMERA, torch.float64).numpy()
    rays = np.concatenate([(grid - [159.5, 95.5]) / FOCAL, np.ones_like(grid[..., :1])], -1)
    frames, depths = [], []
    for pose in w2c:
        centre, way = -pose[:, :3].T @ pose[:, 3], rays @ pose[:, :3]
        nearest, rgb = np.full(rays.shape[:2], np.inf), np.zeros((*rays.shape[:2], 3), np.uint8)
        for number, (place, normal, half) in enumerate(PLANES):
            with np.errstate(divide="ignore", invalid="ignore"):
                z = ((np.array(place) - centre) @ normal) / (way @ np.array(normal))
                hit = centre + z[..., None] * way
            flat = np.delete(hit - place, np.argmax(np.abs(normal)), axis=-1)
            shown = (z > 0.1) & (z < nearest)
            if half is not None:
                shown &= np.abs(flat).max(-1) < half
            at = np.nan_to_num(flat * 150, posinf=0, neginf=0).astype(np.float32) % 510
            seen = cv2.remap(texture(10 * seed + number), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
            rgb[shown], nearest[shown] = seen[shown], z[shown]
        frames.append(rgb)
        depths.append(nearest)
    return np.stack(frames), np.stack(depths).astype(np.float32)


def way(kind: str, count: int = T) -> np.ndarray:  # [count, 3, 4]
    share = np.linspace(0, 1, count)
    wave = np.stack([np.sin(9 * share + k) - np.sin(k) for k in range(3)], 1)
    turn, centre = np.zeros((count, 3)), np.zeros((count, 3))
    if kind == "shake":
        turn, centre = np.radians(1.5) * wave, 0.03 * wave
    elif kind == "pan":
        turn[:, 1] = np.radians(25) * share
    elif kind == "hard turn":
        turn = np.radians(3.0) * np.stack([np.sin(6 * share + k) - np.sin(k) for k in range(3)], 1)
    elif kind == "dolly":
        centre[:, 0], turn = 0.6 * share, np.radians(0.3) * wave
    elif kind == "walk":
        angle = np.radians(25) * share
        turn[:, 1] = angle
        centre = np.stack([-3 * np.sin(angle), 0 * angle, 3 - 3 * np.cos(angle)], 1)
    rotation = Rotation.from_rotvec(turn).as_matrix()
    return np.concatenate([rotation, -(rotation @ centre[..., None])], 2)


def clip(kind: str, seed: int = 1) -> tuple[torch.Tensor, DepthVideo, torch.Tensor, np.ndarray]:
    """(frames, depth with errors, exact depth, poses)."""
    poses = way(kind)
    rgb, exact = pictures(poses, seed)
    depth = DepthVideo(
        depth_m=torch.from_numpy(exact), camera=CAMERA, times_s=torch.arange(T).double() / 20
    )
    wrong = with_errors(depth, DepthErrors(low_frequency=0.06, flicker=0.03), seed)
    return torch.from_numpy(rgb), wrong, depth.depth_m, poses


def off(found: torch.Tensor, poses: np.ndarray) -> tuple[float, float]:
    """Worst of all frames, degrees and metres."""
    turn = Rotation.from_matrix(found[:, :, :3].numpy() @ poses[:, :, :3].transpose(0, 2, 1))
    centres = [-np.einsum("tji,tj->ti", p[:, :, :3], p[:, :, 3]) for p in (found.numpy(), poses)]
    return np.degrees(turn.magnitude().max()), np.linalg.norm(centres[0] - centres[1], axis=1).max()


@pytest.mark.parametrize(
    "kind, motion, degrees, metres",
    [
        ("shake", "moves", 0.3, 0.02),
        ("pan", "turns", 0.3, 0.0),
        ("dolly", "moves", 1.0, 0.08),
        ("walk", "moves", 1.0, 0.08),
    ],
)
def test_poses_and_depth(kind: str, motion: str, degrees: float, metres: float) -> None:
    frames, depth, exact, poses = clip(kind)
    mended, found = estimate_exo_motion(frames, depth)
    turn, way_off = off(mended.exo_w2c, poses)
    assert found.motion == motion and turn <= degrees and way_off <= metres + 1e-9
    assert f"the exo camera {motion}" in found.text() and "warning" not in found.text()
    wrong, less = (torch.log(d.depth_m / exact).flatten(1) for d in (depth, mended))
    if motion == "moves":
        assert less.median(1).values.std() < 0.5 * wrong.median(1).values.std()  # the flicker
    assert (less - less.median()).abs().mean() < (wrong - wrong.median()).abs().mean()
    if kind == "pan":
        base = torch.from_numpy(way("walk")[5])
        placed, _ = estimate_exo_motion(frames, replace(depth, exo_w2c=base))
        assert torch.equal(placed.exo_w2c, compose(mended.exo_w2c, base))
        longer = replace(CAMERA, fx=1.1 * FOCAL, fy=1.1 * FOCAL)
        _, found = estimate_exo_motion(frames, replace(depth, camera=longer))
        assert found.fov_deg == pytest.approx(56.1, abs=1.0) and "warning: the p" in found.text()


def test_a_given_path_is_checked_and_scaled() -> None:
    frames, depth, _, poses = clip("walk")
    path = torch.from_numpy(poses)
    mended, found = estimate_exo_motion(frames, replace(depth, exo_w2c=path))
    assert mended.exo_w2c is path and found.agree > 0.8 and found.depth_spread < 0.05
    half = path * torch.tensor([1, 1, 1, 0.5])
    scaled, found = estimate_exo_motion(frames, depth, "auto", half, False)
    assert "scale from the depth: x " in found.text()
    assert off(scaled.exo_w2c, poses)[1] < 0.08
    for wrong, why in (
        (half, "times its travel"),
        (torch.from_numpy(way("dolly")), "% of the mat"),
    ):
        with refuses(f"given path of the exo camera: .*{why}.*Fix"):
            estimate_exo_motion(frames, depth, "auto", wrong)
    blank = torch.full_like(frames, 128)
    kept, found = estimate_exo_motion(blank, depth, "auto", path)
    assert torch.equal(kept.exo_w2c, path) and "isn't checked" in found.text()
    with refuses("given path of the exo camera: got nothing"):
        estimate_exo_motion(blank, depth, "auto", path, False)


def test_a_rolling_shutter_isnt_taken_for_travel() -> None:
    """Rows of eight times as many frames."""
    fine, exact = pictures(way("hard turn", 8 * (T - 1) + 1), 2)
    late = 4 * (np.arange(SIZE[1]) / SIZE[1] - 0.5)
    rows = (8 * np.arange(T)[:, None] + late).round().astype(int).clip(0, len(fine) - 1)
    frames = torch.from_numpy(fine[rows, np.arange(SIZE[1])])
    depth = DepthVideo(depth_m=torch.from_numpy(exact[::8]), camera=CAMERA)
    mended, found = estimate_exo_motion(frames, depth)
    assert found.motion == "turns" and off(mended.exo_w2c, way("hard turn"))[0] < 0.5
    assert found.shutter[0] == pytest.approx(0.5, abs=0.15) and "rolling shutter" in found.text()


def test_a_camera_that_stands_passes_bit_for_bit() -> None:
    frames, depth, _, _ = clip("still")
    assert estimate_exo_motion(frames, depth)[0] is depth
    assert estimate_exo_motion(frames, depth, "stands")[0] is depth


def test_what_cant_be_followed_is_refused() -> None:
    frames, depth, _, _ = clip("dolly")
    whole = frames.clone()
    frames[4:9] = 128
    kept, found = estimate_exo_motion(frames, depth)
    assert kept is depth and "frames 4 to 8 can't be followed" in found.text()
    with refuses("motion of the exo camera: .*frames 4 to 8.*Fix"):
        estimate_exo_motion(frames, depth, "moves")
    frames[4:9] = whole[4:9]
    frames[5] = 128  # one frame is interpolated
    mended, found = estimate_exo_motion(frames, depth)
    assert found.motion == "moves" and off(mended.exo_w2c, way("dolly"))[1] < 0.1


@pytest.mark.parametrize("turns", [True, False])
def test_the_adjustment_is_that_of_scipy(turns: bool) -> None:
    rng, count, points = np.random.default_rng(3), 4, 20
    poses = way("dolly", count)
    home = np.repeat([0, 2], points // 2)
    ray = np.c_[rng.uniform(-0.4, 0.4, (points, 2)), np.ones(points)]
    z = rng.uniform(2, 5, points)
    point, frame = (a.ravel() for a in np.mgrid[:points, 1:count])
    point, frame = point[frame != home[point]], frame[frame != home[point]]
    if turns:
        poses[:, :, 3] = 0
    world = np.einsum("nji,nj->ni", poses[home, :, :3], ray * z[:, None] - poses[home, :, 3])
    seen = np.einsum("nij,nj->ni", poses[frame, :, :3], world[point]) + poses[frame, :, 3]
    noise = rng.normal(scale=1 / FOCAL, size=(len(seen), 2))
    start = Rotation.from_rotvec(rng.normal(scale=0.003, size=(count, 3))).as_matrix()
    start[0] = np.eye(3)
    tracks = Tracks(
        home=home,
        ray=ray,
        depth_m=z * np.exp(rng.normal(scale=0.05, size=points)),
        home_uv=ray[:, :2] * FOCAL,
        point=point,
        frame=frame,
        plane=seen[:, :2] / seen[:, 2:] + noise,
        uv=seen[:, :2] / seen[:, 2:] * FOCAL,
        px=np.full(len(seen), FOCAL),
        matched=np.zeros(count, int),
        agreed=np.ones(count),
        weak=(),
        rotation=start @ poses[:, :, :3],
        place=poses[:, :, 3],
    )
    found = adjust(tracks, SIZE, turns=turns)
    rotation, place, cost = adjust_reference(tracks, found, turns=turns)
    assert found.cost == pytest.approx(cost, rel=1e-3)
    if not found.shutter.any():
        assert np.abs(found.rotation - rotation).max() < 1e-3
        assert np.abs(found.place - place).max() < 5e-3
