"""Splat points by a simple reference implementation."""

import math

import torch

from egox_core.prior.splat_points import (
    BLEND,
    DEPTH_TOLERANCE,
    MIN_WEIGHT,
    ScreenPoints,
    SplatImage,
    SplatOptions,
    empty_image,
    patches,
)
from egox_core.sizes import REFERENCE_SIZE


def splat_reference(
    points: ScreenPoints, width: int, height: int, options: SplatOptions
) -> SplatImage:
    """Splat points one by one, as a simple reference."""
    draw_function = _composite if options.style == "composite" else _surface
    return draw_function(points, width, height, options)


def _surface(points: ScreenPoints, width: int, height: int, options: SplatOptions) -> SplatImage:
    image = empty_image(width, height)
    inverse_axes, half_sizes = (t.tolist() for t in patches(points, height / REFERENCE_SIZE))
    uv, depth, rgb, extent = (
        t.tolist() for t in (points.uv, points.depth, points.rgb, points.extent)
    )
    samples_by_pixel: dict[
        tuple[int, int], list[tuple[int, float, bool]]
    ] = {}  # pixel -> (point, weight, covered by its patch)
    for i, (u, v) in enumerate(uv):
        (a_u, a_v), (b_u, b_v) = inverse_axes[i]
        for row in range(
            max(0, math.floor(v - half_sizes[i][1])),
            min(height, math.ceil(v + half_sizes[i][1]) + 1),
        ):
            for col in range(
                max(0, math.floor(u - half_sizes[i][0])),
                min(width, math.ceil(u + half_sizes[i][0]) + 1),
            ):
                patch_u = abs(a_u * (col - u) + a_v * (row - v))
                patch_v = abs(b_u * (col - u) + b_v * (row - v))
                if max(patch_u, patch_v) <= BLEND:
                    weight = max(1 - patch_u / BLEND, MIN_WEIGHT) * max(
                        1 - patch_v / BLEND, MIN_WEIGHT
                    )
                    samples_by_pixel.setdefault((row, col), []).append(
                        (i, weight, max(patch_u, patch_v) <= options.reach)
                    )
    for (row, col), samples in samples_by_pixel.items():
        front_depth = min((depth[i] for i, _, covers in samples if covers), default=math.inf)
        if math.isinf(front_depth):
            continue  # only colours reach here, no patch
        total_weight, colour, weighted_depth, back_weight = 0.0, [0.0, 0.0, 0.0], 0.0, 0.0
        for i, weight, covers in samples:
            slack = extent[i] + DEPTH_TOLERANCE * depth[i]
            if depth[i] - slack > front_depth or (depth[i] + slack < front_depth and not covers):
                continue  # behind or before the front surface
            total_weight += weight
            weighted_depth += weight * depth[i]
            if points.axes[i].det() < 0:
                back_weight += weight
            colour = [c + weight * x for c, x in zip(colour, rgb[i], strict=True)]
        image.coverage[row, col] = True
        image.depth[row, col] = weighted_depth / total_weight
        image.back[row, col] = 2 * back_weight > total_weight
        image.rgb[row, col] = torch.tensor([c / total_weight for c in colour]).clamp(0, 1)
    return image


def _composite(points: ScreenPoints, width: int, height: int, options: SplatOptions) -> SplatImage:
    image = empty_image(width, height)
    radius = options.radius_px * height / REFERENCE_SIZE
    uv, depth, rgb = points.uv.tolist(), points.depth.tolist(), points.rgb.tolist()
    nearest: dict[
        tuple[int, int], int
    ] = {}  # of the points whose centres share a pixel only the nearest takes part
    for i, (u, v) in enumerate(uv):
        cell = (round(v), round(u))  # halves to even, as torch rounds
        if cell not in nearest or depth[i] < depth[nearest[cell]]:
            nearest[cell] = i
    discs_by_pixel: dict[
        tuple[int, int], list[tuple[float, int, float]]
    ] = {}  # pixel -> (depth, point, squared distance)
    for i in nearest.values():
        u, v = uv[i]
        for row in range(max(0, math.floor(v - radius)), min(height, math.ceil(v + radius) + 1)):
            for col in range(max(0, math.floor(u - radius)), min(width, math.ceil(u + radius) + 1)):
                squared_distance = (col - u) ** 2 + (row - v) ** 2
                if squared_distance < radius * radius:
                    discs_by_pixel.setdefault((row, col), []).append(
                        (depth[i], i, squared_distance)
                    )
    for (row, col), discs in discs_by_pixel.items():
        discs.sort()
        transmittance, colour = 1.0, [0.0, 0.0, 0.0]
        for _, i, squared_distance in discs[: options.points_per_pixel]:
            alpha = 1 - squared_distance / (radius * radius)
            colour = [c + transmittance * alpha * x for c, x in zip(colour, rgb[i], strict=True)]
            transmittance *= 1 - alpha
        image.coverage[row, col] = True
        image.depth[row, col] = discs[0][0]
        image.off[row, col] = points.uv[discs[0][1]] - torch.tensor([col, row])
        image.rgb[row, col] = torch.tensor(colour).clamp(0, 1)
    return image
