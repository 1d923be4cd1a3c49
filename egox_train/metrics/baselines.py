"""Make baseline videos without any model, to compare with generated ego videos."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.video import resize_picture

TELEA_RADIUS_PX = 3.0
PRIOR_SHARE = 0.6
"""Share of the prior that "shrink" keeps; the rest is exo's mean colour."""

Baseline = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(exo [T, h, w, 3], prior [T, H, W, 3], coverage [T, H, W] bool), pictures float 0...1 -> [T, H,
W, 3] float 0...1."""


def prior_alone(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Use the ego prior as the baseline video, with its holes in black."""
    return prior * coverage[..., None]


def prior_telea(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Fill the holes of the ego prior by Telea inpainting, frame by frame.

    Telea, "An image inpainting technique based on the fast marching method" (2004), as OpenCV has
    it."""
    pictures = (prior * 255).round().to(torch.uint8).cpu().numpy()
    frames = [
        cv2.inpaint(picture, (~covered_mask).astype(np.uint8), TELEA_RADIUS_PX, cv2.INPAINT_TELEA)
        if covered_mask.any()
        else np.zeros_like(picture)
        for picture, covered_mask in zip(pictures, coverage.cpu().numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(frames)).float() / 255


def exo_resized(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Resize the exo video to the ego video's size, without keeping its proportions."""
    height, width = prior.shape[1:3]
    return torch.from_numpy(
        np.stack([resize_picture(f, width, height) for f in exo.float().cpu().numpy()])
    ).clamp(0, 1)


def exo_mean_colour(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Fill a video with the mean colour of the exo video, as a baseline."""
    return exo.float().mean(dim=(0, 1, 2)).expand_as(prior).contiguous()


def shrink(
    exo: Tensor,  # [T, h, w, 3] float 0...1
    prior: Tensor,  # [T, H, W, 3] float 0...1
    coverage: Tensor,  # [T, H, W] bool
) -> Tensor:  # [T, H, W, 3] float 0...1
    """Blend the ego prior with the exo video's mean colour, as a baseline video."""
    mean = exo_mean_colour(exo, prior, coverage)
    return torch.where(coverage[..., None], PRIOR_SHARE * prior + (1 - PRIOR_SHARE) * mean, mean)


BASELINES: Mapping[str, Baseline] = {
    "prior": prior_alone,
    "prior + Telea": prior_telea,
    "exo resized": exo_resized,
    "exo mean colour": exo_mean_colour,
    "shrink": shrink,
}
