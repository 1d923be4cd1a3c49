"""A depth at the exo frames' size, by the rules for different depth and video sizes; its camera follows exactly."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .cameras import crop, rescale
from .errors import EgoXInputError
from .types import DepthVideo

ASPECT_TOLERANCE = 0.005


def fit_depth_size(depth: DepthVideo, width: int, height: int, name: str = "depth") -> DepthVideo:
    """The depth, its masks and its camera at ``width`` x ``height``.

    - same height, but wider (the Ego-Exo4D takes: 796 against 784): centre-cropped, as the released code does;
    - same aspect (to 0.5 %): resampled by nearest pixel, because a mean of near and far lies on neither surface.

    Raises:
        EgoXInputError: another aspect.
    """
    have_height, have_width = depth.depth_m.shape[1:]
    if (have_width, have_height) == (width, height):
        return depth
    if have_height == height and have_width > width:
        left = (have_width - width) // 2
        return _changed(depth, lambda values: values[:, :, left:left + width].contiguous(),
                        crop(depth.camera, left, 0, width, height))
    if abs(have_width / have_height / (width / height) - 1) > ASPECT_TOLERANCE:
        raise EgoXInputError(f"size of the {name}", got=f"{have_width}x{have_height}",
                             expected=f"the aspect of {width}x{height} (to 0.5 %), or the same height and wider",
                             fix="make the depth from the exo video's own frames")
    rows = _nearest(have_height, height)
    columns = _nearest(have_width, width)
    return _changed(depth, lambda values: values[:, rows][:, :, columns], rescale(depth.camera, width, height))


def _nearest(source: int, target: int) -> Tensor:
    return ((torch.arange(target, dtype=torch.float64) + 0.5) * source / target).long().clamp_max(source - 1)


def _changed(depth: DepthVideo, change, camera) -> DepthVideo:
    def apply(values: Tensor | None) -> Tensor | None:
        return None if values is None else change(values)

    return replace(depth, depth_m=change(depth.depth_m), camera=camera, dynamic=apply(depth.dynamic),
                   sky=apply(depth.sky), trust=apply(depth.trust))
