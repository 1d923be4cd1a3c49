"""Tensors of one clip as a cache's shard holds them: latents, embeddings, directions."""

import hashlib

import torch
from torch import Tensor

from egox_core.gga.geometry import gga_geometry, with_trainer_rays
from egox_core.sizes import FRAMES_PER_LATENT, PIXELS_PER_LATENT
from egox_core.types import GgaGeometry
from egox_core.wan.latents import denormalise_latent, normalise_latent
from egox_core.wan.vision import embedding_picture

from ..options import CacheSettings, Rays
from ..wan.text import TextEncoder, make_text_encoder
from ..wan.vae import VaeEncoder
from ..wan.vision import VisionEncoder
from .cache_store import stored
from .clip_files import Clip, first_frame_then_grey

_ENCODERS: dict[str, tuple[VaeEncoder, TextEncoder, VisionEncoder | None]] = {}


def encoders(settings: CacheSettings) -> tuple[VaeEncoder, TextEncoder, VisionEncoder | None]:
    """Loaded once a process."""
    key = repr(settings)
    if key not in _ENCODERS:
        _ENCODERS.clear()
        half = torch.float32 if settings.device == "cpu" else torch.bfloat16
        vision = (
            None
            if settings.image_embedding == "none" or settings.clip_vision is None
            else VisionEncoder(settings.clip_vision, settings.device, half)
        )
        _ENCODERS[key] = (
            VaeEncoder(settings.vae, settings.device),
            make_text_encoder(settings.text, settings.device, settings.text_encoding),
            vision,
        )
    return _ENCODERS[key]


def clip_tensors(clip: Clip, settings: CacheSettings) -> dict[str, Tensor]:
    """All that a shard holds of one clip: latents [16, t, h, w] in model space, embeddings [tokens,
    width]."""
    vae, text, vision = encoders(settings)
    dtype, ego = getattr(torch, settings.dtype), clip.ego
    assert ego is not None  # a cache is built of clips with a ground truth
    frames = {
        "exo": clip.exo,
        "ego": ego,
        "prior": clip.prior,
        "grey": torch.full_like(clip.prior, 128),
    }
    if settings.views:
        frames |= {
            "exo_first": first_frame_then_grey(clip.exo),
            "ego_first": first_frame_then_grey(ego),
        }
    out = {name: vae.encode(video) for name, video in frames.items()}
    out["text"] = text.encode(clip.take.prompt)
    if vision is not None:
        out |= _image_embeddings(clip, ego, settings, out["exo"], vae, vision)
    geometry = clip_geometry(clip, settings.rays)
    return {name: stored(tensor, dtype) for name, tensor in out.items()} | {
        "query_dirs": stored(geometry.query_dirs, torch.float32),
        "key_dirs": stored(geometry.key_dirs, torch.float32),
        "key_trust": stored(geometry.key_trust, torch.float32),
        "grid": torch.tensor(geometry.grid),
    }


def clip_geometry(clip: Clip, rays: Rays) -> GgaGeometry:
    """GGA directions of a clip, in a few MB (never the L x L map)."""
    record = clip.record
    geometry = gga_geometry(
        clip.take.depth,
        clip.take.trajectory,
        "exact" if rays == "trainer" else rays,
        frames=record.frames,
        exo_size=record.exo_size,
        ego_size=record.ego_size,
    )
    if rays == "trainer":
        geometry = with_trainer_rays(
            geometry, clip.take.trajectory, torch.arange(geometry.grid[0]) * FRAMES_PER_LATENT
        )
    return geometry


def noise_seed_of(clip: str) -> int:
    """Seed of the noise in the ``released`` image embedding; at inference it is the sampler's."""
    return int.from_bytes(hashlib.sha256(clip.encode()).digest()[:6], "big")


def _image_embeddings(
    clip: Clip,
    ego: Tensor,
    settings: CacheSettings,
    exo_latent: Tensor,
    vae: VaeEncoder,
    vision: VisionEncoder,
) -> dict[str, Tensor]:
    exo, prior, ego = (video[:1].float() / 255 for video in (clip.exo, clip.prior, ego))
    mode = settings.image_embedding
    if mode == "trainer":
        picture = torch.cat((exo, ego), dim=2)
    else:
        t, h, w_ego = (
            exo_latent.shape[1],
            exo_latent.shape[2],
            clip.record.ego_size[0] // PIXELS_PER_LATENT,
        )
        generator = torch.Generator().manual_seed(noise_seed_of(clip.record.clip))
        picture = embedding_picture(
            mode,
            exo_frame=exo,
            prior_frame=prior,
            exo_latent=denormalise_latent(exo_latent[None]),
            ego_noise=torch.randn(1, 16, t, h, w_ego, generator=generator),
            to_raw=denormalise_latent,
            decode=lambda raw: _decode_raw(vae, raw),
        )
    assert picture is not None  # only mode none has none
    out = {"image": vision.encode(picture, twice_rescaled=mode == "trainer")}
    if settings.views:
        out |= {"image_exo": vision.encode(exo), "image_ego": vision.encode(ego)}
    return out


def _decode_raw(vae: VaeEncoder, raw: Tensor) -> Tensor:
    return vae.decode(normalise_latent(raw)[0])
