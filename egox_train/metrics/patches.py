"""Measure how similar the structure of two pictures is, regardless of brightness and contrast."""

import torch
from torch import Tensor

from egox_core.metrics import check_pair

PATCH_SIDE_PX = 64  # px per side
# Variance of luma (0...1) under which a square shows nothing that could correlate: 2.5 of 255
# levels.
LEAST_VARIANCE = 1e-4
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def patch_zncc(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> float | None:
    """Average the correlation of brightness between two videos over square patches.

    A smaller picture is one square.

    A square that is flat in ``generated`` alone has 0; None where the truth shows nothing."""
    check_pair(generated, truth)
    weights = torch.tensor(LUMA, dtype=torch.float64)
    patch_side = min(PATCH_SIDE_PX, *truth.shape[1:3])
    first_patches, second_patches = (
        (x.double() @ weights)
        .unfold(1, patch_side, patch_side)
        .unfold(2, patch_side, patch_side)
        .flatten(3)
        .flatten(0, 2)
        for x in (generated, truth)
    )
    first_patches, second_patches = (
        x - x.mean(dim=1, keepdim=True) for x in (first_patches, second_patches)
    )
    generated_variance, truth_variance = (
        first_patches.square().mean(dim=1),
        second_patches.square().mean(dim=1),
    )
    has_texture = truth_variance > LEAST_VARIANCE
    if not bool(has_texture.any()):
        return None
    deviation_product = (generated_variance * truth_variance).sqrt().clamp(min=LEAST_VARIANCE)
    return float(
        ((first_patches * second_patches).mean(dim=1) / deviation_product)[has_texture].mean()
    )
