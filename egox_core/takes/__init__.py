"""Recordings on disk: frames, depth, exo camera, ego path.

In: a depth or meta.json file, and the frames in use. Out:
:class:`~egox_core.types.DepthVideo`, :class:`~egox_core.types.TakeMeta`, all for those frames. Files
of bad content are refused with :class:`~egox_core.errors.EgoXInputError`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
