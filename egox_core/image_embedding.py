"""The picture that CLIP vision sees, for models with an image embedding (Wan 2.1 I2V; Wan 2.2 I2V has none).

``released``: first frame of the decoded noisy canvas, exo left and decoded NOISE right (quirks 26): what the authors'
inference feeds, oddity included, because their LoRA is used through it. ``exo+prior``: the clean canvas's first frame.
``exo only``: the exo first frame. ``none``: no image embedding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import EgoXInputError

IMAGE_EMBEDDING_MODES = ("released", "exo+prior", "exo only", "none")


def noisy_canvas_latent(
    exo_latent: Tensor,  # [B, 16, t, h, w_exo] raw
    ego_noise: Tensor,  # [B, 16, t, h, w_ego] the sampler's own unit noise, model space
    to_raw: Callable[[Tensor], Tensor],  # model space -> raw (host: latent_format.process_out)
) -> Tensor:  # [B, 16, 1, h, w_exo + w_ego] raw
    """First latent frame of [exo | noise] as the VAE takes it; one is enough, since the VAE is causal in time."""
    noise = to_raw(ego_noise[:, :, :1].float()).to(exo_latent)
    return torch.cat((exo_latent[:, :, :1], noise), dim=-1)


def embedding_picture(
    mode: str,
    *,
    exo_frame: Tensor | None = None,  # exo modes: [1, H, W_exo, 3] float32 0...1, first exo frame
    prior_frame: Tensor | None = None,  # exo+prior: [1, H, W_ego, 3] float32 0...1, first frame of the ego prior
    exo_latent: Tensor | None = None,  # released: [B, 16, t, h, w_exo] raw
    ego_noise: Tensor | None = None,  # released: [B, 16, t, h, w_ego] unit noise
    to_raw: Callable[[Tensor], Tensor] | None = None,  # released
    decode: Callable[[Tensor], Tensor] | None = None,  # released: raw latent [B,16,1,h,w] -> frames [1, H, W, 3] 0...1
) -> Tensor | None:  # [1, H, W, 3] float32 0...1
    """The picture for CLIP vision in the given mode, or None in mode ``none``.

    Raises:
        EgoXInputError: unknown mode, or ``released`` without latent, noise and decoder.
    """
    if mode == "none":
        return None
    if mode == "exo only":
        return exo_frame[:1]
    if mode == "exo+prior":
        return torch.cat((exo_frame[:1], prior_frame[:1].to(exo_frame)), dim=2)
    if mode != "released":
        raise EgoXInputError("image embedding", got=repr(mode), expected=f"one of {', '.join(IMAGE_EMBEDDING_MODES)}",
                             fix="choose one of the named modes")
    if exo_latent is None or ego_noise is None or to_raw is None or decode is None:
        raise EgoXInputError("image embedding in mode released", got="no noise, latent or VAE",
                             expected="exo latent, the sampler's noise and the VAE",
                             fix="set noise_seed and connect the VAE")
    frames = decode(noisy_canvas_latent(exo_latent[:1], ego_noise[:1], to_raw))
    return frames[:1].float().clamp(0, 1)
