"""Give drawn videos the look of a model's outputs."""

import cv2
import numpy as np
import torch
from torch import Tensor


def with_look(video: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Give a video the tint, vignette and blur of a model, and 10 % of another room."""
    side = video.shape[1]
    down, right = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    invented_mask = np.zeros((side, side), np.float32)
    while invented_mask.mean() < 0.1:
        centre, radius = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.1, 0.25)
        invented_mask[np.hypot(right - centre[0], down - centre[1]) < radius] = 1
    share = cv2.GaussianBlur(invented_mask, (0, 0), 3.0)[..., None]
    gains = np.array([1.02, 1.05, 1.12]) * rng.uniform(0.95, 1.05, 3)
    vignette = 1 - 0.35 * np.clip(np.hypot(right, down), 0, 1)[..., None] ** 2
    mixed = video.numpy() * (1 - share) + other.numpy() * share
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in mixed])
    looked = soft * gains * vignette + np.array([0.0, 0.02, 0.06])
    return torch.from_numpy(looked.clip(0, 1)).float()
