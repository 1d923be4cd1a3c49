"""Geometry-guided attention inside diffusers' Wan transformer: the same bias as at inference, forward and backward.

The bias of one ego latent frame's queries is made, used and dropped again; the backward pass makes it once more. So
neither direction holds the L x L map: at 28,028 tokens one frame's rows take 88 MB instead of 1.1 GB for all ego rows.
Where the map of the whole batch is small (tiny models), it is made once a step and all blocks share it instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import EgoXInputError
from ..train.config import ConditioningConfig
from ..types import GgaGeometry
from .bias import bias_from_cosine, cosine_rows, dense_bias
from .options import GgaOptions

SHARED_BIAS_BYTES = 64 * 2**20
"""A batch's whole bias up to this size (float32) is made once for all blocks: thousands of small kernels a step less.
The released size (3.1 GB a clip) is far above it."""


class GgaScope:
    """Which geometry the forward (and its recomputation in backward) is about; one an instance of the model."""

    def __init__(self) -> None:
        self.geometry: tuple[GgaGeometry, ...] = ()
        self.options = GgaOptions(mode="off")
        self._shared: Tensor | None = None

    @contextmanager
    def active(self, geometry: Sequence[GgaGeometry | None], conditioning: ConditioningConfig) -> Iterator[None]:
        """Set for one forward. Left set until the next one, because checkpointed blocks run again in backward.

        Raises:
            EgoXInputError: geometry for some clips of the batch only.
        """
        options = gga_options(conditioning)
        known = tuple(g for g in geometry if g is not None)
        if options.biases and known and len(known) != len(geometry):
            raise EgoXInputError("GGA geometry of the batch", got=f"{len(known)} of {len(geometry)} clips have one",
                                 expected="all or none", fix="cache all clips with the same settings")
        self.geometry = known if options.biases else ()
        self.options = options
        self._shared = None
        yield

    def shared_bias(self, dtype: torch.dtype) -> Tensor | None:  # [B, 1, N, N], rows of exo queries 0
        """The whole batch's bias where it is small, the same tensor for every block; None where it isn't."""
        size = sum(4 * g.tokens**2 for g in self.geometry)
        if not self.geometry or size > SHARED_BIAS_BYTES or len({g.grid for g in self.geometry}) > 1:
            return None
        if self._shared is None or self._shared.dtype != dtype:
            self._shared = torch.stack([dense_bias(g, self.options) for g in self.geometry])[:, None].to(dtype)
        return self._shared


def gga_options(conditioning: ConditioningConfig) -> GgaOptions:
    """The nodes' options with the same meaning, and like them without the trust mask, which the released code lacks."""
    return GgaOptions(mode=conditioning.gga_mode, lambda_g=conditioning.lambda_g)


class GgaAttnProcessor(WanAttnProcessor):
    """Self-attention with the bias of ``scope``; without one, diffusers' own path bit for bit."""

    def __init__(self, scope: GgaScope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
                 attention_mask: Tensor | None = None, rotary_emb=None) -> Tensor:
        if encoder_hidden_states is not None or not self.scope.geometry:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1))
        query, key = rotate(query, rotary_emb), rotate(key, rotary_emb)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # [B, heads, N, d]
        bias = self.scope.shared_bias(query.dtype)
        if bias is not None:
            _check_tokens(query, self.scope.geometry[0])
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            out = torch.cat([
                biased_attention(query[b : b + 1], key[b : b + 1], value[b : b + 1], geometry, self.scope.options)
                for b, geometry in enumerate(self.scope.geometry)])
        out = out.transpose(1, 2).flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](out))


def biased_attention(
    query: Tensor,  # [1, heads, N, d] after norm and rotary
    key: Tensor,  # [1, heads, N, d]
    value: Tensor,  # [1, heads, N, d]
    geometry: GgaGeometry,
    options: GgaOptions,
) -> Tensor:  # [1, heads, N, d]
    """Exo queries unbiased over all keys, ego queries of one latent frame at a time with their bias (quirks 15).

    Raises:
        EgoXInputError: geometry made for another number of tokens.
    """
    _check_tokens(query, geometry)
    t, h, w_exo, w_ego = geometry.grid
    by_frame = query.unflatten(2, (t, h, w_exo + w_ego))
    exo = by_frame[..., :w_exo, :].flatten(2, 4)
    exo_out = F.scaled_dot_product_attention(exo, key, value).unflatten(2, (t, h, w_exo))
    ego_out = []
    for frame in range(t):
        ego = by_frame[:, :, frame, :, w_exo:].flatten(2, 3)
        ego_out.append(_recomputed(ego, key, value, geometry, frame, options).unflatten(2, (h, w_ego)))
    return torch.cat((exo_out, torch.stack(ego_out, dim=2)), dim=4).flatten(2, 4)


def _check_tokens(query: Tensor, geometry: GgaGeometry) -> None:
    if query.shape[2] != geometry.tokens:
        raise EgoXInputError("GGA geometry", got=f"{geometry.tokens} tokens", expected=f"{query.shape[2]} tokens",
                             fix="cache the clips at the size that is trained")


def _recomputed(query, key, value, geometry, frame, options) -> Tensor:
    """Drops the bias after forward and makes it again in backward (it needs no gradient)."""
    if not torch.is_grad_enabled():
        return _frame_attention(query, key, value, geometry, frame, options)
    return checkpoint(_frame_attention, query, key, value, geometry, frame, options, use_reentrant=False,
                      preserve_rng_state=False)


def _frame_attention(query, key, value, geometry, frame, options) -> Tensor:
    trust = geometry.key_trust if options.soft_trust else None
    bias = bias_from_cosine(cosine_rows(geometry, frame), geometry.key_trust > 0, options, trust)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))  # [h * w_ego, N]


def rotate(x: Tensor, rotary_emb: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding of neighbouring pairs of channels; ``x`` [B, N, heads, d], angles as diffusers' rope gives."""
    cos, sin = rotary_emb[0][..., 0::2], rotary_emb[1][..., 1::2]
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


def install_gga(model: nn.Module) -> GgaScope:
    """Gives every self-attention of diffusers' Wan transformer the processor; returns the scope that steers them."""
    scope = GgaScope()
    for block in model.blocks:
        block.attn1.set_processor(GgaAttnProcessor(scope))
    return scope
