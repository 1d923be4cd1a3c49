"""Encode one clip to the tensors that training needs: latents, embeddings and ray directions."""

import hashlib

import torch
from torch import Tensor

from egox_core.frozen import frozen
from egox_core.gga import gga_geometry
from egox_core.stages import condition
from egox_core.types import GgaGeometry
from egox_core.wan import normalise_latent

from ..compute_type import DTYPES, compute_type
from ..options import CacheSettings, Rays
from ..wan.text import TextEncoder, make_text_encoder
from ..wan.vae import VaeEncoder
from ..wan.vision import VisionEncoder
from .cache_store import to_storage
from .clip_files import PreparedClip, first_frame_then_grey

_ENCODERS: dict[str, tuple[VaeEncoder, TextEncoder, VisionEncoder | None]] = {}


def encoders(settings: CacheSettings) -> tuple[VaeEncoder, TextEncoder, VisionEncoder | None]:
    """Load the VAE, text encoder and vision encoder, once per process."""
    settings_key = repr(settings)
    if settings_key not in _ENCODERS:
        _ENCODERS.clear()
        encoder_dtype = DTYPES[compute_type(settings.encoder_dtype, settings.device)]
        vision_encoder = (
            None
            if settings.image_embedding == "none" or settings.clip_vision is None
            else VisionEncoder(settings.clip_vision, settings.device, encoder_dtype)
        )
        _ENCODERS[settings_key] = (
            VaeEncoder(settings.vae, settings.device),
            make_text_encoder(
                settings.text, settings.device, encoder_dtype, settings.text_encoding
            ),
            vision_encoder,
        )
    return _ENCODERS[settings_key]


@frozen
class TrainerEncoders:
    """VAE and CLIP vision encoder of the trainer, with the interface of
    :func:`egox_core.stages.condition`."""

    vae: VaeEncoder
    vision: VisionEncoder | None

    def encode(self, video: Tensor) -> Tensor:  # [T, H, W, 3] -> [1, 16, t, h, w] raw
        return self.vae.encode_raw(video[None]).cpu()

    def decode(self, latent: Tensor) -> Tensor:  # [1, 16, 1, h, w] raw -> [1, H, W, 3] 0...1
        return self.vae.decode_raw(latent)[0]

    def embed(self, picture: Tensor) -> Tensor:  # [1, H, W, 3] 0...1 -> [tokens, width]
        assert self.vision is not None  # else no embedding is asked for
        return self.vision.encode(picture)


def clip_tensors(clip: PreparedClip, settings: CacheSettings) -> dict[str, Tensor]:
    """Encode one clip for the cache: video latents [16, t, h, w] and embeddings [tokens, width]."""
    vae_encoder, text_encoder, vision_encoder = encoders(settings)
    dtype = getattr(torch, settings.dtype)
    ego_frames = clip.ego
    embedding_mode = settings.image_embedding
    assert ego_frames is not None  # a cache is built of clips with a ground truth
    conditioned_clip, _ = condition(
        clip.exo,
        clip.prior,
        TrainerEncoders(vae=vae_encoder, vision=vision_encoder),
        image_embedding="none"
        if vision_encoder is None or embedding_mode == "trainer"
        else embedding_mode,
        noise_seed=clip_noise_seed(clip.record.clip),
    )
    frames = {"ego": ego_frames, "grey": torch.full_like(clip.prior, 128)}
    if settings.views:
        frames |= {
            "exo_first": first_frame_then_grey(clip.exo),
            "ego_first": first_frame_then_grey(ego_frames),
        }
    canvas = conditioned_clip.canvas
    clip_outputs = {
        "exo": normalise_latent(canvas.exo_latent)[0],
        "prior": normalise_latent(canvas.prior_latent)[0],
        **{name: vae_encoder.encode(video) for name, video in frames.items()},
        "text": text_encoder.encode(clip.take.notes.prompt),
    }
    if vision_encoder is not None:
        first_frames = [video[:1].float() / 255 for video in (clip.exo, ego_frames)]
        clip_outputs["image"] = (
            vision_encoder.encode(torch.cat(first_frames, dim=2), twice_rescaled=True)
            if embedding_mode == "trainer"
            else conditioned_clip.embedding
        )
        if settings.views:
            clip_outputs |= {
                "image_exo": vision_encoder.encode(first_frames[0]),
                "image_ego": vision_encoder.encode(first_frames[1]),
            }
    geometry = guidance_of_clip(clip, settings.rays)
    return {name: to_storage(tensor, dtype) for name, tensor in clip_outputs.items()} | {
        "query_dirs": to_storage(geometry.query_dirs, torch.float32),
        "key_dirs": to_storage(geometry.key_dirs, torch.float32),
        "key_trust": to_storage(geometry.key_trust, torch.float32),
        "grid": torch.tensor(geometry.grid),
    }


def guidance_of_clip(clip: PreparedClip, rays: Rays) -> GgaGeometry:
    """Compute the ray directions of a clip for geometry-guided attention."""
    record = clip.record
    return gga_geometry(
        clip.take.depth,
        clip.take.trajectory,
        rays,
        frames=record.frames,
        exo_size=record.exo_size,
        ego_size=record.ego_size,
        meta_intrinsics=clip.take.notes.meta_intrinsics,
    )


def clip_noise_seed(clip: str) -> int:
    """Derive the noise seed of a clip's ``released`` image embedding from its name.

    Inference uses the sampler's seed instead."""
    return int.from_bytes(hashlib.sha256(clip.encode()).digest()[:6], "big")
