"""Test the depth of frames between those that a network has seen."""

import math

import pytest
import torch

from egox_core.depth import depth_between


def test_a_surface_that_moves_evenly_is_interpolated_and_another_one_is_not():
    """Check a steady surface, one that comes nearer, and a pixel that something moves into."""
    near, far = 1 / 1.0, 1 / 1.04
    key_maps = torch.tensor([[[2.0, 1 / near, 1.0]], [[2.0, 1 / far, 3.0]]])
    depth = torch.stack(list(depth_between(key_maps, 4, 6)))
    assert depth.shape == (6, 1, 3)
    assert torch.equal(depth[:, 0, 0], torch.full((6,), 2.0))
    expected = [1 / (near + share * (far - near)) for share in (0, 0.25, 0.5, 0.75, 1, 1)]
    torch.testing.assert_close(depth[:, 0, 1], torch.tensor(expected))
    assert depth[:, 0, 2].tolist() == [1, 1, 1, 3, 3, 3], "the frame that is nearer in time"


@pytest.mark.parametrize("invalid", [math.nan, math.inf])
def test_invalid_depth_stays_so_until_the_nearer_frame_has_some(invalid):
    key_maps = torch.tensor([[[invalid, 1.0]], [[2.0, 1.0]]])
    depth = torch.stack(list(depth_between(key_maps, 4, 5)))
    assert depth[:, 0, 0].isfinite().tolist() == [False, False, False, True, True]
    assert depth[:, 0, 1].tolist() == [1.0] * 5
