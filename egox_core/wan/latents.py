"""Normalise latents of Wan 2.1's VAE to model space and back, and preview their colours without
decoding.

The per-channel statistics are those of every Wan 2.1 configuration (quirks 23, golden
``pack_mask``). A host with its own latent format (ComfyUI) applies them itself; the trainer and the
tests use these.

The colours show what a picture looks like while it is still being sampled. Their map is fitted on
the clip's own two halves, whose pictures and latents are both known, so it fits any VAE.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..sizes import FRAMES_PER_LATENT

LATENT_MEAN = (
    -0.7571,
    -0.7089,
    -0.9113,
    0.1075,
    -0.1745,
    0.9653,
    -0.1517,
    1.5508,
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
)
LATENT_STD = (
    2.8184,
    1.4541,
    2.3275,
    2.6558,
    1.2196,
    1.7708,
    2.6052,
    2.0743,
    3.2687,
    2.1526,
    2.8652,
    1.5579,
    1.6382,
    1.1253,
    2.8251,
    1.9160,
)
RIDGE = 1e-3
"""Ridge of the colours' fit, as a share of the latent's variance: damps directions that the clip
hardly has."""


def normalise_latent(raw: Tensor) -> Tensor:  # [B, 16, t, h, w] raw -> the same, model space
    """Normalise a raw latent to model space, by each channel's mean and standard deviation."""
    mean, std = _channel_statistics(raw)
    return (raw - mean) / std


def denormalise_latent(latent: Tensor) -> Tensor:  # [B, 16, t, h, w] model space -> the same, raw
    """Convert a latent from model space to raw, the inverse of :func:`normalise_latent`."""
    mean, std = _channel_statistics(latent)
    return latent * std + mean


def fit_latent_colours(
    pairs: Sequence[
        tuple[Tensor, Tensor]
    ],  # (latent [1, 16, t, h, w], frames [T, H, W, 3] 0...1), T = 4 (t - 1) + 1
) -> Tensor:  # [17, 3] float32: 16 rows for the channels, one for the offset
    """Fit a linear map from latents to the mean colour of each latent's pixels."""
    latents = torch.cat([latent[0].detach().float().cpu().flatten(1).T for latent, _ in pairs])
    colours = torch.cat(
        [_average_to_latents(frames, latent.shape[-3:]).flatten(0, 2) for latent, frames in pairs]
    )
    means = latents.double().mean(0), colours.double().mean(0)
    centred_latents, centred_colours = latents.double() - means[0], colours.double() - means[1]
    gram = centred_latents.T @ centred_latents
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    factors = torch.linalg.solve(
        gram + ridge + 1e-12 * torch.eye(len(gram), dtype=gram.dtype),
        centred_latents.T @ centred_colours,
    )
    return torch.cat((factors, (means[1] - means[0] @ factors)[None])).float()


def latent_colours(
    latent: Tensor, factors: Tensor
) -> Tensor:  # [16, t, h, w], [17, 3] -> [t, h, w, 3] 0...1
    """Draw a rough colour preview of a latent, one picture per latent frame."""
    channels_last = latent.detach().float().cpu().movedim(0, -1)
    return (channels_last @ factors[:-1] + factors[-1]).clamp(0, 1)


def _channel_statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (like.new_tensor(x).view(-1, 1, 1, 1) for x in (LATENT_MEAN, LATENT_STD))
    return mean, std


def _average_to_latents(frames: Tensor, size: tuple[int, ...]) -> Tensor:  # -> [t, h, w, 3]
    """Average frames to latent size: the first frame alone, then groups of four."""
    t, h, w = size
    small_frames = interpolate(
        frames[..., :3].detach().float().cpu().movedim(-1, 1), size=(h, w), mode="area"
    )
    first = small_frames[:1]
    later_frames = small_frames[1 : 1 + FRAMES_PER_LATENT * (t - 1)]
    grouped = (
        later_frames.unflatten(0, (t - 1, FRAMES_PER_LATENT)).mean(1) if t > 1 else later_frames
    )
    return torch.cat((first, grouped)).movedim(1, -1)
