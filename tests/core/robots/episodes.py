"""Small runs with a number burnt into every picture, and their sets read back by the public form."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel
from egox_core.hands.track import HandTrack
from egox_core.robots.episode import Episode, make_episode
from egox_core.robots.videos import DEPTH_MAX_M, DEPTH_MIN_M, DEPTH_SHIFT_M, LEVELS
from egox_core.safe_files import read_json
from egox_core.types import CameraTrajectory

av = pytest.importorskip("av", reason="decodes video")
EXO, EGO, FRAMES, BITS, CELL = (96, 64), (64, 64), 12, 8, 8
LENS = CameraModel(
    lens="opencv_fisheye", width=64, height=64, fx=30, fy=31, cx=30, cy=33, quarter_turns=1
)
EXO_LENS = CameraModel.pinhole(*EXO, 80.0)


def numbered(size: tuple[int, int], first: int, count: int) -> Tensor:  # [T, H, W, 3] uint8
    """Grey pictures whose first rows hold their number in white squares."""
    frames = torch.full((count, size[1], size[0], 3), 30, dtype=torch.uint8)
    for t in range(count):
        frames[t, 16:, :, 1] = 60 + first % 50
        for bit in range(BITS):
            if (first + t) >> bit & 1:
                frames[t, :CELL, bit * CELL : (bit + 1) * CELL] = 225
    return frames


def number_of(picture: np.ndarray) -> int:  # [H, W, 3] uint8
    """The number that :func:`numbered` burnt in."""
    middle = CELL // 2
    return sum(int(picture[middle, bit * CELL + middle, 0] > 128) << bit for bit in range(BITS))


def trajectory(count: int, fps: float) -> CameraTrajectory:
    """A head that turns and walks, and an exo camera beside it."""
    times_s = torch.arange(count, dtype=torch.float64) / fps
    cos, sin, zero, one = times_s.cos(), times_s.sin(), 0 * times_s, 0 * times_s + 1
    rows = ((cos, zero, sin, times_s), (zero, one, zero, zero), (-sin, zero, cos, 0.1 * times_s))
    w2c = torch.stack([torch.stack(row, -1) for row in rows], 1)
    exo_w2c = torch.eye(3, 4, dtype=torch.float64)
    exo_w2c[:, 3] = torch.tensor([0.1, 0.2, 0.5])
    return CameraTrajectory(
        w2c=w2c, camera=LENS, times_s=times_s, exo_w2c=exo_w2c, exo_camera=EXO_LENS
    )


def hands(count: int) -> HandTrack:
    """Hands a metre before the exo camera; the left one is unknown in frames 3 and 4."""
    moved = 0.02 * torch.arange(count, dtype=torch.float64)[:, None, None, None]
    joints = 0.1 * torch.randn(2, 21, 3, dtype=torch.float64) + torch.tensor([0.0, 0, 1]) + moved
    joints[3:5, 0] = torch.nan
    return HandTrack.of_joints(joints)


def episode(number: int, count: int = FRAMES, source_fps: float = 10.0, **more) -> Episode:
    """Run ``number``, whose first frame has the number that it has in a set of such runs."""
    torch.manual_seed(number)
    first = number * count
    more = {"fps": 10, **more}
    return make_episode(
        f"run {number}",
        ("pour water", "open the door", "fold a shirt")[number % 3],
        numbered(EXO, first, count),
        numbered(EGO, first, count).float() / 255,
        trajectory(count, source_fps),
        EXO_LENS,
        hands(count),
        **more,
    )


def with_maps(number: int) -> Episode:
    """A run that has depth and classes, too."""
    rows = torch.linspace(0.4, 6, EGO[0] * EGO[1]).view(*EGO).expand(FRAMES, -1, -1).clone()
    rows[:, :8] = torch.nan
    seen = torch.tensor([0, 64, 128, 255], dtype=torch.uint8).repeat_interleave(16)
    return episode(number, depth_m=rows, seen=seen.expand(FRAMES, *EGO).contiguous())


def rows_of(folder: Path, series: str) -> list[dict]:
    """All rows of a series' files, in the order of their names."""
    import pyarrow.parquet as pq

    files = sorted((folder / series).glob("*/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def frames_in_order(folder: Path) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """(row, pictures by key) of every index, as the form says where they are: a picture is at
    from_timestamp + timestamp of its episode's file."""
    info, shown = read_json(folder / "meta/info.json"), {}
    keys = [key for key, each in info["features"].items() if each["dtype"] == "video"]
    episodes = rows_of(folder, "meta/episodes")
    for row in rows_of(folder, "data"):
        at, pictures = episodes[row["episode_index"]], {}
        for key in keys:
            file = folder / info["video_path"].format(
                video_key=key,
                chunk_index=at[f"videos/{key}/chunk_index"],
                file_index=at[f"videos/{key}/file_index"],
            )
            if file not in shown:
                shown[file] = decoded(file, info["features"][key]["info"]["is_depth_map"])
            wanted = at[f"videos/{key}/from_timestamp"] + row["timestamp"]
            times = shown[file][0]
            nearest = int(np.abs(times - wanted).argmin())
            assert abs(times[nearest] - wanted) < 1e-4
            pictures[key] = shown[file][1][nearest]
        yield row, pictures


def decoded(file: Path, depth: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """(time of each frame in seconds, pictures; of a depth video metres)."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
    times = np.array([float(frame.pts * frame.time_base) for frame in frames])
    if not depth:
        return times, [frame.to_ndarray(format="rgb24") for frame in frames]
    near, far = np.log(DEPTH_MIN_M + DEPTH_SHIFT_M), np.log(DEPTH_MAX_M + DEPTH_SHIFT_M)
    codes = [frame.to_ndarray(format="gray12le") for frame in frames]
    return times, [np.exp(code / LEVELS * (far - near) + near) - DEPTH_SHIFT_M for code in codes]
