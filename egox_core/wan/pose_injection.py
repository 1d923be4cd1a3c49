"""Rays into the transformer: what a small network makes of a token's rays is added to it before the first block, or
before each.

In the style of Exo2EgoSyn's pose injection; the paper gives no code.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from ..sizes import RAY_CHANNELS


class PoseInjection(nn.Module):
    """Two linear layers, of which the last begins at zero: before its first step the model is what it was.

    With several ``blocks`` each has a last layer of its own, as ReCamMaster gives each block its camera.
    """

    def __init__(self, dim: int, hidden: int = 512, blocks: int = 1) -> None:
        super().__init__()
        self.inner = nn.Linear(RAY_CHANNELS, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.deeper = nn.ModuleList(nn.Linear(hidden, dim) for _ in range(blocks - 1))
        for layer in (self.outer, *self.deeper):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def blocks(self) -> int:
        """Before how many blocks it adds, from the first on."""
        return 1 + len(self.deeper)

    def forward(
        self,
        rays: Tensor,  # [..., RAY_CHANNELS] of :func:`.token_rays.canvas_rays`
        block: int = 0,
    ) -> Tensor:  # [..., dim]
        """What is added to the tokens before this block."""
        outer = self.deeper[block - 1] if block else self.outer
        return outer(silu(self.inner(rays.to(self.inner.weight))))
