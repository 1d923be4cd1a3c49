"""Frames of video files, and the choice of frames that depth and poses follow.

In: a file (or frames in memory) and how many frames to take from where, at which rate and size.
Out: :class:`VideoInfo`, :class:`~egox_core.types.FrameSelection`, frames [T,
H, W, 3] uint8, their sound; pictures redrawn for another lens; several videos in one, each under
its name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
