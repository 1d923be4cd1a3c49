"""Define what is in use of an exo video: its frames, and their sound."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any

from torch import Tensor

from ..cameras import CameraModel, CameraPath
from ..choices import Resize
from ..frames import Frames
from ..frozen import frozen
from ..remarks import FactRow, Remark
from .kept import is_a

DISPLAY_TURNS = {(False, 1, 1): 0, (True, 1, -1): 1, (False, -1, -1): 2, (True, -1, 1): 3}
"""Clockwise quarter turns by display matrices that don't mirror."""


@frozen
class FrameSelection(Frames):
    """Frames in use of a source video, and the crop and scale of its picture."""

    fps: float  # of the frames in use
    source_size: tuple[int, int]  # (width, height) of the source video, px
    size: tuple[int, int]  # (width, height) of the frames handed on, px
    resize: Resize  # how the aspect difference was taken up
    # (left, top, width, height) px of the source picture: all of it that the container shows
    part: tuple[int, int, int, int] | None = None
    # which part of the file's picture the source picture is, see facts.FACTS["exo.part"]
    exo_part: str = "whole"
    # how the container's display matrix turns the stored picture, see video.tracks.display_turn
    turn: tuple[bool, int, int] = (False, 1, 1)
    facts: tuple[FactRow, ...] = field(default=(), compare=False)  # who said so
    # Not those that a dataclass makes.
    __eq__, __hash__ = Frames.__eq__, Frames.__hash__

    @property
    def is_mirrored(self) -> bool:
        """True if files of the source show it in a mirror, and the frames don't."""
        return self.exo_part == "mirrored"

    @property
    def display_turns(self) -> int | None:
        """Clockwise quarter turns from the stored picture to that shown, None if it is mirrored."""
        return DISPLAY_TURNS.get(self.turn)

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """Part of the source picture that the frames show: (left, top, width, height).

        It reaches outside where they are padded.

        Rounded to whole source pixels, so the two axes may be scaled differently by under one pixel
        in the whole picture; cameras follow that exactly.
        """
        left, top, source_width, source_height = self.part or (0, 0, *self.source_size)
        width, height = self.size
        pick_scale = max if self.resize == "crop" else min
        scale = pick_scale(width / source_width, height / source_height)
        rect_width, rect_height = max(1, round(width / scale)), max(1, round(height / scale))
        return (
            left + (source_width - rect_width) // 2,
            top + (source_height - rect_height) // 2,
            rect_width,
            rect_height,
        )

    @staticmethod
    def of_picture(frames: Frames, size: tuple[int, int]) -> FrameSelection:
        """Return frames that say their picture, or those of a whole picture of ``size``, in px."""
        if is_a(frames, FrameSelection):
            return frames
        return FrameSelection(
            **frames.values, fps=frames.rate, source_size=size, size=size, resize="crop"
        )

    @staticmethod
    def shown_by(frames: Frames, exo: CameraPath, **changes: Any) -> CameraPath:
        """Give an exo camera frames in use, and the part of the source picture that they say.

        ``changes`` are other fields of the camera.
        """
        if is_a(frames, FrameSelection):
            changes["part"] = (frames.source_size, frames.rectangle)
        return replace(exo, frames=frames.without_sizes, **changes)

    def window(self, whole: Any) -> Any:
        """Crop a window on the whole source picture, in px of a map, to what the frames show."""
        left, top, width, height = self.rectangle
        scale_x, scale_y = whole.width / self.source_size[0], whole.height / self.source_size[1]
        return replace(
            whole,
            left=whole.left + left * scale_x,
            top=top * scale_y,
            width=width * scale_x,
            height=height * scale_y,
            size=self.size,
        )

    def shown(self, exo: CameraPath) -> CameraPath:
        """Give an exo camera the frames in use and their part of the source picture."""
        return FrameSelection.shown_by(self, exo)

    def camera(self, source: CameraModel) -> CameraModel:
        """Derive the camera of the cropped and scaled frames from that of the source picture.

        Exact, half-pixel convention.

        Raises:
            EgoXInputError: the camera's picture has another size than the source video.
        """
        source.check_size("exo camera", *self.source_size)
        if self.rectangle == (0, 0, *self.size) == (0, 0, *self.source_size):
            return source
        return source.crop(*self.rectangle).rescale(*self.size)


# After the dataclass has set its own: selections of older versions are refused, as Frames are.
setattr(FrameSelection, "__setstate__", getattr(Frames, "__setstate__"))  # noqa: B009, B010


@frozen
class Sound:
    """Sound of the frames in use: samples of all channels."""

    waveform: Tensor  # [channels, N] float32 -1...1
    sample_rate: int
    notes: tuple[Remark, ...] = ()
