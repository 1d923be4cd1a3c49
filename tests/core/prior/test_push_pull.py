"""Test the smooth fill of a picture's holes."""

import pytest
import torch

from egox_core.prior.push_pull import push_pull


@pytest.mark.parametrize("size", [(64, 64), (45, 80), (1, 7), (7, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_holes_of_any_shape_are_filled_and_other_pixels_stay(size, channels):
    torch.manual_seed(0)
    holes = torch.rand(size) < 0.7
    holes[:, : size[1] // 2], holes[-1, -1] = True, False
    picture = torch.rand(*size, channels)
    filled = push_pull(picture, holes)
    assert torch.equal(filled[~holes], picture[~holes])
    lowest, highest = picture[~holes].aminmax()
    assert lowest - 1e-6 <= filled.min() and filled.max() <= highest + 1e-6
    flat = torch.full_like(picture, 0.4).masked_fill(holes[..., None], 9.0)
    assert torch.allclose(push_pull(flat, holes), torch.tensor(0.4))
