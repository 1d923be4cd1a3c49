"""Draw a room around the person: walls, pictures, furniture and a rug."""

import numpy as np

from egox_core.frozen import frozen

from .furniture import PIECES, pick_colour
from .palettes import FLOORS, THINGS, WALLS, Colour
from .parts import Part, box, place_parts

ITEM_COUNT = {"calm": 2, "normal": 4}  # of pictures, and of pieces of furniture
WALL_THICKNESS_M = 0.1  # thickness


@frozen
class Room:
    """Drawn room with its inner dimensions in metres.

    The person stands or sits at the origin of the room's frame."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    parts: tuple[Part, ...]
    wall_colour: Colour
    floor_colour: Colour


def draw_room(
    rng: np.random.Generator, clutter: str, keep_free: list[tuple[float, float, float]]
) -> Room:
    """Draw a random room, and keep the circles ``keep_free`` on the floor free of furniture."""
    low_corner = (-rng.uniform(2.0, 3.0), -rng.uniform(1.7, 2.8), 0.0)
    high_corner = (rng.uniform(2.0, 3.0), rng.uniform(2.2, 3.4), rng.uniform(2.5, 3.0))
    wall_colour, floor_colour = pick_colour(rng, WALLS), pick_colour(rng, FLOORS)
    room_parts = _shell(rng, low_corner, high_corner, wall_colour, floor_colour)
    room_parts += _pictures(rng, low_corner, high_corner, wall_colour, ITEM_COUNT[clutter])
    room_parts += _furniture_pieces(rng, low_corner, high_corner, ITEM_COUNT[clutter], keep_free)
    if rng.random() < 0.7:
        size = (rng.uniform(1.4, 2.2), rng.uniform(1.0, 1.8), 0.012)
        room_parts.append(
            box(
                "rug",
                size,
                (rng.uniform(-0.3, 0.3), rng.uniform(0.2, 0.8), 0.006),
                pick_colour(rng, THINGS),
                "print",
                angle=rng.uniform(-0.2, 0.2),
            )
        )
    return Room(
        low=low_corner,
        high=high_corner,
        parts=tuple(room_parts),
        wall_colour=wall_colour,
        floor_colour=floor_colour,
    )


def _shell(rng: np.random.Generator, low, high, wall: Colour, floor: Colour) -> list[Part]:
    room_width, room_depth, room_height = (
        h - low_edge for h, low_edge in zip(high, low, strict=True)
    )
    x, y, z = ((h + low_edge) / 2 for h, low_edge in zip(high, low, strict=True))
    ceiling_colour: Colour = tuple(min(0.95, 0.25 + 0.75 * c) for c in wall)
    skirting_colour: Colour = tuple(0.55 * c for c in wall)
    shell_parts = [
        box(
            "floor",
            (room_width, room_depth, WALL_THICKNESS_M),
            (x, y, -WALL_THICKNESS_M / 2),
            floor,
            "floor",
            "room",
        ),
        box(
            "ceiling",
            (room_width, room_depth, WALL_THICKNESS_M),
            (x, y, room_height + WALL_THICKNESS_M / 2),
            ceiling_colour,
            "paint",
            "room",
        ),
    ]
    for axis in (0, 1):
        for side, end in ((-1, low), (1, high)):
            wall_position = end[axis] + side * WALL_THICKNESS_M / 2
            shaded_colour: Colour = tuple(
                float(np.clip(c + rng.uniform(-0.03, 0.03), 0, 0.95)) for c in wall
            )
            for name, thickness, height, height_level, is_inside, colour, look in (
                ("wall", WALL_THICKNESS_M, room_height, z, 0.0, shaded_colour, "wall"),
                (
                    "skirting",
                    0.015,
                    0.09,
                    0.045,
                    WALL_THICKNESS_M / 2 + 0.0075,
                    skirting_colour,
                    "paint",
                ),
            ):
                size, part_position = [room_width, room_depth, height], [x, y, height_level]
                size[axis], part_position[axis] = thickness, wall_position - side * is_inside
                shell_parts.append(box(name, size, part_position, colour, look, "room"))
    return shell_parts


def _wall_placement(
    low, high, wall: int, share: float, width: float
) -> tuple[float, tuple[float, float, float]]:
    """Compute where a piece of furniture stands against one of the four walls.

    Its angle and foot at ``share`` of the wall's length. Walls 0...3 are back, right, front,
    left."""
    wall_margin = width / 2 + 0.03
    x = low[0] + wall_margin + share * (high[0] - low[0] - 2 * wall_margin)
    y = low[1] + wall_margin + share * (high[1] - low[1] - 2 * wall_margin)
    return (
        (0.0, (x, low[1], 0.0)),
        (np.pi / 2, (high[0], y, 0.0)),
        (np.pi, (x, high[1], 0.0)),
        (-np.pi / 2, (low[0], y, 0.0)),
    )[wall]


def _pictures(rng: np.random.Generator, low, high, wall_colour: Colour, count: int) -> list[Part]:
    """Place framed pictures and windows on the walls."""
    parts: list[Part] = []
    first_wall = int(rng.integers(4))
    for i in range(count):
        wall_index = (first_wall + i) % 4
        half_step = 0.5 * (i // 4 % 2)
        is_window = rng.random() < 0.25
        width = rng.uniform(0.8, 1.2) if is_window else rng.uniform(0.5, 0.95)
        height = rng.uniform(0.8, 1.1) if is_window else rng.uniform(0.4, 0.75)
        angle, foot = _wall_placement(
            low, high, wall_index, half_step + rng.uniform(0.08, 0.42), width + 0.1
        )
        z = 1.55
        colour: Colour = (0.80, 0.88, 0.95) if is_window else pick_colour(rng, THINGS)
        frame: Colour = (0.85, 0.85, 0.83) if is_window else tuple(0.4 * c for c in wall_colour)
        name = "window" if is_window else "picture"
        picture_parts = [
            box(
                f"{name} frame", (width + 0.08, 0.03, height + 0.08), (0, 0.015, z), frame, "paint"
            ),
            box(
                name,
                (width, 0.012, height),
                (0, 0.036, z),
                colour,
                "window" if is_window else "print",
            ),
        ]
        parts += place_parts(picture_parts, angle, foot)
    return parts


def _furniture_pieces(rng: np.random.Generator, low, high, count: int, keep_free) -> list[Part]:
    furniture_parts: list[Part] = []
    occupied_circles = list(keep_free)
    for _ in range(count):
        make_piece = PIECES[int(rng.integers(len(PIECES)))]
        piece_parts, width, depth = make_piece(rng)
        for _attempt in range(12):
            angle, foot = _wall_placement(low, high, int(rng.integers(4)), rng.uniform(), width)
            inward_direction = np.array([-np.sin(angle), np.cos(angle)])
            x, y = np.array(foot[:2]) + inward_direction * depth / 2
            radius = 0.5 * float(np.hypot(width, depth))
            if all(np.hypot(x - a, y - b) > radius + r for a, b, r in occupied_circles):
                occupied_circles.append((float(x), float(y), radius))
                furniture_parts += place_parts(piece_parts, angle, foot)
                break
    return furniture_parts
