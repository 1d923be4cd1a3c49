"""The frame of each pose of another program: by number or time, never by its place in the file.

A number is the frame where the numbers span the video or the frames in use, counted from 0 or from
1; else every n-th frame, where the counts say which n. Times count from the video's start, or from
the first pose where they span it. The reading that loses fewest pictures is taken; none that fits,
or a second one that loses at most one more, is refused."""

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..archives import changing_number
from ..errors import EgoXInputError
from ..sizes import spare_frames
from .frames import Clock, Frames
from .rule import FileFrames, Numbering, entries_of

MANY = 10  # poses of every n-th frame from which on two lost pictures more tell nothing
MAX_GAP_S = 1.0  # between two known poses; the frames between are interpolated
MOST_FRAMES = 1e6  # of a video; longer spans of whole numbers are times
UNITS = (1.0, 1e-3, 1e-6, 1e-9)  # of times: seconds to nanoseconds


class Placed(NamedTuple):
    """Moments of poses, found out from their numbers or times."""

    order: Tensor  # [N] int64 of the poses, by number
    moments: Tensor  # [N] float64, of the poses in that order
    clock: Clock
    words: str  # how they were found


class Reading(NamedTuple):
    """One way to read the numbers of the pictures."""

    words: str
    moments: np.ndarray  # [N] of the poses, on the track's clock
    lost: float = 0.0  # pictures that the video, or the frames in use, would have beside these
    fits: bool = True  # no more are lost than programs lose
    setting: str = "other times"  # makes it the only reading
    note: str = ""
    nth: bool = False
    clock: Clock = "index"


def numbers_of(names: Sequence[object], what: str) -> Tensor:  # [N] float64
    """The number in each picture's name that changes; 0, 1, 2, … without names.

    Raises:
        EgoXInputError: none changes, several do that don't rise together, or folder and file do.
    """
    if len(names) < 2 or set(names) == {None}:
        return torch.arange(len(names), dtype=torch.float64)
    paths = [PurePosixPath(str(name)) for name in names]
    files = {path.name for path in paths}
    folders = {str(path.parent) for path in paths}
    parts = [path.name if len(folders) == 1 else str(path.parent) for path in paths]
    found = changing_number(parts) if 1 in (len(files), len(folders)) else None
    if found is None:
        raise EgoXInputError(
            f"image names of {what}",
            got=f"{names[0]} to {names[-1]}",
            expected="one number that changes",
            fix="number the images of one camera by their frames",
        )
    return torch.from_numpy(found)


def place(numbering: Numbering, frames: Frames) -> Placed:
    """Find the moments of poses: what their file says or, where no frames are in use, one after the other.

    Numbers that a form states, and what the user declares, go by the rule; pictures and times of
    other programs by :func:`place_values`.

    Raises:
        EgoXInputError: as there and as :func:`.rule.entries_of`; moments that the user declares in
            two ways; names without one number that changes.
    """
    declared, name = numbering.file_frames != "auto", numbering.what
    if numbering.times_of_video and declared:
        raise states_moments(name, numbering.file_frames)
    if numbering.every_nth and declared:
        raise EgoXInputError(
            f"frames of {name}",
            got=f"every_nth {numbering.every_nth} and file_frames {numbering.file_frames!r}",
            expected="one of them",
            fix="leave every_nth at 0, or file_frames at 'auto'",
        )
    if numbering.times_of_video and numbering.times_s is not None:
        order, words = torch.arange(numbering.count), f"{name}: {numbering.count} poses"
        if frames.counted and len(frames):  # whose times nobody knows
            return Placed(order, order.double(), "index", f"{words}: the first ones are used")
        return Placed(order, numbering.times_s, "seconds", f"{words}: read by time")
    stated = numbering.numbers is not None
    if numbering.times_s is not None and not (numbering.every_nth and numbering.names):
        values, clock = numbering.times_s, "seconds"
    elif stated:
        values, clock = numbering.numbers.double(), "index"
    else:
        names = numbering.names or (None,) * numbering.count
        values, clock = numbers_of(names, name), "index"
    order = values.argsort()
    if not len(frames):
        moments = values[order] if clock == "seconds" else torch.arange(len(order)).double()
        return Placed(order, moments, clock, "")
    if not (stated or declared):
        named = -1 if numbering.frames_named else 0
        return place_values(values, frames, name, numbering.every_nth or named)
    entries = entries_of(frames, numbering)
    indices, first = np.unique(frames.indices.numpy(), return_index=True)
    order = (torch.arange(len(order)) if stated else order)[entries.at]
    moments = torch.from_numpy(indices).double()
    return Placed(order[torch.from_numpy(first)], moments, "index", str(entries.remark))


