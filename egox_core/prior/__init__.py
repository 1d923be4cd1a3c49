"""The ego prior: a scene as the ego camera sees it (paper, section 3.1).

In: a :class:`~egox_core.types.PointCloud`, a :class:`~egox_core.types.CameraTrajectory`, options or a preset's name.
Out: an :class:`~egox_core.types.EgoPrior` (rgb, coverage, z depth per frame); of several exo cameras, which one shows
most of the ego view.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
