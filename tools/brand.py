"""The pack's icon and banner for the registry, drawn with plain shapes: ``python3 run.py make brand``.

A camera on a stand watches a person (exo, blue); from the person's eyes opens the view that is made (ego, amber).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "img"
ICON_PX, BANNER_PX = (400, 400), (1260, 540)
"""At most 400 px a side for the icon and 21:9 for the banner: what the registry takes."""
FINER = 4
"""Drawn so many times larger and scaled down, for smooth edges."""
NIGHT, FLOOR, EXO, EGO, PALE = (17, 24, 39), (31, 41, 55), (96, 165, 250), (251, 191, 36), (229, 231, 235)


class Sheet:
    """A drawing in units of its own final pixels."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.image = Image.new("RGB", (size[0] * FINER, size[1] * FINER), NIGHT)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def polygon(self, points, fill, alpha: int = 255) -> None:
        self.draw.polygon([(x * FINER, y * FINER) for x, y in points], fill=(*fill, alpha))

    def limb(self, one: tuple[float, float], other: tuple[float, float], width: float, fill) -> None:
        """A line with round ends."""
        self.draw.line([(x * FINER, y * FINER) for x, y in (one, other)], fill=fill, width=round(width * FINER))
        for end in (one, other):
            self.disc(*end, width / 2, fill)

    def disc(self, x: float, y: float, radius: float, fill) -> None:
        self.draw.ellipse([(x - radius) * FINER, (y - radius) * FINER, (x + radius) * FINER, (y + radius) * FINER],
                          fill=fill)

    def text(self, x: float, y: float, words: str, px: float, fill) -> None:
        self.draw.text((x * FINER, y * FINER), words, font=ImageFont.load_default(px * FINER), fill=fill)

    def finished(self) -> Image.Image:
        return self.image.resize(self.size, Image.Resampling.LANCZOS)


def scene(sheet: Sheet, left: float, top: float, unit: float) -> None:
    """Camera, person and view in a square of 100 units a side whose corner is (left, top)."""

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * unit, top + y * unit

    sheet.polygon([at(2, 96), at(22, 72), at(78, 72), at(98, 96)], FLOOR)
    sheet.polygon([at(21, 23), at(96, 6), at(96, 94)], EXO, 40)  # what the camera sees
    head = at(50, 33)
    for reach, alpha in ((48, 70), (36, 80), (24, 110)):  # what the wearer sees: brighter near the eyes
        rim = [(head[0] + reach * unit * math.cos(a), head[1] + reach * unit * math.sin(a))
               for a in (math.radians(-24 + 4 * step) for step in range(13))]
        sheet.polygon([head, *rim], EGO, alpha)
    for one, other, width in (((50, 49), (49, 64), 10), ((47, 66), (43, 90), 5.5), ((51, 66), (55, 90), 5.5),
                              ((53, 48), (64, 60), 4.5)):
        sheet.limb(at(*one), at(*other), width * unit, PALE)
    sheet.disc(*head, 9 * unit, PALE)
    sheet.disc(*at(55, 32), 2.1 * unit, NIGHT)
    sheet.limb(at(13, 30), at(8, 90), 2 * unit, EXO)
    sheet.limb(at(13, 30), at(19, 90), 2 * unit, EXO)
    sheet.polygon([at(3, 16), at(18, 13), at(20, 28), at(5, 31)], EXO)
    sheet.polygon([at(19, 18), at(25, 14), at(27, 27), at(20, 25)], EXO)


def icon() -> Image.Image:
    """The scene alone."""
    sheet = Sheet(ICON_PX)
    scene(sheet, 10, 10, 3.8)
    return sheet.finished()


def banner() -> Image.Image:
    """The scene with the name and what it is for."""
    sheet = Sheet(BANNER_PX)
    scene(sheet, 50, 20, 5.0)
    sheet.text(620, 110, "EgoX", 150, PALE)
    sheet.text(628, 330, "third-person video in,", 40, EXO)
    sheet.text(628, 382, "first-person video out", 40, EGO)
    return sheet.finished()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run.py make brand", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in (("icon", icon()), ("banner", banner())):
        picture.quantize(128, dither=Image.Dither.NONE).save(out / f"{name}.png", optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
