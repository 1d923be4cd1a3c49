"""Read the head camera's poses from a LeRobot v3 data set."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from egox_core.cameras import CameraModel, CameraPath, validate_w2c
from egox_core.errors import EgoXInputError, intact
from egox_core.robots import require_pyarrow
from egox_core.safe_files import read_json_object

from ..data.ego_clip import EgoClip

INFO_FILE = "meta/info.json"
VIDEO_COLUMN = "observation.images.ego"
POSE_COLUMN = "egox.ego_w2c"
CHUNK_FILE = "chunk-{:03d}/file-{:03d}"


def is_robot_set(root: Path) -> bool:
    """Check whether a folder is a LeRobot data set."""
    return (root / INFO_FILE).is_file()


def robot_episodes(root: Path) -> Iterator[EgoClip]:
    """Read the head camera's poses of every episode of a LeRobot data set.

    Raises:
        EgoXInputError: no pyarrow, a damaged set, none of our columns.
    """
    require_pyarrow()
    import pyarrow.parquet as pq

    info = read_json_object(root / INFO_FILE, "info.json of the robot data set")
    if POSE_COLUMN not in info.get("features", {}):
        raise EgoXInputError(
            f"robot data set {root.name!r}",
            got=f"no column {POSE_COLUMN}",
            expected="the poses of its head camera, as `train_egox.py lerobot` writes them",
            fix="check the takes that it was made from",
        )
    format_errors = (AttributeError, LookupError, TypeError, ValueError)
    with intact(f"robot data set {root.name!r}", format_errors, expected="a whole set"):
        for file in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
            for row in pq.read_table(file).to_pylist():
                yield _episode(root, row, float(info["fps"]))


def _episode(root: Path, row: dict, fps: float) -> EgoClip:
    import pyarrow.parquet as pq

    episode_index = row["episode_index"]
    data_file = CHUNK_FILE.format(row["data/chunk_index"], row["data/file_index"])
    columns = pq.read_table(
        root / "data" / f"{data_file}.parquet",
        columns=[POSE_COLUMN, "frame_index"],
        filters=[("episode_index", "=", episode_index)],
    ).to_pydict()
    frame_order = np.argsort(columns["frame_index"])
    poses = np.array(columns[POSE_COLUMN], np.float64).reshape(-1, 4, 4)[frame_order, :3]
    name = row.get("egox/name") or f"episode {episode_index}"
    data_file = CHUNK_FILE.format(
        row[f"videos/{VIDEO_COLUMN}/chunk_index"], row[f"videos/{VIDEO_COLUMN}/file_index"]
    )
    camera = CameraModel.from_json(json.loads(row["egox/ego_camera"]), f"ego camera of {name}")
    return EgoClip(
        name=name,
        folder=root,
        is_take=False,
        ego_video=root / "videos" / VIDEO_COLUMN / f"{data_file}.mp4",
        first_frame=round(row[f"videos/{VIDEO_COLUMN}/from_timestamp"] * fps),
        ego=CameraPath(
            lens=camera, w2c=validate_w2c(torch.from_numpy(poses), f"poses of {name}"), world="take"
        ),
    )
