"""Define the ego prior, the picture that a model completes."""

from __future__ import annotations

from torch import Tensor

from ..frozen import frozen
from .depth_video import DepthVideo
from .trajectory import CameraTrajectory


@frozen
class EgoPrior:
    """Ego prior: the exo points as drawn from the ego camera (render(X, D^f, φ) in the paper)."""

    # [T, H, W, 3] float32 0...1, stored (upright) orientation, black where nothing landed
    rgb: Tensor
    coverage: Tensor  # [T, H, W] bool, exactly where a point (or a filled gap) landed
    # [T, H, W] float32, z depth in the ego camera frame, metres; NaN where nothing landed
    depth_m: Tensor
    trajectory: CameraTrajectory
    seen: Tensor | None = None  # [T, H, W] uint8, :data:`.pixel_classes.NOW` and the other classes

    def depth(self) -> DepthVideo:
        """Return the prior's depth as a depth video of the ego camera."""
        return DepthVideo(
            depth_m=self.depth_m, exo=self.trajectory.ego.select(slice(len(self.depth_m)))
        )
