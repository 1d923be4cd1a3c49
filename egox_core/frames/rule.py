"""Decide which entries of a file or array belong to which frames of a video.

Numbers that a form states go first, then what the user declares, then the count: values in memory
are of the frames in use, or one per frame of the source; files are one per frame of the source.
What a video's end may lack or have too much (:func:`.sizes.spare_frames`) is the same for all. The
first part of a video, or every n-th frame of it, can't be told by a count."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..choices import FILE_FRAMES, FileFrames
from ..errors import EgoXInputError, check_choice
from ..frozen import frozen
from ..remarks import Remark, RemarkKind
from ..sizes import spare_frames
from .frames import Frames


@frozen
class Numbering:
    """Statements of a file and of the user on which video frames its entries belong to."""

    what: str  # names the entries in remarks and errors
    count: int
    # [count] int64, frames of the source that the form states; None: it states none
    numbers: Tensor | None = None
    # [count] times of the entries, in any unit and from any moment on
    times_s: Tensor | None = None
    times_of_video: bool = False  # they are seconds from the video's start: the form says so
    time_unit_s: float | None = None  # seconds per unit of them, where the form states it
    times_in_shares: bool = False  # they may run from 0 to 1, the video's start and end
    # What is declared of times: the video's time at the first one, and the settled unit in seconds.
    offset_s: float | None = None
    time_factor: float | None = None
    names: tuple[object, ...] = ()  # of the pictures of another program, or none
    # the names' numbers are frames of the source: the file says so, as this pack writes it
    frames_named: bool = False
    in_memory: bool = False  # values of a caller or a socket, not of a file
    file_frames: FileFrames = "auto"
    # from one picture of another program to the next; negative if their numbers start at 0
    every_nth: int = 0
    # frames without an entry are right: nobody was seen there, nor is asked for after the last one
    sparse: bool = False
    standing: bool = False  # one entry holds for all frames

    @classmethod
    def of_own(cls, what: str, own_frames: Frames, file_frames: FileFrames) -> "Numbering":
        """Make the numbering of entries in memory whose video frames are known.

        If they are only counted, ``file_frames`` says which ones they are.
        """
        return cls(
            what=what,
            count=len(own_frames),
            numbers=own_frames.numbers,
            in_memory=True,
            file_frames=file_frames,
        )

    @property
    def declares_clock(self) -> bool:
        """True if the user declares the clock of the times."""
        return (self.offset_s, self.time_factor) != (None, None)

    def declared(self, file_frames: FileFrames) -> "Numbering":
        """Return a copy of this numbering with the user's choice of ``file_frames``."""
        return replace(self, file_frames=file_frames)

    def fits(self, total: int | None) -> bool:
        """Check whether there is an entry for each frame of the video, but for those lost there."""
        return total is not None and abs(self.count - total) <= spare_frames(total)

    def goes_by_number(self, total: int | None) -> bool:
        """Check whether numbers tell the entries' frames: stated ones that don't run over the end.

        Consecutive ones that do, as many as the video's frames, count from another number than 0.
        """
        if self.numbers is None or total is None:
            return self.numbers is not None
        numbers = torch.as_tensor(self.numbers)
        last, first = int(numbers.max()), int(numbers.min())
        return not self.fits(total) or last - first != len(numbers) - 1 or last < total


def settle_frames(given: Frames | None, own: Frames, what: str = "source") -> Frames:
    """Settle the frames in use: the given ones or, where none are, a source's own.

    Of a given count alone they are the source's first ones, if it states any.

    Raises:
        EgoXInputError: fewer than that count; ``what`` names the source in it.
    """
    if not given:
        return own
    if own.counted or not given.counted:
        return given
    if len(own) < len(given):
        raise EgoXInputError(
            what,
            got=f"{len(own)} poses or maps",
            expected=f"at least {len(given)}, the frames in use",
            fix="use fewer frames, or a longer one",
        )
    return own.select(slice(len(given)))


class Entries(NamedTuple):
    """Positions of the file entries that belong to the frames in use, with a remark."""

    at: slice | Tensor  # [T] int64; -1 where a sparse form has none
    remark: Remark  # how the entries were read


def entries_of(frames: Frames, numbering: Numbering) -> Entries:
    """Find the entry of each frame, and describe the rule that was applied.

    Raises:
        EgoXInputError: entries that may be of other frames, or that the frames in use lack.
    """
    if numbering.standing:
        return Entries(slice(None), Remark(""))
    declaration, count, total = numbering.file_frames, numbering.count, frames.total
    check_choice("file_frames", declaration, FILE_FRAMES, "leave file_frames at auto where unsure")
    if numbering.goes_by_number(total):
        return _by_number(frames, numbering)
    if numbering.sparse and numbering.numbers is None:
        frames = frames.select(slice(count))
    used_count = len(frames)
    covers_last = frames.last < count
    words = f"{count} entries"
    if total not in (None, count):
        words += f" for {total} frames"
    if count == used_count and (
        declaration == "in use" or (declaration == "auto" and numbering.in_memory)
    ):
        return _make_entries(numbering, slice(used_count), f"{words}: one for each frame in use")
    if covers_last and declaration == "source":
        return _make_entries(numbering, frames.indices, f"{words}: one for each frame of the video")
    if covers_last and declaration == "auto":
        if numbering.fits(total) or (total is None and not numbering.in_memory):
            return _make_entries(
                numbering, frames.indices, f"{words}: one for each frame of the video"
            )
    raise _mismatch_error(frames, numbering, "")


