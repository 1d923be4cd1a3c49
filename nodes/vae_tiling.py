"""The host's VAE, whole or in tiles, by one rule for encoding and decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from comfy.sd import VAE

TILE_TOOLTIP = (
    "Edge of a VAE tile in pixels; 0 works on the whole picture at once, which is exact and fastest. Use 256 where "
    "memory is short. (The host falls back to tiles by itself when it runs out of memory.)"
)


def encode_video(
    vae: VAE,
    images: Tensor,  # [T, H, W, 3] float32 0...1
    tile_size: int = 0,  # px; 0: whole
) -> Tensor:  # [1, 16, t, h, w] raw VAE latent (its mean, the host never samples the posterior)
    """One clip through the host's video VAE."""
    if tile_size == 0:
        return vae.encode(images)
    return vae.encode_tiled(images, tile_x=tile_size, tile_y=tile_size, overlap=tile_size // 4)


def decode_video(
    vae: VAE,
    latent: Tensor,  # [B, 16, t, h, w] raw VAE latent
    tile_size: int = 0,  # px; 0: whole
) -> Tensor:  # [B * T, H, W, 3] float32 0...1
    """Clips through the host's video VAE, batches one after the other, as its own decode node gives them."""
    if tile_size == 0:
        images = vae.decode(latent)
    else:
        tile = max(tile_size // vae.spacial_compression_decode(), 2)
        images = vae.decode_tiled(latent, tile_x=tile, tile_y=tile, overlap=tile // 4)
    return images.reshape(-1, *images.shape[-3:])
