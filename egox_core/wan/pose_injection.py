"""Rays into the transformer: what a small network makes of a token's rays is added to it before the first block.

In the style of Exo2EgoSyn's pose injection; the paper gives no code.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from ..sizes import RAY_CHANNELS


class PoseInjection(nn.Module):
    """Two linear layers, of which the last begins at zero: before its first step the model is what it was."""

    def __init__(self, dim: int, hidden: int = 512) -> None:
        super().__init__()
        self.inner = nn.Linear(RAY_CHANNELS, hidden)
        self.outer = nn.Linear(hidden, dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(
        self,
        rays: Tensor,  # [..., RAY_CHANNELS] of :func:`.token_rays.canvas_rays`
    ) -> Tensor:  # [..., dim]
        """What is added to the tokens."""
        return self.outer(silu(self.inner(rays.to(self.inner.weight))))
