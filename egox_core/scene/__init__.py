"""Scenes: points in space from an exo video and its depth. Needs no ego pose.

In: exo frames [T, H, W, 3] and a :class:`~egox_core.types.DepthVideo` of metric z depth. Out: a
:class:`~egox_core.types.PointCloud`, static points and moving points per frame; several of them fused into one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
