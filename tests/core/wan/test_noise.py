"""The released noise, bit for bit."""

import pytest
import torch

from egox_core.wan.noise import released_noise


@pytest.mark.parametrize("seed", [42, 846514])
def test_it_is_what_the_released_pipeline_draws(seed):
    shape = (1, 16, 13, 56, 56)  # the ego half of 49 frames at 448 px
    expected = torch.randn(
        shape, dtype=torch.bfloat16, generator=torch.Generator("cpu").manual_seed(seed)
    )
    noise = released_noise(shape, seed)
    assert noise.dtype == torch.float32 and torch.equal(noise, expected.float())
    assert abs(float(noise.mean())) < 0.01 and abs(float(noise.std()) - 1) < 0.01


def test_no_other_precision_draws_it():
    shape = (1, 16, 3, 8, 8)
    usual = torch.randn(shape, generator=torch.Generator().manual_seed(42))
    both = torch.stack((released_noise(shape, 42).flatten(), usual.flatten()))
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    released_noise((1, 16, 1, 2, 2), 1)
    assert torch.equal(torch.get_rng_state(), before)
