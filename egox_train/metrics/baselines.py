"""Baselines without any model: each a video of the ego size, to compare the generated one with."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.video import resize_picture

TELEA_RADIUS_PX = 3.0
SHRINK = 0.6
"""Share of the prior that "shrink" keeps; the rest is exo's mean colour."""

Baseline = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(exo [T, h, w, 3], prior [T, H, W, 3], coverage [T, H, W] bool), pictures float 0...1 -> [T, H,
W, 3] float 0...1."""


def prior_alone(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Take the prior as it is, with black holes."""
    return prior * coverage[..., None]


def prior_telea(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Fill the prior's holes frame by frame by inpainting, where a frame without coverage stays
    black.

    Telea, "An image inpainting technique based on the fast marching method" (2004), as OpenCV has
    it."""
    pictures = (prior * 255).round().to(torch.uint8).cpu().numpy()
    frames = [
        cv2.inpaint(picture, (~covered).astype(np.uint8), TELEA_RADIUS_PX, cv2.INPAINT_TELEA)
        if covered.any()
        else np.zeros_like(picture)
        for picture, covered in zip(pictures, coverage.cpu().numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(frames)).float() / 255


def exo_resized(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Squeeze the exo picture to the ego size."""
    height, width = prior.shape[1:3]
    return torch.from_numpy(
        np.stack([resize_picture(f, width, height) for f in exo.float().cpu().numpy()])
    ).clamp(0, 1)


def exo_mean_colour(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Paint every pixel in the mean colour of the whole exo clip."""
    return exo.float().mean(dim=(0, 1, 2)).expand_as(prior).contiguous()


def shrink(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Mix 0.6 prior + 0.4 exo mean colour where covered, and use the exo mean colour in the holes."""
    mean = exo_mean_colour(exo, prior, coverage)
    return torch.where(coverage[..., None], SHRINK * prior + (1 - SHRINK) * mean, mean)


BASELINES: Mapping[str, Baseline] = {
    "prior": prior_alone,
    "prior + Telea": prior_telea,
    "exo resized": exo_resized,
    "exo mean colour": exo_mean_colour,
    "shrink": shrink,
}
