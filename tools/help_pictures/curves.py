"""A small plot with names large enough for a help panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from egox_core.previews.align_plot import APPLIED, BACKGROUND, FIT, FONT, GRID, INK

from .sheet import WIDTH

COLOURS = (APPLIED, FIT, (60, 150, 70))
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 44, 36  # px


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
