"""The Wan VAE outside the host: several videos at once are what each is alone."""

from pathlib import Path

import torch

from egox_train.wan.vae import VaeEncoder

VAE = Path(__file__).parents[3] / "models" / "vae" / "egox_standin_wan_vae.safetensors"


def test_a_batch_is_its_videos_one_by_one():
    """Torch takes another convolution from two videos on, whose sums have another order: 1e-6 and 5e-6 were seen."""
    vae = VaeEncoder(VAE)
    frames = torch.randint(0, 256, (3, 5, 16, 24, 3), dtype=torch.uint8)
    latents = vae.encode_batch(frames)
    torch.testing.assert_close(
        latents, torch.stack([vae.encode(video) for video in frames]), atol=5e-5, rtol=0
    )
    videos = vae.decode_batch(latents)
    assert videos.shape == (3, 5, 16, 24, 3)
    torch.testing.assert_close(
        videos, torch.stack([vae.decode(latent) for latent in latents]), atol=5e-5, rtol=0
    )
