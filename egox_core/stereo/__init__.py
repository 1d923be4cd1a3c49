"""Two eyes: a right eye for an ego video, and both as a headset reads them.

In: an ego video, the :class:`~egox_core.types.PointCloud` and the :class:`~egox_core.types.CameraTrajectory` that its
prior was drawn from. Out: the right eye's video (:mod:`.right_eye`), pictures of both side by side (:mod:`.pictures`)
and an mp4 that says so of itself (:mod:`.boxes`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
