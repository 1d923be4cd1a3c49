"""Read poses from tables: lines of numbers as of KITTI, or columns that a CSV names, as of EuRoC,
OptiTrack and Aria."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from ..cameras import by_rows
from ..errors import EgoXInputError
from ..facts import UNITS_M, StatedPoses, Statement
from ..safe_files import decode_text

QUATERNION_WORDS = {"q", "quat", "quaternion", "orientation", "rotation", "rot"}
PLACE_WORDS = {"p", "t", "pos", "position", "translation", "location"}
BODY_WORDS = {"device", "rs", "body", "imu"}
"""Words of a column's name by which its poses are of a tracked body, not of a camera."""
TIME_UNITS_S = {
    1e-9: ("ns", "nsec", "nanoseconds"),
    1e-6: ("us", "usec", "microseconds", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"),
    1e-3: ("ms", "msec", "milliseconds"),
    1.0: ("s", "sec", "seconds"),
}
"""Words of a title by which times are in a unit."""
STEPS_S = 1 / 2000, 10.0
"""From one pose to the next, in seconds: another step contradicts a title's unit."""
EXPECTED = "columns of a time, a place (x, y, z) and a quaternion (x, y, z, w), by their names"


def poses_of_lines(rows: np.ndarray, name: str) -> StatedPoses | None:
    """Read lines of 12 numbers (KITTI), or of 16, each perhaps after its frame's number or time.

    None is returned for lines of another form. Nothing tells the direction of 16 numbers alone.

    Raises:
        EgoXInputError: 16 numbers, as :func:`.cameras.by_rows`.
    """
    count = rows.shape[1]
    matrices = torch.from_numpy(rows[:, count % 4 :].reshape(len(rows), -1, 4).copy())
    if count == 16:
        matrices = by_rows(matrices, f"path {name}")
    if count not in (12, 13, 16, 17) or not np.allclose(matrices[:, 3:], [0, 0, 0, 1]):
        return None
    is_of_kitti = count != 16
    return StatedPoses(
        name=name,
        poses=matrices[:, :3],
        camera_to_world=True if is_of_kitti else None,
        axes="opencv" if is_of_kitti else None,
        moments={"times_s": torch.from_numpy(rows[:, 0].copy())} if count % 4 else {},
    )


def read_table_text(path: Path) -> str:
    """Read the text of a table of numbers.

    Raises:
        EgoXInputError: no text, numbers with a decimal comma.
    """
    text = decode_text(path.read_bytes(), path.name)
    # Beside another separator commas are decimal signs.
    if re.search(r"^[^#\n]*\d,\d+[ \t;]+-?\d+,\d", text, re.MULTILINE):
        raise EgoXInputError(
            f"camera path {path.name}",
            got="numbers with a decimal comma",
            expected="a point as decimal sign",
            fix="export it with decimal points, or replace each comma between digits by a point",
        )
    return text


def read_csv(path: Path) -> StatedPoses:
    """Read the poses of a CSV whose header names its columns.

    Raises:
        EgoXInputError: no such columns, angles instead of a quaternion, several bodies, no line
            with a pose.
    """
    name = path.name
    lines = read_table_text(path).splitlines()
    cells = [[cell.strip() for cell in row] for row in csv.reader(lines) if any(row)]
    titles, first_line, statements = _titles(cells, name)
    columns: dict[str, int] = {}
    for number, title in enumerate(titles):
        if (kind := _column_kind(title)) is not None and kind not in columns:
            columns[kind] = number
    needed = [f"{kind}{axis}" for kind, axes in (("p", "xyz"), ("q", "xyzw")) for axis in axes]
    if missing := [kind for kind in needed if kind not in columns]:
        has_angles = missing == ["qw"]
        raise EgoXInputError(
            f"camera path {name}",
            got="angles about three axes" if has_angles else f"columns {', '.join(titles)[:200]}",
            expected=EXPECTED,
            fix="export the rotation as quaternions" if has_angles else "name its columns so",
        )
    used_columns = [columns[kind] for kind in needed]
    if "time" in columns:
        used_columns.append(columns["time"])
    numbers = np.array(
        [[_number(row, column) for column in used_columns] for row in cells[first_line:]]
    ).reshape(-1, len(used_columns))
    # Of lost frames the cells are empty, or the quaternion is 0.
    numbers = numbers[np.isfinite(numbers).all(1) & (np.abs(numbers[:, 3:7]).sum(1) > 0)]
    if not len(numbers):
        raise EgoXInputError(
            f"camera path {name}", got="no line with a pose", expected=EXPECTED, fix="export again"
        )
    rotations = scipy.spatial.transform.Rotation.from_quat(numbers[:, 3:7]).as_matrix()
    words = set(re.findall("[a-z]+", " ".join(titles).lower()))
    is_of_optitrack = bool(statements)
    moments: dict[str, Any] = {}
    if "time" in columns:
        moments["times_s"] = torch.from_numpy(numbers[:, 7])
        moments["time_unit_s"] = stated_unit_s(titles[columns["time"]], numbers[:, 7])
    return StatedPoses(
        name=name,
        poses=torch.from_numpy(np.concatenate((rotations, numbers[:, :3, None]), 2)),
        camera_to_world=True,
        statements=statements,
        of_body=is_of_optitrack or bool(words & BODY_WORDS),
        moments=moments,
    )


def stated_unit_s(title: str, times: np.ndarray) -> float | None:  # [N]
    """Read the unit of times in seconds from their column's title.

    None where it has none, or one that these times can't have.
    """
    words = re.findall(r"[^\W\d_]+", title.lower())
    units = (unit for unit, names in TIME_UNITS_S.items() if set(names) & {*words})
    unit_s = next(units, None)
    step = float(np.median(np.diff(np.sort(times)))) if len(times) > 1 else None
    is_credible = unit_s is None or not step or STEPS_S[0] <= step * unit_s <= STEPS_S[1]
    return unit_s if is_credible else None


def _titles(cells: list[list[str]], name: str) -> tuple[list[str], int, tuple[Statement, ...]]:
    """Find the columns' titles, the first line of numbers, and what a head of OptiTrack states."""
    if not cells or cells[0][0] != "Format Version":
        return ([cell.lstrip("# ") for cell in cells[0]] if cells else []), 1, ()
    head = dict(zip(cells[0][::2], cells[0][1::2], strict=False))
    axis_line = next((i for i, row in enumerate(cells) if row[0] == "Frame"), len(cells) - 1)
    labelled = {row[1].lower(): row for row in cells[:axis_line] if not row[0] and len(row) > 1}
    types, names = labelled.get("type", []), labelled.get("name", [])
    is_body = [kind == "Rigid Body" for kind in types]
    bodies = sorted({body for body, used in zip(names, is_body, strict=False) if used})
    if len(bodies) != 1:
        raise EgoXInputError(
            f"camera path {name}",
            got=f"{len(bodies)} rigid bodies: {', '.join(bodies)}",
            expected="the one that carries the camera",
            fix="export this rigid body alone",
        )
    parts, axes = cells[axis_line - 1], cells[axis_line]
    titles = [
        f"{part} {axis}" if used or column < 2 else ""
        for column, (part, axis, used) in enumerate(
            zip(parts, axes, (is_body + [False] * len(axes))[: len(axes)], strict=False)
        )
    ]
    unit_word = head.get("Length Units", "").lower()
    units = {
        "meters": "m",
        "centimeters": "cm",
        "millimeters": "mm",
        "inches": "in",
        "feet": "ft",
    }
    unit_m = UNITS_M.get(units.get(unit_word, ""), 1.0)
    statements = (Statement("unit", unit_m, f"Length Units of {name}"),)
    return titles, axis_line + 1, statements


def _column_kind(title: str) -> str | None:
    """Tell by a column's title what it holds: ``time``, ``px``, …, ``qw``, or None."""
    words = re.findall("[a-z]+", re.sub(r"\[.*?\]", "", title).lower())
    if any(word in ("time", "timestamp", "stamp") for word in words) or words == ["t"]:
        return "time"
    for word in words:
        if re.fullmatch("q[xyzw]", word):
            return word
        if re.fullmatch("[tp][xyz]", word):
            return f"p{word[1]}"
    axes = [word for word in words if word in ("x", "y", "z", "w")]
    if not axes:
        return None
    if QUATERNION_WORDS & {*words}:
        return f"q{axes[-1]}"
    is_place = words == axes or PLACE_WORDS & {*words}
    return f"p{axes[-1]}" if is_place and axes[-1] != "w" else None


def _number(row: list[str], column: int) -> float:
    try:
        return float(row[column])
    except (ValueError, IndexError):
        return float("nan")
