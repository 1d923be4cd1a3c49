"""Draw a contact sheet: rows of labelled pictures in one PNG file."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from egox_core.frozen import frozen
from egox_core.safe_files import atomic_write
from egox_core.video import picture_row

PAPER = 255  # beside rows that are narrower than the sheet


@frozen
class SheetRow:
    """Row of pictures on a contact sheet, with no label, one label for the row, or one for each
    picture."""

    pictures: Sequence[np.ndarray]  # each [H, W, 3] uint8 RGB
    labels: Sequence[str] = ()


def make_contact_sheet(
    rows: Sequence[SheetRow],
    height: int = 0,  # px of every picture; 0: each row as high as its last one
) -> np.ndarray:  # [H, W, 3] uint8 RGB
    """Draw a contact sheet picture with all rows below each other."""
    row_pictures = [
        picture_row(row.pictures, row.labels, height or row.pictures[-1].shape[0]) for row in rows
    ]
    width = max(row_picture.shape[1] for row_picture in row_pictures)
    return np.concatenate(
        [
            np.pad(
                row_picture,
                ((0, 0), (0, width - row_picture.shape[1]), (0, 0)),
                constant_values=PAPER,
            )
            for row_picture in row_pictures
        ]
    )


def write_png(file: Path, picture: np.ndarray) -> None:  # [H, W, 3] uint8 RGB
    """Write a picture as a PNG file atomically."""
    _, png_bytes = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    with atomic_write(file) as temporary_file:
        temporary_file.write_bytes(png_bytes.tobytes())
