"""The one colour map of all pictures of numbers, and what a legend needs to say about it."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

STOPS = 16


@cache
def colour_table() -> np.ndarray:  # [256, 3] float32 0...1, RGB
    """Turbo: cold for low values, warm for high ones."""
    greys = np.arange(256, dtype=np.uint8).reshape(256, 1)
    return cv2.applyColorMap(greys, cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1].astype(np.float32) / 255


def colour_stops(count: int = STOPS) -> list[str]:
    """The map as so many evenly spaced CSS colours, from low to high."""
    table = colour_table()
    chosen = np.linspace(0, len(table) - 1, count).round().astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*(round(255 * float(c)) for c in table[i])) for i in chosen]


def round_values(low: float, high: float, most: int = 6) -> list[float]:
    """Values such as 1, 2 or 5 times a power of ten between two positive ends, ``most`` of them at most, well spread.

    For scales on which equal ratios matter (depth); where fewer than two fit, the ends themselves.
    """
    low, high = min(low, high), max(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [m * 10.0**e for e in decades for m in multiples if low <= m * 10.0**e <= high]
        if len(found) >= 4:
            break
    if len(found) < 2:
        return [low, high]
    while len(found) > most:
        found = found[::2]
    return found
