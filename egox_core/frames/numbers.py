"""Assign poses of other programs to video frames by frame number or time.

A number is the frame where the numbers span the video or the frames in use, counted from 0 or from
1; else every n-th frame, where the counts say which n. Times count from the video's start, or from
the first pose where they span it. The reading that loses fewest pictures is taken; none that fits,
or a second one that loses at most one more, is refused. A path whose times begin before the video
or end after it has another clock, of which only the user knows the offset."""

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..sizes import longest_clip, spare_frames
from .frames import Clock, Frames
from .names import changing_number
from .rule import FileFrames, Numbering, entries_of

MANY = 10  # poses of every n-th frame from which on two lost pictures more tell nothing
MAX_GAP_S = 1.0  # between two known poses; the frames between are interpolated
MAX_FRAMES = 1e6  # of a video; longer spans of whole numbers are times
TIME_UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)  # seconds to nanoseconds


class Placed(NamedTuple):
    """Times or frame numbers that were found for the poses of a file."""

    order: Tensor  # [N] int64 of the poses, by number
    moments: Tensor  # [N] float64, of the poses in that order
    clock: Clock
    words: str  # how they were found
    # what alone ties their clock to the video's; empty: the file or the user does
    clock_by: str = ""
    # settings with which pictures' names that end before the frames in use reach over these
    name_advice: str = ""


class Reading(NamedTuple):
    """One possible interpretation of a pose file's numbers, as frame numbers or as times."""

    words: str
    moments: np.ndarray  # [N] of the poses, on the track's clock
    lost: float = 0.0  # pictures that the video, or the frames in use, would have beside these
    fits: bool = True  # no more are lost than programs lose
    setting: str = ""  # makes it the only reading; of times it is the declared clock
    note: str = ""
    nth: bool = False
    clock: Clock = "index"


def numbers_of(names: Sequence[object], label: str) -> Tensor:  # [N] float64
    """Find the number in each picture's name that changes, or count 0, 1, 2, … without names.

    Raises:
        EgoXInputError: none changes, several do that don't rise together, or folder and file do.
    """
    if len(names) < 2 or set(names) == {None}:
        return torch.arange(len(names)).double()
    paths = [PurePosixPath(str(name)) for name in names]
    file_names = {path.name for path in paths}
    folder_names = {str(path.parent) for path in paths}
    changing_names = [path.name if len(folder_names) == 1 else str(path.parent) for path in paths]
    numbers = changing_number(changing_names) if 1 in (len(file_names), len(folder_names)) else None
    if numbers is None:
        raise EgoXInputError(
            f"image names of {label}",
            got=f"{names[0]} to {names[-1]}",
            expected="one number that changes",
            fix="number the images of one camera by their frames",
        )
    return torch.from_numpy(numbers)


def find_moments(numbering: Numbering, frames: Frames | None) -> Placed:
    """Assign poses to frame numbers or times of the video, or to their own if that is unknown.

    Numbers that a form states, and what the user declares, go by the rule; pictures and times of
    other programs by :func:`place_values`.

    Raises:
        EgoXInputError: as there and as :func:`.rule.entries_of`; moments that the user declares in
            two ways; names without one number that changes.
    """
    is_declared = numbering.file_frames != "auto"
    name = numbering.what
    if numbering.times_of_video and is_declared:
        raise states_moments(name, numbering.file_frames)
    if numbering.every_nth and is_declared:
        raise EgoXInputError(
            f"frames of {name}",
            got=f"every_nth {numbering.every_nth} and file_frames {numbering.file_frames!r}",
            expected="one of them",
            fix="leave every_nth at 0, or file_frames at 'auto'",
        )
    if not frames:
        return _own_moments(numbering)
    times = numbering.times_s
    if times is not None and numbering.declares_clock:
        return _with_clock_by(_declared_clock(times, numbering), numbering, frames)
    if times is not None and numbering.times_of_video:
        pose_order = torch.arange(numbering.count)
        words = f"{name}: {numbering.count} poses"
        if frames.counted:  # of unknown times
            return Placed(
                pose_order, pose_order.double(), "index", f"{words}: the first ones are used"
            )
        return Placed(pose_order, times, "seconds", f"{words}: read by time")
    stated_values, clock = _stated_values(numbering)
    has_numbers = numbering.numbers is not None
    if not (has_numbers or is_declared):
        default_nth = -1 if numbering.frames_named else 0
        placed = place_values(
            stated_values,
            frames,
            name,
            numbering.every_nth or default_nth,
            are_times=clock == "seconds",
            in_shares=numbering.times_in_shares,
        )
        return _with_clock_by(placed, numbering, frames)
    entries = entries_of(frames, numbering)
    indices, first_positions = np.unique(frames.indices.numpy(), return_index=True)
    pose_order = torch.arange(numbering.count) if has_numbers else stated_values.argsort()
    moments = torch.from_numpy(indices).double()
    return Placed(
        pose_order[entries.at][torch.from_numpy(first_positions)],
        moments,
        "index",
        str(entries.remark),
    )


