"""Encode and decode pictures with ComfyUI's VAE, and make the image embedding."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.finite import all_finite
from ...egox_core.frozen import frozen
from ...egox_core.wan import embedding_picture
from .noise import first_noise
from .progress import host_progress
from .remember import remembered

if TYPE_CHECKING:
    from comfy.clip_vision import ClipVisionModel, Output
    from comfy.sd import VAE

LOW_MEMORY_TILE = 256  # px


@contextmanager
def report_calls(modules: Iterable[object], calls: int, stage: str) -> Generator[None]:
    """Report progress by counting calls of a model's modules, and stop when the user cancels.

    Args:
        modules: what is none of torch's is left out.
        calls: in one round of the work, which may be repeated.
    """
    modules = [module for module in modules if isinstance(module, torch.nn.Module)]
    report_progress = host_progress(calls)
    count = 0

    def count_call(*_: object) -> None:
        nonlocal count
        count += 1
        report_progress(count, calls * -(-count // calls), stage)

    handles = [module.register_forward_hook(count_call) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def report_passes(vae: VAE, module_name: str, passes: int) -> AbstractContextManager:
    """Report progress by counting the calls of a VAE's encoder or decoder.

    ComfyUI's video VAEs process a few frames at a time. ``passes`` is the number for a clip or
    for a tile of one."""
    return report_calls(
        (getattr(getattr(vae, "first_stage_model", None), module_name, None),), passes, module_name
    )


@remembered(slots=4)
def encode_video(
    vae: VAE,
    images: Tensor,  # [T, H, W, 3] float32 0...1
    tile_size: int = 0,  # px; 0: whole
) -> Tensor:  # [1, 16, t, h, w] raw VAE latent (its mean, the host never samples the posterior)
    """Encode one clip with ComfyUI's video VAE.

    The result is remembered, because the same clip is encoded again for another seed or LoRA
    strength.
    """
    with report_passes(vae, "encoder", 1 + (len(images) - 1) // 2):
        if tile_size == 0:
            return vae.encode(images)
        return vae.encode_tiled(images, tile_x=tile_size, tile_y=tile_size, overlap=tile_size // 4)


def decode_video(
    vae: VAE,
    latent: Tensor,  # [B, 16, t, h, w] raw VAE latent
    tile_size: int = 0,  # px; 0: whole
) -> Tensor:  # [B * T, H, W, 3] float32 0...1
    """Decode latents of clips with ComfyUI's VAE, and join their frames.

    Raises:
        EgoXInputError: the latent or the decoded frames have NaN, which would be shown as black.
    """
    if not all_finite(latent):
        raise EgoXInputError(
            "latent to decode",
            got="NaN or infinite numbers",
            expected="finite numbers",
            fix="sample it anew; compare size and SHA-256 of the model's and the LoRA's files with "
            "those that their page states",
        )
    with report_passes(vae, "decoder", 1 + latent.shape[2] // 2):
        if tile_size == 0:
            images = vae.decode(latent)
        else:
            latent_tile = max(tile_size // vae.spacial_compression_decode(), 2)
            images = vae.decode_tiled(
                latent, tile_x=latent_tile, tile_y=latent_tile, overlap=latent_tile // 4
            )
    frames = images.reshape(-1, *images.shape[-3:])
    if not all_finite(frames):
        bad_frames = [number for number, frame in enumerate(frames) if not all_finite(frame)]
        raise EgoXInputError(
            "ego video",
            got=(
                f"NaN or infinite numbers in {len(bad_frames)} of {len(frames)} frames, the first "
                f"{bad_frames[0]}, though the latent has none"
            ),
            expected="finite numbers from the VAE",
            fix="compare size and SHA-256 of the VAE's file with those that its page states (a "
            "damaged file gives NaN), or start ComfyUI with --fp32-vae (half precision overflows)",
        )
    return frames


@frozen
class HostEncoders:
    """Wrap ComfyUI's VAE and CLIP vision for :func:`stages.condition`."""

    vae: VAE
    clip_vision: ClipVisionModel | None
    tile_size: int  # px; 0: whole

    def encode(self, video: Tensor) -> Tensor:  # [T, H, W, 3] 0...1 -> [1, 16, t, h, w] raw
        return encode_video(self.vae, video, self.tile_size)

    def decode(self, latent: Tensor) -> Tensor:  # [1, 16, 1, h, w] raw -> [1, H, W, 3] 0...1
        return self.vae.decode(latent)[:, 0]

    def embed(self, picture: Tensor) -> Output:  # [1, H, W, 3] 0...1
        assert self.clip_vision is not None  # else no embedding is asked for
        return encode_picture(self.clip_vision, picture)


@remembered(slots=4)
def released_embedding(
    vae: VAE,
    clip_vision: ClipVisionModel,
    exo_latent: Tensor,  # [B, 16, t, h, w_exo] raw
    ego_latent: Tensor,  # [B, 16, t, h, w_ego] raw; only its shape counts
    seed: int,
    noise: str,  # of NOISES
) -> Output:
    """Compute the image embedding of the released inference.

    The noise is the one from which a sampler with the same ``seed`` and ``noise`` starts.
    """
    encoders = HostEncoders(vae=vae, clip_vision=clip_vision, tile_size=0)
    picture = embedding_picture(
        "released",
        exo_latent=exo_latent,
        ego_noise=first_noise(ego_latent, seed, noise),
        decode=encoders.decode,
    )
    assert picture is not None  # only mode none has none
    return encoders.embed(picture)


def encode_picture(
    clip_vision: ClipVisionModel, picture: Tensor
) -> Output:  # picture [1, H, W, 3] 0...1
    """Encode a centre-cropped picture with CLIP vision as the released code does."""
    return clip_vision.encode_image(picture, crop=True)
