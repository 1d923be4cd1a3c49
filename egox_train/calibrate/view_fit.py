"""Compare an ego video with pictures of the scene that are rendered along the stated camera
path."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.metrics import PathViews, exo_turned_error
from egox_core.progress import Progress
from egox_core.stages import scene
from egox_core.take import Take
from egox_core.types import CameraTrajectory, DepthVideo
from egox_core.video import decode_frames, probe_video

from .check_row import EpisodeResult
from .deviation import (
    Deviation,
    apply_deviation,
    compose_deviations,
    path_deviation,
    relative_size,
    to_exo_deviation,
)
from .frames import poses_at, sensor_poses

DRAWN_VIEWS = 9
"""Frames of the scene that are drawn."""
LEAST_LIKENESS, LEAST_IMPROVEMENT = 0.65, 0.15
"""Correlation of an ego video with its scene, and how much better a mirrored one must be."""
INDEPENDENT_PATCHES = 60
"""Parts of a picture whose likeness counts as independent."""


def fit_view(
    episode_result: EpisodeResult,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    progress: Progress,
) -> tuple[EpisodeResult, str]:
    """Compare an ego video with the rendered scene, after correcting the time lag of the poses."""
    ego_info = probe_video(ego_video)
    take_path = take.trajectory.with_depth_camera(take.depth.exo)
    frame_indices = take_path.frames.indices.numpy()
    frame_indices = frame_indices[frame_indices < len(times_s)]
    used_count = len(frame_indices) - (len(frame_indices) - 1) % 4
    frame_indices = frame_indices[:used_count]
    if used_count < 5:
        return episode_result, "turn and shift are not testable: fewer than 5 frames"
    take_path = replace(take_path, ego=take_path.ego.resized(ego_info.width, ego_info.height))
    if episode_result.lag_s:
        corrected_poses = torch.from_numpy(
            poses_at(times_s, w2c, times_s[frame_indices] + episode_result.lag_s)
        )
        full_poses = torch.cat(
            [sensor_poses(take_path.ego, corrected_poses), take_path.ego.w2c[used_count:]]
        )
        take_path = replace(take_path, ego=replace(take_path.ego, w2c=full_poses))
    ego_pictures = np.stack(
        [picture for _, picture in decode_frames(ego_video, ego_info, frame_indices.tolist())]
    )
    ego_pictures = torch.from_numpy(ego_pictures).float() / 255
    if used_count < len(take_path):
        ego_pictures = torch.cat(
            [
                ego_pictures,
                ego_pictures[-1:].expand(len(take_path) - used_count, *ego_pictures.shape[1:]),
            ]
        )
    exo_video = take.read_exo(progress)
    deviation, likeness = _deviation(exo_video, take.depth, take_path, ego_pictures, progress)
    if likeness < LEAST_LIKENESS:
        flipped_depth = replace(take.depth, depth_m=take.depth.depth_m.flip(2))
        mirrored_cases = (
            ("its own picture", exo_video, take.depth, ego_pictures.flip(2)),
            ("exo's picture", exo_video.flip(2), take.depth, ego_pictures),
            ("exo's picture and depth", exo_video.flip(2), flipped_depth, ego_pictures),
        )
        for mirrored_name, pictures, depth, video in mirrored_cases:
            _, mirrored_score = _deviation(
                pictures, depth, take_path, video, progress, search=False
            )
            if mirrored_score >= max(LEAST_LIKENESS, likeness + LEAST_IMPROVEMENT):
                sigmas = (math.atanh(mirrored_score) - math.atanh(max(likeness, 0.0))) * math.sqrt(
                    INDEPENDENT_PATCHES
                )
                finding = (
                    f"mirrored: {mirrored_name} ({mirrored_score:.2f} like the scene, "
                    f"{likeness:.2f} as stated)"
                )
                return replace(episode_result, mismatch_sigmas=sigmas), finding
    if deviation is None or likeness < LEAST_LIKENESS:
        return (
            episode_result,
            f"turn and shift are not testable: too little like the scene ({likeness:.2f})",
        )
    exo_deviation = to_exo_deviation(deviation, take_path)
    is_smaller_for_exo = relative_size(exo_deviation) < relative_size(deviation)
    episode_result = replace(
        episode_result,
        deviation=exo_deviation if is_smaller_for_exo else deviation,
        is_exo_deviation=is_smaller_for_exo,
    )
    finding = (
        f"{'exo' if is_smaller_for_exo else 'head'} camera turned or moved"
        if episode_result.is_displaced
        else "its view fits"
    )
    return episode_result, finding


def _deviation(
    exo_video: Tensor,  # [T, H, W, 3] uint8
    depth: DepthVideo,
    path: CameraTrajectory,
    ego_video: Tensor,  # [T, h, w, 3] float
    progress: Progress,
    search: bool = True,
) -> tuple[Deviation | None, float]:
    """Measure how far the camera of an ego video deviates from the rendered view, and their
    similarity."""
    scene_points, _ = scene(exo_video, depth, progress=progress)
    path_views = PathViews.of(scene_points, path, most=DRAWN_VIEWS, progress=progress)
    path_error = path_views.error(ego_video)
    score = float(path_error.score.median())
    if score < LEAST_LIKENESS and search:
        turned_error = exo_turned_error(scene_points, path, ego_video, progress)
        if float(turned_error.score.median()) > max(score, LEAST_LIKENESS):
            turned_poses = np.concatenate(
                [
                    np.radians(turned_error.turn_deg.nanmedian(0).values.numpy()),
                    turned_error.shift_m.nanmedian(0).values.numpy(),
                ]
            )
            poses = torch.from_numpy(apply_deviation(path.ego.upright_w2c.numpy(), turned_poses))
            ego_path = replace(path.ego, w2c=sensor_poses(path.ego, poses))
            corrected_path = replace(path, ego=ego_path)
            remaining_deviation, score = _deviation(
                exo_video, depth, corrected_path, ego_video, progress, search=False
            )
            return remaining_deviation and replace(
                remaining_deviation,
                rotation_and_shift=compose_deviations(
                    turned_poses, remaining_deviation.rotation_and_shift
                ),
            ), score
    return path_deviation(path_views, ego_video, path_error, path), score
