"""Draw pieces of furniture as lists of simple solids.

They stand around their foot: x along the wall, y into the room, z up, metres."""

from collections.abc import Callable

import numpy as np

from .palettes import THINGS, WOODS, Colour
from .parts import Part, ball, box, pillar


def pick_colour(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """Choose one colour of a palette, and vary it slightly."""
    colour = colours[int(rng.integers(len(colours)))]
    return tuple(float(np.clip(c + rng.uniform(-0.04, 0.04), 0.06, 0.95)) for c in colour)


def table(name: str, width: float, depth: float, height: float, colour: Colour) -> list[Part]:
    """Build a table as a list of simple solids."""
    table_parts = [box(f"{name} top", (width, depth, 0.04), (0, 0, height - 0.02), colour, "wood")]
    dark_colour: Colour = tuple(0.6 * c for c in colour)
    for side in (-1, 1):
        for end in (-1, 1):
            leg_centre = (side * (width / 2 - 0.06), end * (depth / 2 - 0.06), (height - 0.04) / 2)
            table_parts.append(
                box(f"{name} leg", (0.06, 0.06, height - 0.04), leg_centre, dark_colour, "wood")
            )
    return table_parts


def stool(height: float, colour: Colour) -> list[Part]:
    """Build a round stool as a list of simple solids."""
    return [
        pillar("stool seat", 0.19, 0.05, (0, 0, height - 0.05), colour, "fabric"),
        pillar("stool foot", 0.05, height - 0.05, (0, 0, 0), (0.3, 0.3, 0.32), "paint"),
    ]


def shelf(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    width, depth, height = rng.uniform(0.8, 1.3), 0.32, rng.uniform(1.1, 1.9)
    colour = pick_colour(rng, WOODS)
    shelf_parts = [
        box(
            "shelf back",
            (width, 0.02, height),
            (0, 0.01, height / 2),
            tuple(0.8 * c for c in colour),
            "wood",
        )
    ]
    for side in (-1, 1):
        shelf_parts.append(
            box(
                "shelf side",
                (0.03, depth, height),
                (side * (width / 2 - 0.015), depth / 2, height / 2),
                colour,
                "wood",
            )
        )
    level_count = int(rng.integers(3, 5))
    for level_index in range(level_count + 1):
        z = 0.03 + level_index * (height - 0.05) / level_count
        shelf_parts.append(
            box("shelf board", (width - 0.06, depth, 0.03), (0, depth / 2, z), colour, "wood")
        )
        if level_index < level_count:
            x = -width / 2 + 0.1
            while x < width / 2 - 0.25:
                item_width, item_height = rng.uniform(0.1, 0.3), rng.uniform(0.12, 0.24)
                if rng.random() < 0.75:
                    shelf_parts.append(
                        box(
                            "shelf box",
                            (item_width, 0.2, item_height),
                            (x + item_width / 2, 0.17, z + 0.015 + item_height / 2),
                            pick_colour(rng, THINGS),
                            "print",
                        )
                    )
                x += item_width + rng.uniform(0.03, 0.12)
    return shelf_parts, width, depth


def cabinet(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    width, depth, height = rng.uniform(0.7, 1.4), rng.uniform(0.4, 0.5), rng.uniform(0.7, 1.1)
    colour, front_colour = pick_colour(rng, WOODS), pick_colour(rng, THINGS + WOODS)
    cabinet_parts = [
        box("cabinet", (width, depth, height), (0, depth / 2, height / 2), colour, "wood")
    ]
    door_count = int(rng.integers(2, 4))
    for door_index in range(door_count):
        door_width = width / door_count
        cabinet_parts.append(
            box(
                "cabinet door",
                (door_width - 0.04, 0.02, height - 0.1),
                (-width / 2 + (door_index + 0.5) * door_width, depth + 0.01, height / 2),
                front_colour,
                "wood",
            )
        )
    cabinet_parts.append(
        pillar(
            "vase",
            0.07,
            0.25,
            (rng.uniform(-0.2, 0.2), depth / 2, height),
            pick_colour(rng, THINGS),
            "print",
        )
    )
    return cabinet_parts, width, depth


def sofa(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    width, depth, colour = rng.uniform(1.3, 1.8), 0.8, pick_colour(rng, THINGS)
    cushion_colour = pick_colour(rng, THINGS)
    sofa_parts = [
        box("sofa seat", (width, depth, 0.4), (0, depth / 2, 0.2), colour, "fabric"),
        box("sofa back", (width, 0.22, 0.42), (0, 0.11, 0.61), colour, "fabric"),
    ]
    for side in (-1, 1):
        sofa_parts.append(
            box(
                "sofa arm",
                (0.18, depth, 0.2),
                (side * (width / 2 - 0.09), depth / 2, 0.5),
                colour,
                "fabric",
            )
        )
        sofa_parts.append(
            box(
                "cushion",
                (0.42, 0.14, 0.36),
                (side * width / 5, 0.3, 0.58),
                cushion_colour,
                "print",
            )
        )
    return sofa_parts, width, depth


def plant(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    height = rng.uniform(0.5, 0.9)
    plant_parts = [
        pillar("pot", 0.16, 0.3, (0, 0.22, 0), pick_colour(rng, THINGS), "print"),
        pillar("stem", 0.02, height - 0.2, (0, 0.22, 0.28), (0.3, 0.24, 0.16), "paint"),
    ]
    for _ in range(4):
        leaf_position = (
            rng.uniform(-0.14, 0.14),
            0.22 + rng.uniform(-0.08, 0.12),
            height + rng.uniform(-0.1, 0.22),
        )
        leaf_colour = (rng.uniform(0.16, 0.3), rng.uniform(0.42, 0.6), rng.uniform(0.18, 0.3))
        plant_parts.append(
            ball("leaves", rng.uniform(0.12, 0.2), leaf_position, leaf_colour, "fabric")
        )
    return plant_parts, 0.5, 0.44


def lamp(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    height = rng.uniform(1.3, 1.7)
    return (
        [
            pillar("lamp base", 0.15, 0.03, (0, 0.2, 0), (0.25, 0.25, 0.27), "paint"),
            pillar("lamp pole", 0.02, height, (0, 0.2, 0.03), (0.3, 0.3, 0.32), "paint"),
            pillar("lamp shade", 0.18, 0.28, (0, 0.2, height), pick_colour(rng, THINGS), "fabric"),
        ],
        0.4,
        0.4,
    )


def crate(rng: np.random.Generator) -> tuple[list[Part], float, float]:
    side, height = rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.55)
    crate_parts = [
        box(
            "crate",
            (side, side, height),
            (0, side / 2, height / 2),
            pick_colour(rng, THINGS + WOODS),
            "print",
        )
    ]
    if rng.random() < 0.6:
        crate_parts.append(
            ball("ball", 0.13, (0, side / 2, height + 0.13), pick_colour(rng, THINGS), "print")
        )
    return crate_parts, side, side


PIECES: tuple[Callable[[np.random.Generator], tuple[list[Part], float, float]], ...] = (
    shelf,
    cabinet,
    sofa,
    plant,
    lamp,
    crate,
)
"""Each gives (parts, width along the wall, depth into the room)."""
