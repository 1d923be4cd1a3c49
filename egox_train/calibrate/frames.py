"""Pictures of two recordings: sharp ones of the head camera, a still one of exo, and the head
camera's pose in every frame between those that are solved."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from egox_core.cameras import CameraModel, CameraPath, sensor_from_upright
from egox_core.progress import Progress
from egox_core.video import VideoInfo, decode_frames

EGO_SIDE, EXO_SIDE = 640, 960
"""Longest side, px, of the pictures that cameras are found by."""
EVERY_S, MOST_PICTURES = 0.34, 150
STILL_FRAMES = 31
FEWEST_TRACKS, TRACK_DEG = 15, 0.6
LOST_S = 1.0
"""A pose that is carried further from a solved picture by tracking alone is lost."""


def picture_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Give the size within ``side`` px."""
    factor = min(1.0, side / max(width, height))
    return round(width * factor), round(height * factor)


def write_moving(
    video: Path, info: VideoInfo, span: range, folder: Path, progress: Progress
) -> list[int]:
    """Write the sharpest frame of each third of a second, and list their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    size = picture_size(info.width, info.height, EGO_SIDE)
    group = max(EVERY_S * info.fps, len(span) / MOST_PICTURES, 1.0)
    best: dict[int, tuple[float, int, np.ndarray]] = {}
    for index, picture in decode_frames(video, info, span):
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        place, sharp = (
            int((index - span.start) / group),
            float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        )
        if place not in best or sharp > best[place][0]:
            best[place] = sharp, index, small
        progress(index - span.start + 1, len(span), f"pictures of {video.name}")
    for _, index, small in best.values():
        write_picture(folder / picture_name(index), small)
    return sorted(index for _, index, _ in best.values())


def picture_name(index: int) -> str:
    """Give the file name of a frame's picture."""
    return f"{index:07d}.png"


def write_picture(file: Path, picture: np.ndarray) -> None:  # [H, W, 3] uint8 RGB
    """Write a PNG, also to a path that isn't ASCII."""
    file.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def write_still(
    video: Path, info: VideoInfo, span: range, file: Path
) -> np.ndarray:  # [H, W, 3] uint8
    """Write the median over time: who walks about is not in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    size = picture_size(info.width, info.height, EXO_SIDE)
    chosen = np.unique(np.linspace(span.start, span.stop - 1, STILL_FRAMES).round().astype(int))
    frames = [
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for _, picture in decode_frames(video, info, chosen.tolist())
    ]
    still = np.median(np.stack(frames), axis=0).astype(np.uint8)
    write_picture(file, still)
    return still


def track_poses(
    video: Path,
    info: VideoInfo,
    span: range,
    camera: CameraModel,  # upright, of the small pictures
    solved: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
    progress: Progress,
) -> np.ndarray:  # [span, 3, 4] camera_from_world, NaN where it isn't known
    """Find the pose of every frame: the solved pictures' points are tracked to the next one.

    Args:
        solved: by frame, its pose [3, 4], points [N, 3] in the world and their pixels [N, 2].
    """
    size = (camera.width, camera.height)
    poses = np.full((len(span), 3, 4), np.nan)
    pose, points, uv, before, since = None, np.zeros((0, 3)), np.zeros((0, 2), np.float32), None, 0
    for index, picture in decode_frames(video, info, span):
        grey = cv2.cvtColor(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        if index in solved:
            pose, points, pixels = solved[index]
            uv, since = pixels.astype(np.float32), 0
        elif pose is not None and before is not None:
            uv, points = tracked(before, grey, uv, points)
            since += 1
            pose, uv, points = _refined(pose, camera, uv, points)
            if since > LOST_S * info.fps:
                pose = None
        if pose is not None:
            poses[index - span.start] = pose
        before = grey
        progress(index - span.start + 1, len(span), f"the path of {video.name}")
    return poses


def tracked(
    before: np.ndarray, now: np.ndarray, uv: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Track pixels [N, 2] to the next picture and back, and keep those that return to their start,
    with their points."""
    if not len(uv):
        return uv, points
    start = uv[:, None]
    there, good, _ = cv2.calcOpticalFlowPyrLK(
        before, now, start, start.copy(), winSize=(15, 15), maxLevel=3
    )
    back, also, _ = cv2.calcOpticalFlowPyrLK(
        now, before, there, there.copy(), winSize=(15, 15), maxLevel=3
    )
    same = np.linalg.norm((back - uv[:, None])[:, 0], axis=1) < 0.7
    good = (good[:, 0] == 1) & (also[:, 0] == 1) & same
    return there[good, 0], points[good]


