"""Define a synthetic scene: its solids, their poses in every frame, the light, and the cameras."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from egox_core.cameras import CameraPath
from egox_core.frozen import frozen

from .solids import Solid


@frozen
class Light:
    """Lamp and surrounding light of a scene."""

    position: Tensor  # [3] metres, world
    strength: Tensor  # [] of the lamp
    ambient: float


@frozen
class Scene:
    """Geometry of a synthetic scene for ray casting, with z up and the floor at z = 0."""

    solids: tuple[Solid, ...]
    world_from_solid: Tensor  # [T, S, 3, 4] float32
    light: Light
    ego: CameraPath
    exos: tuple[CameraPath, ...]  # one, or with ``spec.exo_views`` several

    @property
    def exo(self) -> CameraPath:
        """Camera path of the first exo camera."""
        return self.exos[0]

    @property
    def device(self) -> torch.device:
        """Device on which rays are cast."""
        return self.world_from_solid.device

    def to(self, device: torch.device | str) -> Scene:
        """Copy the scene's solids and lamp to a device."""
        scene_light = self.light
        lamp_tensors = (scene_light.position.to(device), scene_light.strength.to(device))
        return replace(
            self,
            world_from_solid=self.world_from_solid.to(device),
            light=replace(scene_light, position=lamp_tensors[0], strength=lamp_tensors[1]),
        )

    @property
    def frames(self) -> int:
        return self.world_from_solid.shape[0]

    def indices(self, *, moving: bool | None = None, head: bool = True) -> list[int]:
        """List the indices of all or some of the scene's solids.

        ``moving`` None includes static and moving ones, and ``head`` False excludes the
        wearer's head (as for the ego camera)."""
        return [
            i
            for i, solid in enumerate(self.solids)
            if (moving is None or solid.moving == moving) and (head or solid.group != "head")
        ]

    def group_table(self, *groups: str) -> Tensor:  # [S + 1] bool
        """Build a table [S + 1] that marks the solids of the given groups.

        The last entry (index -1, a miss) is False."""
        return torch.tensor([solid.group in groups for solid in self.solids] + [False])