def _stated_values(numbering: Numbering) -> tuple[Tensor, Clock]:  # [N] float64
    """Select what a form states of its poses' moments: times, frame numbers, or names."""
    if numbering.times_s is not None and not (numbering.every_nth and numbering.names):
        return numbering.times_s * (numbering.time_unit_s or 1.0), "seconds"
    if numbering.numbers is not None:
        return numbering.numbers.double(), "index"
    names = numbering.names or (None,) * numbering.count
    return numbers_of(names, numbering.what), "index"


def _own_moments(numbering: Numbering) -> Placed:
    """Place poses at moments of their own, without a video."""
    if numbering.times_s is not None and numbering.declares_clock:
        return _declared_clock(numbering.times_s, numbering)
    values, clock = _stated_values(numbering)
    if numbering.times_of_video and clock == "seconds":
        words = f"{numbering.what}: {numbering.count} poses: read by time"
        return Placed(torch.arange(numbering.count), values, clock, words)
    order = values.argsort()
    moments = values[order] if clock == "seconds" else torch.arange(len(order)).double()
    return Placed(order, moments, clock, "")


def _declared_clock(times: Tensor, numbering: Numbering) -> Placed:
    """Place times by the clock that the user declares."""
    order = times.argsort()
    offset_s = numbering.offset_s or 0.0
    moments = (times[order] - times.min()) * (numbering.time_factor or 1.0) + offset_s
    words = (
        f"{numbering.what}: {len(times)} poses by time, the first at {offset_s:g} s of the video"
    )
    return Placed(order, moments, "seconds", words)


def _with_clock_by(placed: Placed, numbering: Numbering, frames: Frames) -> Placed:
    """Note what alone ties the clock of a file's times to the video's.

    A path that begins and ends with the video, by its own seconds, is tied.
    """
    times = numbering.times_s
    if times is None or placed.clock != "seconds" or numbering.offset_s is not None:
        return placed
    tolerance_s = 0.51 / frames.rate
    first_s, last_s = float(placed.moments[0]), float(placed.moments[-1])
    begins, ends = (
        (0.0, float(frames.times_s.min())),
        (frames.last_time_s, *frames.times_s[-1:]),
    )
    spans_video = any(abs(first_s - time) <= tolerance_s for time in begins) and any(
        abs(last_s - float(time)) <= tolerance_s for time in ends
    )
    unit_s = (last_s - first_s) / max(float(times.max() - times.min()), 1e-9)
    has_own_zero = abs(first_s - float(times.min()) * unit_s) > tolerance_s
    if spans_video and not has_own_zero:
        return placed
    by = "its length, which is the video's" if spans_video else "default"
    return placed._replace(clock_by=by)


