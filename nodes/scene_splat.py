"""Convert a scene to ComfyUI's SPLAT when a node first reads it."""

import torch
from comfy_api.latest import Types

from ..egox_core.prior import PriorOptions, iter_ego_gaussians
from ..egox_core.scene import Gaussians, scene_gaussians
from ..egox_core.types import CameraTrajectory, PointCloud

FIELDS = {
    "positions": "positions",
    "scales": "scales",
    "rotations": "rotations",
    "opacities": "opacities",
    "sh": "harmonics",
}
"""Tensors of a SPLAT, and the fields of Gaussians that they come from."""


class SceneSplat(Types.SPLAT):
    """Store a scene as Gaussians for ComfyUI, one set per frame."""

    def __init__(self, scene: PointCloud) -> None:
        self.scene = scene

    def gaussian_sets(self) -> list[Gaussians]:
        """Compute the Gaussians of each frame, or of one frame if nothing moves."""
        frames = range(len(self.scene.moving))
        has_motion = any(len(self.scene.moving[frame]) for frame in frames)
        return [scene_gaussians(self.scene, frame) for frame in (frames if has_motion else [0])]

    def __getattr__(self, name: str) -> torch.Tensor:
        """Compute the Gaussians' tensors when one of them is first read."""
        if name not in FIELDS and name != "counts":
            raise AttributeError(name)
        gaussian_sets = self.gaussian_sets()
        padded = {
            field: torch.nn.utils.rnn.pad_sequence(
                [getattr(gaussian_set, source) for gaussian_set in gaussian_sets], batch_first=True
            )
            for field, source in FIELDS.items()
        }
        super().__init__(
            **padded, counts=torch.tensor([len(gaussian_set) for gaussian_set in gaussian_sets])
        )
        return self.__dict__[name]


class EgoSplat(SceneSplat):
    """Store what the ego camera sees as Gaussians for ComfyUI, one set per frame."""

    def __init__(
        self, scene: PointCloud, trajectory: CameraTrajectory, options: PriorOptions
    ) -> None:
        super().__init__(scene)
        self.trajectory = trajectory
        self.options = options

    def gaussian_sets(self) -> list[Gaussians]:
        """Compute the Gaussians that the ego camera sees in each frame."""
        return list(iter_ego_gaussians(self.scene, self.trajectory, self.options))
