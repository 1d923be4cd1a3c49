"""Depth as a picture in colour: near is warm, far is cold, invalid is black."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .errors import EgoXInputError

SAMPLE = 200_000


def depth_preview(depth_m: Tensor) -> Tensor:  # [T, H, W] metres, NaN invalid -> [T, H, W, 3] float32 0...1
    """Inverse depth through a colour map, scaled by the whole clip's 1 and 99 % quantiles so that it can't flicker.

    Raises:
        EgoXInputError: no valid pixel.
    """
    inverse = 1 / depth_m.detach().float().cpu()
    sample = inverse.flatten()[:: max(1, inverse.numel() // SAMPLE)]
    sample = sample[torch.isfinite(sample)].numpy()
    if not sample.size:
        raise EgoXInputError("depth", got="no valid pixel", expected="some", fix="check the depth's source")
    low, high = np.quantile(sample, [0.01, 0.99])
    span = max(float(high - low), 1e-6)
    frames = []
    for frame in inverse.numpy():
        valid = np.isfinite(frame)
        grey = np.clip((np.where(valid, frame, low) - low) / span, 0, 1)
        picture = cv2.applyColorMap((grey * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        frames.append(np.where(valid[..., None], picture, 0).astype(np.uint8))
    return torch.from_numpy(np.stack(frames)).float() / 255
