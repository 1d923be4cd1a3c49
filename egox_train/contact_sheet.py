"""A contact sheet: rows of pictures side by side under their names, one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from egox_core.previews.grid import label_height, label_strip
from egox_core.safe_files import atomic_write
from egox_core.video.reader import resize_picture

PAPER = 255  # beside rows that are narrower than the sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """Pictures side by side; no label, one over the whole row, or one for each picture."""

    pictures: Sequence[np.ndarray]  # each [H, W, 3] uint8 RGB
    labels: Sequence[str] = ()


def make_contact_sheet(
    rows: Sequence[SheetRow],
    height: int = 0,  # px of every picture; 0: each row as high as its last one
) -> np.ndarray:  # [H, W, 3] uint8 RGB
    """All rows under each other."""
    strips = [_row(row, height or row.pictures[-1].shape[0]) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate(
        [
            np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=PAPER)
            for strip in strips
        ]
    )


def beside(
    pictures: Sequence[np.ndarray],  # each [H, W, 3] uint8
    height: int,  # px
) -> np.ndarray:  # [height, sum of widths, 3] uint8
    """Pictures at one height side by side; each width is even, so that rows can be frames of a
    video."""
    return np.concatenate([_at_height(picture, height) for picture in pictures], axis=1)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the indices below ``count``, evenly spread, with the first and the
    last."""
    shown = min(count, most)
    return sorted({round(i * (count - 1) / max(1, shown - 1)) for i in range(shown)})


def write_png(file: Path, picture: np.ndarray) -> None:  # [H, W, 3] uint8 RGB
    """Whole or not at all."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    with atomic_write(file) as temporary:
        temporary.write_bytes(data.tobytes())


def _row(row: SheetRow, height: int) -> np.ndarray:
    pictures = beside(row.pictures, height)
    if not row.labels:
        return pictures
    widths = [_width(picture, height) for picture in row.pictures]
    if len(row.labels) == 1:
        widths = [sum(widths)]
    strips = [
        label_strip(label, width, label_height(height))
        for label, width in zip(row.labels, widths, strict=True)
    ]
    return np.concatenate((np.concatenate(strips, axis=1), pictures))


def _width(picture: np.ndarray, height: int) -> int:
    return max(2, round(picture.shape[1] * height / picture.shape[0] / 2) * 2)


def _at_height(picture: np.ndarray, height: int) -> np.ndarray:
    """Enlarged ones show their pixels as squares."""
    size = (_width(picture, height), height)
    if picture.shape[0] < height:
        return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    return resize_picture(picture, *size)
