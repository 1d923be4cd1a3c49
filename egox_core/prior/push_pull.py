"""Fill the holes of a picture from coarser and coarser averages of what is known."""

import cv2
import numpy as np
import torch
from torch import Tensor

ENOUGH = 0.25
"""Known share of a coarser pixel from which it is as good as known: one of four."""


def push_pull(
    picture: Tensor,  # [H, W, C] float, up to 3 channels
    holes: Tensor,  # [H, W] bool
    weights: Tensor | None = None,  # [H, W] above 0: how much a known pixel counts, None: alike
) -> Tensor:  # [H, W, C] float32
    """Fill the holes of a picture smoothly. All other pixels stay as they are.

    Gortler et al., "The Lumigraph" (1996). A picture without any other pixel becomes 0.
    """
    picture = picture.float()
    if not holes.any():
        return picture
    known = (~holes).float()
    pixel_weights = known if weights is None else known * weights.float()
    weighted = torch.cat((picture * pixel_weights[..., None], pixel_weights[..., None]), -1)
    filled = torch.from_numpy(_complete(weighted.numpy(), known.numpy()))
    colours = filled[..., :-1] / filled[..., -1:].clamp_min(torch.finfo(torch.float32).tiny)
    return torch.where(holes[..., None], colours, picture)


def _complete(
    values: np.ndarray,  # [H, W, C] float32, 0 where nothing is known
    known: np.ndarray,  # [H, W] float32 0...1
) -> np.ndarray:  # [H, W, C]
    """Complete values, which are multiplied by how far they are known."""
    height, width = known.shape
    if height == width == 1:
        return values
    half_size = max(1, width // 2), max(1, height // 2)
    coarse_values, coarse_known = (
        cv2.resize(plane, half_size, interpolation=cv2.INTER_AREA).reshape(*half_size[::-1], -1)
        for plane in (values, known)
    )
    gain = 1 / np.maximum(coarse_known, ENOUGH)
    coarse = _complete(coarse_values * gain, (coarse_known * gain)[..., 0])
    around = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return values + (1 - known)[..., None] * around.reshape(values.shape)
