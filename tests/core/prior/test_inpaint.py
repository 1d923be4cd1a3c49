"""Holes painted from around, and faded: what is covered stays, what is far from it is the background."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egox_core.errors import EgoXInputError
from egox_core.prior.inpaint import FADE, fade_holes, inpaint_holes
from egox_core.prior.options import PriorOptions, prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.synthetic import SyntheticSpec, make_take

HEIGHT, WIDTH, EDGE = 80, 100, 40
COLOUR = (200, 120, 40)


def half_covered() -> tuple[np.ndarray, np.ndarray]:
    """One colour in the columns before EDGE, nothing from there on."""
    coverage = np.zeros((HEIGHT, WIDTH), bool)
    coverage[:, :EDGE] = True
    return np.where(coverage[..., None], np.uint8(COLOUR), np.uint8(0)), coverage


@pytest.mark.parametrize("fill", [inpaint_holes, fade_holes])
def test_covered_pixels_stay(fill) -> None:
    draw = np.random.default_rng(3)
    picture, coverage = draw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), draw.random((HEIGHT, WIDTH)) < 0.4
    assert np.array_equal(fill(picture, coverage)[coverage], picture[coverage])


def test_a_plain_colour_goes_on_into_its_hole() -> None:
    picture, coverage = half_covered()
    near = np.s_[:, : EDGE + 10]  # OpenCV's drifts by a level or two in five px
    assert np.abs(inpaint_holes(picture, coverage).astype(int) - COLOUR)[near].max() <= 6


def test_the_fade_falls_evenly_from_its_begin_to_its_end() -> None:
    picture, coverage = half_covered()
    distance = np.arange(WIDTH) - EDGE + 1.0  # px from the last covered column, for the columns of the hole
    begin, end = FADE[0] * HEIGHT, FADE[1] * HEIGHT
    share = np.where(distance <= 0, 1, np.clip((end - distance) / (end - begin), 0, 1))
    expected = share[None, :, None] * np.array(COLOUR) + (1 - share[None, :, None]) * np.array([51, 51, 51])
    expected[:, :EDGE] = COLOUR
    found = fade_holes(picture, coverage, (0.2, 0.2, 0.2))
    assert np.abs(found - expected).max() <= 6  # the drift, and OpenCV's distance, whose 5 x 5 mask is off by 2 %


def test_without_coverage_there_is_only_background() -> None:
    nothing = np.zeros((8, 8), bool)
    assert not inpaint_holes(np.full((8, 8, 3), 9, np.uint8), nothing).any()
    assert (fade_holes(np.full((8, 8, 3), 9, np.uint8), nothing, (1.0, 0.0, 0.5)) == (255, 0, 128)).all()


def test_the_faded_prior_differs_from_the_clean_one_in_its_holes_alone() -> None:
    take = make_take(SyntheticSpec(seed=5, frames=2, exo_width=112, exo_height=64, ego_size=64))
    scene = build_scene(take.exo_frames(), take.depth_video())
    clean, faded = (render_ego_prior(scene, take.trajectory(), prior_preset(p)) for p in ("clean", "faded"))
    assert torch.equal(clean.coverage, faded.coverage)
    assert torch.equal(clean.rgb[clean.coverage], faded.rgb[clean.coverage])
    assert float(faded.rgb[~clean.coverage].max()) > 0.1
    for frame in range(2):
        picture = (clean.rgb[frame] * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        wanted = torch.from_numpy(fade_holes(picture, clean.coverage[frame].numpy())).float() / 255
        assert (wanted - faded.rgb[frame]).abs().max() <= 0.5 / 255 + 1e-6


def test_an_unknown_way_with_holes_is_refused() -> None:
    with pytest.raises(EgoXInputError, match="holes"):
        PriorOptions(holes="mirror")
