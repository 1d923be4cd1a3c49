"""Compute the geometric attention bias as a full matrix, as the reference for faster kernels.

:func:`bias_from_cosine` is the definition; :mod:`.rows` computes the same in place and faster. The
dense forms, [tokens, tokens], are for tests and small sizes only (3.1 GB at the released size).
Golden: ``gga_bias``, ``tiny_transformer``."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..types import GgaGeometry
from .options import GgaOptions

LOG_FLOOR = 1e-6
"""Added to 1 + cos before the logarithm (quirks 14); added after the 1, because float32 has no
1.000001."""


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Disable autocast on a device, so that matrix products keep their own dtype."""
    # Asked first: torch raises for devices that have no autocast.
    is_enabled = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(
        device.type
    )
    return torch.autocast(device.type, enabled=False) if is_enabled else nullcontext()


def keeps_graph(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Check whether autograd records an attention call, because gradients will be computed."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))


def direction_cosines(geometry: GgaGeometry, query_frame: int) -> Tensor:  # -> [h * w_ego, tokens]
    """Compute the cosine between each ego query's direction in one latent frame and each key's
    direction.

    Ego keys get 0.
    """
    with without_autocast(geometry.key_dirs.device):
        return geometry.query_dirs[query_frame] @ geometry.key_dirs[query_frame].T


def bias_from_cosine(
    cos: Tensor,  # [..., tokens]
    has_geometry: Tensor,  # [tokens] bool: exo keys with depth
    options: GgaOptions,
    trust: Tensor | None = None,  # [tokens] 0...1
) -> Tensor:  # [..., tokens]
    """Compute the bias that is added to q.k / sqrt(d), from the cosines of queries and keys.

    Quirks 12 to 14 for ``released``; Eq. 4 and 5 for ``paper``.
    """
    cos = cos.clamp(-1, 1)
    lambda_g = options.lambda_g
    if options.mode == "released":
        cos = torch.where(cos > 0, cos * lambda_g, cos) if lambda_g > 1 else cos * lambda_g
    bias = torch.log((cos + 1) + LOG_FLOOR)
    if options.mode == "paper":
        # The paper compares directions to points; keys without a point (ego ones) keep weight 1.
        bias = torch.where(has_geometry, bias + math.log(lambda_g), bias)
    elif options.mode == "power":
        bias = bias * lambda_g
    return bias if trust is None else torch.where(has_geometry, bias * trust, bias)


def dense_bias(
    geometry: GgaGeometry,
    options: GgaOptions,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # [tokens, tokens]
    """Compute the bias of every query against every key, with 0 for exo queries."""
    t, h, w_exo, w_ego = geometry.grid
    bias = torch.zeros(
        t, h, w_exo + w_ego, geometry.tokens, dtype=dtype, device=geometry.key_dirs.device
    )
    if options.biases:
        trust = geometry.key_trust.to(dtype) if options.soft_trust else None
        for frame in range(t):
            frame_bias = bias_from_cosine(
                direction_cosines(geometry, frame).to(dtype), geometry.key_trust > 0, options, trust
            )
            bias[frame, :, w_exo:] = frame_bias.view(h, w_ego, -1)
    return bias.flatten(0, 2)


def reference_attention(
    q: Tensor,  # [B, tokens, heads * d]
    k: Tensor,  # [B, tokens, heads * d]
    v: Tensor,  # [B, tokens, heads * d]
    heads: int,
    geometry: GgaGeometry,
    options: GgaOptions,
) -> Tensor:  # [B, tokens, heads * d]
    """Compute softmax(q.k / sqrt(d) + bias) v with the dense bias, in the dtype of q."""
    q4, k4, v4 = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q4 @ k4.transpose(-1, -2) / math.sqrt(q4.shape[-1])
    scores += dense_bias(geometry, options, dtype=scores.dtype)
    return (scores.softmax(-1) @ v4).transpose(1, 2).flatten(2)
