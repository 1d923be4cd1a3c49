"""Compare an ego video with pictures of the scene that are rendered along the stated camera path."""

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
LIKE_SCENE, BETTER = 0.65, 0.15
"""Correlation of an ego video with its scene, and how much better a mirrored one must be."""
PATCHES = 60
"""Parts of a picture whose likeness counts as independent."""


def fit_view(
    row: EpisodeResult,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    progress: Progress,
) -> tuple[EpisodeResult, str]:
    """Compare an ego video with the rendered scene, after correcting the time lag of the poses."""
    info = probe_video(ego_video)
    path = take.trajectory.beside(take.depth.exo)
    indices = path.frames.indices.numpy()
    indices = indices[indices < len(times_s)]
    used_count = len(indices) - (len(indices) - 1) % 4
    indices = indices[:used_count]
    if used_count < 5:
        return row, "turn and shift are not testable: fewer than 5 frames"
    path = replace(path, ego=path.ego.resized(info.width, info.height))
    if row.lag_s:
        corrected_poses = torch.from_numpy(poses_at(times_s, w2c, times_s[indices] + row.lag_s))
        full_poses = torch.cat([sensor_poses(path.ego, corrected_poses), path.ego.w2c[used_count:]])
        path = replace(path, ego=replace(path.ego, w2c=full_poses))
    ego_pictures = np.stack(
        [picture for _, picture in decode_frames(ego_video, info, indices.tolist())]
    )
    ego_pictures = torch.from_numpy(ego_pictures).float() / 255
    if used_count < len(path):
        ego_pictures = torch.cat(
            [
                ego_pictures,
                ego_pictures[-1:].expand(len(path) - used_count, *ego_pictures.shape[1:]),
            ]
        )
    exo_video = take.read_exo(progress)
    deviation, likeness = _deviation(exo_video, take.depth, path, ego_pictures, progress)
    if likeness < LIKE_SCENE:
        flipped_depth = replace(take.depth, depth_m=take.depth.depth_m.flip(2))
        mirrored_cases = (
            ("its own picture", exo_video, take.depth, ego_pictures.flip(2)),
            ("exo's picture", exo_video.flip(2), take.depth, ego_pictures),
            ("exo's picture and depth", exo_video.flip(2), flipped_depth, ego_pictures),
        )
        for mirrored_name, pictures, depth, video in mirrored_cases:
            _, mirrored_score = _deviation(pictures, depth, path, video, progress, search=False)
            if mirrored_score >= max(LIKE_SCENE, likeness + BETTER):
                sigmas = (math.atanh(mirrored_score) - math.atanh(max(likeness, 0.0))) * math.sqrt(
                    PATCHES
                )
                finding = f"mirrored: {mirrored_name} ({mirrored_score:.2f} like the scene, {likeness:.2f} as stated)"
                return replace(row, strange_sigmas=sigmas), finding
    if deviation is None or likeness < LIKE_SCENE:
        return (
            row,
            f"turn and shift are not testable: too little like the scene ({likeness:.2f})",
        )
    exo_deviation = to_exo_deviation(deviation, path)
    is_smaller_for_exo = relative_size(exo_deviation) < relative_size(deviation)
    row = replace(
        row, deviation=exo_deviation if is_smaller_for_exo else deviation, of_exo=is_smaller_for_exo
    )
    finding = (
        f"{'exo' if is_smaller_for_exo else 'head'} camera turned or moved"
        if row.displaced
        else "its view fits"
    )
    return row, finding


def _deviation(
    exo: Tensor,  # [T, H, W, 3] uint8
    depth: DepthVideo,
    path: CameraTrajectory,
    ego: Tensor,  # [T, h, w, 3] float
    progress: Progress,
    search: bool = True,
) -> tuple[Deviation | None, float]:
    """Measure how far the camera of an ego video deviates from the rendered view, and their
    similarity."""
    points, _ = scene(exo, depth, progress=progress)
    path_views = PathViews.of(points, path, most=DRAWN_VIEWS, progress=progress)
    error = path_views.error(ego)
    score = float(error.score.median())
    if score < LIKE_SCENE and search:
        turned_error = exo_turned_error(points, path, ego, progress)
        if float(turned_error.score.median()) > max(score, LIKE_SCENE):
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
                exo, depth, corrected_path, ego, progress, search=False
            )
            return remaining_deviation and replace(
                remaining_deviation,
                value=compose_deviations(turned_poses, remaining_deviation.value),
            ), score
    return path_deviation(path_views, ego, error, path), score
