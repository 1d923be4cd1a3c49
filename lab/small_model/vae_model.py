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
from torch.nn import functional

from egox_core.safe_files import write_whole
from egox_core.sizes import CHANNELS
from egox_core.wan.latents import LATENT_MEAN, LATENT_STD
from lab.small_model.outlines import grey_gradient
from tools.rigs.standin_shapes import vae_shapes

RANDOM = 0.25
"""Gain of the random part of a new convolution, beside the part that hands channels on with gain 1."""
COLOUR_AXES = torch.tensor(((1, 1, 1), (-1, 2, -1), (1, 0, -1))) / torch.tensor((3, 6, 2)).sqrt()[:, None]
"""Lightness, green-magenta and red-blue, orthonormal."""
COLOUR_GAINS = torch.tensor((1.0, 4.0, 2.5))
"""Of these axes inside a new network, where they are then about equally strong."""
COLOUR_CARE = torch.tensor((1.0, 3.0, 2.0))
"""Weight of an error of a latent cell's mean colour along these axes, beside the plain error. At (1, 2, 2) and
Muon's rate of 4e-3 green-magenta was lost within 100 steps and in 6,000 never found again (.05 of it drawn), with every
grey figure at its best; (1, 6, 3) kept it and cost outlines, .36 of them after 3,500 steps instead of .55. It is
saved by a lower rate once the skeleton is over (``VaeSettings.whole_rate``): at 1e-3 and more the whole network falls
by 2 to 4 dB within 100 steps and swings, at 5e-4 and less it goes on rising from where the skeleton was."""
LEAST_WEIGHT = 3e-3
"""Of the largest: directions that show less count as much as this, or float16 weights could not undo the change."""


def new_vae(dim: int, seed: int) -> AutoencoderKLWan:
    """The network with weights that let the picture through from the first step.

    Every convolution hands channel on to channel, beside a random part, and has no bias; residual branches and the
    attention add nothing yet, and the convolutions over time pass frames on or average them: a small blurred copy of
    the picture gets through in its colours. With torch's own start such a network sits at a grey picture for hundreds
    of steps; with random convolutions alone its skeleton is at 20.8 dB after 1,500 steps, with this at 23.9.

    Lightness, green-magenta and red-blue go in as three channels of about the same strength. Green-magenta is but 2 %
    of the pictures' energy; as weak as it comes, the large first steps of the other two drown it, and no later step
    finds it again (of what it tells of a cell's mean colour, .04 to .9 was left after 750 steps, as it happened; now
    .87 and more).
    """
    torch.manual_seed(seed)
    model = AutoencoderKLWan(base_dim=dim)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.normal_(layer.weight, std=RANDOM * layer.weight[0].numel() ** -0.5)
            _pass_channels(layer.weight)
            nn.init.zeros_(layer.bias)
    with torch.no_grad():  # the current frame's pixel in the middle
        model.encoder.conv_in.weight[:3, :, -1, 1, 1] = COLOUR_AXES * COLOUR_GAINS[:, None]
        model.decoder.conv_out.weight[:, :3, -1, 1, 1] = COLOUR_AXES.T / COLOUR_GAINS
    for layer in model.modules():
        if isinstance(layer, WanResidualBlock):
            nn.init.zeros_(layer.conv2.weight)
        elif isinstance(layer, WanAttentionBlock):
            nn.init.zeros_(layer.proj.weight)
        elif isinstance(layer, WanResample) and hasattr(layer, "time_conv"):
            _pass_time(layer.time_conv, layer.mode)
    return model


