"""Draw pieces of furniture, each a list of parts around its foot: x along the wall, y into the
room, z up, metres."""

from collections.abc import Callable

import numpy as np

from .palettes import THINGS, WOODS, Colour
from .parts import Part, ball, box, pillar


def pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """Choose one colour of a palette, slightly varied."""
    colour = colours[int(rng.integers(len(colours)))]
    return tuple(float(np.clip(c + rng.uniform(-0.04, 0.04), 0.06, 0.95)) for c in colour)


def table(name: str, width: float, depth: float, height: float, colour: Colour) -> list[Part]:
    """Build a table around its centre."""
    parts = [box(f"{name} top", (width, depth, 0.04), (0, 0, height - 0.02), colour, "wood")]
    dark: Colour = tuple(0.6 * c for c in colour)
    for side in (-1, 1):
        for end in (-1, 1):
            foot = (side * (width / 2 - 0.06), end * (depth / 2 - 0.06), (height - 0.04) / 2)
            parts.append(box(f"{name} leg", (0.06, 0.06, height - 0.04), foot, dark, "wood"))
    return parts


def stool(height: float, colour: Colour) -> list[Part]:
    """Build a round stool around its centre."""
    return [
        pillar("stool seat", 0.19, 0.05, (0, 0, height - 0.05), colour, "fabric"),
        pillar("stool foot", 0.05, height - 0.05, (0, 0, 0), (0.3, 0.3, 0.32), "paint"),
    ]


def shelf(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    width, depth, height = rng.uniform(0.8, 1.3), 0.32, rng.uniform(1.1, 1.9)
    colour = pick(rng, WOODS)
    parts = [
        box(
            "shelf back",
            (width, 0.02, height),
            (0, 0.01, height / 2),
            tuple(0.8 * c for c in colour),
            "wood",
        )
    ]
    for side in (-1, 1):
        parts.append(
            box(
                "shelf side",
                (0.03, depth, height),
                (side * (width / 2 - 0.015), depth / 2, height / 2),
                colour,
                "wood",
            )
        )
    levels = int(rng.integers(3, 5))
    for level in range(levels + 1):
        z = 0.03 + level * (height - 0.05) / levels
        parts.append(
            box("shelf board", (width - 0.06, depth, 0.03), (0, depth / 2, z), colour, "wood")
        )
        if level < levels:
            x = -width / 2 + 0.1
            while x < width / 2 - 0.25:
                wide, tall = rng.uniform(0.1, 0.3), rng.uniform(0.12, 0.24)
                if rng.random() < 0.75:
                    parts.append(
                        box(
                            "shelf box",
                            (wide, 0.2, tall),
                            (x + wide / 2, 0.17, z + 0.015 + tall / 2),
                            pick(rng, THINGS),
                            "print",
                        )
                    )
                x += wide + rng.uniform(0.03, 0.12)
    return parts, width, depth


def cabinet(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    width, depth, height = rng.uniform(0.7, 1.4), rng.uniform(0.4, 0.5), rng.uniform(0.7, 1.1)
    colour, front = pick(rng, WOODS), pick(rng, THINGS + WOODS)
    parts = [box("cabinet", (width, depth, height), (0, depth / 2, height / 2), colour, "wood")]
    doors = int(rng.integers(2, 4))
    for door in range(doors):
        wide = width / doors
        parts.append(
            box(
                "cabinet door",
                (wide - 0.04, 0.02, height - 0.1),
                (-width / 2 + (door + 0.5) * wide, depth + 0.01, height / 2),
                front,
                "wood",
            )
        )
    parts.append(
        pillar(
            "vase",
            0.07,
            0.25,
            (rng.uniform(-0.2, 0.2), depth / 2, height),
            pick(rng, THINGS),
            "print",
        )
    )
    return parts, width, depth


def sofa(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    width, depth, colour = rng.uniform(1.3, 1.8), 0.8, pick(rng, THINGS)
    cushion = pick(rng, THINGS)
    parts = [
        box("sofa seat", (width, depth, 0.4), (0, depth / 2, 0.2), colour, "fabric"),
        box("sofa back", (width, 0.22, 0.42), (0, 0.11, 0.61), colour, "fabric"),
    ]
    for side in (-1, 1):
        parts.append(
            box(
                "sofa arm",
                (0.18, depth, 0.2),
                (side * (width / 2 - 0.09), depth / 2, 0.5),
                colour,
                "fabric",
            )
        )
        parts.append(
            box("cushion", (0.42, 0.14, 0.36), (side * width / 5, 0.3, 0.58), cushion, "print")
        )
    return parts, width, depth


def plant(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    height = rng.uniform(0.5, 0.9)
    parts = [
        pillar("pot", 0.16, 0.3, (0, 0.22, 0), pick(rng, THINGS), "print"),
        pillar("stem", 0.02, height - 0.2, (0, 0.22, 0.28), (0.3, 0.24, 0.16), "paint"),
    ]
    for _ in range(4):
        spot = (
            rng.uniform(-0.14, 0.14),
            0.22 + rng.uniform(-0.08, 0.12),
            height + rng.uniform(-0.1, 0.22),
        )
        green = (rng.uniform(0.16, 0.3), rng.uniform(0.42, 0.6), rng.uniform(0.18, 0.3))
        parts.append(ball("leaves", rng.uniform(0.12, 0.2), spot, green, "fabric"))
    return parts, 0.5, 0.44


def lamp(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    height = rng.uniform(1.3, 1.7)
    return (
        [
            pillar("lamp base", 0.15, 0.03, (0, 0.2, 0), (0.25, 0.25, 0.27), "paint"),
            pillar("lamp pole", 0.02, height, (0, 0.2, 0.03), (0.3, 0.3, 0.32), "paint"),
            pillar("lamp shade", 0.18, 0.28, (0, 0.2, height), pick(rng, THINGS), "fabric"),
        ],
        0.4,
        0.4,
    )


def crate(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    side, height = rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.55)
    parts = [
        box(
            "crate",
            (side, side, height),
            (0, side / 2, height / 2),
            pick(rng, THINGS + WOODS),
            "print",
        )
    ]
    if rng.random() < 0.6:
        parts.append(ball("ball", 0.13, (0, side / 2, height + 0.13), pick(rng, THINGS), "print"))
    return parts, side, side


PIECES: tuple[Callable[[np.random.Generator], tuple[list[Part], float, float]], ...] = (
    shelf,
    cabinet,
    sofa,
    plant,
    lamp,
    crate,
)
"""Each gives (parts, width along the wall, depth into the room)."""