def states_moments(name: str, file_frames: FileFrames) -> EgoXInputError:
    """Make the error for a set ``file_frames`` though the file already states its frames."""
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
    *,
    are_times: bool = False,  # by their form, which may hold numbers instead
    in_shares: bool = False,  # they may be shares of the video
) -> Placed:
    """Find the moments of a path's poses from numbers or times.

    Raises:
        EgoXInputError: numbers or times that fit in no way or in two, a gap of over a second.
    """
    order = numbers.argsort()
    pose_values = numbers[order].double().numpy()
    total = frames.total
    are_whole = not (pose_values % 1).any()
    readings = (
        list(_number_readings(pose_values, frames, every_nth, are_names=not are_times))
        if are_whole
        else []
    )
    is_sure = (
        any(candidate.fits for candidate in readings)
        and np.diff(pose_values).min(initial=np.inf) == 1
    )
    if not (every_nth and readings) and not (is_sure and total):
        timed_readings = list(_time_readings(pose_values, frames, in_shares))
        readings = (
            [*readings, *timed_readings]
            if total is None
            else [*timed_readings, *(candidate for candidate in readings if candidate.fits)]
            or readings
        )
    best_reading = None
    near_readings = {}
    for reading in sorted(readings, key=lambda reading: reading.lost):
        best_reading = best_reading or reading
        if reading.lost <= best_reading.lost + 1 + (reading.nth and len(pose_values) >= MANY):
            near_readings.setdefault(reading.moments.tobytes(), reading)
    if len(near_readings) != 1 or not best_reading or not best_reading.fits:
        setting_texts = [
            f"{candidate.setting} where {candidate.words}"
            for candidate in [*near_readings.values()][:4]
            if candidate.setting
        ]
        if are_times or not are_whole:
            fix = _clock_advice(pose_values, frames)
            fix += "".join(f", or {text}" for text in setting_texts)
        else:
            if not any(candidate.fits for candidate in near_readings.values()):
                setting_texts = [_name_advice(pose_values, frames)]
            fix = f"{', or '.join(setting_texts)}; times begin at the video's start"
        raise EgoXInputError(
            f"frames of {name}",
            got=(
                f"{len(pose_values)} poses, numbered {pose_values[0]:.10g} to "
                f"{pose_values[-1]:.10g}, for a video of {total or 'unknown many'} frames, "
                f"{len(frames.times_s)} in use"
            ),
            expected=(
                "numbers or times that fit in one way: over the whole video, or the frames in use"
            ),
            fix=fix,
        )
    words = best_reading.words + _gap_note(best_reading, frames, name) + best_reading.note
    placed = Placed(order, torch.from_numpy(best_reading.moments), best_reading.clock, words)
    ends_early = best_reading.clock == "index" and best_reading.moments[-1] < frames.last
    if are_times or not ends_early:
        return placed
    end = float(best_reading.moments[-1])
    return placed._replace(name_advice=_name_advice(pose_values, frames, end))


def _name_advice(values: np.ndarray, frames: Frames, end: float | None = None) -> str:
    """Word the settings with which pictures' numbers are poses of the frames in use.

    They are those that read the numbers as they stand, for as many frames as these reach over,
    those that reach the video's end, and those that end at frame ``end``, as they were read.
    """
    used_numbers = frames.indices.double().numpy()
    spare_count = spare_frames(frames.end)
    advice: dict[float, str] = {}
    largest = min(frames.end / max(np.ptp(values), 1), MAX_GAP_S * frames.rate)
    for size in range(1, math.ceil(largest) + 1):
        for every_nth in (size, -size):
            (reading,) = _number_readings(values, frames, every_nth)
            first, last = reading.moments[0], reading.moments[-1]
            reaches_end = used_numbers.max() <= last < frames.end + spare_count
            covered_count = int((used_numbers <= last).sum())
            is_meant = reaches_end or size == 1 or last == end
            if first > used_numbers.min() or not is_meant or last in advice:
                continue
            clip = "" if reaches_end else f" and {longest_clip(covered_count)} frames"
            advice[last] = f"set every_nth {every_nth}{clip} (poses end at frame {last:g})"
    texts = [
        *advice.values(),
        "set every_nth n where they are of every n-th frame (-n where number 0 is the first)",
    ]
    return ", or ".join(texts)


