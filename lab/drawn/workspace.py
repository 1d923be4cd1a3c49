"""Draw the table, the objects on it, and the points between which the hands move."""

import numpy as np

from egox_core.frozen import frozen

from .furniture import pick_colour, stool, table
from .palettes import THINGS, WOODS, Colour
from .parts import Part, ball, box, pillar, place_parts

OBJECT_COUNT_RANGE = {"calm": (2, 4), "normal": (4, 6)}


@frozen
class Workspace:
    """Drawn table with objects, and the stops of the hands, in the body frame, metres."""

    seated: bool
    table_height: float
    table_colour: Colour
    parts: tuple[Part, ...]
    right_stops: np.ndarray  # [K, 3] palm centres of the right hand, in the order they are visited
    left_stops: np.ndarray  # [K, 3] of the left hand
    objects: tuple[tuple[str, Colour], ...]  # on the table, for the prompt


def draw_workspace(rng: np.random.Generator, *, clutter: str, scale: float) -> Workspace:
    """Draw a table, a stool and objects that don't overlap."""
    is_seated = bool(rng.random() < 0.6)
    height = rng.uniform(0.70, 0.75) if is_seated else rng.uniform(0.94, 1.0)
    width, depth, colour = rng.uniform(1.15, 1.65), rng.uniform(0.65, 0.85), pick_colour(rng, WOODS)
    table_front = 0.22
    workspace_parts = place_parts(
        table("table", width, depth, height, colour), 0.0, (0.0, table_front + depth / 2, 0.0)
    )
    if is_seated:
        workspace_parts += stool(0.46, pick_colour(rng, THINGS))
    hand_height = height + 0.075
    right_stops = np.array(
        [
            [rng.uniform(0.03, 0.12), rng.uniform(0.36, 0.42), hand_height],
            [rng.uniform(0.20, 0.32), rng.uniform(0.40, 0.48), hand_height],
            [rng.uniform(0.08, 0.22), rng.uniform(0.42, 0.50), hand_height],
        ]
    )
    left_stops = np.array(
        [
            [-rng.uniform(0.10, 0.16), rng.uniform(0.34, 0.40), hand_height],
            [-rng.uniform(0.20, 0.30), rng.uniform(0.38, 0.46), hand_height],
        ]
    )
    least_count, most_count = OBJECT_COUNT_RANGE[clutter]
    object_count = int(rng.integers(least_count, most_count + 1))
    occupied_circles: list[tuple[float, float, float]] = []
    named_objects: list[tuple[str, Colour]] = []
    colour_order = rng.permutation(len(THINGS))
    for i in range(object_count):
        thing_colour: Colour = THINGS[int(colour_order[i % len(THINGS)])]
        name, thing_parts, radius = _draw_thing(rng, thing_colour, height, scale)
        if 2 * radius > min(width, depth):  # wider than the table
            continue
        for _attempt in range(30):
            x = rng.uniform(-width / 2 + radius, width / 2 - radius)
            y = rng.uniform(table_front + radius, table_front + depth - radius)
            is_in_hands = abs(x) < 0.42 + radius and y < 0.52 + radius
            if not is_in_hands and all(
                np.hypot(x - a, y - b) > radius + r + 0.02 for a, b, r in occupied_circles
            ):
                occupied_circles.append((x, y, radius))
                named_objects.append((name, thing_colour))
                workspace_parts += place_parts(thing_parts, rng.uniform(-0.7, 0.7), (x, y, 0.0))
                break
    mat_part = box(
        "mat",
        (0.62, 0.34, 0.006),
        (0.0, table_front + 0.2, height + 0.003),
        pick_colour(rng, THINGS),
        "print",
    )
    if rng.random() < 0.5 and clutter != "calm":
        workspace_parts.append(mat_part)
    return Workspace(
        seated=is_seated,
        table_height=height,
        table_colour=colour,
        parts=tuple(workspace_parts),
        right_stops=right_stops,
        left_stops=left_stops,
        objects=tuple(named_objects),
    )


def _draw_thing(
    rng: np.random.Generator, colour: Colour, z: float, scale: float
) -> tuple[str, list[Part], float]:
    """Draw an object on the table: its name, its parts and the radius of its footprint."""
    thing_kind = int(rng.integers(6))
    if thing_kind == 0:
        radius, thing_height = scale * rng.uniform(0.038, 0.05), scale * rng.uniform(0.09, 0.12)
        handle_part = box(
            "mug handle",
            (0.03 * scale, 0.015 * scale, 0.06 * scale),
            (radius + 0.012 * scale, 0, z + thing_height / 2),
            colour,
            "print",
            "object",
        )
        return (
            "mug",
            [
                pillar("mug", radius, thing_height, (0, 0, z), colour, "print", "object"),
                handle_part,
            ],
            radius + scale * 0.03,
        )
    if thing_kind == 1:
        thing_width, thing_depth, thing_height = (
            scale * rng.uniform(*size_range)
            for size_range in ((0.16, 0.24), (0.12, 0.17), (0.025, 0.05))
        )
        return (
            "book",
            [
                box(
                    "book",
                    (thing_width, thing_depth, thing_height),
                    (0, 0, z + thing_height / 2),
                    colour,
                    "print",
                    "object",
                )
            ],
            thing_width * 0.62,
        )
    if thing_kind == 2:
        radius, thing_height = scale * rng.uniform(0.035, 0.045), scale * rng.uniform(0.16, 0.2)
        neck_part = pillar(
            "bottle neck",
            radius * 0.4,
            scale * 0.07,
            (0, 0, z + thing_height),
            colour,
            "paint",
            "object",
        )
        return (
            "bottle",
            [
                pillar("bottle", radius, thing_height, (0, 0, z), colour, "print", "object"),
                neck_part,
            ],
            radius,
        )
    if thing_kind == 3:
        radius = scale * rng.uniform(0.05, 0.08)
        return "ball", [ball("ball", radius, (0, 0, z + radius), colour, "print", "object")], radius
    if thing_kind == 4:
        radius = scale * rng.uniform(0.09, 0.12)
        return (
            "plate",
            [
                pillar("plate", radius, 0.014, (0, 0, z), colour, "print", "object"),
                pillar(
                    "plate rim",
                    radius * 0.6,
                    0.018,
                    (0, 0, z),
                    tuple(0.7 * c for c in colour),
                    "paint",
                    "object",
                ),
            ],
            radius,
        )
    thing_width, thing_depth, thing_height = (
        scale * rng.uniform(*size_range) for size_range in ((0.1, 0.2), (0.08, 0.14), (0.1, 0.2))
    )
    return (
        "box",
        [
            box(
                "carton",
                (thing_width, thing_depth, thing_height),
                (0, 0, z + thing_height / 2),
                colour,
                "print",
                "object",
            )
        ],
        thing_width * 0.65,
    )
