"""Compare an ego video with pictures of the scene that are rendered along the stated camera
path."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from egox_core.metrics import PathError, PathViews, exact_scene, exo_turned_error
from egox_core.progress import Progress
from egox_core.stages import scene
from egox_core.take import Take
from egox_core.video import decode_frames, probe_video

from .check_row import EpisodeResult
from .frames import poses_at, sensor_poses

COMPARED_FRAMES = 9
"""Evenly spaced frames of the scene that are drawn, as many as a clip's turn is searched in."""
FEWEST_FRAMES = 5


def fit_view(
    episode_result: EpisodeResult,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    progress: Progress,
) -> tuple[EpisodeResult, str]:
    """Compare an ego video with the rendered scene, after correcting the time lag of the poses.

    If it doesn't look like the scene, a turn of the exo camera is searched at which it does."""
    ego_info = probe_video(ego_video)
    take_path = take.trajectory.with_depth_camera(take.depth.exo)
    frame_indices = take_path.frames.indices.numpy()
    frame_indices = frame_indices[frame_indices < len(times_s)]
    used_count = len(frame_indices) - (len(frame_indices) - 1) % 4
    frame_indices = frame_indices[:used_count]
    if used_count < FEWEST_FRAMES:
        return episode_result, f"its view is not testable: fewer than {FEWEST_FRAMES} frames"
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
    exact = exact_scene(exo_video.float() / 255, take.depth, take_path, progress=progress)
    scene_points = exact[0] if exact else scene(exo_video, take.depth, progress=progress)[0]
    views = PathViews.of(scene_points, take_path, most=COMPARED_FRAMES, progress=progress)
    error = views.error(ego_pictures)
    episode_result = replace(episode_result, view=error.clip, shift_m=_median_shift(error))
    if not error.clip.judged:
        turned_error = exo_turned_error(scene_points, take_path, ego_pictures, progress)
        exo_turn_deg = float(turned_error.turn_deg.nanmedian(0).values.norm())
        if turned_error.clip.judged and np.isfinite(exo_turn_deg):
            episode_result = replace(episode_result, exo_turn_deg=exo_turn_deg)
            return episode_result, (
                f"exo camera turned or moved: its view fits if that is turned by "
                f"{exo_turn_deg:.0f} degrees"
            )
        return episode_result, f"its view is not testable: {error.clip.reason}"
    if episode_result.is_displaced:
        return episode_result, "exo or head camera turned or moved, or another lens"
    return episode_result, "its view fits"


def _median_shift(error: PathError) -> np.ndarray:  # [3] metres, NaN: no frame tells it
    return error.shift_m.nanmedian(0).values.double().numpy()
