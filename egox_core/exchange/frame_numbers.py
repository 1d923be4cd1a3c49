"""The frame of each pose of another program: by number or time, never by its place in the file.

A number is the frame where the numbers span the video or the frames in use, counted from 0 or from
1; else every n-th frame, where the counts say which n. Times count from the video's start, or from
the first pose where they span it. What fits in no way, or in two, is refused."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..sizes import spare_frames
from ..trajectory import PoseTrack
from ..types import FrameSelection

MAX_GAP_S = 1.0  # between two known poses; the frames between are interpolated
UNITS = (1.0, 1e-3, 1e-6, 1e-9)  # of times: seconds to nanoseconds
Reading = tuple[str, np.ndarray]  # words, moment of each pose on the track's clock


def numbers_of(names: Sequence[object], what: str) -> Tensor:  # [N] float64
    """The number in each picture's name that changes from name to name; 0, 1, 2, … without names.

    Raises:
        EgoXInputError: none changes, or several do.
    """
    if len(names) < 2 or set(names) == {None}:
        return torch.arange(len(names), dtype=torch.float64)
    found = [re.findall(r"\d+(?:\.\d+(?=\.))?", str(name)) for name in names]
    columns = [column for column in zip(*found, strict=False) if len(set(column)) > 1]
    if len({len(numbers) for numbers in found}) != 1 or len(columns) != 1:
        raise EgoXInputError(
            f"image names of {what}",
            got=f"{names[0]} to {names[-1]}",
            expected="one number that changes",
            fix="number the images of one camera by their frames",
        )
    return torch.tensor([float(number) for number in columns[0]], dtype=torch.float64)


def place(
    w2c: Tensor,  # [N, 3, 4]
    numbers: Tensor,  # [N] of the pictures, or times
    frames: FrameSelection,
    name: str,
    every_nth: int = 0,  # frames of the video from number to number; 0: found out
) -> tuple[PoseTrack, str]:
    """The path over the frames in use, and a note on what was found out.

    Raises:
        EgoXInputError: numbers or times that fit in no way or in two, a gap of over a second.
    """
    order = numbers.argsort()
    values = numbers[order].double().numpy()
    found = [] if (values % 1).any() else list(_numbered(values, frames, every_nth))
    timed = not found
    found = found or list(_timed(values, frames))
    readings = {moments.tobytes(): (words, moments) for words, moments in reversed(found)}
    if len(readings) != 1:
        raise EgoXInputError(
            f"frames of {name}",
            got=f"{len(values)} poses, numbered {values[0]:.10g} to {values[-1]:.10g}, for a video of "
            f"{frames.source_frames or 'unknown many'} frames, {len(frames.times_s)} in use"
            + "".join(f"; {words}?" for words, _ in readings.values()),
            expected="numbers or times that fit in one way: over the whole video, or the frames in use",
            fix="set every_nth: 1 where numbers are frames, 5 where every 5th was taken, from 0 where one "
            "is 0, else from 1; let times begin at the video's start",
        )
    words, moments = found[0]
    clock, moments = "seconds" if timed else "index", torch.from_numpy(moments)
    track = PoseTrack(w2c=w2c[order], moments=moments, clock=clock, name=name)
    return track, words + _filled(track, frames)


def _numbered(values: np.ndarray, frames: FrameSelection, every_nth: int) -> Iterator[Reading]:
    used, whole, first = frames.source_indices.double().numpy(), frames.source_frames, values[0]
    step = np.diff(values).min(initial=np.inf)
    total = whole or 0
    spare = spare_frames(total)
    beyond = first > (whole or 1000)  # as Nuke's 1001
    for base in (first,) if beyond else (min(first, 1),) if every_nth else (0, 1)[: int(first) + 1]:
        at, end, said = values - base, values[-1] - base, f"number {base:g} is the first frame"
        if every_nth:
            yield said, at * (every_nth if (at % every_nth).any() else 1)  # 0, 5, 10 are frames
            continue
        spans = end + 1 == whole
        if whole is None:
            spans = at[0] <= used.min() and end >= used.max()
        elif not beyond:
            spans = whole - 1 - spare - step < end <= whole - 1 + spare * (base == first)
        if spans or (at[0] == used.min() and end == used.max()):
            yield said, at
        if end == len(used) - 1:
            yield f"{said} in use", used[at.astype(int)]
        for n in range(2, total):
            if end > 1 and end + 1 == math.ceil(total / n):
                yield f"{said}, and every {n}th has one", at * n


def _timed(values: np.ndarray, frames: FrameSelection) -> Iterator[Reading]:
    used, whole = frames.times_s.double().numpy(), frames.source_frames
    end, near = (whole - 1) / frames.source_fps if whole else used.max(), 0.51 / frames.source_fps
    if values[0] == 0 and values[-1] == 1 and abs(end - 1) > near:
        yield "times as shares of the video", values * end
    within = values[-1] <= end + near if whole else values[0] <= used.min() + near
    within = within and (values % 1).any()  # whole ones are rather numbers
    if values[0] >= -near and within and (whole or values[-1] >= end - near):
        yield "times from the video's start", values
        return
    for unit in UNITS:
        for origin in (0.0, values[0]):
            at = (values - origin) * unit
            if abs(at[-1] - end) <= near:
                yield f"times by {unit:g} s from {origin:.10g}", at
            if origin and abs(at[-1] - np.ptp(used)) <= near:
                yield (
                    f"times by {unit:g} s from {origin:.10g}, where the frames begin",
                    at + used.min(),
                )


def _filled(track: PoseTrack, frames: FrameSelection) -> str:
    """A note on the frames in use between two poses that have none of their own."""
    numbered = track.clock == "index"
    used = (frames.source_indices if numbered else frames.times_s).double().numpy()
    known, second = track.moments.numpy(), frames.source_fps if numbered else 1.0
    after = np.searchsorted(known, used).clip(0, len(known) - 1)
    low, high = known[after - 1], known[after]  # before the first pose: no gap, and refused later
    filled = np.minimum(used - low, high - used) > 0.5 * second / frames.source_fps
    gap = ((high - low) * filled).max() / second
    if gap > MAX_GAP_S:
        raise EgoXInputError(
            f"frames of {track.name}",
            got=f"{gap:.2g} s without a pose",
            expected=f"at most {MAX_GAP_S:g} s between two poses",
            fix="register more images, or use frames before or after the gap",
        )
    count = int(filled.sum())
    return f"; {count} of {len(used)} frames have no pose and are interpolated" * (count > 0)
