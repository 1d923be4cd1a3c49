"""Structure, sharpness and colour of the true picture that a generated one keeps, whatever its
exact pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from egox_core.metrics.image import check_pair

PATCH = 64  # px a side
FLAT = 1e-4
"""Variance of luma (0...1) under which a square shows nothing that could correlate: 2.5 of 255
levels."""
LUMA = (0.299, 0.587, 0.114)
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def condition_rows(
    generated: Tensor,  # [T, H, W, 3] float 0...1
    truth: Tensor,  # [T, H, W, 3] float 0...1
) -> dict[str, float | None]:
    """The three by their keys in columns.METRICS; None where the true video shows nothing of the
    kind."""
    check_pair(generated, truth)
    ours, true = luma(generated), luma(truth)
    colours = [
        (video.double() - grey[..., None]).norm(dim=-1).mean(dim=(1, 2))
        for video, grey in ((generated, ours), (truth, true))
    ]
    edges = [
        conv2d(grey[:, None], torch.tensor(LAPLACIAN, dtype=grey.dtype)[None, None])
        .flatten(1)
        .var(dim=1)
        for grey in (ours, true)
    ]
    return {
        "patch_zncc": patch_zncc(ours, true),
        "sharpness": _alike(*edges),
        "chroma": _alike(*colours),
    }


def luma(
    frames: Tensor,  # [T, H, W, 3]
) -> Tensor:  # [T, H, W] float64
    """ITU-R BT.601."""
    return frames.double() @ torch.tensor(LUMA, dtype=torch.float64)


def patch_zncc(
    ours: Tensor,  # [T, H, W] luma
    true: Tensor,  # [T, H, W] luma
) -> float | None:
    """Mean correlation over squares of :data:`PATCH` px from the top left on; smaller pictures are
    one. A square that is flat in ``ours`` alone has 0."""
    side = min(PATCH, *true.shape[1:])
    first, second = (
        x.unfold(1, side, side).unfold(2, side, side).flatten(3).flatten(0, 2) for x in (ours, true)
    )
    first, second = (x - x.mean(dim=1, keepdim=True) for x in (first, second))
    own, others = first.square().mean(dim=1), second.square().mean(dim=1)
    shown = others > FLAT
    if not bool(shown.any()):
        return None
    spread = (own * others).sqrt().clamp(min=FLAT)
    return float(((first * second).mean(dim=1) / spread)[shown].mean())


def _alike(
    ours: Tensor,  # [T], 0 or more
    true: Tensor,  # [T]
) -> float | None:
    """Mean of the smaller over the larger, of frames where the true one isn't 0."""
    shown = true > 1e-9
    if not bool(shown.any()):
        return None
    ours, true = ours[shown], true[shown]
    return float((torch.minimum(ours, true) / torch.maximum(ours, true)).mean())
