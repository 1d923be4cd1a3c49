"""Write the results of ``calibrate``: take folders, a picture of each fixed camera for inspection,
and a report."""

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
    """Fixed camera of the takes to be written."""

    name: str
    video: Path
    info: VideoInfo
    w2c: np.ndarray  # [3, 4]
    lens: CameraModel
    clocks: Clocks
    depth: Path | None  # of its frames


def read_depth(file: Path) -> np.ndarray:  # [T, H, W]
    """Read the array ``depth_m`` of an npz file.

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
    """Read a depth file, and compute the median over time."""
    depth = read_depth(file)
    sampled_depth = depth[:: max(1, len(depth) // 15)].astype(np.float32)
    return np.median(sampled_depth, axis=0)


def square_of(lens: CameraModel) -> tuple[CameraModel, int, int]:
    """Compute the lens of the largest centred square of a picture, with the square's left and top."""
    width, height = lens.stored_size
    square_side = min(width, height)
    left, top = (width - square_side) // 2, (height - square_side) // 2
    square = lens.crop(left, top, square_side, square_side)
    square_side = min(MOST_EGO_SIDE, square_side // 2 * 2)
    return square.rescale(square_side, square_side), left, top


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
    """Write a take for each fixed camera and each range of known head poses. Each exo frame gets
    the nearest ego frame and its pose."""
    takes = []
    square, left, top = square_of(ego_lens)
    known_mask = np.isfinite(ego_w2c[:, 0, 0])
    for exo in exos:
        moments = exo.clocks.ego_s(np.asarray(exo.info.times_s))
        frames = nearest_frames(ego.times_s, moments)
        has_pose = known_mask[frames] & (moments >= ego.times_s[0]) & (moments <= ego.times_s[-1])
        runs = _runs(has_pose)
        for number, run in enumerate(runs):
            run_suffix = f"_{number + 1}" if len(runs) > 1 else ""
            folder = out / safe_name(f"{recording}_{exo.name}{run_suffix}")
            run_frames = frames[run.start : run.stop]
            write_video(folder / EXO, _exo_pictures(exo, run, progress), exo.info.fps)
            ego_pictures = _ego_pictures(ego_video, ego, run_frames, square.width, left, top)
            write_video(folder / TRUTH, ego_pictures, exo.info.fps)
            width, height = (even_side // 2 * 2 for even_side in exo.lens.stored_size)
            lens = exo.lens.crop(0, 0, width, height)
            write_json(
                folder / META,
                {
                    "prompt": "",
                    "camera_intrinsics": lens.intrinsics.tolist(),
                    "camera_extrinsics": exo.w2c.tolist(),
                    "ego_intrinsics": square.intrinsics.tolist(),
                    "ego_extrinsics": ego_w2c[run_frames].tolist(),
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
            _draw(
                folder, exo, ego_video, ego, square, ego_w2c, run_frames, run, points, (left, top)
            )
            takes.append(folder)
    return tuple(takes)


def _runs(has_pose: np.ndarray) -> list[range]:
    run_edges = np.flatnonzero(np.diff(np.concatenate([[0], has_pose.astype(int), [0]])))
    runs = [range(a, b) for a, b in zip(run_edges[::2], run_edges[1::2], strict=True)]
    return [run for run in runs if len(run) >= SHORTEST_FRAMES]


def _exo_pictures(exo: WrittenExo, run: range, progress: Progress) -> Iterator[Tensor]:
    for index, picture in decode_frames(exo.video, exo.info, run):
        height, width = (even_side // 2 * 2 for even_side in picture.shape[:2])
        progress(index - run.start + 1, len(run), f"take of {exo.video.name}")
        yield torch.from_numpy(np.ascontiguousarray(picture[:height, :width]))


def _ego_pictures(
    video: Path, info: VideoInfo, frames: np.ndarray, side: int, left: int, top: int
) -> Iterator[Tensor]:
    """Decode square ego pictures for ascending frame numbers, which may repeat."""
    wanted, counts = np.unique(frames, return_counts=True)
    for (_, picture), count in zip(
        decode_frames(video, info, wanted.tolist()), counts, strict=True
    ):
        shown = torch.from_numpy(_square(picture, side, left, top))
        for _ in range(count):
            yield shown


def _square(picture: np.ndarray, side: int, left: int, top: int) -> np.ndarray:
    source_side = min(picture.shape[:2])
    cut = picture[top : top + source_side, left : left + source_side]
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
    """Draw the head camera's frustum into exo pictures, and the static points into both pictures."""
    shown_indices = np.linspace(0, len(run) - 1, SHOWN_FRAMES).round().astype(int)
    rows = []
    for shown_index in shown_indices:
        _, exo_picture = next(decode_frames(exo.video, exo.info, [run[shown_index]]))
        _, ego_picture = next(decode_frames(ego_video, ego, [int(frames[shown_index])]))
        ego_picture = _square(ego_picture, square.width, *corner)
        pose = ego_w2c[frames[shown_index]]
        pictures = []
        for picture, lens, w2c in ((exo_picture, exo.lens, exo.w2c), (ego_picture, square, pose)):
            picture = np.ascontiguousarray(picture)
            line_width = max(1, picture.shape[0] // 200)
            for u, v in _pixels(lens, w2c, points[:: max(1, len(points) // 400)]):
                cv2.circle(picture, (u, v), line_width, (255, 230, 0), -1)
            pictures.append(picture)
        frustum_points = (
            np.array([[0, 0, 0], [-1, -1, 1.6], [1, -1, 1.6], [1, 1, 1.6], [-1, 1, 1.6]]) * 0.15
        )
        corners = (frustum_points - pose[:, 3]) @ pose[:, :3]
        uv = _pixels(exo.lens, exo.w2c, corners)
        if len(uv) == len(corners):
            for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
                cv2.line(
                    pictures[0], uv[a], uv[b], (255, 0, 80), max(1, exo_picture.shape[0] // 250)
                )
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
    camera_points = torch.from_numpy(points @ w2c[:, :3].T + w2c[:, 3])
    uv, is_projected = lens.project(camera_points)
    pixels = uv[is_projected & lens.inside(uv) & (camera_points[:, 2] > 0.05)].round().int()
    return [(int(u), int(v)) for u, v in pixels]


def write_report(out: Path, outcome: Outcome) -> None:
    """Write a report of the cameras found and their uncertainty."""

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
