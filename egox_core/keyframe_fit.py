"""A path of many poses as few keyframes: as many as it takes to stay close to every pose."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from .poses import camera_centre
from .trajectory import interpolate_poses

MAX_KEYFRAMES = 200
"""Beyond that nobody edits keyframes by hand, and fitting takes long: every pose becomes one."""


def fit_keyframes(w2c: Tensor, moments: Tensor, tolerance_m: float = 0.005, tolerance_deg: float = 0.5) -> list[int]:
    """Which poses to keep so that the smooth path through them passes all others within the tolerances.

    Greedy: the pose that is missed by most is added until none is missed.

    Args:
        w2c: [T, 3, 4] at ``moments`` [T], rising.

    Returns:
        Rising indices into the poses; the first and the last are always among them.
    """
    count = len(w2c)
    if count < 3:
        return list(range(count))
    w2c, moments = w2c.double(), moments.double()
    centres = camera_centre(w2c)
    chosen = [0, count - 1]
    while len(chosen) < min(count, MAX_KEYFRAMES):
        fitted = interpolate_poses(w2c[chosen], moments[chosen], moments)
        apart = (camera_centre(fitted) - centres).norm(dim=-1).numpy() / tolerance_m
        turned = (fitted[:, :, :3] @ w2c[:, :, :3].transpose(-1, -2)).numpy()
        missed = np.maximum(apart, np.degrees(Rotation.from_matrix(turned).magnitude()) / tolerance_deg)
        missed[chosen] = 0
        if missed.max() <= 1:
            return chosen
        chosen = sorted([*chosen, int(missed.argmax())])
    return chosen if len(chosen) == count else list(range(count))


def fitted_error(w2c: Tensor, moments: Tensor, chosen: list[int]) -> tuple[float, float]:
    """(metres, degrees): how far the smooth path through the chosen poses is from the others at most."""
    fitted = interpolate_poses(w2c.double()[chosen], moments.double()[chosen], moments.double())
    turned = torch.matmul(fitted[:, :, :3], w2c[:, :, :3].double().transpose(-1, -2)).numpy()
    apart = (camera_centre(fitted) - camera_centre(w2c.double())).norm(dim=-1)
    return float(apart.max()), float(np.degrees(Rotation.from_matrix(turned).magnitude()).max())
