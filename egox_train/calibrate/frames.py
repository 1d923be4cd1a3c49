"""Choose pictures of a recording for 3D reconstruction, and track the head camera's pose through
all frames."""

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
PICTURE_INTERVAL_S, MOST_PICTURES = 0.34, 150
STILL_FRAMES = 31
FEWEST_TRACKS, MOST_TRACK_ERROR_DEG = 15, 0.6
LOST_S = 1.0
"""A pose that is carried further from a solved picture by tracking alone is lost."""


def picture_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Compute a reduced picture size, whose longer side has at most ``side`` px."""
    scale_factor = min(1.0, side / max(width, height))
    return round(width * scale_factor), round(height * scale_factor)


def write_moving(
    video: Path, info: VideoInfo, frame_range: range, folder: Path, progress: Progress
) -> list[int]:
    """Write the sharpest frame of each third of a second of the head camera's video."""
    folder.mkdir(parents=True, exist_ok=True)
    reduced_size = picture_size(info.width, info.height, EGO_SIDE)
    frames_per_group = max(PICTURE_INTERVAL_S * info.fps, len(frame_range) / MOST_PICTURES, 1.0)
    best_by_group: dict[int, tuple[float, int, np.ndarray]] = {}
    for index, picture in decode_frames(video, info, frame_range):
        small_picture = cv2.resize(picture, reduced_size, interpolation=cv2.INTER_AREA)
        grey_picture = cv2.cvtColor(small_picture, cv2.COLOR_RGB2GRAY)
        group_index = int((index - frame_range.start) / frames_per_group)
        sharpness = float(cv2.Laplacian(grey_picture, cv2.CV_64F).var())
        if group_index not in best_by_group or sharpness > best_by_group[group_index][0]:
            best_by_group[group_index] = sharpness, index, small_picture
        progress(index - frame_range.start + 1, len(frame_range), f"pictures of {video.name}")
    for _, index, small_picture in best_by_group.values():
        write_picture(folder / picture_name(index), small_picture)
    return sorted(index for _, index, _ in best_by_group.values())


def picture_name(index: int) -> str:
    """Build the file name of a frame's picture."""
    return f"{index:07d}.png"


def write_picture(file: Path, picture: np.ndarray) -> None:  # [H, W, 3] uint8 RGB
    """Write a picture as PNG, also to paths with non-ASCII characters."""
    file.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def write_still(
    video: Path, info: VideoInfo, frame_range: range, file: Path
) -> np.ndarray:  # [H, W, 3] uint8
    """Write the median picture of a fixed camera's video, in which moving people disappear."""
    file.parent.mkdir(parents=True, exist_ok=True)
    reduced_size = picture_size(info.width, info.height, EXO_SIDE)
    frame_indices = np.unique(
        np.linspace(frame_range.start, frame_range.stop - 1, STILL_FRAMES).round().astype(int)
    )
    frames = [
        cv2.resize(picture, reduced_size, interpolation=cv2.INTER_AREA)
        for _, picture in decode_frames(video, info, frame_indices.tolist())
    ]
    median_picture = np.median(np.stack(frames), axis=0).astype(np.uint8)
    write_picture(file, median_picture)
    return median_picture


