"""Build small robot episodes with a number drawn into every picture, and read their data sets."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from egox_core.cameras.model import CameraModel
from egox_core.hands.track import HandTrack
from egox_core.robots.episode import Episode, make_episodes
from egox_core.robots.videos import DEPTH_MAX_M, DEPTH_MIN_M, DEPTH_SHIFT_M, LEVELS
from egox_core.safe_files import read_json
from egox_core.types import CameraTrajectory
from lab.drawn.person import HAND_JOINTS
from tests.poses import make_path

av = pytest.importorskip("av", reason="decodes video")
EXO_SIZE = (96, 64)
EGO_SIZE = (64, 64)
FRAMES = 12
BITS = 8
CELL = 8
LENS = CameraModel(
    lens="opencv_fisheye", width=64, height=64, fx=30, fy=31, cx=30, cy=33, quarter_turns=1
)
EXO_LENS = CameraModel.pinhole(*EXO_SIZE, 80.0)


def draw_numbered(size: tuple[int, int], first: int, count: int) -> Tensor:  # [T, H, W, 3] uint8
    """Draw grey pictures, each with its number encoded as white squares in the first rows."""
    pictures = torch.full((count, size[1], size[0], 3), 30, dtype=torch.uint8)
    pictures[:, 16:, :, 1] = 60 + first % 50
    number_bits = torch.arange(first, first + count)[:, None] >> torch.arange(BITS) & 1
    square_levels = (195 * number_bits).to(torch.uint8).repeat_interleave(CELL, 1)
    pictures[:, :CELL, : CELL * BITS] += square_levels[:, None, :, None]
    return pictures


def read_number(picture: np.ndarray) -> int:  # [H, W, 3] uint8
    """Read the number that :func:`draw_numbered` drew into a picture."""
    cell_middle = CELL // 2
    is_lit = picture[cell_middle, cell_middle : CELL * BITS : CELL, 0] > 128
    return int(np.packbits(is_lit, bitorder="little")[0])


def walking_path(count: int, fps: float) -> CameraTrajectory:
    """Build the camera path of a head that turns and walks, with an exo camera beside it."""
    times_s = np.arange(count) / fps
    rotations = Rotation.from_euler("y", times_s[:, None]).as_matrix()
    positions = times_s[:, None, None] * [[1.0], [0.0], [0.1]]
    exo_w2c = torch.eye(3, 4, dtype=torch.float64)
    exo_w2c[:, 3] = torch.tensor([0.1, 0.2, 0.5])
    w2c = torch.from_numpy(np.concatenate((rotations, positions), 2))
    return make_path(w2c, LENS, fps, exo_w2c=exo_w2c, exo_camera=EXO_LENS)


def moving_hands(count: int) -> HandTrack:
    """Build a hand track 1 m in front of the exo camera, with an unknown left hand in frames 3 and
    4."""
    motion = 0.02 * torch.arange(count, dtype=torch.float64)[:, None, None, None]
    hand = torch.from_numpy(HAND_JOINTS)
    both_hands = torch.stack([hand * torch.tensor([-1, 1, 1]), hand]) + torch.tensor([0.0, 0, 1])
    joints = both_hands + 0.005 * torch.randn(2, 21, 3, dtype=torch.float64) + motion
    joints[3:5, 0] = torch.nan
    return HandTrack.of_joints(joints)


@cache
def make_episode(number: int, count: int = FRAMES, source_fps: float = 10.0, **options) -> Episode:
    """Build one robot episode whose picture numbers continue those of the previous episode, once
    for all tests."""
    torch.manual_seed(number)
    first_number = number * count
    (first_episode,) = make_episodes(
        f"run {number}",
        ("pour water", "open the door", "fold a shirt")[number % 3],
        draw_numbered(EXO_SIZE, first_number, count),
        draw_numbered(EGO_SIZE, first_number, count).float() / 255,
        walking_path(count, source_fps),
        moving_hands(count),
        **{"fps": 10, **options},
    )
    return first_episode


def make_episode_with_maps(number: int) -> Episode:
    """Build one robot episode that also contains depth maps and pixel classes."""
    depth_m = torch.linspace(0.4, 6, EGO_SIZE[0] * EGO_SIZE[1]).view(*EGO_SIZE).repeat(FRAMES, 1, 1)
    depth_m[:, :8] = torch.nan
    classes = torch.tensor([0, 64, 128, 255], dtype=torch.uint8).repeat_interleave(16)
    return make_episode(number, depth_m=depth_m, seen=classes.expand(FRAMES, *EGO_SIZE))


def read_rows(folder: Path, series: str) -> list[dict]:
    """Read the table rows of all Parquet files of a data set, in the order of the file names."""
    import pyarrow.parquet as pq

    return pq.read_table(folder / series).to_pylist()


def frames_in_order(folder: Path) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """Yield each row of a data set with the pictures that belong to its time stamp."""
    set_info = read_json(folder / "meta/info.json")
    decode_cached = cache(decode_video)
    videos = {
        key: feature for key, feature in set_info["features"].items() if feature["dtype"] == "video"
    }
    episodes = read_rows(folder, "meta/episodes")
    for row in read_rows(folder, "data"):
        episode_row = episodes[row["episode_index"]]
        pictures = {}
        assert row["index"] == episode_row["dataset_from_index"] + row["frame_index"]
        for key, feature in videos.items():
            file_location = {
                name: episode_row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")
            }
            video_file = folder / set_info["video_path"].format(video_key=key, **file_location)
            frame_times_s, frames = decode_cached(video_file, feature["info"]["is_depth_map"])
            moment_s = episode_row[f"videos/{key}/from_timestamp"] + row["timestamp"]
            nearest_frame = int(np.abs(frame_times_s - moment_s).argmin())
            assert abs(frame_times_s[nearest_frame] - moment_s) < 1e-4
            pictures[key] = frames[nearest_frame]
        yield row, pictures


def decode_video(file: Path, is_depth: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Decode a video into the time in seconds and the picture of each frame, in metres for
    depth."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
    times_s = np.array([float(frame.pts * frame.time_base) for frame in frames])
    if not is_depth:
        return times_s, [frame.to_ndarray(format="rgb24") for frame in frames]
    log_near, log_far = np.log(DEPTH_MIN_M + DEPTH_SHIFT_M), np.log(DEPTH_MAX_M + DEPTH_SHIFT_M)
    depth_codes = [frame.to_ndarray(format="gray12le") for frame in frames]
    return times_s, [
        np.exp(depth_code / LEVELS * (log_far - log_near) + log_near) - DEPTH_SHIFT_M
        for depth_code in depth_codes
    ]
