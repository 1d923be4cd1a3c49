"""Own positions of a canvas' tokens, and what is added to them, through the host's slot of each transformer block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...egox_core.sizes import PATCH
from ...egox_core.types import Panels
from ...egox_core.wan.panels import TILE_START, TILE_STEP, panel_width
from ...egox_core.wan.pose_injection import PoseInjection
from .checks import PatchCalls

SLOTS = "patches_replace"


class CanvasTokens:
    """What the tokens of a canvas of several views get beside EgoX's; made anew in each forward, as the host's own."""

    def __init__(
        self,
        panels: Panels,
        w_exo: int,  # latents
        pose: PoseInjection | None = None,
        rays: Tensor | None = None,  # [t, h, w, RAY_CHANNELS] of all tokens, with ``pose``
    ) -> None:
        self.panels = panels
        self.w_exo = w_exo
        self.pose = pose
        self.rays = rays

    def to(self, device: torch.device) -> None:
        """Follows the model."""
        if self.pose is not None:
            self.pose.to(device)
            self.rays = self.rays.to(device)

    def slots(
        self,
        transformer: Any,  # the host's Wan model
        wide: Tensor,  # [B, 36, t, h, w] what it is called with
        options: Mapping[str, Any],  # transformer_options of this call
        frames: list[int] | None,  # latent frames of the context window; None: all
        calls: PatchCalls,
    ) -> dict[str, Any]:
        """The call's ``patches_replace`` with a slot of ours in every block, each calling on what was there."""
        pe = None
        if self.panels != Panels():
            pe = canvas_rope(transformer, self.panels, wide, self.w_exo, options)
        before = options.get(SLOTS, {})
        blocks = dict(before.get("dit", {}))
        for block in range(len(transformer.blocks)):
            adds = self.pose is not None and block < self.pose.blocks
            if pe is not None or adds:
                key = ("double_block", block)
                # Computed when the block is reached: all blocks' at once would be gigabytes.
                added = partial(self.added, wide, frames, block) if adds else None
                blocks[key] = BlockSlot(pe, added, blocks.get(key), calls)
        return {**before, "dit": blocks}

    def added(self, wide: Tensor, frames: list[int] | None, block: int) -> Tensor:  # [1, tokens, dim]
        """What the rays add before this block."""
        rays = self.rays if frames is None else self.rays[frames]
        # float32 of one frame only
        of_frames = [self.pose(frame, block).to(wide.dtype) for frame in rays.to(wide.device)]
        return torch.stack(of_frames).flatten(0, 2)[None]


class BlockSlot:
    """One block's slot."""

    def __init__(self, pe: Tensor | None, added: Callable[[], Tensor] | None, previous: Callable | None,
                 calls: PatchCalls) -> None:
        self.pe, self.added, self.previous, self.calls = pe, added, previous, calls

    @torch.compiler.disable(recursive=False)
    def __call__(self, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        self.calls.placed += 1
        args = dict(args)
        if self.pe is not None:
            args["pe"] = self.pe
        if self.added is not None:
            args["img"] = args["img"] + self.added()
        return extra["original_block"](args) if self.previous is None else self.previous(args, extra)


def canvas_rope(
    transformer: Any,  # the host's Wan model
    panels: Panels,
    wide: Tensor,  # [B, 36, t, h, w_exo + w_ego]
    w_exo: int,  # latents
    options: Mapping[str, Any],  # transformer_options: the host's shift and scale of positions count
) -> Tensor:  # as the host's rope_encode gives, all tokens
    """The host's rotary table at :func:`~egox_core.wan.panels.token_positions`."""
    t, h, w = wide.shape[-3:]
    width = PATCH * panel_width(panels, h // PATCH, w_exo // PATCH)
    own = options.get("rope_options") or {}

    def encode(height: int, width: int, step: float, row: float, column: float) -> Tensor:
        scale_y, scale_x = own.get("scale_y", 1.0), own.get("scale_x", 1.0)
        moved = {**own, "scale_y": step * scale_y, "scale_x": step * scale_x,
                 "shift_y": own.get("shift_y", 0.0) + row * scale_y,
                 "shift_x": own.get("shift_x", 0.0) + column * scale_x}
        table = transformer.rope_encode(t, height, width, device=wide.device, dtype=wide.dtype,
                                        transformer_options={**options, "rope_options": moved})
        return table.unflatten(1, (t, height // PATCH, width // PATCH))

    if panels.layout == "mosaic":
        tile = encode(h // 2, width // 2, TILE_STEP, TILE_START, TILE_START)
        panel = torch.cat([torch.cat([tile, tile], dim=3)] * 2, dim=2)
    else:
        panel = encode(h, width, 1.0, 0.0, 0.0)
    ego = encode(h, w - w_exo, 1.0, 0.0, width / PATCH)
    return torch.cat([panel] * panels.count + [ego], dim=3).flatten(1, 3)
