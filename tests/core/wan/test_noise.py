"""The released noise; that it is the authors' bit for bit: tests/benchmarks/test_fidelity.py."""

import torch

from egox_core.wan.noise import released_noise


def test_no_other_precision_draws_it():
    shape = (1, 16, 3, 8, 8)
    usual = torch.randn(shape, generator=torch.Generator().manual_seed(42))
    both = torch.stack((released_noise(shape, 42).flatten(), usual.flatten()))
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    released_noise((1, 16, 1, 2, 2), 1)
    assert torch.equal(torch.get_rng_state(), before)
