"""Outlines of a picture: how much of the true ones is there, what was drawn where nothing is, and
those of objects."""

import numpy as np
import torch
from torch import Tensor

from egox_train.metrics.objects import boundary, boundary_f

from .colours import frames_of_objects, ring_of

GREY = torch.tensor((0.299, 0.587, 0.114))
"""Lightness of a picture, BT.601."""
QUIET = 1.5 / 255
"""A place whose true gradient is under this, per px, is quiet."""
OBJECT_TOLERANCE = 0.015
"""Outlines of objects may lie apart by this share of the picture's side."""


def grey_gradient(
    frames: Tensor,  # [..., H, W, 3]
) -> Tensor:  # [2, ..., H - 2, W - 2] along x and y, per px
    """Central differences of the grey picture."""
    grey = (frames * GREY.to(frames)).sum(-1)
    across, down = (
        grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2],
        grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1],
    )
    return torch.stack((across, down)) / 2


def outline_share(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> float | None:
    """The gradient projected on the true one: 1 where all outlines are there at their strength, 0
    where none is.

    Noise and outlines in wrong places add nothing on the mean. None where the truth is flat.
    """
    drawn, true = grey_gradient(generated).double(), grey_gradient(truth).double()
    energy = float(true.square().sum())
    return float((drawn * true).sum()) / energy if energy else None


def quiet_gradient(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> float | None:
    """Mean gradient in levels of 255 per px where the truth's is under 1.5; None where the truth is
    nowhere quiet."""
    quiet = grey_gradient(truth).norm(dim=0) < QUIET
    return (
        float(grey_gradient(generated).norm(dim=0)[quiet].mean()) * 255
        if bool(quiet.any())
        else None
    )


def object_outlines(
    masks: np.ndarray,  # [N, T, H, W] bool, of the true video
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> float | None:
    """F-score of objects' outlines as colours show them, divided by the truth's own; None without
    an object to judge.

    Near the true mask a pixel is the object's where its colour is nearer to the object's true mean
    colour than to that of its surroundings. The outline of those pixels is compared with the
    mask's, at a tolerance of 1.5 % of the side; the sum over object frames is divided by what the
    true picture reaches."""
    pictures, shown = truth.double().cpu().numpy(), generated.double().cpu().numpy()
    height = masks.shape[2]
    radius = max(1, round(OBJECT_TOLERANCE * height))
    scores = []
    for number, frame in frames_of_objects(masks):
        mask = masks[number, frame]
        near, edge = mask | ring_of(mask), boundary(mask)
        if (near == mask).all():
            continue
        own, around = pictures[frame][mask].mean(0), pictures[frame][near & ~mask].mean(0)
        seen = [
            np.linalg.norm(v[frame] - own, axis=-1) < np.linalg.norm(v[frame] - around, axis=-1)
            for v in (shown, pictures)
        ]
        scores.append([boundary_f(edge, boundary(objects & near), radius) for objects in seen])
    found, reached = np.sum(scores, axis=0) if scores else (0.0, 0.0)
    return float(found / reached) if reached else None
