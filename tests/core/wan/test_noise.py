"""The released noise. tests/benchmarks/test_fidelity.py shows that it is the authors' bit for bit."""

import torch

from egox_core.wan.noise import released_noise


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    released_noise((1, 16, 1, 2, 2), 1)
    assert torch.equal(torch.get_rng_state(), before)
