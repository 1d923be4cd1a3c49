"""Contact sheets: what stands where, sizes, and which items are shown of many."""

import cv2
import numpy as np
import pytest

from egox_core.video.grid import GAP, label_height
from egox_train.contact_sheet import (
    PAPER,
    SheetRow,
    make_contact_sheet,
    spread,
    write_png,
)


def flat(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_rows_stand_under_each_other_with_their_labels():
    first = SheetRow(pictures=[flat(20, 40, 10), flat(40, 40, 20)], labels=("exo", "ego"))
    second = SheetRow(pictures=[flat(40, 40, 30)])
    sheet, strip, right = make_contact_sheet([first, second]), label_height(40), 80 + GAP
    assert sheet.shape == (strip + 80, right + 40, 3), (
        "a row is as high as its last picture, which keeps its size"
    )
    assert sheet[strip, 0, 0] == 10 and sheet[strip, right, 0] == 20 and sheet[-1, 0, 0] == 30
    assert (sheet[-1, 40:] == PAPER).all() and (sheet[:strip, :80] > 200).any(), "letters are light"
    wide = make_contact_sheet([SheetRow(pictures=first.pictures, labels=["one for both"])], 40)
    assert wide.shape == (strip + 40, right + 40, 3)


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
