"""Choose the picture that CLIP vision embeds.

Only models with an image embedding read it (Wan 2.1 I2V; Wan 2.2 I2V has none). ``released``: first
frame of the decoded noisy canvas, exo left and decoded NOISE right (quirks 26): what the authors'
inference feeds, oddity included, because their LoRA is used through it. ``exo+prior``: the clean
canvas's first frame. ``exo only``: the exo first frame. ``none``: no image embedding."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import EgoXInputError, check_choice
from ..types import IMAGE_EMBEDDING_MODES
from .latents import denormalise_latent


def embedding_picture(
    mode: str,
    *,
    exo_frame: Tensor | None = None,  # exo modes: [1, H, W_exo, 3] float32 0...1, first exo frame
    prior_frame: Tensor
    | None = None,  # exo+prior: [1, H, W_ego, 3] float32 0...1, first frame of the ego prior
    exo_latent: Tensor | None = None,  # released: [B, 16, t, h, w_exo] raw
    ego_noise: Tensor | None = None,  # released: [B, 16, t, h, w_ego] unit noise
    decode: Callable[[Tensor], Tensor]
    | None = None,  # released: raw latent [B,16,1,h,w] -> frames [1, H, W, 3] 0...1
) -> Tensor | None:  # [1, H, W, 3] float32 0...1
    """Choose the picture that CLIP vision embeds in the given mode, or None in mode ``none``.

    Raises:
        EgoXInputError: unknown mode, or ``released`` without latent, noise and decoder.
    """
    if mode == "none":
        return None
    check_choice("image embedding", mode, IMAGE_EMBEDDING_MODES, "choose one of the named modes")
    if mode == "exo only" and exo_frame is not None:
        return exo_frame[:1]
    if mode == "exo+prior" and exo_frame is not None and prior_frame is not None:
        return torch.cat((exo_frame[:1], prior_frame[:1].to(exo_frame)), dim=2)
    if mode != "released":
        raise EgoXInputError(
            f"image embedding in mode {mode}",
            got="no first frame",
            expected="that of each video that the mode names",
            fix="give exo_frame, and prior_frame in mode exo+prior",
        )
    if exo_latent is None or ego_noise is None or decode is None:
        raise EgoXInputError(
            "image embedding in mode released",
            got="no noise, latent or VAE",
            expected="exo latent, the sampler's noise and the VAE",
            fix="give noise_seed and the VAE",
        )
    # The first latent frame of [exo | noise] is enough, since the VAE is causal in time.
    exo = exo_latent[:1, :, :1]
    noise = denormalise_latent(ego_noise[:1, :, :1].float())
    frames = decode(torch.cat((exo, noise.to(exo)), dim=-1))
    return frames[:1].float().clamp(0, 1)
