"""Plain twin of ``egox_train.wan.exo_halves``: exo through the whole model, then ego."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from egox_core.gga import join_tokens
from egox_core.sizes import PATCH
from egox_train.wan.diffusers_processor import GgaScope


class KeptHalves:
    """Exo keys and values of all blocks, until the step is over."""

    def __init__(self, grid: tuple[int, int, int, int]) -> None:
        self.grid = grid
        self.reuses_exo = False
        self._blocks: dict[int, tuple[Tensor, Tensor]] = {}

    def keys_and_values(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return exo's keys and values for exo queries, the whole canvas's for ego queries."""
        t, h, w_exo, _ = self.grid
        if k.shape[1] == t * h * w_exo:
            self._blocks.setdefault(block, (k, v))  # not those of a repeated forward
            return k, v
        exo_k, exo_v = (x.unflatten(1, (t * h, w_exo)) for x in self._blocks[block])
        return join_tokens(exo_k, k), join_tokens(exo_v, v)


class TwoPasses:
    """Model that ``flow_loss`` calls where exo is alone, in two forward passes of the real one."""

    def __init__(self, model: torch.nn.Module, scope: GgaScope) -> None:
        self.model, self.scope = model, scope

    def __call__(self, hidden_states: Tensor, timestep: Tensor, **conditions: Any) -> Any:
        grid = self.scope.alone_grid
        self.scope.alone_grid = None  # the blocks take what they are given
        if grid is None:
            return self.model(hidden_states=hidden_states, timestep=timestep, **conditions)
        self.scope.exo = exo_halves = KeptHalves(grid)
        width = PATCH * grid[2]
        zeros = torch.zeros_like(timestep)
        self.model(hidden_states=hidden_states[..., :width], timestep=zeros, **conditions)
        exo_halves.reuses_exo = True
        return self.model(hidden_states=hidden_states[..., width:], timestep=timestep, **conditions)
