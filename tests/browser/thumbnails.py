"""Thumbnails of the shipped workflows: square, since the host's template cards are."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

SIDE, GAP = 512, 4
INK, PAPER = (240, 240, 240), (28, 28, 32)

Tile = tuple[str, np.ndarray]
"""A name and a picture, [H, W, 3] uint8 RGB; the picture fills its tile, what is over is cut off evenly."""


def thumbnail(rows: list[list[Tile]], caption: str = "", weights: list[float] | None = None) -> np.ndarray:
    """Rows of tiles, and a line of text below: [512, 512, 3] uint8.

    Args:
        weights: how high each row is, in relation to the others.
    """
    picture = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    bottom = SIDE - (44 if caption else 0)
    weights = weights or [1.0] * len(rows)
    edges = np.round(np.cumsum([0.0, *weights]) / sum(weights) * (bottom + GAP)).astype(int)
    for row, top, end in zip(rows, edges, edges[1:], strict=False):
        across = np.round(np.linspace(0, SIDE + GAP, len(row) + 1)).astype(int)
        for (name, tile), left, right in zip(row, across, across[1:], strict=False):
            area = picture[top:end - GAP, left:right - GAP]
            area[:] = fill(tile, area.shape[1], area.shape[0])
            write(area, name)
    if caption:
        cv2.putText(picture, caption, (12, SIDE - 14), cv2.FONT_HERSHEY_SIMPLEX, fitting(caption, SIDE - 24, 0.8), INK,
                    2, cv2.LINE_AA)
    return picture


def fill(tile: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scaled until it covers width x height, then cut evenly."""
    factor = max(width / tile.shape[1], height / tile.shape[0])
    size = (max(width, round(tile.shape[1] * factor)), max(height, round(tile.shape[0] * factor)))
    scaled = cv2.resize(tile, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return scaled[top:top + height, left:left + width]


def write(area: np.ndarray, name: str) -> None:
    """A name in the upper left corner, on a dark ground."""
    if not name:
        return
    scale = fitting(name, area.shape[1] - 16, 0.55)
    (wide, high), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    ground = area[:high + 14, :wide + 16]
    ground[:] = (ground * 0.25).astype(np.uint8)
    cv2.putText(area, name, (8, high + 7), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)


def words(text: str, width: int = 256, height: int = 256) -> np.ndarray:
    """A tile that only says something, a word a line."""
    tile = np.full((height, width, 3), (52, 56, 66), np.uint8)
    lines = text.split("\n")
    for index, line in enumerate(lines):
        scale = fitting(line, width - 30, 0.9)
        (wide, high), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
        middle = height / 2 + (index - (len(lines) - 1) / 2) * 44
        cv2.putText(tile, line, ((width - wide) // 2, round(middle + high / 2)), cv2.FONT_HERSHEY_SIMPLEX, scale, INK,
                    2, cv2.LINE_AA)
    return tile


def fitting(text: str, width: int, scale: float) -> float:
    """The scale at which the text is not wider than ``width``."""
    (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    return scale if wide <= width else scale * width / wide


def save_jpeg(path: Path, picture: np.ndarray, quality: int = 85) -> None:
    """Written whole or not at all."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError(f"{path.name} could not be encoded")
    part = path.with_name(f".part-{path.name}")
    part.write_bytes(data.tobytes())
    os.replace(part, path)
