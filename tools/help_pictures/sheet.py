"""A help page's picture: rows of named pictures as one, a mark in a picture, a small plot, and the file of it all.

Made for a help panel, which shows it about half as wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from egox_core.previews.align_plot import APPLIED, BACKGROUND, FIT, FONT, GRID, INK
from egox_core.previews.grid import label_strip
from egox_core.safe_files import write_whole

WIDTH, GAP, STRIP = 520, 4, 32  # px; the panel is about 260 px wide, where a name of this height can still be read
HIGHEST = 310  # px, of one row
PAPER = 24
LIMIT_BYTES = 36_000
QUALITIES = (86, 80, 74, 68, 62, 56, 50)
Tile = tuple[str, np.ndarray | Tensor]
"""A name (ASCII, short; "" for none) and a picture: [H, W, 3] uint8, or float 0...1."""
COLOURS = (APPLIED, FIT, (60, 150, 70))
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 44, 36  # px


def sheet(*rows: Sequence[Tile]) -> np.ndarray:  # [H, 520, 3] uint8
    """Each row as wide as the sheet, its pictures equally high, their names above them."""
    drawn = [_row([(name, as_bytes(picture)) for name, picture in row]) for row in rows]
    gap = np.full((GAP, WIDTH, 3), PAPER, np.uint8)
    return np.concatenate([part for row in drawn for part in (row, gap)][:-1])


def _row(tiles: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    ratios = [picture.shape[1] / picture.shape[0] for _, picture in tiles]
    room = WIDTH - GAP * (len(tiles) - 1)
    height = min(HIGHEST, round(room / sum(ratios)))
    scale = min(1.0, height * sum(ratios) / room)
    edges = np.round(np.cumsum([0.0, *ratios]) / sum(ratios) * room * scale).astype(int)
    strip = STRIP if any(name for name, _ in tiles) else 0
    row = np.full((strip + height, WIDTH, 3), PAPER, np.uint8)
    left = (WIDTH - int(edges[-1]) - GAP * (len(tiles) - 1)) // 2
    for number, (name, picture) in enumerate(tiles):
        width = int(edges[number + 1] - edges[number])
        x = left + int(edges[number]) + GAP * number
        row[strip:, x:x + width] = resized(picture, width, height)
        if strip:
            row[:strip, x:x + width] = label_strip(name, width, strip)
    return row


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Shrinking averages; what is enlarged a lot keeps soft edges instead of overshooting ones."""
    if picture.shape[:2] == (height, width):
        return picture
    factor = height / picture.shape[0]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR if factor > 2 else cv2.INTER_CUBIC
    return cv2.resize(picture, (width, height), interpolation=way)


def as_bytes(picture: np.ndarray | Tensor) -> np.ndarray:  # [H, W, 3] uint8
    """A picture as bytes; masks [H, W] become grey."""
    values = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture
    if values.dtype == bool:
        values = values.astype(np.float32)
    if values.dtype != np.uint8:
        values = (values * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1))


def save_small(path: Path, picture: np.ndarray) -> int:
    """A WebP of at most ``LIMIT_BYTES``, as good as that allows; its size.

    Raises:
        ValueError: too much is in the picture for that.
    """
    for quality in QUALITIES:
        success, data = cv2.imencode(".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        if not success:
            raise OSError(f"{path.name} could not be encoded")
        if len(data) <= LIMIT_BYTES:
            with write_whole(path) as temporary:
                temporary.write_bytes(data.tobytes())
            return len(data)
    raise ValueError(f"{path.name}: {len(data)} bytes at quality {quality}; show less, or smaller")


def marked(picture: np.ndarray | Tensor, pixel: tuple[int, int], shown_as: int = 448) -> np.ndarray:
    """The picture, ``shown_as`` px high, with a ring and a cross at a pixel (x, y) of the one given."""
    picture = as_bytes(picture)
    scale = shown_as / picture.shape[0]
    picture = cv2.resize(picture, (round(picture.shape[1] * scale), shown_as), interpolation=cv2.INTER_LINEAR)
    centre = tuple(round((value + 0.5) * scale) for value in pixel)
    for colour, thickness in (((0, 0, 0), 8), ((255, 255, 255), 4)):
        cv2.circle(picture, centre, 18, colour, thickness, cv2.LINE_AA)
        cv2.drawMarker(picture, centre, colour, cv2.MARKER_CROSS, 64, thickness // 2, cv2.LINE_AA)
    return picture


def curves(values: Mapping[str, Sequence[float]], across: str, ticks: Sequence[float], *, form: str = "{:g}",
           height: int = 230) -> np.ndarray:  # [height, WIDTH, 3] uint8
    """Curves over their positions (1, 2, ...), each under its name in its colour; ``ticks`` are the marked values."""
    canvas = np.full((height, WIDTH, 3), BACKGROUND, np.uint8)
    low, high = min(ticks), max(ticks)
    count = max(len(curve) for curve in values.values())

    def at(place: float, value: float) -> tuple[int, int]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * place / max(count - 1, 1)
        y = height - BOTTOM - (height - TOP - BOTTOM) * (value - low) / (high - low)
        return round(x), round(y)

    for tick in ticks:
        cv2.line(canvas, at(0, tick), at(count - 1, tick), GRID, 1)
        cv2.putText(canvas, form.format(tick), (4, at(0, tick)[1] + 7), FONT, 0.6, INK, 1, cv2.LINE_AA)
    left = LEFT
    for (name, curve), colour in zip(values.items(), COLOURS, strict=False):
        points = np.array([at(place, value) for place, value in enumerate(curve)], np.int32)
        cv2.polylines(canvas, [points], False, colour, 3, cv2.LINE_AA)
        cv2.putText(canvas, name, (left, 28), FONT, 0.72, colour, 2, cv2.LINE_AA)
        left += cv2.getTextSize(name, FONT, 0.72, 2)[0][0] + 26
    cv2.putText(canvas, across, (LEFT, height - 10), FONT, 0.65, INK, 1, cv2.LINE_AA)
    return canvas
