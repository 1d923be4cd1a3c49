"""Rough colours from latents: a linear VAE is found exactly, and a clip without variety stays
finite."""

import torch

from egox_core.wan.latents import fit_latent_colours, latent_colours


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.rand(1, 3, 4, 4, 4)
    smooth = torch.nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear")
    return smooth[0].permute(1, 2, 3, 0)


def linear_latent(frames: torch.Tensor) -> torch.Tensor:
    """Imitate a VAE that mixes the mean colour of 8 x 8 pixels, the first frame alone and then four
    at a time, into 16 channels."""
    t, h, w = (len(frames) - 1) // 4 + 1, frames.shape[1] // 8, frames.shape[2] // 8
    blocks = frames.unflatten(1, (h, 8)).unflatten(3, (w, 8)).mean(dim=(2, 4))
    means = torch.stack([blocks[0], *(blocks[4 * f - 3 : 4 * f + 1].mean(0) for f in range(1, t))])
    mix = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
    return (means @ mix + 0.3).movedim(-1, 0)[None]


def test_a_linear_vae_is_found():
    exo, ego, other = clip(9, 32, 64), clip(9, 32, 32), clip(9, 32, 32)
    factors = fit_latent_colours([(linear_latent(exo), exo), (linear_latent(ego), ego)])
    assert factors.shape == (17, 3)
    drawn = latent_colours(linear_latent(other)[0], factors)
    expected = torch.stack([other[0], other[1:5].mean(0), other[5:9].mean(0)])
    expected = expected.unflatten(1, (4, 8)).unflatten(3, (4, 8)).mean(dim=(2, 4))
    # The ridge of a thousandth of the variance holds the weakest of the three colour directions
    # back a little.
    assert drawn.shape == (3, 4, 4, 3) and float((drawn - expected).abs().max()) < 0.05


def test_a_flat_clip_stays_flat():
    frames = torch.full((5, 16, 16, 3), 0.25)
    factors = fit_latent_colours([(torch.full((1, 16, 2, 2, 2), 0.7), frames)])
    drawn = latent_colours(torch.randn(16, 2, 2, 2), factors)
    assert torch.allclose(drawn, torch.full_like(drawn, 0.25), atol=1e-4)


def test_one_frame_is_enough():
    frames = clip(1, 16, 16)
    assert torch.isfinite(fit_latent_colours([(linear_latent(frames), frames)])).all()
