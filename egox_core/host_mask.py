"""A host MASK (one frame or many, any size) to the frames and pixels of a depth, by clear rules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .depth_fit import ASPECT_TOLERANCE
from .errors import EgoXInputError


def fit_mask(
    mask: Tensor,  # [B, h, w] or [h, w], 0...1
    frames: int,
    height: int,
    width: int,
    name: str,  # "dynamic mask", "sky mask": for messages
) -> Tensor | None:  # [frames, height, width] bool
    """The mask at a depth's frames and size; None for an empty mask.

    - all zero, whatever its size: no mask (the host's loaders give 64x64 zeros where there is none);
    - one frame: it holds for the whole clip; more frames than needed: cut at the end;
    - same aspect (to 0.5 %): resized, a pixel counts from one half on;
    - same height, but wider: centre-cropped, as depth is.

    Raises:
        EgoXInputError: too few frames, another aspect, a mask over everything.
    """
    mask = mask.detach().float().cpu()
    mask = mask[None] if mask.dim() == 2 else mask
    if mask.dim() != 3 or not mask.numel():
        raise EgoXInputError(name, got=f"shape {tuple(mask.shape)}", expected="[frames, height, width]",
                             fix="connect a MASK")
    if not bool((mask >= 0.5).any()):
        return None
    count, h, w = mask.shape
    if count != 1 and count < frames:
        raise EgoXInputError(name, got=f"{count} frames", expected=f"1 or {frames}",
                             fix="make it from the same frames as the exo video, or give one frame for all")
    mask = mask[:frames]
    if h == height and w > width:
        left = (w - width) // 2
        mask = mask[:, :, left:left + width]
    elif (h, w) != (height, width):
        if abs(w / h / (width / height) - 1) > ASPECT_TOLERANCE:
            raise EgoXInputError(name, got=f"{w}x{h}", expected=f"the aspect of {width}x{height} (to 0.5 %)",
                                 fix="make it from the exo video's frames")
        mask = F.interpolate(mask[:, None], size=(height, width), mode="bilinear", align_corners=False,
                             antialias=True)[:, 0]
    chosen = mask >= 0.5
    if bool(chosen.flatten(1).all(1).any()):
        raise EgoXInputError(name, got="a frame that is masked all over", expected="some pixels left",
                             fix="invert the mask, if it marks what is to be kept")
    return chosen if count != 1 else chosen.expand(frames, -1, -1).contiguous()


def mask_share(mask: Tensor | None) -> float:
    """Share of the pixels that are marked, 0...1."""
    return 0.0 if mask is None else float(torch.count_nonzero(mask)) / mask.numel()
