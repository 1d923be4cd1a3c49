"""Compute textures of solids, filtered over each pixel's footprint.

A texture is a sum of sine waves in the solid's own frame (so that it has no seams and moves with
the solid), over an optional soft pattern. A wave seen through a pixel whose footprint is the
parallelogram (px, py) and whose sensitivity is a Gaussian of ``PIXEL_SIGMA`` keeps exp(-σ²/2
((k·px)² + (k·py)²)) of its amplitude: no aliasing without any supersampling, at any angle of view.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from egox_core.frozen import frozen

PIXEL_SIGMA = 0.4  # of the Gaussian pixel response, in px: about a camera's own blur

Pattern = Literal["none", "checker", "stripes", "tiles"]


@frozen
class Material:
    """Material that defines the colour at each point of a solid."""

    albedo: tuple[float, float, float]
    waves: tuple[tuple[float, float, float], ...] = ()
    phases: tuple[float, ...] = ()
    wave_colours: tuple[tuple[float, float, float], ...] = ()  # amplitude a wave
    pattern: Pattern = "none"
    cell_m: tuple[float, float, float] = (
        1.0,
        1.0,
        1.0,
    )  # period along each axis; 0: no change along it
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)  # the pattern's other colour
    soft_m: float = 0.01  # width of the pattern's edges


def albedo_at(
    material: Material,
    points: Tensor,  # [N, 3] on the surface, metres, the solid's frame
    step_x: Tensor,  # [N, 3] how far the surface point moves for one pixel to the right
    step_y: Tensor,  # [N, 3] for one pixel down
) -> Tensor:  # [N, 3]
    """Compute the filtered surface colours at given points."""
    colour = points.new_tensor(material.albedo).expand(len(points), 3)
    if material.pattern != "none":
        pattern_share = _pattern_share(material, points, step_x, step_y).unsqueeze(-1)
        colour = colour + pattern_share * (points.new_tensor(material.second) - colour)
    if not material.waves:
        return colour
    waves = points.new_tensor(material.waves).T  # [3, K]
    squared_spread = (step_x @ waves).square_().add_((step_y @ waves).square_())
    wave_damping = squared_spread.mul_(-0.5 * PIXEL_SIGMA**2).exp_()
    height = (
        torch.addmm(points.new_tensor(material.phases), points, waves).sin_().mul_(wave_damping)
    )
    return torch.addmm(colour, height, points.new_tensor(material.wave_colours))


def _square_wave(phase: Tensor, width: Tensor) -> Tensor:
    """Compute a square wave of period 1 with smoothed edges."""
    triangle_wave = (
        4.0 * (phase - torch.floor(phase + 0.5)).abs() - 1.0
    )  # 1 at half periods, -1 at whole ones
    return (triangle_wave / (2.0 * width).clamp(0.05, None)).clamp(-1, 1) * (
        1.0 - width.clamp(0, 1)
    ).clamp_min(0)


def _pattern_share(material: Material, points: Tensor, step_x: Tensor, step_y: Tensor) -> Tensor:
    """Compute the share of the pattern's second colour at surface points."""
    wave_product = None
    for axis in range(3):
        cell_side = material.cell_m[axis]
        if cell_side <= 0:
            continue
        width = (step_x[:, axis].abs() + step_y[:, axis].abs() + material.soft_m) / cell_side
        square_wave = _square_wave(points[:, axis] / cell_side, width)
        if material.pattern == "tiles":  # joints: thin lines where any axis is near a whole period
            line_profile = (0.5 + 0.5 * torch.cos(2 * math.pi * (points[:, axis] / cell_side))).pow(
                24
            )
            line_profile = line_profile * (1.0 - (2 * width).clamp(0, 1))
            wave_product = (
                line_profile if wave_product is None else torch.maximum(wave_product, line_profile)
            )
        else:
            wave_product = square_wave if wave_product is None else wave_product * square_wave
    if wave_product is None:
        return torch.zeros_like(points[:, 0])
    return wave_product if material.pattern == "tiles" else 0.5 + 0.5 * wave_product


def draw_waves(
    rng: np.random.Generator,
    *,
    count: int,
    lengths_m: tuple[float, float],
    contrast: float,
    tint: float,
    plane: int | None = None,
    grain: int | None = None,
) -> dict[str, tuple]:
    """Draw random waves for a material's texture.

    Args:
        lengths_m: shortest and longest wavelength, metres, drawn evenly in its logarithm.
        contrast: standard deviation of the sum, in display values.
        tint: 0 for grey, 1 for fully independent channels.
        plane: the waves are in the plane across this axis (thin slabs: a wave along the normal
            would show as a flat shade); None draws, for every wave, one of the three planes.
        grain: waves run long along this axis, as in wood.
    """
    low_log, high_log = np.log(lengths_m[0]), np.log(lengths_m[1])
    waves, phases, wave_colours = [], [], []
    amplitude = contrast * math.sqrt(2.0 / max(count, 1))
    for _ in range(count):
        wavenumber = 2 * math.pi / math.exp(rng.uniform(low_log, high_log))
        normal_axis = int(rng.integers(3)) if plane is None else plane
        wave_angle = rng.uniform(0, math.pi)
        first_axis, second_axis = [axis for axis in range(3) if axis != normal_axis]
        wave_vector = [0.0, 0.0, 0.0]
        wave_vector[first_axis], wave_vector[second_axis] = (
            wavenumber * math.cos(wave_angle),
            wavenumber * math.sin(wave_angle),
        )
        if grain is not None and grain != normal_axis:
            wave_vector[grain] *= 0.12
            vector_length = math.hypot(*wave_vector)
            wave_vector = [x * wavenumber / max(vector_length, 1e-9) for x in wave_vector]
        waves.append(tuple(wave_vector))
        phases.append(float(rng.uniform(0, 2 * math.pi)))
        wave_colour = rng.normal(size=3)
        sign = (-1.0, 1.0)[rng.integers(2)]  # as rng.choice, which takes six times as long
        wave_colours.append(tuple((amplitude * ((1 - tint) * sign + tint * wave_colour)).tolist()))
    return {"waves": tuple(waves), "phases": tuple(phases), "wave_colours": tuple(wave_colours)}