@torch.no_grad()
def _pass_channels(weight: Tensor) -> None:
    """Adds the channels of this frame's pixel in the middle to [out, in, (time,) height, width]."""
    channels = torch.arange(min(weight.shape[:2]))
    middle = weight[:, :, -1] if weight.dim() == 5 else weight
    middle[channels, channels, middle.shape[-2] // 2, middle.shape[-1] // 2] += 1


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


def cell_colours(error: Tensor) -> Tensor:
    """[B, 3, T, H, W] -> [B, 3, T, H / 8, W / 8]: error of each latent cell's mean colour, by axis and weighted.

    Hue is a few per cent of the pictures' energy, so that the plain error hardly notices an object in the wrong one.
    """
    axes = COLOUR_AXES * COLOUR_CARE[:, None]
    return torch.einsum("ac,bcthw->bathw", axes.to(error), cell_means(error))


def cell_means(video: Tensor) -> Tensor:
    """[B, 3, T, H, W] -> [B, 3, T, H / 8, W / 8]: mean colours of the latent cells."""
    return functional.avg_pool3d(video, (1, 8, 8))


def colour_shares(
    drawn: Tensor,  # [N, 3] of mean colours
    truth: Tensor,  # [N, 3]
) -> Tensor:  # [3]
    """Explained share of the colours along each axis: 1 all, 0 nothing, below 0 worse than guessing."""
    drawn, truth = drawn @ COLOUR_AXES.T, truth @ COLOUR_AXES.T
    return 1 - (drawn - truth).square().sum(0) / (truth - truth.mean(0)).square().sum(0)


def outline_error(drawn: Tensor, video: Tensor) -> Tensor:
    """Mean error of the grey picture's gradient, [B, 3, T, H, W] in -1...1 each.

    The plain error is small where a thin outline is lost; here it counts as much as the outline's own strength. Not its
    square: that would be paid by weak edges everywhere, which show as speckle in quiet places.
    """
    return (grey_gradient(drawn.movedim(1, -1)) - grey_gradient(video.movedim(1, -1))).abs().mean()


@torch.no_grad()
def picture_weights(model: AutoencoderKLWan, raw: Tensor, step: float = 0.2, seed: int = 0) -> Tensor:
    """[16, 16]: what a small change of a latent costs in the picture, ``change @ weights @ change``, over clips ``raw``
    ([B, 16, t, h, w]); the changes are noise of ``step`` times each channel's spread. The cost is the mean square that
    the VAE is trained by: of pixels, and of cells' mean colours."""
    spread = raw.std(dim=(0, 2, 3, 4)).clamp_min(1e-6)
    noise = torch.randn(raw[:, :1].shape, generator=torch.Generator().manual_seed(seed)).to(raw)
    drawn, pixels, cells = decode(model, raw), [], []
    for channel in range(CHANNELS):
        moved = raw.clone()
        moved[:, channel : channel + 1] += step * spread[channel] * noise
        change = (decode(model, moved) - drawn) / (step * spread[channel])
        pixels.append(change.flatten())
        cells.append(cell_colours(change).flatten())
    changes = (torch.stack(rows).double() for rows in (pixels, cells))
    return sum(rows @ rows.T / rows.shape[1] for rows in changes)


@torch.no_grad()
def settle_latents(model: AutoencoderKLWan, raw: Tensor, weights: Tensor) -> None:
    """Changes the 1x1x1 convolutions on both sides of the latent, so that ``raw`` ([N, 16] samples) would have had
    Wan's mean and spread in every channel, and so that an error costs the same in the picture whatever its direction
    (``weights``: :func:`picture_weights`). What is decoded stays the same.

    The host subtracts and divides by fixed numbers, which asks for unit spread. Left to itself the latent has
    directions that hardly show; a diffusion model would spend most of its effort on them.
    """
    raw = raw.double()
    mean = raw.mean(dim=0)
    values, vectors = torch.linalg.eigh(weights.double().cpu())
    root = vectors @ torch.diag(values.clamp_min(values.max() * LEAST_WEIGHT).sqrt()) @ vectors.T
    powers, axes = torch.linalg.eigh(root @ torch.cov((raw - mean).T) @ root)
    # Turned so that all channels share all directions alike: then each has the same spread.
    forward = _hadamard(CHANNELS) @ axes.T @ root / powers.mean().sqrt()
    spread, centre = torch.tensor(LATENT_STD, dtype=torch.float64), torch.tensor(LATENT_MEAN, dtype=torch.float64)
    forward = torch.diag(spread) @ forward
    back = torch.linalg.inv(forward)
    into, out = model.quant_conv, model.post_quant_conv
    weight, bias = into.weight.double()[:CHANNELS], into.bias.double()[:CHANNELS]
    into.weight[:CHANNELS] = torch.einsum("ij,jabcd->iabcd", forward, weight).float()
    into.bias[:CHANNELS] = (forward @ (bias - mean) + centre).float()
    weight, bias = out.weight.double(), out.bias.double()
    changed = torch.einsum("oiabc,ij->ojabc", weight, back)
    out.bias.copy_((bias + weight[..., 0, 0, 0] @ mean - changed[..., 0, 0, 0] @ centre).float())
    out.weight.copy_(changed.float())


def _hadamard(size: int) -> Tensor:
    """Orthogonal, every entry of the same size; ``size`` a power of two."""
    out = torch.ones(1, 1, dtype=torch.float64)
    while len(out) < size:
        out = torch.cat((torch.cat((out, out), 1), torch.cat((out, -out), 1))) / 2**0.5
    return out


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
