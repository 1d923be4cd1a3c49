"""The ego latent that exo views and the cameras' rays let expect: a small transformer, in place of the ego prior.

In the style of Exo2EgoSyn's alignment of exo and ego views; the paper gives no code, and tells of the first frame only.
The form is ours: tokens have no positions but their rays, so any number of views in any order will do, and each latent
frame is foretold by itself. All latents are in model space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from ..errors import check_choice
from ..sizes import CHANNELS, PATCH, RAY_CHANNELS

HEAD_DIM = 64
PATCH_NUMBERS = CHANNELS * PATCH**2  # of a token's latents
AlignFrames = Literal["first", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignSize:
    """Of the transformer; the width is a multiple of HEAD_DIM."""

    width: int = 768
    layers: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignPrediction:
    """What is expected of the ego half, and how surely."""

    latent: Tensor  # [B, 16, t, h, w_ego]
    log_variance: Tensor  # [B, t, h / 2, w_ego / 2] natural logarithm, of each token's numbers

    @property
    def confidence(self) -> Tensor:  # [B, t, h / 2, w_ego / 2] 0...1
        """The share of a latent's variance, which is 1 over many clips, that is expected to be explained."""
        return (1 - self.log_variance.exp()).clamp(0, 1)


class ExoEgoAlign(nn.Module):
    """Exo tokens (latents and rays) and ego tokens (rays alone) through common attention; the ego tokens' latents out.

    Its last layer begins at zero: before the first step it expects the mean latent, and is sure of nothing.
    """

    def __init__(self, size: AlignSize | None = None) -> None:
        super().__init__()
        size = size or AlignSize()
        self.checkpointing = False  # for training: of a block only its input is kept
        self.exo_in = nn.Linear(PATCH_NUMBERS + RAY_CHANNELS, size.width)
        self.ego_in = nn.Linear(RAY_CHANNELS, size.width)
        self.blocks = nn.ModuleList(AlignBlock(size.width) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.out = nn.Linear(size.width, PATCH_NUMBERS + 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        exo: Tensor,  # [B, 16, t, h, w_exo] clean exo half, as place_views lays it
        rays: Tensor,  # [B, t, h / 2, w / 2, RAY_CHANNELS] of all tokens, as canvas_rays gives
    ) -> AlignPrediction:
        """One prediction a latent frame, from that frame's exo tokens. A token that looks nowhere is not read."""
        batch, _, t, h, w_exo = exo.shape
        of_exo, of_ego = rays.split((w_exo // PATCH, rays.shape[3] - w_exo // PATCH), dim=3)
        patches = exo.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH))  # [B, 16, t, h/2, 2, w/2, 2]
        patches = patches.permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
        own = self.ego_in.weight
        with torch.autocast(exo.device.type, enabled=False):  # bfloat16 would blur the rays' directions
            exo_tokens = self.exo_in(torch.cat((patches.to(own), of_exo.to(own)), dim=-1)).flatten(2, 3).flatten(0, 1)
            ego_tokens = self.ego_in(of_ego.to(own)).flatten(2, 3).flatten(0, 1)
        seen = of_exo[..., :-1].flatten(2, 3).flatten(0, 1).abs().sum(-1) > 0
        read = torch.cat((seen, seen.new_ones(ego_tokens.shape[:2])), dim=1)[:, None, None]
        tokens = torch.cat((exo_tokens, ego_tokens), dim=1)
        for block in self.blocks:
            tokens = checkpoint(block, tokens, read, use_reentrant=False) if self.checkpointing else block(tokens, read)
        answer = self.out(self.norm(tokens[:, exo_tokens.shape[1]:]))
        answer = answer.view(batch, t, h // PATCH, -1, PATCH_NUMBERS + 1)
        numbers, log_variance = answer[..., :-1], answer[..., -1]
        latent = numbers.unflatten(-1, (CHANNELS, PATCH, PATCH)).permute(0, 4, 1, 2, 5, 3, 6)
        return AlignPrediction(latent=latent.flatten(5).flatten(3, 4), log_variance=log_variance)


class AlignBlock(nn.Module):
    """Attention and feed-forward, each after a norm and beside the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self,
        tokens: Tensor,  # [B, N, width]
        read: Tensor,  # [B, 1, 1, N] bool, tokens that others may read
    ) -> Tensor:  # [B, N, width]
        q, k, v = self.qkv(self.norm_1(tokens)).unflatten(-1, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        tokens = tokens + self.join(scaled_dot_product_attention(q, k, v, attn_mask=read).transpose(1, 2).flatten(2))
        return tokens + self.narrow(gelu(self.widen(self.norm_2(tokens))))


def align_losses(prediction: AlignPrediction, truth: Tensor) -> Tensor:  # truth [B, 16, t, h, w_ego] -> [B]
    """Negative log-likelihood of each clip's truth, a Gaussian for each number, without its constant."""
    error = (prediction.latent - truth).square().unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH)).mean((1, 4, 6))
    return 0.5 * (error * (-prediction.log_variance).exp() + prediction.log_variance).flatten(1).mean(1)


def expected_prior(
    prediction: AlignPrediction,
    grey: Tensor,  # [B or 1, 16, t, h, w_ego] latent of a grey video
    frames: AlignFrames = "all",
) -> Tensor:  # [B, 16, t, h, w_ego]
    """What takes the place of the ego prior's latent: the expected one, faded to grey where it is unsure.

    ``first``: grey after the first latent frame, as the paper tells of a single foretold picture.

    Raises:
        EgoXInputError: unknown frames.
    """
    check_choice("frames of the alignment", frames, ("first", "all"), "choose one of them")
    sure = prediction.confidence.repeat_interleave(PATCH, dim=2).repeat_interleave(PATCH, dim=3)[:, None]
    if frames == "first":
        sure = torch.cat((sure[:, :, :1], torch.zeros_like(sure[:, :, 1:])), dim=2)
    return grey + sure * (prediction.latent - grey)
