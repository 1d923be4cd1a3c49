"""Test that drawing the released noise doesn't change torch's random state."""

import torch

from egox_core.wan.noise import released_noise


def test_released_noise_keeps_the_global_random_state():
    random_state_before = torch.get_rng_state()
    released_noise((1, 16, 1, 2, 2), 1)
    assert torch.equal(torch.get_rng_state(), random_state_before)
