"""Draw metric and video depth of a box room with a known affine relation.

The video depth is made from the exact metric depth by the inverse of the model, D^v = α / (1/D -
β).
"""

import torch
from torch import Tensor

from egox_core.cameras import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import look_at
from egox_core.frozen import frozen
from egox_core.types import DepthVideo
from tests.core.box_room import view_room

# of a pixel's depth: standard deviation of a normal factor, independent from pixel to pixel
NOISE_SIGMA = 0.02
OUTLIER_SHARE = (
    0.2  # of the pixels, drawn uniformly from the depth range of the map that they replace
)
CORNER_POSE = look_at((-2.2, 0.3, -2.2), (1.0, 0.9, 0.5))
CLEAN_BAR, NOISE_BAR, OUTLIER_BAR = (1e-4, 1e-4), (0.02, 0.02), (0.01, 0.04)  # of α and of β


@frozen
class AlignCase:
    """Describe one test case of depth alignment, whose noise is in metric depth, video depth, both
    or none."""

    alpha: float = 1.3
    beta: float = 0.05  # 1/m
    noise_in: str = ""
    outliers_in: str = ""
    drift: float = 0.0  # relative growth of α over the clip

    def errors(
        self,
        alpha: Tensor,  # [T] as applied
        beta: Tensor,  # [T] 1/m
    ) -> tuple[float, float]:
        """Measure the largest relative errors of the estimated scale α and shift β over the
        frames."""
        return float((alpha / self.alpha - 1).abs().max()), float(
            (beta / self.beta - 1).abs().max()
        )

    @property
    def max_errors(self) -> tuple[float, float]:
        """Choose the largest allowed errors of scale α and shift β."""
        return OUTLIER_BAR if self.outliers_in else NOISE_BAR if self.noise_in else CLEAN_BAR


def make_case(
    case: AlignCase, frames: int, height: int, width: int, seed: int = 0
) -> tuple[DepthVideo, DepthVideo]:
    """Draw the metric and the video depth of a test case, whose scale α grows evenly by
    ``drift``."""
    generator = torch.Generator().manual_seed(seed)
    camera = CameraModel.pinhole(width, height, 0.7 * width)
    exact_depth = view_room(camera, CORNER_POSE).depth_m.expand(frames, -1, -1)
    alpha = case.alpha * (1 + case.drift * torch.linspace(0, 1, frames)).reshape(-1, 1, 1)
    depth_maps = {"m": exact_depth.clone(), "v": alpha / (1 / exact_depth - case.beta)}
    value_ranges = {
        name: (float(values.min()), float(values.max())) for name, values in depth_maps.items()
    }
    for name in depth_maps:
        if case.noise_in in (name, "b"):
            depth_maps[name] *= 1 + NOISE_SIGMA * torch.randn(
                exact_depth.shape, generator=generator
            )
    if case.outliers_in:
        outlier_mask = torch.rand(exact_depth.shape, generator=generator) < OUTLIER_SHARE
        name = case.outliers_in
        low, high = value_ranges[name]
        random_depth = low + (high - low) * torch.rand(exact_depth.shape, generator=generator)
        depth_maps[name] = torch.where(outlier_mask, random_depth, depth_maps[name])
    return DepthVideo(depth_m=depth_maps["m"], exo=CameraPath.of_exo(camera)), DepthVideo(
        depth_m=depth_maps["v"], kind="relative z", exo=CameraPath.of_exo(camera)
    )
