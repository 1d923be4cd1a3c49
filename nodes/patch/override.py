"""Puts geometry into the transformer's self-attention, through the host's attention override."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    from comfy.model_prefetch import pause_malloc_graph
except ImportError:  # hosts before 0.35
    from contextlib import nullcontext as pause_malloc_graph

from ...egox_core.gga.attention import gga_attention
from ...egox_core.gga.options import GgaOptions
from ...egox_core.types import GgaGeometry
from .calls import PatchCalls

OVERRIDE = "optimized_attention_override"
PLACED_BYTES = 64 * 2**20
"""Directions kept on the devices that the model runs on, those of context windows too. The host's default windows over
241 frames at the released size are four of 12 MiB; more are selected anew, which is a copy. So is, at each call, a
whole clip beyond that (about 200 frames at once)."""


class GeometryGuidance:
    """What guides the attention of one patched model.

    The clip's directions stay where they were made; what a call needs is copied to its device, in float32, which the
    logarithm needs. The wrapper that holds this tells where the model went.
    """

    def __init__(self, geometry: GgaGeometry, options: GgaOptions, backend: str) -> None:
        self.geometry = geometry
        self.options = options
        self.backend = backend
        self._placed: dict[tuple, GgaGeometry] = {}

    def model_moved(self) -> None:
        """The model left its device: nothing of ours stays there."""
        self._placed.clear()

    def override(
        self,
        x: Tensor,  # [B, 36, t, h, w_ego] what the transformer is called with, for its device
        transformer_options: dict[str, Any],
        context: Tensor,  # [B, text tokens, text_dim]
        clip_fea: Tensor | None,  # [B, picture tokens, image_dim]
        frames: list[int] | None,  # latent frames of the context window; None: all
        calls: PatchCalls,
    ) -> AttentionOverride:
        """The override for this forward."""
        others = {context.shape[1]} if clip_fea is None else {context.shape[1], clip_fea.shape[-2]}
        return AttentionOverride(self._for_call(x.device, frames), self.options, self.backend,
                                 transformer_options.get(OVERRIDE), others, calls)

    def _for_call(self, device: torch.device, frames: list[int] | None) -> GgaGeometry:
        """The directions of these frames on this device (a model spread over GPUs calls on several).

        The ones used last are kept, up to PLACED_BYTES.
        """
        if frames is None and device == self.geometry.key_dirs.device:
            return self.geometry
        key = (device, None if frames is None else tuple(frames))
        placed = self._placed.pop(key, None)
        if placed is None:
            # Kept from call to call, so it may not lie in memory that a compiling host takes back after the forward.
            with pause_malloc_graph():
                geometry = self.geometry if frames is None else self.geometry.select_frames(frames)
                placed = geometry.to(device)
        while self._placed and self.placed_bytes + geometry_bytes(placed) > PLACED_BYTES:
            del self._placed[next(iter(self._placed))]  # a dict is in order of insertion: the one unused for longest
        if geometry_bytes(placed) <= PLACED_BYTES:
            self._placed[key] = placed
        return placed

    @property
    def placed_bytes(self) -> int:
        """Memory of the directions that are kept where the model runs."""
        return sum(geometry_bytes(placed) for placed in self._placed.values())


def geometry_bytes(geometry: GgaGeometry) -> int:
    """Memory of the directions."""
    return sum(x.numel() * x.element_size() for x in (geometry.query_dirs, geometry.key_dirs, geometry.key_trust))


class AttentionOverride:
    """Biases self-attention; all other calls, and the exo queries, go the way they went before."""

    def __init__(self, geometry: GgaGeometry, options: GgaOptions, backend: str, previous: Callable | None,
                 cross_lengths: set[int], calls: PatchCalls) -> None:
        self.geometry = geometry
        self.options = options
        self.backend = backend
        self.previous = previous
        self.calls = calls
        # Self- and cross-attention differ in the number of keys. Where they don't (a canvas of 512 or 257 tokens), the
        # first call of a block is the self-attention.
        self.ambiguous = geometry.tokens in cross_lengths
        self.last_block: int | None = None

    @torch.compiler.disable
    def __call__(
        self,
        func: Callable,  # the host's own attention
        q: Tensor,  # [B, n, heads * d]
        k: Tensor,  # [B, N, heads * d]
        v: Tensor,  # [B, N, heads * d]
        heads: int,
        mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:  # [B, n, heads * d]
        def plain(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
            if self.previous is not None:
                return self.previous(func, q, k, v, heads, mask=mask, **kwargs)
            return func(q, k, v, heads, mask=mask, **kwargs)

        block = (kwargs.get("transformer_options") or {}).get("block_index", 0)
        if not self.is_self_attention(q, k, block):
            return plain(q, k, v, heads)
        self.calls.attended += 1
        return gga_attention(q, k, v, heads, self.geometry, self.options, plain=plain, backend=self.backend,
                             used=self.calls.kernels)

    def is_self_attention(
        self,
        q: Tensor,  # [B, n, heads * d]
        k: Tensor,  # [B, N, heads * d]
        block: int,
    ) -> bool:
        """Whether this call compares all tokens of the canvas with each other."""
        if q.shape[1] != self.geometry.tokens or k.shape[1] != self.geometry.tokens:
            return False
        if not self.ambiguous:
            return True
        first, self.last_block = block != self.last_block, block
        return first
