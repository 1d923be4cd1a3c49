"""A cross in a picture."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from .sheet import as_bytes


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
