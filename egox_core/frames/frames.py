"""Describe frames of a source video by number and by time."""

from __future__ import annotations

from dataclasses import field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ..arrays import as_tensor
from ..errors import EgoXInputError
from ..frozen import frozen

Clock = Literal["index", "seconds"]
UNTIMED_FPS = 30.0
"""Frames a second that are assumed wherever neither a video nor a file of poses says otherwise."""
NEAR_S = 1e-6
"""Difference of two times, in seconds, up to which they are one: rounding."""
MAX_CLIP_FRAMES, MAX_SOURCE_FRAMES = 20_000, 200_000
"""Bounds of what a caller may state: a meta.json has a pose for every source frame (two hours at 30
a second)."""
SomeFrames = TypeVar("SomeFrames", bound="Frames")


@frozen
class Frames:
    """Numbers and times of some frames of a source video, in order.

    Frames are equal to others if all values are.

    Maps are taken by ``indices``; poses are interpolated at ``times_s``.

    Raises:
        EgoXInputError: another count of times than of indices.
    """

    indices: Tensor  # [T] int64, index into the source video
    times_s: Tensor  # [T] float64, time of each frame in the source video, seconds
    rate: float = UNTIMED_FPS  # frames a second of the source video
    total: int | None = None  # frames of the whole source video, where that is known
    # the video's file, where there is one: depth and poses may be next to it
    source: Path | None = None
    counted: bool = False  # which frames is unknown: counted from 0, at UNTIMED_FPS
    # time of the source's last frame, seconds, where it is known
    end_s: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", torch.as_tensor(self.indices).long())
        object.__setattr__(self, "times_s", torch.as_tensor(self.times_s).double())
        if self.indices.shape != self.times_s.shape or self.indices.ndim != 1:
            raise EgoXInputError(
                "frames",
                got=f"{tuple(self.indices.shape)} indices and {tuple(self.times_s.shape)} times",
                expected="one of each per frame",
                fix="give as many indices as times",
            )

    @staticmethod
    def of_count(count: int) -> Frames:
        """Make ``count`` frames of an unknown video."""
        indices = torch.arange(count)
        return Frames(indices=indices, times_s=indices.double() / UNTIMED_FPS, counted=True)

    @staticmethod
    def video_of(frames: Frames | None) -> Path | None:
        """Return the video's file that frames are of, where somebody says it."""
        return frames.source if frames else None

    @staticmethod
    def timed(times_s: Tensor) -> Frames:  # [T]
        """Make frames of known times, counted from the first frame of the source."""
        times_s = torch.as_tensor(times_s)
        return Frames(indices=torch.arange(len(times_s)), times_s=times_s)._rated

    @staticmethod
    def stated(indices: object, times_s: object, total: int | None = None) -> Frames:
        """Make frames from the numbers and times that a caller states.

        Raises:
            EgoXInputError: no numbers, different lengths, too many, not rising, frames before 0 or
                beyond all reason.
        """
        numbers = as_tensor((indices, times_s), "moments of the clip", 2, None).double()
        if (
            numbers.shape[1] > MAX_CLIP_FRAMES
            or not (numbers.abs() < torch.inf).all()
            or (numbers.diff() < 0).any()
            or not 0 <= float(numbers[0, 0]) <= float(numbers[0, -1]) < MAX_SOURCE_FRAMES
        ):
            raise EgoXInputError(
                "moments of the clip",
                got=(
                    f"{numbers.shape[1]}, from {numbers[:, 0].tolist()} to "
                    f"{numbers[:, -1].tolist()}"
                ),
                expected=f"1 to {MAX_CLIP_FRAMES} finite, rising numbers, as many indices (0 to "
                f"{MAX_SOURCE_FRAMES - 1}) as times",
                fix="send one of each per frame",
            )
        return Frames(indices=numbers[0], times_s=numbers[1], total=total)._rated

    @property
    def _rated(self) -> Frames:
        """Copy of these frames whose frame rate is computed from their numbers and times."""
        steps, span = (float(values[-1] - values[0]) for values in (self.indices, self.times_s))
        return replace(self, rate=steps / span) if steps > 0 and span > 0 else self

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            _values_equal(getattr(self, value.name), getattr(other, value.name))
            for value in fields(self)
            if value.compare
        )

    def __hash__(self) -> int:
        return hash((type(self), len(self), self.rate, self.total, self.source))

    def __reduce__(self) -> tuple:
        values = {value.name: getattr(self, value.name) for value in fields(self)}
        return partial(type(self), **values), ()

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.indices)

    @property
    def values(self) -> dict:
        """Fields of the frames by name, without the sizes of their pictures."""
        return {value.name: getattr(self, value.name) for value in fields(Frames)}

    @property
    def without_sizes(self) -> Frames:
        """Copy of these frames without the sizes of their pictures, as payloads store them."""
        return Frames(**self.values)

    @property
    def is_mirrored(self) -> bool:
        """True if files of the source show it in a mirror, and the frames don't."""
        return False

    @property
    def last(self) -> int:
        """Index of the latest frame."""
        return int(self.indices.max())

    @property
    def numbers(self) -> Tensor | None:  # [T] int64
        """Indices that were stated, or None if the frames were only counted."""
        return None if self.counted else self.indices

    @property
    def end(self) -> int:
        """Number of frames of the source video, counted to the last one in use if unknown."""
        return self.total or self.last + 1

    @property
    def last_time_s(self) -> float:
        """Time of the source's last frame in seconds, by the frame rate where it is unknown.

        Without the source's length it is that of the last frame in use.
        """
        if self.end_s is not None:
            return self.end_s
        return (self.total - 1) / self.rate if self.total else float(self.times_s.max())

    def select(self: SomeFrames, part: slice | Tensor) -> SomeFrames:  # [N] int64
        """Return the frames at the given positions only.

        A single counted frame stands for any.
        """
        if self.counted and len(self) == 1:
            return self
        part = part.cpu() if isinstance(part, Tensor) else part
        return replace(self, indices=self.indices[part], times_s=self.times_s[part])

    def for_count(self, count: int) -> Frames:
        """Return these frames or, where they were only counted, ``count`` of them."""
        return Frames.of_count(count) if self.counted and len(self) != count else self

    @property
    def known(self) -> Frames:
        """These frames, which raise an error where nobody says which ones they are.

        Raises:
            EgoXInputError: they were only counted.
        """
        if self.counted:
            raise EgoXInputError(
                "frames",
                got=f"a count of {len(self)}, for poses or maps of each frame of a video",
                expected="the frames of stages.load_clip",
                fix="give 'frames'",
            )
        return self

    def times_of(self, numbers: Tensor) -> Tensor:  # [N] -> [N] float64
        """Compute the times of source frames by number, extrapolated at a constant rate."""
        return self.times_s[0] + (numbers - self.indices[0]) / self.rate

    def end_tolerance(self, clock: Clock) -> float:
        """Return by how much frames may exceed a path's end: half a source frame for rounding.

        Every writer rounds time stamps differently.
        """
        return 1e-9 if clock == "index" else 0.5 / self.rate

    def in_step(self, other: Frames) -> bool:
        """Check whether another video's frames have the same times, each from its first frame."""
        if self.counted or other.counted or len(self) < 2:
            return True
        own_times, other_times = (frames.times_s - frames.times_s[0] for frames in (self, other))
        return float((own_times - other_times).abs().max()) <= 0.5 * float(own_times[-1]) / (
            len(self) - 1
        )

    def moments_on(self, clock: Clock) -> Tensor:  # [T] float64
        """Return the frames' numbers or times by ``clock``."""
        return self.indices.double() if clock == "index" else self.times_s

    def from_zero(self: SomeFrames) -> SomeFrames:
        """Renumber the same moments one after the other from 0."""
        return replace(self, indices=torch.arange(len(self)))

    def of_other_video(self, other: Frames) -> bool:
        """Check whether the frames are of two video files, neither a copy of the other."""
        if self.source is None or other.source is None or self.source == other.source:
            return False
        sizes = [path.stat().st_size for path in (self.source, other.source) if path.is_file()]
        return len(sizes) == 2 and sizes[0] != sizes[1]

    def check_same(self, other: Frames, what: str, *, still: bool = False) -> None:
        """Raise an error if a payload belongs to other moments of the video than these frames.

        The shorter one's count is compared. Counted frames match any others; a path's
        do so if it stands still, or if these begin with the source.

        Args:
            what: names both in the error.
            still: the other payload is the same in all frames.

        Raises:
            EgoXInputError: times that differ by over half a frame.
        """
        count = min(len(self), len(other))
        own_times, other_times = (frames.times_s[:count].cpu() for frames in (self, other))
        tolerance_s = 0.5 * float(own_times.diff().median()) if count > 1 else 0.5 / UNTIMED_FPS
        may_differ = other.counted and (still or abs(float(own_times[0])) <= tolerance_s)
        if (
            self.counted
            or may_differ
            or float((own_times - other_times).abs().max()) <= tolerance_s
        ):
            return
        raise EgoXInputError(
            f"moments of {what}",
            got=f"times from {float(own_times[0]):.3g} s and from {float(other_times[0]):.3g} s",
            expected="both of the same frames",
            fix="give 'frames' of stages.load_clip to stages.align and stages.path",
        )


def _refuse_older(frames: Frames, state: object) -> None:
    """Refuse to unpickle frames of version 1.2 or older, whose fields differ."""
    raise EgoXInputError(
        f"kept {type(frames).__name__}",
        got="one that EgoX 1.2 or older made",
        expected="one of this version",
        fix="empty the cache that kept it, so that it is made again",
    )


setattr(Frames, "__setstate__", _refuse_older)  # noqa: B010  after the dataclass has set its own


def _values_equal(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(((first - second).abs() <= NEAR_S).all())
    return first == second
