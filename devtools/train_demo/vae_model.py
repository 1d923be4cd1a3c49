"""Wan's VAE, narrow, for training: whole clips at once, a start that carries the picture, and the host's file form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from egox_core.safe_files import write_whole
from egox_core.wan_latents import CHANNELS, LATENT_MEAN, LATENT_STD
from tools.standin_shapes import vae_shapes


def new_vae(dim: int, seed: int) -> AutoencoderKLWan:
    """The network with weights that let the picture through from the first step.

    Every convolution has gain 1 and no bias, residual branches and the attention add nothing yet, and the convolutions
    over time pass frames on or average them. With torch's own start such a network sits at a grey picture for hundreds
    of steps.
    """
    torch.manual_seed(seed)
    model = AutoencoderKLWan(base_dim=dim)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            nn.init.zeros_(layer.bias)
    for layer in model.modules():
        if isinstance(layer, WanResidualBlock):
            nn.init.zeros_(layer.conv2.weight)
        elif isinstance(layer, WanAttentionBlock):
            nn.init.zeros_(layer.proj.weight)
        elif isinstance(layer, WanResample) and hasattr(layer, "time_conv"):
            _pass_time(layer.time_conv, layer.mode)
    return model


def _pass_time(conv: WanCausalConv3d, mode: str) -> None:
    """Down: the mean of the last two frames; up: each frame twice."""
    nn.init.zeros_(conv.weight)
    channels = torch.arange(conv.in_channels)
    with torch.no_grad():
        if mode == "downsample3d":
            conv.weight[channels, channels, 1:, 0, 0] = 0.5
        else:
            conv.weight[channels, channels, -1, 0, 0] = 1
            conv.weight[channels + conv.in_channels, channels, -1, 0, 0] = 1


def whole_clips(model: AutoencoderKLWan) -> AutoencoderKLWan:
    """The same network, made to take all frames at once: equal to its own pieces of four frames, and much faster.

    Only for training: :func:`encode` and :func:`decode` go with it, the model's own methods no longer work.
    """
    for layer in model.modules():
        if isinstance(layer, WanResample):
            layer.forward = partial(_resample, layer)
    return model


def encode(model: AutoencoderKLWan, video: Tensor) -> Tensor:
    """[B, 3, T, H, W] in -1...1 -> raw latents [B, 16, t, H / 8, W / 8] (the posterior's mean)."""
    return model.quant_conv(model.encoder(video))[:, :CHANNELS]


def decode(model: AutoencoderKLWan, raw: Tensor) -> Tensor:
    """Raw latents -> [B, 3, T, H, W], not clamped."""
    return model.decoder(model.post_quant_conv(raw))


def _resample(layer: WanResample, x: Tensor, feat_cache: None = None, feat_idx: None = None) -> Tensor:
    batch, channels = x.shape[:2]
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        later = layer.time_conv(x[:, :, 1:])  # the first frame stays one, and later ones don't see it here
        later = later.unflatten(1, (2, channels)).movedim(1, 3).flatten(2, 3)
        x = torch.cat((x[:, :, :1], later), dim=2)
    frames = x.shape[2]
    x = layer.resample(x.movedim(2, 1).flatten(0, 1)).unflatten(0, (batch, frames)).movedim(1, 2)
    if layer.mode == "downsample3d" and frames > 1:
        x = torch.cat((x[:, :, :1], layer.time_conv(x)), dim=2)
    return x


@torch.no_grad()
def whiten(model: AutoencoderKLWan, raw: Tensor) -> None:
    """Changes the 1x1x1 convolutions on both sides of the latent so that ``raw`` ([N, 16] samples) would have had Wan's
    mean and spread, without correlation; what is decoded stays the same.

    The host subtracts and divides by fixed numbers, and a diffusion model is at its best on latents of unit spread.
    """
    raw = raw.double()
    mean = raw.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((raw - mean).T))
    spread, centre = torch.tensor(LATENT_STD, dtype=torch.float64), torch.tensor(LATENT_MEAN, dtype=torch.float64)
    forward = torch.diag(spread) @ vectors @ torch.diag(values.clamp_min(1e-12).rsqrt()) @ vectors.T
    back = torch.linalg.inv(forward)
    into, out = model.quant_conv, model.post_quant_conv
    weight, bias = into.weight.double()[:CHANNELS], into.bias.double()[:CHANNELS]
    into.weight[:CHANNELS] = torch.einsum("ij,jabcd->iabcd", forward, weight).float()
    into.bias[:CHANNELS] = (forward @ (bias - mean) + centre).float()
    weight, bias = out.weight.double(), out.bias.double()
    changed = torch.einsum("oiabc,ij->ojabc", weight, back)
    out.bias.copy_((bias + weight[..., 0, 0, 0] @ mean - changed[..., 0, 0, 0] @ centre).float())
    out.weight.copy_(changed.float())


def save_vae(model: AutoencoderKLWan, file: Path, metadata: Mapping[str, str]) -> None:
    """One float16 file in the naming that ComfyUI's loader takes."""
    names = _native_names(model.config.base_dim)
    weights = {names[k]: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    with write_whole(file) as temporary:
        save_file(weights, temporary, metadata=dict(metadata))


def _native_names(dim: int) -> dict[str, str]:
    """diffusers' name -> native name, read off diffusers' own converter: each tensor carries its number through it."""
    shapes = list(vae_shapes(dim))
    numbered = {name: torch.full((1,), float(number)) for number, name in enumerate(shapes)}
    return {name: shapes[int(tensor)] for name, tensor in convert_wan_vae_to_diffusers(numbered).items()}
