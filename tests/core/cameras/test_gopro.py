"""Test the raw lens behind the intrinsics of Ego-Exo4D's annotations."""

import torch

from egox_core.cameras.gopro import (
    GOPRO_SIZE,
    raw_focal,
    raw_gopro_of,
    undistorted_focal,
)
from tests.refusals import refuses

PROJECTARIA_FOCAL = 1761.275757
"""Of the calibration row that projectaria_tools tests its reader with; its distortion is
GOPRO_DISTORTION."""


def annotation_intrinsics(focal_px: float, size: tuple[int, int] = GOPRO_SIZE) -> torch.Tensor:
    return torch.tensor(
        [[focal_px, 0, size[0] / 2], [0, focal_px, size[1] / 2], [0, 0, 1]], dtype=torch.float64
    )


def test_focal_length_of_a_calibration_row_is_converted_and_back():
    annotation_focal = undistorted_focal(PROJECTARIA_FOCAL)
    assert abs(annotation_focal - 1237) < 1
    # The bisection ends at 1e-6 px; OpenCV's own iteration adds about as much.
    assert abs(raw_focal(annotation_focal) - PROJECTARIA_FOCAL) < 1e-3


def test_only_the_datasets_intrinsics_have_a_raw_lens():
    assert 1700 < raw_gopro_of(annotation_intrinsics(1240)).fx < 1800
    assert raw_gopro_of(annotation_intrinsics(2900)) is None  # a phone's 4K video
    assert raw_gopro_of(annotation_intrinsics(634, (784, 448))) is None  # another picture
    with refuses("as given"):
        raw_focal(10.0)
