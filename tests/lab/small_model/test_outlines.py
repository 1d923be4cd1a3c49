"""Outlines: what blur takes, what noise and sharpening can't give, and objects' outlines as colours show them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from egox_core.types import ObjectMasks
from lab.small_model.outlines import GREY, grey_gradient, object_outlines, outline_share, quiet_gradient


@pytest.fixture(scope="module")
def room() -> torch.Tensor:
    """[2, 64, 64, 3]: a dark square on a light wall, and a soft shade over all."""
    picture = torch.full((2, 64, 64, 3), 0.7)
    picture[:, 20:44, 20:44] = torch.tensor([0.6, 0.2, 0.1])
    return picture + torch.linspace(0, 0.05, 64)[:, None]


def blurred(frames: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames.numpy()]))


def test_the_gradient_is_that_of_numpy(room) -> None:
    found = grey_gradient(room)
    down, across = np.gradient((room[0] @ GREY).numpy())
    assert np.allclose(found[0, 0], across[1:-1, 1:-1], atol=1e-6)
    assert np.allclose(found[1, 0], down[1:-1, 1:-1], atol=1e-6)


def test_outlines_are_a_projection(room) -> None:
    assert outline_share(room, room) == pytest.approx(1)
    assert outline_share(0.5 * room + 0.2, room) == pytest.approx(0.5)
    assert outline_share(torch.full_like(room, 0.5), room) == 0
    assert outline_share(room, torch.full_like(room, 0.5)) is None
    soft = [outline_share(blurred(room, sigma), room) for sigma in (0.5, 1, 2, 4)]
    assert soft == sorted(soft, reverse=True) and soft[-1] < 0.3
    noise = torch.randn(room.shape, generator=torch.Generator().manual_seed(0)) * 9 / 255
    assert outline_share(room + noise, room) == pytest.approx(1, abs=0.03), "noise adds none"


def test_quiet_places_hear_noise(room) -> None:
    noise = torch.randn(room.shape, generator=torch.Generator().manual_seed(0)) * 9 / 255
    silent = quiet_gradient(room, room)
    assert silent < 1.5 and quiet_gradient(room + noise, room) > silent + 3
    assert quiet_gradient(torch.full_like(room, 0.5), room) == 0
    steep = (torch.arange(64) / 64).view(1, 1, 64, 1).expand(1, 64, 64, 3)
    assert quiet_gradient(steep, steep) is None


def test_an_objects_outline_is_where_its_colour_ends(room) -> None:
    mask = np.zeros((1, 2, 64, 64), bool)
    mask[:, :, 20:44, 20:44] = True
    masks = ObjectMasks(ids=("square",), truth=mask, generated=None, seen=None)
    assert object_outlines(masks, room, room) == 1
    moved = torch.roll(room, 3, dims=2)  # three pixels off; one is allowed
    assert object_outlines(masks, moved, room) < 0.8
    assert object_outlines(masks, torch.full_like(room, 0.7), room) == 0, "no object, no outline"
    assert object_outlines(masks, room[:, :1, :1].expand_as(room) * 0 + room[0, 30, 30], room) < 0.2, "all object"
    none = ObjectMasks(ids=(), truth=mask[:0], generated=None, seen=None)
    assert object_outlines(none, room, room) is None
