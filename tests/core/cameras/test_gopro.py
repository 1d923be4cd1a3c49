"""The raw lens behind the K of Ego-Exo4D's annotations."""

import torch

from egox_core.cameras.gopro import (
    GOPRO_SIZE,
    raw_focal,
    raw_gopro,
    raw_gopro_of,
    undistorted_focal,
)
from tests.refusals import refuses

PROJECTARIA_FOCAL = 1761.275757
"""Of the calibration row that projectaria_tools tests its reader with; its distortion is
GOPRO_DISTORTION."""


def annotation_k(focal: float, size: tuple[int, int] = GOPRO_SIZE) -> torch.Tensor:
    return torch.tensor(
        [[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]], dtype=torch.float64
    )


def test_projectarias_row_gives_the_annotations_focal_length_and_back():
    new = undistorted_focal(PROJECTARIA_FOCAL)
    assert abs(new - 1237) < 1
    # The bisection ends at 1e-6 px; OpenCV's own iteration adds about as much.
    assert abs(raw_focal(new) - PROJECTARIA_FOCAL) < 1e-3


def test_the_lens_scales_with_its_picture():
    """The call of OpenCV knows no absolute size: half the picture has half the focal length."""
    full, half = raw_gopro(annotation_k(1240)), raw_gopro(annotation_k(620, (1920, 1080)))
    assert full.stored_size == (3840, 2160) and half.stored_size == (1920, 1080)
    assert abs(full.fx / 2 - half.fx) < 1e-3


def test_only_the_datasets_k_has_a_known_raw_lens():
    assert 1700 < raw_gopro_of(annotation_k(1240)).fx < 1800
    assert raw_gopro_of(annotation_k(2900)) is None  # a phone's 4K video
    assert raw_gopro_of(annotation_k(634, (784, 448))) is None  # another picture
    with refuses("as given"):
        raw_focal(10.0)
