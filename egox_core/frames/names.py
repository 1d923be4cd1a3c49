"""Read frame numbers from the names of files and pictures."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import EgoXInputError
from .rule import Numbering

MIN_STAMP = 1e9
"""Least whole number in a file's name that is a time: seconds of this century."""


def changing_number(names: Sequence[str], *, decimals: bool = True) -> np.ndarray | None:
    """Find the number [N] that changes from name to name, or None without a clear one.

    Of several that rise together it is the one that rises least (the frame, next to a date).
    None where no number tells the names apart, or others change in another order.
    """
    pattern = r"\d+(?:\.\d+(?=\.))?" if decimals else r"\d+"
    numbers_per_name = [re.findall(pattern, name) for name in names]
    if len({len(numbers) for numbers in numbers_per_name}) != 1:
        return None
    columns = np.array(numbers_per_name, dtype=np.float64).T
    distinct_columns = [column for column in columns if len(np.unique(column)) == len(column)]
    if not distinct_columns or not np.isfinite(columns).all():
        return None
    if (np.diff(columns[:, distinct_columns[0].argsort()]) < 0).any():
        return None
    return min(reversed(distinct_columns), key=np.ptp)


def numbered_files(
    what: str, files: Iterable[str], suffixes: tuple[str, ...]
) -> tuple[list[str], Numbering]:
    """Sort numbered files of one kind, and read which frames their names state.

    It is the last number, or the one that changes, which may be a time.

    They state no frames where the names are times, or begin with 1: that may be the first frame.

    Raises:
        EgoXInputError: none, several kinds, a number twice or missing; ``what`` names the whole in
            it.
    """
    by_kind: dict[str, list[tuple[str, float]]] = {}
    for file in files:
        suffix = Path(file).suffix.lower()
        numbers = re.findall(r"\d+", Path(file).stem)
        number = float(numbers[-1]) if numbers else math.inf
        if suffix in suffixes and number < math.inf and not Path(file).name.startswith("."):
            by_kind.setdefault(suffix, []).append((file, number))
    if len(by_kind) != 1:
        raise EgoXInputError(
            what,
            got=f"numbered files of the kinds {sorted(by_kind) or 'none'}",
            expected=f"numbered files of one kind of {suffixes}",
            fix="use a folder or zip that contains only the frames",
        )
    (files_and_numbers,) = by_kind.values()
    ordered_files, last_numbers = zip(*files_and_numbers, strict=True)
    file_names = [Path(file).name for file in ordered_files]
    readings = (
        np.array(last_numbers),
        changing_number(file_names, decimals=False),
        changing_number(file_names),
    )
    numbers = [(column, _frame_steps(column)) for column in readings if column is not None]
    distinct_columns = [pair for pair in numbers if pair[1].all()]
    number, steps = min(distinct_columns, key=lambda pair: pair[1].sum(), default=numbers[0])
    order = number.argsort(kind="stable")
    for position in np.flatnonzero(steps != 1):
        low_index = order[position]
        high_index = order[position + 1]
        if not steps[position]:
            pair = f"{ordered_files[low_index]!r} and {ordered_files[high_index]!r}"
            fix = "keep one take a folder"
            if _have_several_a_frame(file_names):
                pair = f"several files a frame, as one for each person or object: {pair}"
                fix = "join those of each frame into one (of masks: numpy.maximum), or keep one's"
            raise EgoXInputError(
                what, got=f"{pair} of one number", expected="one file per frame", fix=fix
            )
        missing_number = (
            number[low_index] + (number[high_index] - number[low_index]) / steps[position]
        )
        raise EgoXInputError(
            what,
            got=(
                f"no file for frame {missing_number:.15g} between {number.min():.15g} and "
                f"{number.max():.15g}"
            ),
            expected="numbers without gaps",
            fix="add the missing frame, or renumber the files",
        )
    sorted_numbers = number[order]
    are_times = (sorted_numbers % 1).any() or sorted_numbers[0] >= MIN_STAMP
    frames = (
        None if are_times or sorted_numbers[0] == 1 else torch.from_numpy(sorted_numbers).long()
    )
    numbering = Numbering(what=what, count=len(order), numbers=frames)
    return [ordered_files[position] for position in order], numbering


def _have_several_a_frame(names: Sequence[str]) -> bool:
    """Check whether names differ by two numbers alone, of which none tells them all apart."""
    rests = {re.sub(r"\d+", "", name) for name in names}
    pairs = {tuple(re.findall(r"\d+", name)) for name in names}
    columns = zip(*pairs, strict=False)
    return len(rests) == 1 and sum(len({*column}) > 1 for column in columns) == 2


def _frame_steps(numbers: np.ndarray) -> np.ndarray:  # [N] -> [N - 1]
    """Count the frames from each number to the next larger one.

    Times are divided by their median step (of two middle ones the smaller).
    """
    steps = np.diff(np.sort(numbers))
    are_times = len(steps) and ((numbers % 1).any() or numbers.min() >= MIN_STAMP)
    return np.round(steps / (np.quantile(steps, 0.5, method="lower") or 1) if are_times else steps)