def states_moments(name: str, file_frames: FileFrames) -> EgoXInputError:
    """Advice for frames that are set beside a form that states the moments of its poses."""
    return EgoXInputError(
        f"file_frames of {name}",
        got=repr(file_frames),
        expected="'auto': the file states the moments of its poses",
        fix="leave file_frames at 'auto'",
    )


def place_values(
    numbers: Tensor,  # [N] of the pictures, or times
    frames: Frames,
    name: str,
    # Frames from one number to the next; negative if numbers start at 0; 0 detects it.
    every_nth: int = 0,
) -> Placed:
    """Find the moments of a path's poses.

    Raises:
        EgoXInputError: numbers or times that fit in no way or in two, a gap of over a second.
    """
    order = numbers.argsort()
    values, total = numbers[order].double().numpy(), frames.total
    found = [] if (values % 1).any() else list(_numbered(values, frames, every_nth))
    sure = any(r.fits for r in found) and np.diff(values).min(initial=np.inf) == 1
    if not (every_nth and found) and not (sure and total):
        timed = list(_timed(values, frames))
        found = (
            [*found, *timed] if total is None else [*timed, *(r for r in found if r.fits)] or found
        )
    best, near = None, {}
    for reading in sorted(found, key=lambda reading: reading.lost):
        best = best or reading
        if reading.lost <= best.lost + 1 + (reading.nth and len(values) >= MANY):
            near.setdefault(reading.moments.tobytes(), reading)
    if len(near) != 1 or not best or not best.fits:
        ways = [f"{r.setting} where {r.words}" for r in [*near.values()][:4]] or [
            "every_nth, the frames from number to number, with a minus where the first frame has number 0"
        ]
        raise EgoXInputError(
            f"frames of {name}",
            got=f"{len(values)} poses, numbered {values[0]:.10g} to {values[-1]:.10g}, for a video of "
            f"{total or 'unknown many'} frames, {len(frames.times_s)} in use",
            expected="numbers or times that fit in one way: over the whole video, or the frames in use",
            fix=f"set {', or '.join(ways)}; times begin at the video's start",
        )
    words = best.words + _filled(best, frames, name) + best.note
    return Placed(order, torch.from_numpy(best.moments), best.clock, words)


