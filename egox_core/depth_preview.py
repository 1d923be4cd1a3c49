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
    inverse = np.reciprocal(depth_m.detach().float().cpu().numpy())
    sample = inverse.ravel()[:: max(1, inverse.size // SAMPLE)]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise EgoXInputError("depth", got="no valid pixel", expected="some", fix="check the depth's source")
    low, high = np.quantile(sample, [0.01, 0.99]).astype(np.float32)
    span = max(float(high - low), 1e-6)
    greys = np.arange(256, dtype=np.uint8).reshape(256, 1)
    colours = cv2.applyColorMap(greys, cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1].astype(np.float32) / 255
    pictures = np.empty((*inverse.shape, 3), np.float32)
    for frame, picture in zip(inverse, pictures, strict=True):
        valid = np.isfinite(frame)
        grey = np.clip((np.where(valid, frame, low) - low) * np.float32(255 / span), 0, 255).astype(np.uint8)
        np.take(colours, grey, axis=0, out=picture, mode="clip")
        picture[~valid] = 0
    return torch.from_numpy(pictures)
