"""Own positions and rays of a canvas' tokens inside diffusers' Wan transformer, as the host's slots give them."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor, nn

from ..errors import EgoXInputError
from ..sizes import PATCH
from ..types import Panels
from .panels import token_positions
from .pose_injection import PoseInjection


class TokenScope:
    """Which canvas the forward (and its recomputation in backward) is about; one an instance of the model."""

    def __init__(self, poses: bool) -> None:
        self.poses = poses  # whether the model has a network for rays
        self.positions: Tensor | None = None  # [h, w, 2]; None: EgoX's
        self.rays: Tensor | None = None  # [B, t, h, w, RAY_CHANNELS]

    def set(
        self,
        panels: Panels,
        grid: tuple[int, int, int, int],  # (t, h, w_exo, w_ego) in latents
        rays: Tensor | None = None,  # [B, t, h, w, RAY_CHANNELS]
    ) -> None:
        """What all forwards are about from now on; it stays, as checkpointed blocks run again in backward.

        Raises:
            EgoXInputError: panels that don't fill the exo half, a model for rays without any.
        """
        if self.poses and rays is None:
            raise EgoXInputError("rays of the sample", got="none", expected="a map for the model's pose injection",
                                 fix="make them with canvas_rays")
        _, h, w_exo, w_ego = grid
        self.positions = None
        if panels != Panels():
            self.positions = token_positions(panels, h // PATCH, w_exo // PATCH, w_ego // PATCH)
        self.rays = rays


class CanvasRope(nn.Module):
    """Takes the place of the model's rotary embedding; without own positions, that one bit for bit."""

    def __init__(self, rope: nn.Module, scope: TokenScope) -> None:
        super().__init__()
        self.rope = rope
        self.scope = scope

    def forward(
        self,
        hidden_states: Tensor,  # [B, channels, t, h, w] latents
    ) -> tuple[Tensor, Tensor]:  # cosines and sines [1, tokens, 1, head dim]
        positions = self.scope.positions
        if positions is None:
            return self.rope(hidden_states)
        t, (h, w) = hidden_states.shape[2], positions.shape[:2]
        of_time = [table[:t].split([self.rope.t_dim, self.rope.h_dim, self.rope.w_dim], dim=1)[0]
                   for table in (self.rope.freqs_cos, self.rope.freqs_sin)]
        of_row, of_column = (get_1d_rotary_pos_embed(dim, positions[..., axis].flatten(), use_real=True,
                                                     repeat_interleave_real=True, freqs_dtype=torch.float64)
                             for axis, dim in enumerate((self.rope.h_dim, self.rope.w_dim)))
        tables = []
        for time, row, column in zip(of_time, of_row, of_column, strict=True):
            place = torch.cat((row, column), dim=1).to(time)
            table = torch.cat((time[:, None].expand(t, h * w, -1), place.expand(t, h * w, -1)), dim=-1)
            tables.append(table.reshape(1, t * h * w, 1, -1))
        return tables[0], tables[1]


def install_tokens(model: nn.Module, pose: PoseInjection | None = None) -> TokenScope:
    """Gives diffusers' Wan transformer a rotary embedding that follows the scope, and what ``pose`` makes of its rays.

    ``pose`` becomes a part of the model, as ``egox_pose``.
    """
    scope = TokenScope(poses=pose is not None)
    model.rope = CanvasRope(model.rope, scope)
    if pose is not None:
        model.egox_pose = pose
        model.patch_embedding.register_forward_hook(
            lambda module, inputs, tokens: tokens + _of_rays(pose, scope, tokens).movedim(-1, 1))
        deeper = {id(block): number for number, block in enumerate(model.blocks) if 0 < number < pose.blocks}

        # One function for all blocks, so that compiled ones go on sharing a program.
        @torch.compiler.disable
        def add(block: nn.Module, inputs: tuple) -> tuple:
            tokens, *others = inputs
            return (tokens + _of_rays(pose, scope, tokens, deeper[id(block)]).flatten(1, 3), *others)

        for block in model.blocks[1 : pose.blocks]:
            block.register_forward_pre_hook(add)
    return scope


def _of_rays(pose: PoseInjection, scope: TokenScope, tokens: Tensor, block: int = 0) -> Tensor:  # [B, t, h, w, dim]
    with torch.autocast(tokens.device.type, enabled=False):  # bfloat16 would blur the rays' directions
        return pose(scope.rays, block).to(tokens)
