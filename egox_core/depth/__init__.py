"""From any depth of the exo video to metric z depth with a camera.

In: payloads of the host's depth models, depth pictures or files, each as a :class:`DepthSource`; masks of what moves
and of the sky. Out: :class:`~egox_core.types.DepthVideo` of kind ``metric z`` (invalid pixels NaN) and an
:class:`AlignReport`. The affine fit D = 1 / (α / D_video + β) is in ``fit``; a socket is one entry of
``DEPTH_ADAPTERS``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
