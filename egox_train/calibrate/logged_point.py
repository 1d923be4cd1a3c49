"""Find the pose of a fixed camera from a point with a logged path, such as a robot's gripper."""

import csv
import math
from pathlib import Path

import numpy as np

from egox_core.cameras import CameraModel
from egox_core.errors import EgoXInputError
from egox_core.frozen import frozen
from egox_core.safe_files import write_json
from egox_core.video import probe_video

from .lenses import make_lens
from .moving_point import FEWEST, SolvedCamera, camera_from_point

COLUMNS = ("time_s", "x", "y", "z", "u", "v")
LOGGED_SD_M = 0.002
"""Of a point that joints tell, along each axis."""
CANDIDATE_LAGS_S = np.arange(-1.0, 1.025, 0.05)
"""Tried, where nobody says how log and video differ."""


@frozen
class PointLog:
    """Logged path of a point, and its pixels in the fixed camera's video."""

    times_s: np.ndarray  # [N] rising
    point_positions_m: np.ndarray  # [N, 3] metres, world
    uv: np.ndarray  # [N, 2] px of the video, NaN where it isn't seen


def read_point_log(file: Path) -> PointLog:
    """Read a table with the columns ``time_s, x, y, z, u, v``, in which u and v may be empty.

    Raises:
        EgoXInputError: no table of these columns, a value that is no number, times that don't rise.
    """
    expected_text = f"a CSV table with the columns {', '.join(COLUMNS)}"
    fix_text = "write metres of the robot's world, and pixels of the fixed camera's video"
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            log_table = csv.DictReader(lines)
            column_names = [name.strip() for name in log_table.fieldnames or ()]
            log_table.fieldnames = column_names
            table_rows = list(log_table) if set(COLUMNS) <= set(column_names) else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EgoXInputError(
            f"points {file.name}", got=str(error), expected=expected_text, fix=fix_text
        ) from error
    if not table_rows:
        problem_text = (
            f"the columns {', '.join(column_names)[:80]}" if column_names else "an empty file"
        )
        raise EgoXInputError(
            f"points {file.name}", got=problem_text, expected=expected_text, fix=fix_text
        )
    values = np.array(
        [
            [_number(row[name], name, line_number, file) for name in COLUMNS]
            for line_number, row in enumerate(table_rows, start=2)
        ]
    )
    timed_positions = values[:, :4]
    if not np.isfinite(timed_positions).all() or (np.diff(timed_positions[:, 0]) <= 0).any():
        raise EgoXInputError(
            f"points {file.name}",
            got="a row without time or place, or times that don't rise",
            expected="time_s, x, y, z in each row, in order of time",
            fix="leave out such rows",
        )
    return PointLog(
        times_s=timed_positions[:, 0], point_positions_m=timed_positions[:, 1:], uv=values[:, 4:]
    )


def _number(text: str | None, name: str, line: int, file: Path) -> float:
    if text is None or not text.strip():
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise EgoXInputError(
            f"points {file.name}",
            got=f"{name} {text[:20]!r} in line {line}",
            expected="a number, or nothing",
            fix="write numbers with a point",
        ) from error


def camera_from_log(
    log: PointLog,
    camera: CameraModel,
    offset_s: float | None,  # seconds that the log is later than the video; None: not known
) -> SolvedCamera | None:
    """Find the pose of the camera that sees a logged point, None if the pose isn't determined."""
    seen_mask = np.isfinite(log.uv).all(axis=1)

    def head_pose_function(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        point_positions = [
            np.interp(moments, log.times_s, axis) for axis in log.point_positions_m.T
        ]
        return np.stack(point_positions, axis=1), np.broadcast_to(np.eye(3), (len(moments), 3, 3))

    return camera_from_point(
        camera,
        log.uv[seen_mask],
        log.times_s[seen_mask] + (offset_s or 0.0),
        head_pose_function,
        np.zeros(3),
        lags_s=CANDIDATE_LAGS_S if offset_s is None else None,
        offset_sd_m=LOGGED_SD_M,
    )


def write_camera_from_log(
    video: Path, table: Path, out: Path, exo_lens: str, offset_s: float | None
) -> SolvedCamera:
    """Find the pose of the fixed camera that made ``video``, and write it with the keys of a take's
    ``meta.json``.

    Raises:
        EgoXInputError: the lens isn't known, a table of another form, too few points, a path that
            doesn't tell the camera.
    """
    video_info, point_log = probe_video(video), read_point_log(table)
    lens, free_parameters = make_lens(
        "phone" if exo_lens == "free" else exo_lens, video_info.width, video_info.height
    )
    if free_parameters == "lens":
        raise EgoXInputError(
            "--exo-lens",
            got=exo_lens,
            expected="a camera's name or a JSON file: one point doesn't tell the lens, too",
            fix="calibrate the lens by a checkerboard, and write it as in docs/own_recordings.md",
        )
    solved_camera = camera_from_log(point_log, lens, offset_s)
    if solved_camera is None or not solved_camera.is_certain:
        camera_json = (
            f"{int(np.isfinite(point_log.uv).all(axis=1).sum())} points that tell no camera"
            if solved_camera is None
            else (
                f"a camera known to {100 * solved_camera.sd_m:.0f} cm and "
                f"{solved_camera.sd_deg:.1f} degrees (sd) at {solved_camera.distance_m:.1f} m"
            )
        )
        raise EgoXInputError(
            f"points {table.name}",
            got=camera_json,
            expected=f"{FEWEST} or more, of a path that fills the picture in all three directions",
            fix="log a longer run; check that u, v are of this video and x, y, z in metres",
        )
    write_json(
        out,
        {
            "camera_intrinsics": lens.intrinsics.tolist(),
            "camera_extrinsics": solved_camera.w2c.tolist(),
            "exo_camera": lens.to_json(),
            "sd_m": solved_camera.sd_m,
            "sd_deg": solved_camera.sd_deg,
            "distance_m": solved_camera.distance_m,
            "log_late_s": solved_camera.lag_s + (offset_s or 0.0),
            "log_late_sd_s": solved_camera.lag_sd_s,
            "residual_deg": list(solved_camera.residual_deg),
        },
    )
    return solved_camera
