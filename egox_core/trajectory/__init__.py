"""SE(3) poses and paths: validated, composed, interpolated, set by hand or estimated from a head's points. No files.

In: ``w2c`` [3, 4] or [T, 3, 4] (X_cam = R X_world + t, metres), moments in frames or seconds, keyframe documents,
keypoints of detectors. Out: :class:`PoseTrack` (poses at known moments), poses at other moments, :class:`HeadPath`,
:class:`~egox_core.types.CameraTrajectory`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
