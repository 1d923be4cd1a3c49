"""Draw random materials of surfaces."""

import numpy as np

from egox_core.frozen import frozen

from .palettes import THINGS
from .parts import LookName, Part
from .textures import Material, draw_waves

DETAIL_PX = (
    2.5,
    8.0,
)  # size of a detail, half a wavelength, in exo pixels where the exo camera sees the part


PAPER_M, PAPER_WAVES, PAPER = (0.04, 0.6), 48, 0.16
"""Wavelengths, number and contrast of the waves of a papered room's walls, floor and ceiling."""


@frozen
class LookSettings:
    """Standard deviations of a material's colours, in display values."""

    detail: float  # of waves of DETAIL_PX
    coarse: float  # of waves of 0.5...2 m (or of the part's size)
    tint: float  # how far channels vary on their own
    pattern: float  # how often the part has a pattern
    grain: bool = False


LOOKS: dict[LookName, LookSettings] = {
    "wall": LookSettings(detail=0.06, coarse=0.03, tint=0.12, pattern=0.3),
    "floor": LookSettings(detail=0.08, coarse=0.03, tint=0.15, pattern=0.7),
    "wood": LookSettings(detail=0.08, coarse=0.03, tint=0.15, pattern=0.0, grain=True),
    "fabric": LookSettings(detail=0.065, coarse=0.03, tint=0.3, pattern=0.35),
    "print": LookSettings(detail=0.075, coarse=0.04, tint=0.35, pattern=0.8),
    "paint": LookSettings(detail=0.02, coarse=0.02, tint=0.2, pattern=0.0),
    "skin": LookSettings(detail=0.015, coarse=0.015, tint=0.2, pattern=0.0),
    "window": LookSettings(detail=0.01, coarse=0.08, tint=0.7, pattern=0.0),
}


def draw_material(
    rng: np.random.Generator, part: Part, *, texture: str, exo_pixel_m: float
) -> Material:
    """Draw a random material for a part of the scene.

    Args:
        texture: ``plain`` (colours, faint shades), ``soft`` (patterns and large waves) or
            ``detailed``.
        exo_pixel_m: what one exo pixel spans on the part, metres.
    """
    settings = LOOKS[part.look]
    edge_lengths = 2 * np.asarray(
        part.size if part.kind == "box" else (part.size[0], part.size[0], sum(part.size[:2]))
    )
    thin_axis = (
        int(edge_lengths.argmin())
        if edge_lengths.min() < 0.3 * edge_lengths.max() and part.kind == "box"
        else None
    )
    grain_axis = int(edge_lengths.argmax()) if settings.grain and part.kind == "box" else None
    largest_edge = float(edge_lengths.max())
    coarse_waves = draw_waves(
        rng,
        count=4,
        lengths_m=(min(0.5, 0.6 * largest_edge), min(2.0, 1.6 * largest_edge)),
        contrast=settings.coarse * (0.4 if texture == "plain" else 1.0),
        tint=settings.tint,
        plane=thin_axis,
    )
    lengths_m = (2 * DETAIL_PX[0] * exo_pixel_m, 2 * DETAIL_PX[1] * exo_pixel_m)
    # Grain alone would look the same after a shift along it: half of a wood's detail has no
    # direction.
    half_detail = settings.detail / np.sqrt(2)
    even_waves = draw_waves(
        rng, count=6, lengths_m=lengths_m, contrast=half_detail, tint=settings.tint, plane=thin_axis
    )
    grained_waves = draw_waves(
        rng,
        count=6,
        lengths_m=lengths_m,
        contrast=half_detail,
        tint=settings.tint,
        plane=thin_axis,
        grain=grain_axis,
    )
    pattern = _draw_pattern(rng, part, settings, edge_lengths, thin_axis, exo_pixel_m)
    if texture == "papered" and part.group == "room":
        paper_waves = draw_waves(
            rng, count=PAPER_WAVES, lengths_m=PAPER_M, contrast=PAPER, tint=0.5, plane=thin_axis
        )
        layers = [coarse_waves, paper_waves]
    elif texture in ("detailed", "papered"):
        layers = [coarse_waves, even_waves, grained_waves]
    else:
        layers = (
            [coarse_waves, grained_waves]
            if texture == "soft" and settings.grain
            else [coarse_waves]
        )
    wave_fields = {name: sum((layer[name] for layer in layers), ()) for name in coarse_waves}
    return Material(albedo=part.colour, **wave_fields, **({} if texture == "plain" else pattern))


def _draw_pattern(
    rng: np.random.Generator,
    part: Part,
    settings: LookSettings,
    edges: np.ndarray,
    thin: int | None,
    exo_pixel_m: float,
) -> dict[str, object]:
    """Draw the random pattern of a material.

    The same random numbers are drawn for all options, so that later draws don't change."""
    has_pattern = rng.random() < settings.pattern
    pattern_kind = (
        "tiles"
        if part.look == "floor" and rng.random() < 0.6
        else str(rng.choice(("checker", "stripes")))
    )
    # A cell is at least 12 exo pixels, so that patterns stay patterns at any picture size.
    cell_side = max(
        rng.uniform(0.25, 0.6) if part.group == "room" else rng.uniform(0.06, 0.2), 12 * exo_pixel_m
    )
    second_hue = np.asarray(THINGS[int(rng.integers(len(THINGS)))])
    part_colour = np.asarray(part.colour)
    colour_share, shade_factor = 0.55, 1.0
    if part.look in ("wall", "floor"):
        colour_share, shade_factor, second_hue = 0.2, rng.choice((0.82, 1.18)), part_colour
    second_colour = np.clip(
        (1 - colour_share) * part_colour * shade_factor + colour_share * second_hue, 0.05, 0.95
    )
    stripe_axis = int(rng.integers(3))
    if not has_pattern or part.kind == "sphere" and pattern_kind == "tiles":
        return {}
    cell_sizes = []
    for axis in range(3):
        # A whole number of periods between opposite faces keeps every face inside a cell, off the
        # pattern's edges.
        can_be_paper = part.kind == "box" and part.group != "room"
        cell_sizes.append(
            0.0
            if axis == thin
            else float(edges[axis] / max(1, round(edges[axis] / cell_side)))
            if can_be_paper
            else cell_side
        )
    if pattern_kind == "stripes":
        if thin is not None and stripe_axis == thin:
            stripe_axis = (thin + 1) % 3
        cell_sizes = [
            cell_m if axis == stripe_axis else 0.0 for axis, cell_m in enumerate(cell_sizes)
        ]
    return {
        "pattern": pattern_kind,
        "cell_m": tuple(cell_sizes),
        "second": tuple(float(c) for c in second_colour),
        "soft_m": 1.5 * exo_pixel_m,
    }