def _numbered(values: np.ndarray, frames: Frames, every_nth: int) -> Iterator[Reading]:
    used, total = frames.indices.double().numpy(), frames.total or 0
    first, last, spare = values[0], values[-1], spare_frames(total)
    step = np.diff(values).min(initial=np.inf)
    bases = (0, 1)[: int(first) + 1]
    if beyond := first > (total or 1000):  # as Nuke's 1001
        bases = (first,)
    elif every_nth:
        numbers = abs(every_nth) > 1 and not (values % every_nth).any()  # 5, 10 are frames
        bases = (0 if numbers or every_nth < 0 else min(first, 1),)
    in_use = any(last - base == len(used) - 1 for base in bases)
    for base in bases:
        at, end, said = values - base, last - base, f"number {base:g} is the first frame"
        sign = "-" if base < min(first, 1) else ""
        if n := abs(every_nth):
            other = total and base == first == 1 and last * n < total
            note = f"; every_nth -{n} where number 0 is" if other else ""
            yield Reading(said, at * (n if (at % n).any() else 1), note=note)
            continue
        left = total - 1 - end
        lost = at[0] // step + abs(left) // step
        fits = left < spare + step
        if not total:
            lost = float((~np.isin(used, at)).sum())
            fits = at[0] <= used.min() and left <= -1 - used.max()
        elif beyond:
            fits = left == 0
        if exact := at[0] == used.min() and end == used.max():
            lost, fits = 0.0, True
        if exact or not total or -left <= spare * (base == first):
            yield Reading(said, at, lost, fits, f"every_nth {sign}1")
        if end == len(used) - 1:
            named = f"image names {used[0]:g} to {used[-1]:g}"
            yield Reading(f"{said} in use", used[at.astype(int)], at[0], True, named)
        alone = ""
        if at[0] <= used.min() and end >= used.max():
            alone = f"; if these are the first {end + 1:g} frames alone, set every_nth {sign}1"
        for n in range(2, int(total / max(end, 2)) + 2):
            lost = math.ceil(total / n) - 1 - end
            if lost == 0 or (lost > 0 and not in_use):
                words, setting = f"{said}, and one in {n} has a pose", f"every_nth {sign}{n}"
                yield Reading(words, at * n, lost + at[0], lost == 0, setting, alone, True)


def _timed(values: np.ndarray, frames: Frames) -> Iterator[Reading]:
    used, total, rate = frames.times_s.numpy(), frames.total, frames.rate
    end, near = (total - 1) / rate if total else used.max(), 0.51 / rate
    whole, step = not (values % 1).any(), np.diff(values).min(initial=np.inf)

    def reading(words: str, at: np.ndarray) -> Reading:
        lost = 0.0 if total else float((abs(used[:, None] - at).min(1) > near).sum())
        return Reading(words, at, lost, clock="seconds")

    if values[0] == 0 and values[-1] == 1 and abs(end - 1) > near:
        yield reading("times as shares of the video", values * end)
    for unit in UNITS:
        counted = whole and (step == 1 or np.ptp(values) <= (total or MOST_FRAMES))
        if counted and step * unit < near:
            continue  # numbers of frames
        at = values * unit
        covers = at[0] <= used.min() + near and at[-1] >= used.max() - near
        inside = at[0] >= -near and (not total or at[-1] <= end + near)
        if unit == 1 and inside and not whole and (total or covers):
            yield reading("times from the video's start", at)
            return
        if unit < 1 and inside and covers:
            yield reading(f"times by {unit:g} s from the video's start", at)
            return
        for origin in (0.0, values[0]):
            at = (values - origin) * unit
            if abs(at[-1] - end) <= near:
                yield reading(f"times by {unit:g} s from {origin:.10g}", at)
            if origin and abs(at[-1] - np.ptp(used)) <= near:
                words = f"times by {unit:g} s from {origin:.10g}, where the frames begin"
                yield reading(words, at + used.min())


def _filled(reading: Reading, frames: Frames, name: str) -> str:
    """A note on the frames in use between two poses that have none of their own."""
    numbered = reading.clock == "index"
    used = (frames.indices if numbered else frames.times_s).double().numpy()
    known, second = reading.moments, frames.rate if numbered else 1.0
    after = np.searchsorted(known, used).clip(0, len(known) - 1)
    low, high = known[after - 1], known[after]  # before the first pose: no gap, and refused later
    filled = np.minimum(used - low, high - used) > 0.5 * second / frames.rate
    gap = ((high - low) * filled).max() / second
    if gap > MAX_GAP_S:
        raise EgoXInputError(
            f"frames of {name}",
            got=f"{gap:.2g} s without a pose",
            expected=f"at most {MAX_GAP_S:g} s between two poses",
            fix="register more images, or use frames before or after the gap",
        )
    count = int(filled.sum())
    return f"; {count} of {len(used)} frames have no pose and are interpolated" * (count > 0)
