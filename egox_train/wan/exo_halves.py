"""Train with an exo half that attends to itself alone, block by block.

Exo then doesn't see ego, so each block computes exo's half first and the ego half next to its keys
and values, and nothing of a block outlives it: gradient checkpoints hold the canvas's tokens, as
they do without. Plain twin: two forward passes of the whole model, which keep all blocks' keys and
values until backward ends (``tests/twins/exo_alone.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from egox_core.gga import Grid, join_tokens
from egox_core.sizes import PATCH

RotaryTables = tuple[Tensor, ...]  # as diffusers' rope returns them: [1, tokens, 1, D] each


class HalvesScope(Protocol):
    """Hold what the halves of a model's blocks need of its scope of guided attention."""

    exo: Any
    alone_grid: Grid | None


def split_halves(x: Tensor, grid: Grid) -> tuple[Tensor, ...]:
    """Split the tokens [B, tokens, ...] of a whole canvas into those of exo and of ego."""
    t, h, w_exo, w_ego = grid
    halves = x.unflatten(1, (t * h, w_exo + w_ego)).split((w_exo, w_ego), dim=2)
    return tuple(half.flatten(1, 2) for half in halves)


class ExoHalves:
    """Exo keys and values of one block, which its ego half attends to as well.

    The exo half goes through the block first, then with ``reuses_exo`` the ego half.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.reuses_exo = False
        self._exo_pair: tuple[Tensor, ...] = ()

    def keys_and_values(
        self,
        block: int,  # as for ExoForward
        k: Tensor,  # [B, tokens of a half, D] after norm and RoPE
        v: Tensor,  # [B, tokens of a half, D]
    ) -> tuple[Tensor, Tensor]:
        """Return exo's keys and values for exo queries, the whole canvas's for ego queries."""
        if not self.reuses_exo:
            self._exo_pair = k, v
            return k, v
        t, h, w_exo, _ = self.grid
        exo_k, exo_v = (x.unflatten(1, (t * h, w_exo)) for x in self._exo_pair)
        return join_tokens(exo_k, k), join_tokens(exo_v, v)


class HalvesForward:
    """Forward pass of a block that takes both halves one after the other where exo is alone.

    Whatever moves the block's weights (offload, FSDP) is outside of it and moves them once for
    both.
    """

    def __init__(self, block: nn.Module, scope: HalvesScope, *, is_last: bool) -> None:
        self.original_forward: Callable[..., Tensor] = block.forward
        self.scope, self.is_last = scope, is_last

    @torch.compiler.disable(recursive=False)  # each half is compiled, not what is between them
    def __call__(
        self,
        hidden_states: Tensor,  # [B, tokens, D]
        text: Tensor,
        # [B, 6, D]; exo's and ego's, [2 B, 6, D], where exo is alone
        modulation: Tensor,
        # of the canvas; where exo is alone, exo's and ego's
        rotations: Any,
    ) -> Tensor:  # as hidden_states
        grid = self.scope.alone_grid
        if grid is None:
            return self.original_forward(hidden_states, text, modulation, rotations)
        exo, ego = split_halves(hidden_states, grid)
        exo_modulation, ego_modulation = modulation.chunk(2)
        exo_rotations, ego_rotations = rotations
        # Its own in each call: a checkpointed block runs once more in backward.
        self.scope.exo = exo_halves = ExoHalves(grid)
        try:
            exo = self.original_forward(exo, text, exo_modulation, exo_rotations)
            exo_halves.reuses_exo = True
            ego = self.original_forward(ego, text, ego_modulation, ego_rotations)
        finally:
            self.scope.exo = None
        if self.is_last:
            exo = exo.detach()  # read by nobody: its gradient would be zeros
        return join_tokens(exo.unflatten(1, (grid[0] * grid[1], -1)), ego)


def run_blocks_by_halves(model: Any, scope: HalvesScope) -> None:
    """Have a transformer's blocks run half by half where ``scope.alone_grid`` is set.

    Exo has time step 0 there. Elsewhere nothing changes.
    """
    last_block = len(model.blocks) - 1
    for block_index, block in enumerate(model.blocks):
        block.forward = HalvesForward(block, scope, is_last=block_index == last_block)

    def add_exo_time(
        module: Any, inputs: tuple[Tensor, ...], embeddings: tuple
    ) -> tuple[Tensor | None, ...] | None:
        if scope.alone_grid is None:
            return None
        timestep, text = inputs[:2]
        exo_modulation = module.forward(torch.zeros_like(timestep), text)[1]
        time, modulation, *conditions = embeddings
        return time, torch.cat((exo_modulation, modulation)), *conditions

    def split_rotations(
        module: nn.Module, inputs: tuple, tables: RotaryTables
    ) -> tuple[RotaryTables, ...] | None:
        grid = scope.alone_grid
        if grid is None:
            return None
        return tuple(zip(*(split_halves(table, grid) for table in tables), strict=True))

    embed, project = model.patch_embedding.forward, model.proj_out.forward

    def embed_by_halves(latents: Tensor) -> Tensor:  # [B, C, t, h, w] -> [B, D, t, h, w / 2]
        if scope.alone_grid is None:
            return embed(latents)
        halves = latents.split([PATCH * width for width in scope.alone_grid[2:]], dim=-1)
        return torch.cat([embed(half) for half in halves], dim=-1)

    def project_ego(tokens: Tensor) -> Tensor:  # [B, tokens, D] -> [B, tokens, d]; exo's are 0
        grid = scope.alone_grid
        if grid is None:
            return project(tokens)
        ego = project(split_halves(tokens, grid)[1])
        exo_zeros = ego.new_zeros(len(ego), grid[0] * grid[1], grid[2], ego.shape[-1])
        return join_tokens(exo_zeros, ego)

    # Half by half as well: how a product is summed depends on the number of its rows.
    model.patch_embedding.forward, model.proj_out.forward = embed_by_halves, project_ego
    model.condition_embedder.register_forward_hook(add_exo_time)
    model.rope.register_forward_hook(split_rotations)
