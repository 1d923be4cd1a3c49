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

AS_STATED = "meta_as_stated.json"


def mend(row: EpisodeResult, folder: Path) -> None:
    """Write corrected poses into a take's meta.json, and keep the original poses in another file."""
    file = folder / META
    meta_content = read_json(file, META, MAX_META_BYTES)
    entry = meta_entry(meta_content, file)
    if not (folder / AS_STATED).exists():
        shutil.copyfile(file, folder / AS_STATED)
    (take,) = list_takes(folder, "take", [])
    ego_path, exo_path = take.ego, take.exos[0].exo
    poses = ego_path.upright_w2c.numpy()
    if row.motion is not None and row.lag_s and take.ego_video is not None:
        ego_times_s = np.asarray(probe_video(take.ego_video).times_s)
        ego_times_s = (
            np.arange(len(poses)) * row.motion.frame_s
            if len(ego_times_s) < len(poses)
            else ego_times_s
        )
        ego_times_s = ego_times_s[: len(poses)]
        shifted_poses = poses_at(ego_times_s, poses, ego_times_s + row.lag_s)
        poses = np.where(np.isfinite(poses), shifted_poses, poses)
    deviation = row.deviation
    if deviation is not None and row.displaced:
        if row.of_exo:
            stated_poses = exo_path.upright_w2c.numpy()
            corrected_poses = apply_deviation(stated_poses, inverse_deviation(deviation.value))
            entry["camera_extrinsics"] = (
                corrected_poses[0] if len(corrected_poses) == 1 else corrected_poses
            ).tolist()
        else:
            poses = apply_deviation(poses, deviation.value)
    rows = sensor_poses(ego_path, torch.from_numpy(poses)).numpy()
    entry["ego_extrinsics"] = [pose.tolist() if np.isfinite(pose).all() else None for pose in rows]
    write_json(file, meta_content)
