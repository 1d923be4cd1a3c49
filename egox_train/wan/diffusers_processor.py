"""Add geometry-guided attention to diffusers' Wan transformer.

The attention itself is :func:`.attention.gga_attention` with ``recompute``: where its kernel needs
the bias, that of some ego queries is computed, used and dropped, and computed once more in
backward, so neither direction holds the L x L map. Where the map of the whole batch is small (tiny
models), it is computed once a step and all blocks share it instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from egox_core.errors import EgoXInputError
from egox_core.gga import (
    ExoForward,
    GgaOptions,
    Grid,
    KernelsUsed,
    check_tokens,
    dense_bias,
    ego_tokens,
    gga_attention,
    plain_attention,
)
from egox_core.sizes import PATCH
from egox_core.types import GgaGeometry

from .exo_halves import ExoHalves, run_blocks_by_halves

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttention

rotate_positions: Any = apply_rotary_emb  # its annotation says that it returns a tuple
SHARED_BIAS_BYTES = 64 * 2**20
"""A batch's whole bias up to this size (float32) is computed once for all blocks: thousands of
small kernels a step less. The released size (3.1 GB a clip) is far above it."""


class GgaScope:
    """Store the scene geometry that all attention layers of a model use.

    Each instance of the model has one.
    """

    def __init__(self) -> None:
        self.geometry: tuple[
            GgaGeometry, ...
        ] = ()  # one per clip of the batch; empty: plain attention
        self.options = GgaOptions(mode="off")
        self.kernels = KernelsUsed()
        # kept: the model, or this half of a block, sees the ego half
        self.exo: ExoForward | ExoHalves | None = None
        # of a canvas whose exo half attends to itself alone, at time step 0
        self.alone_grid: Grid | None = None
        self._shared: Tensor | None = None

    def set(
        self,
        geometry: Sequence[GgaGeometry | None],
        options: GgaOptions,
        *,
        # of a canvas whose exo half attends to itself alone, at time step 0
        alone_grid: Grid | None = None,
    ) -> None:
        """Set the scene geometry of each clip in the batch for all following forward passes.

        It stays until the next call, because checkpointed blocks run again in backward.

        Raises:
            EgoXInputError: geometry for some clips of the batch only.
        """
        known_geometries = tuple(g for g in geometry if g is not None)
        if options.biases and known_geometries and len(known_geometries) != len(geometry):
            raise EgoXInputError(
                "GGA geometry of the batch",
                got=f"{len(known_geometries)} of {len(geometry)} clips have one",
                expected="all or none",
                fix="cache all clips with the same settings",
            )
        self.geometry = known_geometries if options.biases else ()
        self.options = options
        self.exo = None
        self.alone_grid = alone_grid
        self._shared = None

    @property
    def note(self) -> str:
        """Describe which attention kernel was replaced because it failed, "" if none was."""
        return self.kernels.words() if self.kernels.lost else ""

    def shared_bias(
        self, dtype: torch.dtype
    ) -> Tensor | None:  # -> [B, 1, tokens, tokens], rows of exo queries 0
        """Compute the attention bias of the whole batch once if it is small, else return None."""
        size = sum(4 * g.tokens**2 for g in self.geometry)
        if (
            not self.geometry
            or size > SHARED_BIAS_BYTES
            or len({g.grid for g in self.geometry}) > 1
        ):
            return None
        if self._shared is None or self._shared.dtype != dtype:
            self._shared = torch.stack([dense_bias(g, self.options) for g in self.geometry])[
                :, None
            ].to(dtype)
        return self._shared


class GgaAttnProcessor(WanAttnProcessor):
    """Attention processor of diffusers that adds a bias from the scene geometry.

    Without geometry the result is diffusers' own, bit for bit."""

    def __init__(self, scope: GgaScope, block: int) -> None:
        super().__init__()
        self.scope = scope
        self.block = block

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,  # [B, tokens, heads * d]
        encoder_hidden_states: Tensor | None = None,  # [B, text tokens, heads * d]: cross-attention
        attention_mask: Tensor | None = None,
        # As diffusers' rope returns it.
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:  # [B, tokens, heads * d]
        exo_context = self.scope.exo
        if encoder_hidden_states is not None or not (self.scope.geometry or exo_context):
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb
            )
        query, key = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(hidden_states))
        assert rotary_emb is not None  # of every self-attention
        value = attn.to_v(hidden_states)
        rotary_tables: Any = [table[0, :, 0] for table in rotary_emb]
        # Under autocast the norms leave float32, which each call of the kernel would cast anew.
        query, key = (
            rotate_positions(x.unflatten(2, (attn.heads, -1)), rotary_tables, sequence_dim=1)
            .flatten(2)
            .type_as(value)
            for x in (query, key)
        )
        if exo_context is not None:
            key, value = self._with_exo(exo_context, key, value)
        return attn.to_out[1](attn.to_out[0](self._attend(query, key, value, attn.heads)))

    @torch.compiler.disable  # what is kept is another at each step
    def _with_exo(self, exo: ExoForward | ExoHalves, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return exo.keys_and_values(self.block, k, v)

    @torch.compiler.disable  # the scope's bias is another at each step
    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, heads: int
    ) -> Tensor:  # [B, tokens, heads * d] each
        exo_context = self.scope.exo
        if not self.scope.geometry or (
            exo_context is not None and k.shape[1] < self.scope.geometry[0].tokens
        ):
            return plain_attention(q, k, v, heads)  # of exo alone, too
        attention_bias = self.scope.shared_bias(q.dtype)
        has_ego_queries_only = q.shape[1] < k.shape[1]
        if attention_bias is None:
            return torch.cat(
                [
                    gga_attention(
                        q[b : b + 1],
                        k[b : b + 1],
                        v[b : b + 1],
                        heads,
                        geometry,
                        self.scope.options,
                        # Not auto: which kernel is fastest may change when a run is resumed.
                        backend="steady",
                        recompute=True,
                        used=self.scope.kernels,
                    )
                    for b, geometry in enumerate(self.scope.geometry)
                ]
            )
        if has_ego_queries_only:
            attention_bias = ego_tokens(attention_bias, self.scope.geometry[0].grid, 2)
        else:
            check_tokens(q, k, self.scope.geometry[0])
        q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return (
            scaled_dot_product_attention(q, k, v, attn_mask=attention_bias)
            .transpose(1, 2)
            .flatten(2)
        )


