"""What CLIP vision sees, by the host's VAE, noise and CLIP vision; for conditioning and for the sampler node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.latent_formats
import comfy.sample
import torch
from torch import Tensor

from ..egox_core.wan.vision import embedding_picture

if TYPE_CHECKING:
    from comfy.clip_vision import ClipVisionModel, Output
    from comfy.sd import VAE


def released_embedding(vae: VAE, clip_vision: ClipVisionModel, exo_latent: Tensor, ego_latent: Tensor,
                       seed: int) -> Output:
    """The embedding of the released inference: first frame of the decoded canvas [exo | noise].

    The noise is the host's own for ``seed`` and the ego latent's shape, so that it is the noise that a sampler with
    the same seed starts from. exo_latent [B, 16, t, h, w_exo] and ego_latent [1, 16, t, h, w_ego] are raw.
    """
    noise = comfy.sample.prepare_noise(torch.zeros_like(ego_latent[:1], device="cpu"), seed)
    return encode_picture(clip_vision, embedding_picture(
        "released", exo_latent=exo_latent, ego_noise=noise,
        to_raw=comfy.latent_formats.Wan21().process_out, decode=lambda latent: vae.decode(latent)[:, 0],
    ))


def encode_picture(clip_vision: ClipVisionModel, picture: Tensor) -> Output:  # picture [1, H, W, 3] 0...1
    """Shortest edge to CLIP's size and the centre cut out, as the released processor does (quirks 28)."""
    return clip_vision.encode_image(picture, crop=True)
