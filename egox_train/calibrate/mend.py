"""Correct wrong camera poses in a take's meta.json."""

import shutil
from pathlib import Path

import numpy as np
import torch

from egox_core.file_names import META
from egox_core.safe_files import read_json, write_json
from egox_core.takes import MAX_META_BYTES, meta_entry
from egox_core.video import probe_video

from ..data.sources import list_takes
from .check_row import EpisodeResult
from .deviation import apply_deviation, inverse_deviation
from .frames import poses_at, sensor_poses

STATED_META = "meta_as_stated.json"


def correct_poses(episode_result: EpisodeResult, folder: Path) -> None:
    """Write corrected poses into a take's meta.json, and keep the original poses in another
    file."""
    meta_file = folder / META
    meta_content = read_json(meta_file, META, MAX_META_BYTES)
    take_entry = meta_entry(meta_content, meta_file)
    if not (folder / STATED_META).exists():
        shutil.copyfile(meta_file, folder / STATED_META)
    (take,) = list_takes(folder, "take", [])
    ego_path, exo_path = take.ego, take.exos[0].exo
    ego_poses = ego_path.upright_w2c.numpy()
    if episode_result.motion is not None and episode_result.lag_s and take.ego_video is not None:
        ego_times_s = np.asarray(probe_video(take.ego_video).times_s)
        ego_times_s = (
            np.arange(len(ego_poses)) * episode_result.motion.frame_s
            if len(ego_times_s) < len(ego_poses)
            else ego_times_s
        )
        ego_times_s = ego_times_s[: len(ego_poses)]
        shifted_poses = poses_at(ego_times_s, ego_poses, ego_times_s + episode_result.lag_s)
        ego_poses = np.where(np.isfinite(ego_poses), shifted_poses, ego_poses)
    deviation = episode_result.deviation
    if deviation is not None and episode_result.is_displaced:
        if episode_result.is_exo_deviation:
            stated_poses = exo_path.upright_w2c.numpy()
            corrected_poses = apply_deviation(
                stated_poses, inverse_deviation(deviation.rotation_and_shift)
            )
            take_entry["camera_extrinsics"] = (
                corrected_poses[0] if len(corrected_poses) == 1 else corrected_poses
            ).tolist()
        else:
            ego_poses = apply_deviation(ego_poses, deviation.rotation_and_shift)
    sensor_pose_rows = sensor_poses(ego_path, torch.from_numpy(ego_poses)).numpy()
    take_entry["ego_extrinsics"] = [
        pose.tolist() if np.isfinite(pose).all() else None for pose in sensor_pose_rows
    ]
    write_json(meta_file, meta_content)
