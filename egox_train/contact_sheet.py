"""A contact sheet: rows of pictures side by side under their names, one PNG."""

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
    """Pictures side by side, with no label, one over the whole row, or one for each picture."""

    pictures: Sequence[np.ndarray]  # each [H, W, 3] uint8 RGB
    labels: Sequence[str] = ()


def make_contact_sheet(
    rows: Sequence[SheetRow],
    height: int = 0,  # px of every picture; 0: each row as high as its last one
) -> np.ndarray:  # [H, W, 3] uint8 RGB
    """Draw all rows below each other."""
    strips = [
        picture_row(row.pictures, row.labels, height or row.pictures[-1].shape[0]) for row in rows
    ]
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate(
        [
            np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=PAPER)
            for strip in strips
        ]
    )


def write_png(file: Path, picture: np.ndarray) -> None:  # [H, W, 3] uint8 RGB
    """Write a PNG, whole or not at all."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    with atomic_write(file) as temporary:
        temporary.write_bytes(data.tobytes())
