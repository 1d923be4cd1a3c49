"""Draw a quick small picture of one ego pose, for the pose editor while the camera is moved.

Drawn like the released prior (fading discs), with fewer layers. Points are thinned once and stored
in random order, so that the first N of them thin the whole evenly. Those that the released renderer
takes come first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import CameraPath
from ..frozen import frozen
from ..sizes import REFERENCE_SIZE
from ..types import PointCloud, PointSet
from .drawing import draw_points
from .options import RELEASED
from .sight_lines import SightLines

MAX_POINTS = 300_000
"""A picture of that many takes 87 ms on 2 cores (median in ``benchmarks/results/editor.json``)."""
PREVIEW_SIZE = REFERENCE_SIZE // 2
"""Side of the picture, px."""
LAYERS = 6
"""Layers, of the released preset's 20: six discs let through so little light that the rest hardly
shows."""


@frozen
class CoarsePoints:
    """Points with colours in random order, those of the released renderer first."""

    xyz: Tensor  # [N, 3] float32, metres, scene frame
    rgb: Tensor  # [N, 3] uint8
    released: int  # how many at the front are those that the released renderer takes

    def __len__(self) -> int:
        return self.xyz.shape[0]

    def first(self, count: int) -> CoarsePoints:
        """Select the first ``count`` points."""
        return CoarsePoints(
            xyz=self.xyz[:count], rgb=self.rgb[:count], released=min(self.released, count)
        )

    def packed(self) -> bytes:
        """Pack all points into bytes: xyz as little-endian float32, then rgb as uint8."""
        return self.xyz.numpy().astype("<f4", copy=False).tobytes() + self.rgb.numpy().tobytes()

    @classmethod
    def of(cls, points: PointSet, most: int = MAX_POINTS) -> CoarsePoints:
        """Select at most ``most`` points of a set, evenly, for quick drawing.

        Those that the released preset leaves out as edges are left out.
        """
        keep_mask = points.depth_range <= RELEASED.max_range
        indices = keep_mask.nonzero()[:, 0]
        # The same order in every run: a picture then doesn't flicker from one scene to the same
        # scene.
        indices = indices[torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))]
        is_coarse = points.coarse[indices]
        indices = torch.cat((indices[is_coarse], indices[~is_coarse]))[:most]
        return cls(
            xyz=points.xyz[indices].float().contiguous(),
            rgb=points.rgb[indices].contiguous(),
            released=min(int(is_coarse.sum()), most),
        )

    def joined(self, other: CoarsePoints) -> CoarsePoints:
        """Append the points of another set."""
        released = self.released + (other.released if self.released == len(self) else 0)
        return CoarsePoints(
            xyz=torch.cat((self.xyz, other.xyz)),
            rgb=torch.cat((self.rgb, other.rgb)),
            released=released,
        )

    @torch.inference_mode()
    def picture(
        self,
        # The ego camera in one frame, in the scene's world.
        ego: CameraPath,
        size: int = PREVIEW_SIZE,
        # The points' scene, and the frame of its moving points.
        of: tuple[PointCloud, int] | None = None,
    ) -> tuple[Tensor, float, Tensor | None]:
        """Draw the points as the ego camera sees them.

        Returns:
            image [size, size, 3], uint8; the share of it that is covered; [size, size] uint8
            classes of its pixels if their scene is given.

        Raises:
            EgoXInputError: see :class:`.sight_lines.SightLines`.
        """
        ego = ego.resized(size, size)
        splat_options = replace(RELEASED.splat, points_per_pixel=LAYERS)
        # Discs need no more of a point than its place and colour.
        points = replace(PointSet.empty(), xyz=self.xyz, rgb=self.rgb)
        image = draw_points(points, ego, replace(RELEASED, splat=splat_options))
        seen_classes = None
        if of is not None:
            scene, frame = of
            seen_classes = SightLines(scene, ego, splat_options).classes(image, frame)
        picture = (image.rgb * 255).round().to(torch.uint8)
        return picture, float(image.coverage.float().mean()), seen_classes