def _number_readings(
    values: np.ndarray, frames: Frames, every_nth: int, *, are_names: bool = True
) -> Iterator[Reading]:
    used_numbers = frames.indices.double().numpy()
    total = frames.total or 0
    first_number = values[0]
    last_number = values[-1]
    spare_count = spare_frames(total)
    step = np.diff(values).min(initial=np.inf)
    first_numbers = (0, 1)[: int(first_number) + 1]
    if is_beyond := first_number > (total or 1000):  # as Nuke's 1001
        first_numbers = (first_number,)
    elif every_nth:
        starts_at_zero = abs(every_nth) > 1 and not (values % every_nth).any()  # 5, 10 are frames
        first_numbers = (0 if starts_at_zero or every_nth < 0 else min(first_number, 1),)
    # Names of every n-th picture are read as they stand, of which the first one is a first frame.
    is_strided = bool(are_names and total and step > 1 and not every_nth)
    if is_strided:
        ends = (used_numbers.min(), used_numbers.max())
        exact_firsts = [
            base for base in first_numbers if (first_number - base, last_number - base) == ends
        ]
        phased_firsts = [base for base in first_numbers if not ((values - base) % step).any()]
        first_numbers = exact_firsts or phased_firsts or first_numbers
    fits_used_frames = any(last_number - base == len(used_numbers) - 1 for base in first_numbers)
    for base in first_numbers:
        frame_numbers = values - base
        last_frame = last_number - base
        base_words = f"number {base:g} is the first frame"
        nth_sign = "-" if base < min(first_number, 1) else ""
        if step_frames := abs(every_nth):
            other_fits = total and base == first_number == 1 and last_number * step_frames < total
            note = f"; every_nth -{step_frames} where number 0 is" if other_fits else ""
            # Numbers of a step of their own are frames, unless as pictures they fill the video.
            fills_video = step > step_frames and 0 <= total - 1 - last_frame * step_frames < (
                spare_count + step_frames
            )
            are_pictures = (frame_numbers % step_frames).any() or fills_video
            yield Reading(
                base_words, frame_numbers * (step_frames if are_pictures else 1), note=note
            )
            continue
        frames_after = total - 1 - last_frame
        lost_count = frame_numbers[0] // step + abs(frames_after) // step
        covers_used = frames_after < spare_count + step
        if not total:
            lost_count = float((~np.isin(used_numbers, frame_numbers)).sum())
            covers_used = (
                frame_numbers[0] <= used_numbers.min() and frames_after <= -1 - used_numbers.max()
            )
        elif is_beyond:
            covers_used = frames_after == 0
        if is_exact := frame_numbers[0] == used_numbers.min() and last_frame == used_numbers.max():
            lost_count, covers_used = 0.0, True
        allowed_over = spare_count if base == first_number else 0
        if is_exact or not total or -frames_after <= allowed_over:
            note = (
                f"; every_nth {-1 if base else 1} where number {1 - base:g} is"
                if is_strided and base in (0, 1) and first_number
                else ""
            )
            yield Reading(
                base_words,
                frame_numbers,
                lost_count,
                covers_used or is_strided,
                f"set every_nth {nth_sign}1",
                note,
            )
        if last_frame == len(used_numbers) - 1:
            renaming = f"number the images {used_numbers[0]:g} to {used_numbers[-1]:g}"
            yield Reading(
                f"{base_words} in use",
                used_numbers[frame_numbers.astype(int)],
                frame_numbers[0],
                True,
                renaming if are_names else "",
            )
        if is_strided:
            continue
        alone_note = ""
        if frame_numbers[0] <= used_numbers.min() and last_frame >= used_numbers.max():
            alone_note = (
                f"; if these are the first {last_frame + 1:g} frames alone, set every_nth "
                f"{nth_sign}1"
            )
        for step_frames in range(
            2, math.ceil(total / max(last_frame, 1))
        ):  # more would run over the end
            lost_count = math.ceil(total / step_frames) - 1 - last_frame
            if lost_count == 0 or not fits_used_frames:
                words, setting = (
                    f"{base_words}, and one in {step_frames} has a pose",
                    f"set every_nth {nth_sign}{step_frames}",
                )
                yield Reading(
                    words,
                    frame_numbers * step_frames,
                    lost_count + frame_numbers[0],
                    lost_count == 0,
                    setting,
                    alone_note,
                    True,
                )


