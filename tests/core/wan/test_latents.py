"""Test approximate colours of latents, fitted to a linear VAE and to constant clips."""

import torch

from egox_core.wan.latents import fit_latent_colours, latent_colours


def random_clip(frames: int, height: int, width: int) -> torch.Tensor:
    coarse_colours = torch.rand(1, 3, 4, 4, 4)
    smooth_colours = torch.nn.functional.interpolate(
        coarse_colours, (frames, height, width), mode="trilinear"
    )
    return smooth_colours[0].permute(1, 2, 3, 0)


def linear_latent(frames: torch.Tensor) -> torch.Tensor:
    """Compute latents of 16 channels as linear mixtures of mean colours over 8 x 8 pixels and four
    frames."""
    t = (len(frames) - 1) // 4 + 1
    h = frames.shape[1] // 8
    w = frames.shape[2] // 8
    block_colours = frames.unflatten(1, (h, 8)).unflatten(3, (w, 8)).mean(dim=(2, 4))
    mean_colours = torch.stack(
        [
            block_colours[0],
            *(
                block_colours[4 * latent_frame - 3 : 4 * latent_frame + 1].mean(0)
                for latent_frame in range(1, t)
            ),
        ]
    )
    mixing_matrix = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
    return (mean_colours @ mixing_matrix + 0.3).movedim(-1, 0)[None]


def test_colours_of_a_linear_vae_are_recovered():
    exo_video, ego_video, other_clip = (
        random_clip(9, 32, 64),
        random_clip(9, 32, 32),
        random_clip(9, 32, 32),
    )
    colour_factors = fit_latent_colours(
        [(linear_latent(exo_video), exo_video), (linear_latent(ego_video), ego_video)]
    )
    assert colour_factors.shape == (17, 3)
    recovered_colours = latent_colours(linear_latent(other_clip)[0], colour_factors)
    expected_colours = torch.stack(
        [other_clip[0], other_clip[1:5].mean(0), other_clip[5:9].mean(0)]
    )
    expected_colours = expected_colours.unflatten(1, (4, 8)).unflatten(3, (4, 8)).mean(dim=(2, 4))
    # The ridge of a thousandth of the variance holds the weakest of the three colour directions
    # back a little.
    assert (
        recovered_colours.shape == (3, 4, 4, 3)
        and float((recovered_colours - expected_colours).abs().max()) < 0.05
    )


def test_colours_are_fitted_to_one_frame():
    frames = random_clip(1, 16, 16)
    assert torch.isfinite(fit_latent_colours([(linear_latent(frames), frames)])).all()
