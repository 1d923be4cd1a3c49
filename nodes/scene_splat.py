"""Convert a scene to ComfyUI's SPLAT when a node first reads it."""

import torch
from comfy_api.latest import Types

from ..egox_core.scene import scene_gaussians
from ..egox_core.types import PointCloud

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

    def __getattr__(self, name: str) -> torch.Tensor:
        """Compute the Gaussians' tensors when one of them is first read."""
        if name not in FIELDS and name != "counts":
            raise AttributeError(name)
        frames = range(len(self.scene.moving))
        has_motion = any(len(self.scene.moving[frame]) for frame in frames)
        gaussian_sets = [
            scene_gaussians(self.scene, frame) for frame in (frames if has_motion else [0])
        ]
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