def _clock_advice(values: np.ndarray, frames: Frames) -> str:
    """Word what to declare of times that don't fit the video."""
    offsets = ["0 where both began together"]
    if 0 < abs(values[0]) <= max(frames.last_time_s, 1.0):
        offsets.append(f"{values[0]:g} where its seconds count from the video's start")
    return (
        "declare ego.time_offset_s, the video's time at the path's first pose: "
        f"{', or '.join(offsets)} (of an exo camera: cut its path to the video)"
    )


def _time_readings(values: np.ndarray, frames: Frames, in_shares: bool) -> Iterator[Reading]:
    used_times = frames.times_s.numpy()
    total = frames.total
    end_s = frames.last_time_s
    tolerance_s = 0.51 / frames.rate
    are_whole = not (values % 1).any()
    step = np.diff(values).min(initial=np.inf)

    def reading(words: str, pose_times: np.ndarray) -> Reading:
        lost_count = (
            0.0
            if total
            else float((abs(used_times[:, None] - pose_times).min(1) > tolerance_s).sum())
        )
        return Reading(words, pose_times, lost_count, clock="seconds")

    if in_shares and (values[0], values[-1]) == (0, 1) and len(values) <= (total or MAX_FRAMES):
        if abs(end_s - 1) > tolerance_s:
            yield reading("times as shares of the video", values * end_s)
        if used_times.max() > 1 + tolerance_s:
            return  # as seconds they would end before the frames in use
    for unit in TIME_UNITS_S:
        are_numbers = are_whole and (step == 1 or np.ptp(values) <= (total or MAX_FRAMES))
        if are_numbers and step * unit < tolerance_s:
            continue  # numbers of frames
        pose_times = values * unit
        covers_used = (
            pose_times[0] <= used_times.min() + tolerance_s
            and pose_times[-1] >= used_times.max() - tolerance_s
        )
        inside = pose_times[0] >= -tolerance_s and (
            not total or pose_times[-1] <= end_s + tolerance_s
        )
        if unit == 1 and inside and not are_whole and (total or covers_used):
            yield reading("times from the video's start", pose_times)
            return
        if unit < 1 and inside and covers_used:
            yield reading(f"times by {unit:g} s from the video's start", pose_times)
            return
        for origin in (0.0, values[0]):
            pose_times = (values - origin) * unit
            if abs(pose_times[-1] - end_s) <= tolerance_s:
                yield reading(f"times by {unit:g} s from {origin:.10g}", pose_times)
            if origin and abs(pose_times[-1] - np.ptp(used_times)) <= tolerance_s:
                words = f"times by {unit:g} s from {origin:.10g}, where the frames begin"
                yield reading(words, pose_times + used_times.min())


def _gap_note(reading: Reading, frames: Frames, name: str) -> str:
    """Count the frames whose pose is interpolated between two poses of a file, in a note."""
    is_numbered = reading.clock == "index"
    used_moments = (frames.indices if is_numbered else frames.times_s).double().numpy()
    pose_moments = reading.moments
    second = frames.rate if is_numbered else 1.0
    next_poses = np.searchsorted(pose_moments, used_moments).clip(0, len(pose_moments) - 1)
    earlier_moments = pose_moments[next_poses - 1]
    later_moments = pose_moments[next_poses]  # before the first pose: no gap, and refused later
    filled_mask = (
        np.minimum(used_moments - earlier_moments, later_moments - used_moments)
        > 0.5 * second / frames.rate
    )
    gap = ((later_moments - earlier_moments) * filled_mask).max() / second
    if gap > MAX_GAP_S:
        raise EgoXInputError(
            f"frames of {name}",
            got=f"{gap:.2g} s without a pose",
            expected=f"at most {MAX_GAP_S:g} s between two poses",
            fix="register more images, or use frames before or after the gap",
        )
    count = int(filled_mask.sum())
    if count == 0:
        return ""
    return f"; {count} of {len(used_moments)} frames have no pose and are interpolated"
