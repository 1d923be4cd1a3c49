"""The files that ``calibrate`` leaves: take folders, a picture of each fixed camera to look at, a
report."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.archives import open_zip, read_array
from egox_core.cameras import CameraModel
from egox_core.errors import EgoXInputError
from egox_core.file_names import DEPTH, EXO, META, TRUTH
from egox_core.frozen import frozen
from egox_core.progress import Progress
from egox_core.safe_files import atomic_write, safe_name, write_json
from egox_core.video import VideoInfo, decode_frames

from ..video_writer import write_video
from .frames import nearest_frames, write_picture
from .results import Outcome
from .sound import Clocks

REPORT = "calibration.json"
SHORTEST_FRAMES = 49
"""A clip of training has so many; shorter runs of known poses make no take."""
MOST_EGO_SIDE = 1408
SHOWN_FRAMES = 6


@frozen
class WrittenExo:
    """A fixed camera of takes."""

    name: str
    video: Path
    info: VideoInfo
    w2c: np.ndarray  # [3, 4]
    lens: CameraModel
    clocks: Clocks
    depth: Path | None  # of its frames


def read_depth(file: Path) -> np.ndarray:  # [T, H, W]
    """Read ``depth_m`` of a npz.

    Raises:
        EgoXInputError: no such array, another shape.
    """
    with open_zip(file, "depth") as archive:
        depth = read_array(archive, "depth_m", f"depth_m of {file.name}")
    if depth.ndim != 3:
        raise EgoXInputError(
            f"depth {file.name}",
            got=f"shape {depth.shape}",
            expected="depth_m [T, H, W], metres",
            fix="save a map for each frame of the exo video",
        )
    return depth


def still_depth(file: Path) -> np.ndarray:  # [H, W]
    """Read the median over time of a depth file."""
    depth = read_depth(file)
    chosen = depth[:: max(1, len(depth) // 15)].astype(np.float32)
    return np.median(chosen, axis=0)


def square_of(lens: CameraModel) -> tuple[CameraModel, int, int]:
    """Give the lens of the largest square about the middle, and its left and top."""
    width, height = lens.stored_size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = lens.crop(left, top, side, side)
    side = min(MOST_EGO_SIDE, side // 2 * 2)
    return square.rescale(side, side), left, top


def write_takes(
    out: Path,
    recording: str,
    ego_video: Path,
    ego: VideoInfo,
    ego_lens: CameraModel,  # upright, of the whole video
    ego_w2c: np.ndarray,  # [T, 3, 4]
    exos: Sequence[WrittenExo],
    points: np.ndarray,  # [P, 3]
    progress: Progress,
) -> tuple[Path, ...]:
    """Write a take for each fixed camera and each run of known poses: ego frames at exo's
    moments, each with the pose of its own moment."""
    takes = []
    square, left, top = square_of(ego_lens)
    known = np.isfinite(ego_w2c[:, 0, 0])
    for exo in exos:
        moments = exo.clocks.ego_s(np.asarray(exo.info.times_s))
        frames = nearest_frames(ego.times_s, moments)
        there = known[frames] & (moments >= ego.times_s[0]) & (moments <= ego.times_s[-1])
        runs = _runs(there)
        for number, run in enumerate(runs):
            part = f"_{number + 1}" if len(runs) > 1 else ""
            folder = out / safe_name(f"{recording}_{exo.name}{part}")
            own = frames[run.start : run.stop]
            write_video(folder / EXO, _exo_pictures(exo, run, progress), exo.info.fps)
            ego_pictures = _ego_pictures(ego_video, ego, own, square.width, left, top)
            write_video(folder / TRUTH, ego_pictures, exo.info.fps)
            width, height = (side // 2 * 2 for side in exo.lens.stored_size)
            lens = exo.lens.crop(0, 0, width, height)
            write_json(
                folder / META,
                {
                    "prompt": "",
                    "camera_intrinsics": lens.intrinsics.tolist(),
                    "camera_extrinsics": exo.w2c.tolist(),
                    "ego_intrinsics": square.intrinsics.tolist(),
                    "ego_extrinsics": ego_w2c[own].tolist(),
                    "exo_camera": lens.to_json(),
                    "ego_camera": square.to_json(),
                    "fps": exo.info.fps,
                    "source": "calibrate",
                },
            )
            if exo.depth is not None:
                depth = read_depth(exo.depth)[run.start : run.stop]
                with atomic_write(folder / DEPTH) as temporary:
                    np.savez_compressed(temporary, depth_m=depth.astype(np.float16))
            _draw(folder, exo, ego_video, ego, square, ego_w2c, own, run, points, (left, top))
            takes.append(folder)
    return tuple(takes)


def _runs(there: np.ndarray) -> list[range]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(int), [0]])))
    runs = [range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [run for run in runs if len(run) >= SHORTEST_FRAMES]


def _exo_pictures(exo: WrittenExo, run: range, progress: Progress) -> Iterator[Tensor]:
    for index, picture in decode_frames(exo.video, exo.info, run):
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        progress(index - run.start + 1, len(run), f"take of {exo.video.name}")
        yield torch.from_numpy(np.ascontiguousarray(picture[:height, :width]))


def _ego_pictures(
    video: Path, info: VideoInfo, frames: np.ndarray, side: int, left: int, top: int
) -> Iterator[Tensor]:
    """Yield the square pictures of rising frames, which may repeat."""
    wanted, counts = np.unique(frames, return_counts=True)
    for (_, picture), count in zip(
        decode_frames(video, info, wanted.tolist()), counts, strict=True
    ):
        shown = torch.from_numpy(_square(picture, side, left, top))
        for _ in range(count):
            yield shown


def _square(picture: np.ndarray, side: int, left: int, top: int) -> np.ndarray:
    own = min(picture.shape[:2])
    cut = picture[top : top + own, left : left + own]
    return cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)


def _draw(
    folder: Path,
    exo: WrittenExo,
    ego_video: Path,
    ego: VideoInfo,
    square: CameraModel,
    ego_w2c: np.ndarray,
    frames: np.ndarray,
    run: range,
    points: np.ndarray,
    corner: tuple[int, int],
) -> None:
    """Draw the head camera's frustum into exo, and still points into both."""
    places = np.linspace(0, len(run) - 1, SHOWN_FRAMES).round().astype(int)
    rows = []
    for place in places:
        _, seen = next(decode_frames(exo.video, exo.info, [run[place]]))
        _, worn = next(decode_frames(ego_video, ego, [int(frames[place])]))
        worn = _square(worn, square.width, *corner)
        pose = ego_w2c[frames[place]]
        pictures = []
        for picture, lens, w2c in ((seen, exo.lens, exo.w2c), (worn, square, pose)):
            picture = np.ascontiguousarray(picture)
            size = max(1, picture.shape[0] // 200)
            for u, v in _pixels(lens, w2c, points[:: max(1, len(points) // 400)]):
                cv2.circle(picture, (u, v), size, (255, 230, 0), -1)
            pictures.append(picture)
        ends = np.array([[0, 0, 0], [-1, -1, 1.6], [1, -1, 1.6], [1, 1, 1.6], [-1, 1, 1.6]]) * 0.15
        corners = (ends - pose[:, 3]) @ pose[:, :3]
        uv = _pixels(exo.lens, exo.w2c, corners)
        if len(uv) == len(corners):
            for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
                cv2.line(pictures[0], uv[a], uv[b], (255, 0, 80), max(1, seen.shape[0] // 250))
        height = 256
        rows.append(
            np.concatenate(
                [
                    cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height))
                    for p in pictures
                ],
                axis=1,
            )
        )
    write_picture(folder / "cameras.png", np.concatenate(rows, axis=0))


def _pixels(lens: CameraModel, w2c: np.ndarray, points: np.ndarray) -> list[tuple[int, int]]:
    local = torch.from_numpy(points @ w2c[:, :3].T + w2c[:, 3])
    uv, valid = lens.project(local)
    shown = uv[valid & lens.inside(uv) & (local[:, 2] > 0.05)].round().int()
    return [(int(u), int(v)) for u, v in shown]


def write_report(out: Path, outcome: Outcome) -> None:
    """Write what was found, and how well it is known."""

    def number(value: float) -> float | None:
        return round(value, 5) if math.isfinite(value) else None

    known = np.isfinite(outcome.ego_w2c[:, 0, 0])
    write_json(
        out / REPORT,
        {
            "scale": {
                "how": outcome.scale.how,
                "known": outcome.scale.metres is not None,
                "sd_share": outcome.scale.sd,
            },
            "head_camera": {
                "frames": len(known),
                "with_a_pose": int(known.sum()),
                "lens": None if outcome.ego_lens is None else outcome.ego_lens.to_json(),
            },
            "fixed_cameras": [
                {
                    "name": exo.name,
                    "how": exo.how,
                    "w2c": None if exo.w2c is None else exo.w2c.tolist(),
                    "lens": None if exo.lens is None else exo.lens.to_json(),
                    "sd_m": number(exo.sd_m),
                    "sd_deg": number(exo.sd_deg),
                    "distance_m": number(exo.distance_m),
                    "offset_s": None if exo.clocks is None else number(exo.clocks.offset_s),
                    "drift_ppm": None if exo.clocks is None else number(1e6 * exo.clocks.drift),
                    "offset_sd_s": None if exo.clocks is None else number(exo.clocks.sd_s),
                    "clocks": None if exo.clocks is None else exo.clocks.how,
                    "notes": list(exo.notes),
                }
                for exo in outcome.exos
            ],
            "takes": [take.name for take in outcome.takes],
            "notes": list(outcome.notes),
        },
    )