def install_gga(model: WanTransformer3DModel, position_scale: float = 1.0) -> GgaScope:
    """Install geometry-guided attention in diffusers' Wan transformer, and return the object that
    sets its geometry.

    Heights and widths in the rotary embedding are multiplied by ``position_scale``, as the host's
    ``set_model_rope_options`` does.

    Where exo is kept, the rotary embedding is that of the whole canvas, of which the ego half takes
    its own tokens.
    """
    gga_scope = GgaScope()
    blocks: Any = model.blocks
    for block_index, block in enumerate(blocks):
        block.attn1.set_processor(GgaAttnProcessor(gga_scope, block_index))

    def widen_rotary_input(
        module: nn.Module, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        if gga_scope.exo is None or not gga_scope.exo.reuses_exo:
            return None
        width = PATCH * sum(gga_scope.exo.grid[2:])
        return (inputs[0].new_empty(1).expand(*inputs[0].shape[:-1], width),)

    def select_ego_positions(
        module: nn.Module, inputs: tuple, tables: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        if gga_scope.exo is None or not gga_scope.exo.reuses_exo:
            return None
        return tuple(ego_tokens(table, gga_scope.exo.grid, 1) for table in tables)

    if position_scale != 1:
        _scale_positions(model.rope, position_scale)
    model.rope.register_forward_pre_hook(widen_rotary_input)
    model.rope.register_forward_hook(select_ego_positions)
    run_blocks_by_halves(model, gga_scope)
    return gga_scope


def _scale_positions(rope: Any, scale: float) -> None:
    """Scale the heights and widths in the tables of diffusers' rotary embedding."""
    rotary_tables = [
        get_1d_rotary_pos_embed(
            size, rope.max_seq_len, use_real=True, linear_factor=divisor, freqs_dtype=torch.float64
        )
        for size, divisor in ((rope.t_dim, 1.0), (rope.h_dim, 1 / scale), (rope.w_dim, 1 / scale))
    ]
    rope.freqs_cos, rope.freqs_sin = (
        torch.cat(table_parts, 1).to(rope.freqs_cos)
        for table_parts in zip(*rotary_tables, strict=True)
    )
