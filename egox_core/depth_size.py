"""A depth of any socket at the exo frames' size, by the rules of ``depth_fit``; its camera follows exactly."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .depth_fit import ASPECT_TOLERANCE, DepthWindow, fit_depth, fit_mask, window_camera
from .errors import EgoXInputError
from .types import DepthVideo


def fit_depth_size(depth: DepthVideo, width: int, height: int, name: str = "depth") -> DepthVideo:
    """The depth, its masks and its camera at ``width`` x ``height``.

    Same height, but wider: centre-cropped. Same aspect (to 0.5 %): resampled; between near and far the nearest sample
    is taken, because a mean of them lies on neither surface.

    Raises:
        EgoXInputError: another aspect.
    """
    have_height, have_width = depth.depth_m.shape[1:]
    if (have_width, have_height) == (width, height):
        return depth
    if have_height == height and have_width > width:
        window = DepthWindow(left=(have_width - width) // 2, top=0, width=width, height=height, size=(width, height))
    elif abs(have_width * height / (have_height * width) - 1) <= ASPECT_TOLERANCE:
        window = DepthWindow(left=0, top=0, width=have_width, height=have_height, size=(width, height))
    else:
        raise EgoXInputError(f"size of the {name}", got=f"{have_width}x{have_height}",
                             expected=f"the aspect of {width}x{height} (to 0.5 %), or the same height and wider",
                             fix="make the depth from the exo video's own frames")

    def each(values: Tensor | None, fit) -> Tensor | None:
        return None if values is None else torch.stack([torch.from_numpy(fit(v.numpy(), window)) for v in values])

    return replace(depth, depth_m=each(depth.depth_m, fit_depth), camera=window_camera(depth.camera, window),
                   dynamic=each(depth.dynamic, fit_mask), sky=each(depth.sky, fit_mask),
                   trust=each(depth.trust, fit_depth))
