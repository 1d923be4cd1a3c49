"""Define the colours of synthetic scenes (display values 0...1).

The walls of a room share a palette, so that a model can guess unseen walls."""

Colour = tuple[float, float, float]

WALLS: tuple[Colour, ...] = (
    (0.72, 0.68, 0.60),
    (0.62, 0.68, 0.72),
    (0.70, 0.62, 0.58),
    (0.60, 0.68, 0.60),
    (0.74, 0.70, 0.52),
    (0.60, 0.58, 0.68),
    (0.72, 0.72, 0.70),
    (0.50, 0.60, 0.66),
)
FLOORS: tuple[Colour, ...] = (
    (0.52, 0.42, 0.32),
    (0.42, 0.42, 0.44),
    (0.56, 0.50, 0.42),
    (0.36, 0.40, 0.44),
    (0.46, 0.34, 0.26),
    (0.50, 0.46, 0.50),
)
WOODS: tuple[Colour, ...] = (
    (0.66, 0.50, 0.32),
    (0.50, 0.34, 0.22),
    (0.74, 0.62, 0.44),
    (0.40, 0.30, 0.24),
    (0.68, 0.66, 0.62),
    (0.30, 0.36, 0.40),
)
THINGS: tuple[Colour, ...] = (
    (0.78, 0.24, 0.20),
    (0.20, 0.42, 0.72),
    (0.90, 0.72, 0.22),
    (0.24, 0.56, 0.34),
    (0.58, 0.30, 0.60),
    (0.92, 0.50, 0.20),
    (0.86, 0.86, 0.82),
    (0.20, 0.60, 0.62),
    (0.84, 0.46, 0.56),
    (0.24, 0.26, 0.34),
)
SHIRTS: tuple[Colour, ...] = (
    (0.24, 0.36, 0.60),
    (0.66, 0.24, 0.26),
    (0.30, 0.50, 0.40),
    (0.82, 0.80, 0.74),
    (0.56, 0.44, 0.62),
    (0.80, 0.58, 0.28),
    (0.30, 0.54, 0.60),
)
TROUSERS: tuple[Colour, ...] = (
    (0.20, 0.24, 0.34),
    (0.30, 0.28, 0.26),
    (0.42, 0.40, 0.36),
    (0.24, 0.30, 0.28),
)
SKIN: tuple[Colour, ...] = (
    (0.86, 0.66, 0.54),
    (0.74, 0.54, 0.42),
    (0.58, 0.40, 0.30),
    (0.42, 0.29, 0.22),
)
HAIR: tuple[Colour, ...] = (
    (0.16, 0.12, 0.10),
    (0.30, 0.19, 0.12),
    (0.24, 0.22, 0.23),
    (0.52, 0.30, 0.12),
)

THING_NAMES = "red blue yellow green purple orange white teal pink".split()
COLOUR_NAMES: tuple[tuple[str, Colour], ...] = (
    *zip((*THING_NAMES, "dark grey"), THINGS, strict=True),
    ("brown", (0.50, 0.38, 0.26)),
    ("grey", (0.50, 0.50, 0.50)),
    ("beige", (0.72, 0.66, 0.54)),
    ("light blue", (0.60, 0.68, 0.74)),
)


def colour_name(colour: Colour) -> str:
    """Find the plain word for a colour, such as "red", for prompts."""

    def distance_to(named_colour: Colour) -> float:
        lightness, other_lightness = sum(colour) / 3, sum(named_colour) / 3
        hue_difference = sum(
            ((a - lightness) - (b - other_lightness)) ** 2
            for a, b in zip(colour, named_colour, strict=True)
        )
        return 3 * hue_difference + (lightness - other_lightness) ** 2

    return min(COLOUR_NAMES, key=lambda item: distance_to(item[1]))[0]
