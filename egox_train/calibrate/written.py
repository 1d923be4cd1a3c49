"""Write the results of a calibration: take folders, pictures for inspection, and a report."""

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
from egox_core.safe_files import atomic_write, read_json_object, safe_name, write_json
from egox_core.video import VideoInfo, decode_frames

from ..video_writer import write_video
from .frames import frames_at, write_picture
from .results import Outcome
from .sound import Clocks

REPORT = "calibration.json"  # after the recording's name
SHORTEST_FRAMES = 49
"""A clip of training has so many; shorter runs of known poses make no take."""
MOST_EGO_SIDE = 1408
SHOWN_FRAMES = 6


@frozen
class WrittenExo:
    """Fixed camera whose takes are written."""

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
    with open_zip(file, "depth") as zip_archive:
        depth = read_array(zip_archive, "depth_m", f"depth_m of {file.name}")
    if depth.ndim != 3:
        raise EgoXInputError(
            f"depth {file.name}",
            got=f"shape {depth.shape}",
            expected="depth_m [T, H, W], metres",
            fix="save a map for each frame of the exo video",
        )
    return depth


def still_depth(file: Path) -> np.ndarray:  # [H, W]
    """Read a depth file, and compute the median over all frames."""
    depth = read_depth(file)
    sampled_depth = depth[:: max(1, len(depth) // 15)].astype(np.float32)
    return np.median(sampled_depth, axis=0)


def crop_square(lens: CameraModel) -> tuple[CameraModel, int, int]:
    """Crop a camera's lens to the largest centred square, and return it with the square's left and
    top."""
    width, height = lens.stored_size
    square_side = min(width, height)
    left, top = (width - square_side) // 2, (height - square_side) // 2
    square_lens = lens.crop(left, top, square_side, square_side)
    square_side = min(MOST_EGO_SIDE, square_side // 2 * 2)
    return square_lens.rescale(square_side, square_side), left, top


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
    """Write one take folder for each fixed camera and each range of known head poses.

    Each exo frame gets the nearest ego frame and its pose."""
    takes = []
    square_lens, left, top = crop_square(ego_lens)
    known_mask = np.isfinite(ego_w2c[:, 0, 0])
    for exo_camera in exos:
        ego_moments_s = exo_camera.clocks.ego_s(np.asarray(exo_camera.info.times_s))
        frames = frames_at(ego.times_s, ego_moments_s)
        has_pose = (
            known_mask[frames]
            & (ego_moments_s >= ego.times_s[0])
            & (ego_moments_s <= ego.times_s[-1])
        )
        known_ranges = _pose_ranges(has_pose)
        for range_index, frame_range in enumerate(known_ranges):
            run_suffix = f"_{range_index + 1}" if len(known_ranges) > 1 else ""
            folder = out / safe_name(f"{recording}_{exo_camera.name}{run_suffix}")
            run_frames = frames[frame_range.start : frame_range.stop]
            write_video(
                folder / EXO, _exo_pictures(exo_camera, frame_range, progress), exo_camera.info.fps
            )
            ego_pictures = _ego_pictures(ego_video, ego, run_frames, square_lens.width, left, top)
            write_video(folder / TRUTH, ego_pictures, exo_camera.info.fps)
            width, height = (even_side // 2 * 2 for even_side in exo_camera.lens.stored_size)
            even_lens = exo_camera.lens.crop(0, 0, width, height)
            write_json(
                folder / META,
                {
                    "prompt": "",
                    "camera_intrinsics": even_lens.intrinsics.tolist(),
                    "camera_extrinsics": exo_camera.w2c.tolist(),
                    "ego_intrinsics": square_lens.intrinsics.tolist(),
                    "ego_extrinsics": ego_w2c[run_frames].tolist(),
                    "exo_camera": even_lens.to_json(),
                    "ego_camera": square_lens.to_json(),
                    "fps": exo_camera.info.fps,
                    "source": "calibrate",
                },
            )
            if exo_camera.depth is not None:
                depth_maps = read_depth(exo_camera.depth)[frame_range.start : frame_range.stop]
                with atomic_write(folder / DEPTH) as temporary_file:
                    np.savez_compressed(temporary_file, depth_m=depth_maps.astype(np.float16))
            _draw(
                folder,
                exo_camera,
                ego_video,
                ego,
                square_lens,
                ego_w2c,
                run_frames,
                frame_range,
                points,
                (left, top),
            )
            takes.append(folder)
    return tuple(takes)


def _pose_ranges(has_pose: np.ndarray) -> list[range]:
    run_edges = np.flatnonzero(np.diff(np.concatenate([[0], has_pose.astype(int), [0]])))
    frame_ranges = [range(a, b) for a, b in zip(run_edges[::2], run_edges[1::2], strict=True)]
    return [frame_range for frame_range in frame_ranges if len(frame_range) >= SHORTEST_FRAMES]


def _exo_pictures(exo: WrittenExo, run: range, progress: Progress) -> Iterator[Tensor]:
    for index, picture in decode_frames(exo.video, exo.info, run):
        height, width = (even_side // 2 * 2 for even_side in picture.shape[:2])
        progress(index - run.start + 1, len(run), f"take of {exo.video.name}")
        yield torch.from_numpy(np.ascontiguousarray(picture[:height, :width]))


def _ego_pictures(
    video: Path, info: VideoInfo, frames: np.ndarray, side: int, left: int, top: int
) -> Iterator[Tensor]:
    """Decode square ego pictures for ascending frame numbers, which may repeat."""
    needed_frames, counts = np.unique(frames, return_counts=True)
    for (_, picture), count in zip(
        decode_frames(video, info, needed_frames.tolist()), counts, strict=True
    ):
        square_picture = torch.from_numpy(_square(picture, side, left, top))
        for _ in range(count):
            yield square_picture


def _square(picture: np.ndarray, side: int, left: int, top: int) -> np.ndarray:
    source_side = min(picture.shape[:2])
    cropped_picture = picture[top : top + source_side, left : left + source_side]
    return cv2.resize(cropped_picture, (side, side), interpolation=cv2.INTER_AREA)


def _draw(
    folder: Path,
    exo: WrittenExo,
    ego_video: Path,
    ego: VideoInfo,
    square_lens: CameraModel,
    ego_w2c: np.ndarray,
    frames: np.ndarray,
    frame_range: range,
    points: np.ndarray,
    square_corner: tuple[int, int],
) -> None:
    """Draw the head camera's frustum and the 3D points into the pictures, for inspection."""
    shown_indices = np.linspace(0, len(frame_range) - 1, SHOWN_FRAMES).round().astype(int)
    rows = []
    for shown_index in shown_indices:
        _, exo_picture = next(decode_frames(exo.video, exo.info, [frame_range[shown_index]]))
        _, ego_picture = next(decode_frames(ego_video, ego, [int(frames[shown_index])]))
        ego_picture = _square(ego_picture, square_lens.width, *square_corner)
        pose = ego_w2c[frames[shown_index]]
        pictures = []
        for picture, lens, w2c in (
            (exo_picture, exo.lens, exo.w2c),
            (ego_picture, square_lens, pose),
        ):
            picture = np.ascontiguousarray(picture)
            line_width = max(1, picture.shape[0] // 200)
            for u, v in _pixels(lens, w2c, points[:: max(1, len(points) // 400)]):
                cv2.circle(picture, (u, v), line_width, (255, 230, 0), -1)
            pictures.append(picture)
        frustum_points = (
            np.array([[0, 0, 0], [-1, -1, 1.6], [1, -1, 1.6], [1, 1, 1.6], [-1, 1, 1.6]]) * 0.15
        )
        frustum_corners = (frustum_points - pose[:, 3]) @ pose[:, :3]
        frustum_uv = _pixels(exo.lens, exo.w2c, frustum_corners)
        if len(frustum_uv) == len(frustum_corners):
            for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
                cv2.line(
                    pictures[0],
                    frustum_uv[a],
                    frustum_uv[b],
                    (255, 0, 80),
                    max(1, exo_picture.shape[0] // 250),
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
    pixels_uv, is_projected = lens.project(camera_points)
    pixels = (
        pixels_uv[is_projected & lens.inside(pixels_uv) & (camera_points[:, 2] > 0.05)]
        .round()
        .int()
    )
    return [(int(u), int(v)) for u, v in pixels]


def report_file(out: Path, recording: str) -> Path:
    """Build the path of a recording's report."""
    return out / safe_name(f"{recording}_{REPORT}")


def list_earlier_takes(out: Path, recording: str, takes: Sequence[Path]) -> tuple[str, ...]:
    """List the takes of a recording that earlier runs wrote and this one didn't."""
    file = report_file(out, recording)
    if not file.is_file():
        return ()
    report = read_json_object(file, "report")
    names = [*report.get("takes", ()), *report.get("earlier_takes", ())]
    current_names = {take.name for take in takes}
    return tuple(name for name in names if name not in current_names and (out / name).is_dir())


def write_calibration(file: Path, outcome: Outcome) -> None:
    """Write a report of the cameras found and their uncertainty."""

    def number(value: float) -> float | None:
        return round(value, 5) if math.isfinite(value) else None

    known_mask = np.isfinite(outcome.ego_w2c[:, 0, 0])
    write_json(
        file,
        {
            "scale": {
                "how": outcome.scale.how_found,
                "known": outcome.scale.metres_per_unit is not None,
                "sd_share": outcome.scale.sd,
            },
            "head_camera": {
                "frames": len(known_mask),
                "with_a_pose": int(known_mask.sum()),
                "lens": None if outcome.ego_lens is None else outcome.ego_lens.to_json(),
            },
            "fixed_cameras": [
                {
                    "name": solved_exo.name,
                    "how": solved_exo.how_found,
                    "w2c": None if solved_exo.w2c is None else solved_exo.w2c.tolist(),
                    "lens": None if solved_exo.lens is None else solved_exo.lens.to_json(),
                    "sd_m": number(solved_exo.sd_m),
                    "sd_deg": number(solved_exo.sd_deg),
                    "distance_m": number(solved_exo.distance_m),
                    "offset_s": None
                    if solved_exo.clocks is None
                    else number(solved_exo.clocks.offset_s),
                    "drift_ppm": None
                    if solved_exo.clocks is None
                    else number(1e6 * solved_exo.clocks.drift),
                    "offset_sd_s": None
                    if solved_exo.clocks is None
                    else number(solved_exo.clocks.sd_s),
                    "clocks": None if solved_exo.clocks is None else solved_exo.clocks.how_found,
                    "notes": list(solved_exo.notes),
                }
                for solved_exo in outcome.exos
            ],
            "takes": [take.name for take in outcome.takes],
            "earlier_takes": list(outcome.earlier_takes),
            "notes": list(outcome.notes),
        },
    )
