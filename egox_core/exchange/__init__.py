"""Camera paths as files of other programs, and as our own: read, told apart, written.

In: a file of COLMAP, Blender, Nuke, TUM, GVHMR or OmniCam, a meta.json, keyframes or our own JSON; or a
path to write. Out: :class:`~egox_core.types.CameraTrajectory`, :class:`ExoPath`, keyframe documents, files.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
