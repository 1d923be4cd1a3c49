"""Contact sheets: what stands where, sizes, and which items are shown of many."""

import cv2
import numpy as np
import pytest

from egox_train.contact_sheet import (
    spread,
    write_png,
)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (1, 4, [0]), (10, 1, [0]), (0, 3, [])],
)
def test_what_is_shown_spreads_over_all(count, most, expected):
    assert spread(count, most) == expected


def test_the_file_holds_the_picture(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    write_png(tmp_path / "sheet.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1], picture)
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
