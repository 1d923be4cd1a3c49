"""Small runs with a number burnt into every picture, and their sets read back by the public form."""

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
from lab.drawn.person import HAND
from tests.poses import path_of

av = pytest.importorskip("av", reason="decodes video")
EXO, EGO, FRAMES, BITS, CELL = (96, 64), (64, 64), 12, 8, 8
LENS = CameraModel(
    lens="opencv_fisheye", width=64, height=64, fx=30, fy=31, cx=30, cy=33, quarter_turns=1
)
EXO_LENS = CameraModel.pinhole(*EXO, 80.0)


def numbered(size: tuple[int, int], first: int, count: int) -> Tensor:  # [T, H, W, 3] uint8
    """Draw grey pictures whose first rows hold their number in white squares."""
    frames = torch.full((count, size[1], size[0], 3), 30, dtype=torch.uint8)
    frames[:, 16:, :, 1] = 60 + first % 50
    bits = torch.arange(first, first + count)[:, None] >> torch.arange(BITS) & 1
    squares = (195 * bits).to(torch.uint8).repeat_interleave(CELL, 1)
    frames[:, :CELL, : CELL * BITS] += squares[:, None, :, None]
    return frames


def number_of(picture: np.ndarray) -> int:  # [H, W, 3] uint8
    """Read the number that :func:`numbered` burnt in."""
    middle = CELL // 2
    lit = picture[middle, middle : CELL * BITS : CELL, 0] > 128
    return int(np.packbits(lit, bitorder="little")[0])


def trajectory(count: int, fps: float) -> CameraTrajectory:
    """Make a head that turns and walks, with an exo camera beside it."""
    times_s = np.arange(count) / fps
    turns = Rotation.from_euler("y", times_s[:, None]).as_matrix()
    places = times_s[:, None, None] * [[1.0], [0.0], [0.1]]
    exo_w2c = torch.eye(3, 4, dtype=torch.float64)
    exo_w2c[:, 3] = torch.tensor([0.1, 0.2, 0.5])
    w2c = torch.from_numpy(np.concatenate((turns, places), 2))
    return path_of(w2c, LENS, fps, exo_w2c=exo_w2c, exo_camera=EXO_LENS)


def hands(count: int) -> HandTrack:
    """Make hands a metre before the exo camera. The left one is unknown in frames 3 and 4."""
    moved = 0.02 * torch.arange(count, dtype=torch.float64)[:, None, None, None]
    hand = torch.from_numpy(HAND)
    both = torch.stack([hand * torch.tensor([-1, 1, 1]), hand]) + torch.tensor([0.0, 0, 1])
    joints = both + 0.005 * torch.randn(2, 21, 3, dtype=torch.float64) + moved
    joints[3:5, 0] = torch.nan
    return HandTrack.of_joints(joints)


def episode(number: int, count: int = FRAMES, source_fps: float = 10.0, **more) -> Episode:
    """Run ``number``, whose first frame has the number that it has in a set of such runs."""
    torch.manual_seed(number)
    first = number * count
    (first_episode,) = make_episodes(
        f"run {number}",
        ("pour water", "open the door", "fold a shirt")[number % 3],
        numbered(EXO, first, count),
        numbered(EGO, first, count).float() / 255,
        trajectory(count, source_fps),
        hands(count),
        **{"fps": 10, **more},
    )
    return first_episode


def with_maps(number: int) -> Episode:
    """Make a run that has depth and classes, too."""
    depth_m = torch.linspace(0.4, 6, EGO[0] * EGO[1]).view(*EGO).repeat(FRAMES, 1, 1)
    depth_m[:, :8] = torch.nan
    classes = torch.tensor([0, 64, 128, 255], dtype=torch.uint8).repeat_interleave(16)
    return episode(number, depth_m=depth_m, seen=classes.expand(FRAMES, *EGO))


def rows_of(folder: Path, series: str) -> list[dict]:
    """Read all rows of a series' files, in the order of their names."""
    import pyarrow.parquet as pq

    return pq.read_table(folder / series).to_pylist()


def frames_in_order(folder: Path) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """Yield each index's row with its pictures by key, as the format says where they are: a picture
    is at from_timestamp + timestamp of its episode's file."""
    info, decode = read_json(folder / "meta/info.json"), cache(decoded)
    videos = {key: each for key, each in info["features"].items() if each["dtype"] == "video"}
    episodes = rows_of(folder, "meta/episodes")
    for row in rows_of(folder, "data"):
        at, pictures = episodes[row["episode_index"]], {}
        assert row["index"] == at["dataset_from_index"] + row["frame_index"]
        for key, each in videos.items():
            place = {name: at[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            file = folder / info["video_path"].format(video_key=key, **place)
            times, frames = decode(file, each["info"]["is_depth_map"])
            moment_s = at[f"videos/{key}/from_timestamp"] + row["timestamp"]
            nearest = int(np.abs(times - moment_s).argmin())
            assert abs(times[nearest] - moment_s) < 1e-4
            pictures[key] = frames[nearest]
        yield row, pictures


def decoded(file: Path, depth: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Decode the time of each frame in seconds, and its picture, in metres for a depth video."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
    times = np.array([float(frame.pts * frame.time_base) for frame in frames])
    if not depth:
        return times, [frame.to_ndarray(format="rgb24") for frame in frames]
    near, far = np.log(DEPTH_MIN_M + DEPTH_SHIFT_M), np.log(DEPTH_MAX_M + DEPTH_SHIFT_M)
    codes = [frame.to_ndarray(format="gray12le") for frame in frames]
    return times, [np.exp(code / LEVELS * (far - near) + near) - DEPTH_SHIFT_M for code in codes]