def _refined(
    pose: np.ndarray, camera: CameraModel, uv: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Fit the pose to tracked points, dropping points that don't fit."""
    if len(uv) < FEWEST_TRACKS:
        return None, uv, points
    rays, valid = camera.unproject(torch.from_numpy(uv.astype(np.float64)))
    rays, keep = rays.numpy(), valid.numpy()
    rays, points, uv = rays[keep], points[keep], uv[keep]
    fitted, off = fit_pose(pose, rays, points)
    fits = off < np.radians(TRACK_DEG)
    if fits.sum() < FEWEST_TRACKS:
        return None, uv, points
    return fitted, uv[fits], points[fits]


def fit_pose(
    pose: np.ndarray,  # [3, 4]
    rays: np.ndarray,  # [N, 3] unit
    points: np.ndarray,  # [N, 3]
    rounds: int = 10,
) -> tuple[np.ndarray, np.ndarray]:  # [3, 4], [N] radians off
    """Fit a pose to rays by Gauss and Newton, with Cauchy's weights."""
    width = np.radians(TRACK_DEG) / 3
    for _ in range(rounds):
        normal, right, _ = pose_equations(pose, rays, points, width)
        step = np.linalg.lstsq(normal, -right, rcond=None)[0]
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        pose = np.concatenate([turn @ pose[:, :3], (turn @ pose[:, 3] + step[3:])[:, None]], 1)
        if np.abs(step).max() < 1e-7:
            break
    _, _, off = pose_equations(pose, rays, points, width)
    return pose, off


def pose_equations(
    pose: np.ndarray, rays: np.ndarray, points: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the normal equations [6, 6], [6] of a small turn and shift, and how far rays are off."""
    local = points @ pose[:, :3].T + pose[:, 3]
    far = np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1e-9)
    seen = local / far
    off = seen - rays
    angle = np.linalg.norm(off, axis=1)
    weight = 1 / (1 + (angle / width) ** 2)
    across = (np.eye(3) - seen[:, :, None] * seen[:, None]) / far[:, :, None]
    skew = np.zeros((len(local), 3, 3))
    x, y, z = local.T
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 0] = z, -y, -z
    skew[:, 1, 2], skew[:, 2, 0], skew[:, 2, 1] = x, y, -x
    jacobian = np.concatenate([across @ skew, across], axis=2)
    weighted = jacobian * weight[:, None, None]
    normal = np.einsum("nij,nik->jk", weighted, jacobian)
    return normal, np.einsum("nij,ni->j", weighted, off), angle


def nearest_frames(
    times_s: Sequence[float] | np.ndarray, wanted_s: np.ndarray
) -> np.ndarray:  # [N] int64
    """Give the frame nearest to each moment."""
    times = np.asarray(times_s)
    after = np.clip(np.searchsorted(times, wanted_s), 1, len(times) - 1)
    return np.where(wanted_s - times[after - 1] < times[after] - wanted_s, after - 1, after)


def poses_at(
    times_s: np.ndarray,  # [T] rising
    w2c: np.ndarray,  # [T, 3, 4], NaN where it isn't known
    moments_s: np.ndarray,  # [N]
) -> np.ndarray:  # [N, 3, 4]
    """Interpolate the poses at other moments. Beyond the known ones the end poses hold."""
    known = np.isfinite(w2c).all(axis=(1, 2))
    times, poses = times_s[known], w2c[known]
    if len(poses) == 1:
        return np.repeat(poses, len(moments_s), axis=0)
    moments = np.clip(moments_s, times[0], times[-1])
    turns = Slerp(times, Rotation.from_matrix(poses[:, :, :3]))(moments).as_matrix()
    centres = -np.einsum("tji,tj->ti", poses[:, :, :3], poses[:, :, 3])
    where = np.stack([np.interp(moments, times, axis) for axis in centres.T], axis=1)
    return np.concatenate([turns, -turns @ where[:, :, None]], axis=2)


def sensor_poses(ego: CameraPath, upright: Tensor) -> Tensor:  # [N, 3, 4]
    """Turn poses of the upright camera into those of its sensor."""
    turn = sensor_from_upright(ego.camera.quarter_turns).to(upright)
    return turn @ upright