def track_poses(
    video: Path,
    info: VideoInfo,
    frame_range: range,
    camera: CameraModel,  # upright, of the small pictures
    solved_poses: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
    progress: Progress,
) -> np.ndarray:  # [span, 3, 4] camera_from_world, NaN where it isn't known
    """Find the head camera's pose in frames between the reconstructed ones by tracking points.

    Args:
        solved_poses: by frame, its pose [3, 4], points [N, 3] in the world and their pixels [N, 2].
    """
    picture_size_px = (camera.width, camera.height)
    poses = np.full((len(frame_range), 3, 4), np.nan)
    pose = None
    points = np.zeros((0, 3))
    tracked_uv = np.zeros((0, 2), np.float32)
    earlier_picture = None
    tracked_count = 0
    for index, picture in decode_frames(video, info, frame_range):
        grey_picture = cv2.cvtColor(
            cv2.resize(picture, picture_size_px, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        if index in solved_poses:
            pose, points, solved_uv = solved_poses[index]
            tracked_uv, tracked_count = solved_uv.astype(np.float32), 0
        elif pose is not None and earlier_picture is not None:
            tracked_uv, points = track_points(earlier_picture, grey_picture, tracked_uv, points)
            tracked_count += 1
            pose, tracked_uv, points = _refine_pose(pose, camera, tracked_uv, points)
            if tracked_count > LOST_S * info.fps:
                pose = None
        if pose is not None:
            poses[index - frame_range.start] = pose
        earlier_picture = grey_picture
        progress(index - frame_range.start + 1, len(frame_range), f"the path of {video.name}")
    return poses


def track_points(
    earlier: np.ndarray, later: np.ndarray, uv: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Track pixels [N, 2] to the next picture and back, and keep the consistent ones."""
    if not len(uv):
        return uv, points
    start_uv = uv[:, None]
    later_uv, is_found, _ = cv2.calcOpticalFlowPyrLK(
        earlier, later, start_uv, start_uv.copy(), winSize=(15, 15), maxLevel=3
    )
    returned_uv, is_found_again, _ = cv2.calcOpticalFlowPyrLK(
        later, earlier, later_uv, later_uv.copy(), winSize=(15, 15), maxLevel=3
    )
    has_returned = np.linalg.norm((returned_uv - uv[:, None])[:, 0], axis=1) < 0.7
    is_found = (is_found[:, 0] == 1) & (is_found_again[:, 0] == 1) & has_returned
    return later_uv[is_found, 0], points[is_found]


def _refine_pose(
    pose: np.ndarray, camera: CameraModel, uv: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Refine a camera pose by tracked points, and drop points with large errors."""
    if len(uv) < FEWEST_TRACKS:
        return None, uv, points
    rays, valid_mask = camera.unproject(torch.from_numpy(uv.astype(np.float64)))
    rays, is_usable = rays.numpy(), valid_mask.numpy()
    rays, points, uv = rays[is_usable], points[is_usable], uv[is_usable]
    fitted_pose, ray_errors = fit_pose(pose, rays, points)
    is_inlier = ray_errors < np.radians(MOST_TRACK_ERROR_DEG)
    if is_inlier.sum() < FEWEST_TRACKS:
        return None, uv, points
    return fitted_pose, uv[is_inlier], points[is_inlier]


def fit_pose(
    pose: np.ndarray,  # [3, 4]
    rays: np.ndarray,  # [N, 3] unit
    points: np.ndarray,  # [N, 3]
    rounds: int = 10,
) -> tuple[np.ndarray, np.ndarray]:  # [3, 4], [N] radians off
    """Fit a camera pose to the viewing rays of known points by robust Gauss-Newton steps."""
    loss_scale_rad = np.radians(MOST_TRACK_ERROR_DEG) / 3
    for _ in range(rounds):
        normal_matrix, right_side, _ = pose_equations(pose, rays, points, loss_scale_rad)
        step = np.linalg.lstsq(normal_matrix, -right_side, rcond=None)[0]
        rotation = Rotation.from_rotvec(step[:3]).as_matrix()
        pose = np.concatenate(
            [rotation @ pose[:, :3], (rotation @ pose[:, 3] + step[3:])[:, None]], 1
        )
        if np.abs(step).max() < 1e-7:
            break
    _, _, ray_errors = pose_equations(pose, rays, points, loss_scale_rad)
    return pose, ray_errors


def pose_equations(
    pose: np.ndarray, rays: np.ndarray, points: np.ndarray, loss_scale_rad: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the Gauss-Newton equations [6, 6], [6] for a small correction of a camera pose."""
    camera_points = points @ pose[:, :3].T + pose[:, 3]
    distances = np.maximum(np.linalg.norm(camera_points, axis=1, keepdims=True), 1e-9)
    camera_directions = camera_points / distances
    direction_errors = camera_directions - rays
    error_angles = np.linalg.norm(direction_errors, axis=1)
    point_weights = 1 / (1 + (error_angles / loss_scale_rad) ** 2)
    point_jacobian = (
        np.eye(3) - camera_directions[:, :, None] * camera_directions[:, None]
    ) / distances[:, :, None]
    skew_matrices = np.zeros((len(camera_points), 3, 3))
    x, y, z = camera_points.T
    skew_matrices[:, 0, 1], skew_matrices[:, 0, 2], skew_matrices[:, 1, 0] = z, -y, -z
    skew_matrices[:, 1, 2], skew_matrices[:, 2, 0], skew_matrices[:, 2, 1] = x, y, -x
    jacobian = np.concatenate([point_jacobian @ skew_matrices, point_jacobian], axis=2)
    weighted_jacobian = jacobian * point_weights[:, None, None]
    normal_matrix = np.einsum("nij,nik->jk", weighted_jacobian, jacobian)
    return normal_matrix, np.einsum("nij,ni->j", weighted_jacobian, direction_errors), error_angles


def frames_at(
    times_s: Sequence[float] | np.ndarray, moments_s: np.ndarray
) -> np.ndarray:  # [N] int64
    """Find the index of the frame nearest to each moment."""
    frame_times_s = np.asarray(times_s)
    later_indices = np.clip(np.searchsorted(frame_times_s, moments_s), 1, len(frame_times_s) - 1)
    return np.where(
        moments_s - frame_times_s[later_indices - 1] < frame_times_s[later_indices] - moments_s,
        later_indices - 1,
        later_indices,
    )


def poses_at(
    times_s: np.ndarray,  # [T] rising
    w2c: np.ndarray,  # [T, 3, 4], NaN where it isn't known
    moments_s: np.ndarray,  # [N]
) -> np.ndarray:  # [N, 3, 4]
    """Interpolate camera poses at the given moments, and repeat the first or last pose outside."""
    known_mask = np.isfinite(w2c).all(axis=(1, 2))
    known_times_s, known_poses = times_s[known_mask], w2c[known_mask]
    if len(known_poses) == 1:
        return np.repeat(known_poses, len(moments_s), axis=0)
    clipped_moments_s = np.clip(moments_s, known_times_s[0], known_times_s[-1])
    rotation_matrices = Slerp(known_times_s, Rotation.from_matrix(known_poses[:, :, :3]))(
        clipped_moments_s
    ).as_matrix()
    camera_centres = -np.einsum("tji,tj->ti", known_poses[:, :, :3], known_poses[:, :, 3])
    camera_positions = np.stack(
        [np.interp(clipped_moments_s, known_times_s, axis) for axis in camera_centres.T], axis=1
    )
    return np.concatenate(
        [rotation_matrices, -rotation_matrices @ camera_positions[:, :, None]], axis=2
    )


def sensor_poses(ego: CameraPath, upright: Tensor) -> Tensor:  # [N, 3, 4]
    """Convert poses of the upright camera to poses of its sensor."""
    sensor_from_upright_rotation = sensor_from_upright(ego.camera.quarter_turns).to(upright)
    return sensor_from_upright_rotation @ upright