def covered_part(frames: Frames, numbering: Numbering) -> slice:
    """Find the part of a whole clip's frames for which there are entries.

    Entries that state their frames may lack any number at either end, and counted ones as many at
    the end as programs lose there (:func:`.sizes.spare_frames`). Where they lack more it is the
    whole clip, which :func:`entries_of` refuses.
    """
    whole_clip, times = slice(0, len(frames)), numbering.times_s
    if numbering.standing or numbering.sparse:
        return whole_clip
    if numbering.goes_by_number(frames.total):
        numbers = torch.as_tensor(numbering.numbers).to(frames.indices)
        covered_mask = (frames.indices >= numbers.min()) & (frames.indices <= numbers.max())
    elif times is not None and numbering.times_of_video:
        tolerance_s = 0.5 / frames.rate
        covered_mask = frames.times_s >= times.min() - tolerance_s
        covered_mask &= frames.times_s <= times.max() + tolerance_s
    else:
        is_counted_in_use = numbering.file_frames == "in use"
        positions = torch.arange(len(frames)) if is_counted_in_use else frames.indices
        covered_mask = positions < numbering.count
        lost_count = int(positions.max()) + 1 - numbering.count
        if lost_count > spare_frames(frames.end):
            return whole_clip
    covered_positions = covered_mask.nonzero().flatten().tolist()
    if not covered_positions:
        return whole_clip
    return slice(covered_positions[0], covered_positions[-1] + 1)


def _by_number(frames: Frames, numbering: Numbering) -> Entries:
    numbers = torch.as_tensor(numbering.numbers).cpu()
    used_numbers = frames.indices.to(numbers)
    total = frames.total
    range_text = f", numbered {int(numbers.min())} to {int(numbers.max())}"
    is_exact = torch.equal(numbers, used_numbers)
    order = numbers.argsort(stable=True)
    sorted_numbers = numbers[order]
    is_beyond = total is not None and int(sorted_numbers[-1]) >= total
    has_repeats = not is_exact and bool((sorted_numbers.diff() == 0).any())
    positions = torch.searchsorted(sorted_numbers, used_numbers).clamp(max=len(sorted_numbers) - 1)
    found_mask = sorted_numbers[positions] == used_numbers
    has_gaps = not numbering.sparse and not bool(found_mask.all())
    # What a caller says of arrays is of those that don't say it themselves.
    is_denied = numbering.file_frames == "in use" and not (is_exact or numbering.in_memory)
    if has_gaps or has_repeats or is_beyond or is_denied:
        repeat_text = ", some twice" if has_repeats else ""
        raise _mismatch_error(frames, numbering, range_text + repeat_text)
    video_text = "" if total in (None, numbering.count) else f" for {total} frames"
    words = f"{numbering.count} entries{video_text}{range_text}: read by number"
    return _make_entries(
        numbering,
        slice(len(used_numbers)) if is_exact else order[positions].where(found_mask, -1),
        words,
    )


def _make_entries(numbering: Numbering, at: slice | Tensor, words: str) -> Entries:
    return Entries(at, Remark(f"{numbering.what}: {words}", RemarkKind.FRAMES))


def _mismatch_error(frames: Frames, numbering: Numbering, span: str) -> EgoXInputError:
    total, last = frames.total, frames.last
    in_use_text = f"{len(frames)}, the frames in use ({int(frames.indices.min())} to {last})"
    expected_text = "one for each of the source's"
    if span:
        expected = f"the numbers of {in_use_text}"
        fix = "number the entries by the video's frames, from 0"
    elif numbering.file_frames == "source" or (total is None and not numbering.in_memory):
        expected = f"at least {last + 1}, up to the last frame in use"
        fix = "use fewer frames"
    elif numbering.file_frames == "in use":
        expected = in_use_text
        fix = "make it of the very frames in use, or set file_frames to 'auto'"
    elif numbering.in_memory:
        expected = f"{in_use_text}, or {expected_text}"
        fix = (
            "make it of the very frames in use, or set file_frames to 'source' where entry i is "
            "frame i"
        )
    else:
        expected = expected_text
        fix = (
            "make it of every frame of this video, or set file_frames: 'source' where entry i is "
            "frame i, 'in use' where it is the i-th of the frames in use"
        )
    video_text = (
        "" if total is None else f" for a video of {total} frames ({frames.rate:g} a second)"
    )
    entries_text = f"{numbering.count} frames{span}{video_text}"
    return EgoXInputError(numbering.what, got=entries_text, expected=expected, fix=fix)
