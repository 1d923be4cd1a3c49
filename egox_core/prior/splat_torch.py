"""Splat points with array operations on CPU or CUDA, with an exact z-buffer and bounded memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..sizes import REFERENCE_SIZE
from .splat_points import (
    BLEND,
    DEPTH_TOLERANCE,
    MIN_WEIGHT,
    ScreenPoints,
    SplatImage,
    SplatOptions,
    empty_image,
    patches,
    seen_from_behind,
)

EMPTY_RANK = torch.iinfo(torch.int32).max
"""Rank of an empty cell: behind all points."""
PAIRS_AT_ONCE = 4_000_000
"""(point, pixel) pairs handled together: some 150 MB."""
HALF_DIAGONAL = 0.71  # of a cell of 1 px, rounded up
BAND_ROWS = 56
"""Rows of style composite drawn together on a CPU: its arrays then stay in a core's cache. A GPU
takes all at once."""
BOX_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Points are grouped by the half size of the box that their patch fits in; each group is one
rectangular array."""


def splat_torch(points: ScreenPoints, width: int, height: int, options: SplatOptions) -> SplatImage:
    """Draw points into a picture of ``width`` x ``height`` px.

    Its plain twin is ``tests/twins/splat.py``.
    """
    if len(points) == 0:
        return empty_image(width, height, points.uv.device)
    if options.style == "composite":
        return _composite(points, width, height, options)
    return splat_reaches(points, width, height, (options.reach,))[0]


def splat_reaches(
    points: ScreenPoints,
    width: int,
    height: int,
    # Half a patch of each size, in samples, at most BLEND.
    reaches: tuple[float, ...],
) -> list[SplatImage]:
    """Draw points with patches of several sizes: first the front depth, then the mean colour at
    that depth.

    The samples around are the same for all sizes, and are looked for once.
    """
    device = points.uv.device
    pixels = height * width
    if len(points) == 0:
        return [empty_image(width, height, device) for _ in reaches]
    fronts = torch.full((len(reaches), pixels), float("inf"), device=device)
    # All pairs are stored for the second pass where they are few enough (the rule), else computed
    # again.
    stored: list[tuple[Tensor, ...]] | None = []
    for pairs in _point_pixel_pairs(points, width, height):
        index, pixel, distances, _ = pairs
        depth = points.depth[index]
        for front, reach in zip(fronts, reaches, strict=True):
            # Not chosen by the mask: a GPU would be waited for.
            front.scatter_reduce_(
                0, pixel, torch.where(distances <= reach, depth, torch.inf), "amin"
            )
        if stored is not None:
            stored.append(pairs)
            if sum(len(stored_pairs[0]) for stored_pairs in stored) > 2 * PAIRS_AT_ONCE:
                stored = None
    # A point is on the front surface if its patch, with some tolerance, reaches to the front depth.
    depth_tolerance = points.extent + DEPTH_TOLERANCE * points.depth
    nearest_depth = points.depth - depth_tolerance
    farthest_depth = points.depth + depth_tolerance
    samples = torch.cat(
        (
            torch.ones_like(points.depth)[:, None],
            points.rgb,
            points.depth[:, None],
            seen_from_behind(points)[:, None],
        ),
        dim=1,
    )
    weighted_sums = torch.zeros(len(reaches), pixels, 6, device=device)
    for index, pixel, distances, weight in (
        stored if stored is not None else _point_pixel_pairs(points, width, height)
    ):
        nearest, farthest, sample = nearest_depth[index], farthest_depth[index], samples[index]
        for front, reach, sum_of_reach in zip(fronts, reaches, weighted_sums, strict=True):
            front_depth = front[pixel]
            # A covered pixel's front is no farther than the patch that covers it: that one always
            # counts.
            on_front = (nearest <= front_depth) & ((distances <= reach) | (front_depth <= farthest))
            sum_of_reach.index_add_(0, pixel, sample * (weight * on_front)[:, None])
    return [
        _image_of_sums(front.view(height, width), sum_of_reach.T.reshape(6, height, width))
        for front, sum_of_reach in zip(fronts, weighted_sums, strict=True)
    ]


def _image_of_sums(
    front: Tensor,  # [H, W] depth, infinite where nothing landed
    sums: Tensor,  # [6, H, W] of weights, rgb, depth, seen from behind
) -> SplatImage:
    """Divide weighted sums by their weights to make a picture."""
    coverage = torch.isfinite(front)
    mean = sums[1:] / sums[0].clamp_min(1e-12)
    return SplatImage(
        rgb=torch.where(coverage[..., None], mean[:3].permute(1, 2, 0), 0.0).clamp(0, 1),
        coverage=coverage,
        depth=torch.where(coverage, mean[3], float("nan")),
        back=mean[4] > 0.5,
        off=torch.zeros(*front.shape, 2, device=front.device),
    )


def _point_pixel_pairs(
    points: ScreenPoints, width: int, height: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield pairs of points and pixels that their patches reach, in groups of equal box size.

    A group: point [p], pixel [p], distance in samples [p], weight of the point's colour [p]. A
    pair outside the picture is infinitely far and has no weight.

    Patches are askew in their boxes: of all pixels tested a fifth are within the colour's reach.
    """
    device = points.uv.device
    inverse, half_size = patches(points, height / REFERENCE_SIZE)
    centre = points.uv.round()
    centre_offset = (inverse @ (centre - points.uv)[..., None])[
        ..., 0
    ]  # [N, 2], of the centre, in samples
    last_pixel = torch.tensor((width - 1, height - 1), device=device)
    # Rounding moves the centre by at most half a pixel.
    needed_size = half_size.amax(-1) + 0.5
    sizes = torch.tensor(BOX_SIZES, device=device, dtype=needed_size.dtype)
    group = torch.bucketize(
        needed_size, sizes + 1.0
    )  # box of half size s holds all d with |d| < s + 1
    margin = sizes[group.clamp(max=len(BOX_SIZES) - 1), None]
    in_picture = ((centre >= -margin) & (centre <= last_pixel + margin)).all(-1)
    # All groups' members at once: a GPU is waited for once, not for each group.
    group = torch.where(in_picture, group, len(BOX_SIZES))
    order = group.argsort(stable=True)
    counts = torch.bincount(group, minlength=len(BOX_SIZES) + 1).tolist()
    groups = order.split(counts)
    for size, group_indices in zip(BOX_SIZES, groups, strict=False):
        if len(group_indices) == 0:
            continue
        step = torch.arange(-size, size + 1, device=device, dtype=points.uv.dtype)
        row_offset, column_offset = (
            offsets.flatten() for offsets in torch.meshgrid(step, step, indexing="ij")
        )
        for index in group_indices.split(max(1, PAIRS_AT_ONCE // len(column_offset))):
            # Not a matmul: a GPU may round its factors to ten bits.
            offset_u, offset_v = (
                torch.addcmul(
                    centre_offset[index, axis, None], inverse[index, axis, :1], column_offset
                )
                .addcmul_(inverse[index, axis, 1:], row_offset)
                .abs_()
                for axis in range(2)
            )  # [n, k]
            point_numbers, offset_number = (torch.maximum(offset_u, offset_v) <= BLEND).nonzero(
                as_tuple=True
            )
            offset_u, offset_v = (
                offset_u[point_numbers, offset_number],
                offset_v[point_numbers, offset_number],
            )
            point_numbers = index[point_numbers]
            u, v = (
                centre[point_numbers].long()
                + torch.stack((column_offset, row_offset), dim=-1).long()[offset_number]
            ).unbind(-1)
            in_picture_mask = (u >= 0) & (u < width) & (v >= 0) & (v < height)
            yield (
                point_numbers,
                torch.where(in_picture_mask, v * width + u, 0),
                torch.where(in_picture_mask, torch.maximum(offset_u, offset_v), torch.inf),
                tent_weight(offset_u) * tent_weight(offset_v) * in_picture_mask,
            )


def tent_weight(
    distance: Tensor,  # [...] in samples
) -> Tensor:  # [...]
    """Weigh samples by distance: 1 at the sample, falling linearly to 0 at BLEND."""
    return (1 - distance / BLEND).clamp_min(MIN_WEIGHT)


def _composite(points: ScreenPoints, width: int, height: int, options: SplatOptions) -> SplatImage:
    """Composite the nearest discs of every pixel from front to back, layer by layer.

    A disc's opacity falls from 1 at its centre to 0 at its rim (1 - d^2 / r^2, as PyTorch3D's alpha
    compositor is fed). Of the points whose centres share a pixel only the nearest takes part."""
    device = points.uv.device
    radius = options.radius_px * height / REFERENCE_SIZE
    pad = int(radius + 1)
    # Ranks by depth fit in 32 bits and name the point at once.
    order = points.depth.argsort(stable=True)
    uv, rgb, sorted_depth = points.uv[order], points.rgb[order], points.depth[order]
    canvas_width, canvas_height = width + 2 * pad, height + 2 * pad
    column, row = (uv.round().long() + pad).unbind(-1)
    in_canvas = (column >= 0) & (column < canvas_width) & (row >= 0) & (row < canvas_height)
    cells = torch.full(
        (canvas_width * canvas_height + 1,), EMPTY_RANK, dtype=torch.int32, device=device
    )
    cell_number = torch.where(in_canvas, row * canvas_width + column, canvas_width * canvas_height)
    cells.scatter_reduce_(
        0, cell_number, torch.arange(len(uv), dtype=torch.int32, device=device), "amin"
    )
    cells = cells[:-1].view(canvas_height, canvas_width)

    rows = BAND_ROWS if device.type == "cpu" else height
    bands = [
        _composite_band(
            cells[top : min(top + rows, height) + 2 * pad],
            top,
            uv,
            rgb,
            sorted_depth,
            radius,
            pad,
            options.points_per_pixel,
        )
        for top in range(0, height, rows)
    ]
    colours, coverage, depth, point_offset = (
        torch.cat(parts) for parts in zip(*bands, strict=True)
    )
    seen_from_back = torch.zeros_like(coverage)
    return SplatImage(
        rgb=colours.clamp(0, 1),
        coverage=coverage,
        depth=depth,
        back=seen_from_back,
        off=point_offset,
    )


def _composite_band(
    # [rows + 2 pad, width + 2 pad] int32, rank of the point at each cell, or EMPTY_RANK
    cells: Tensor,
    top: int,
    uv: Tensor,  # [N, 2] nearest first, as rgb and z
    rgb: Tensor,  # [N, 3]
    depth_by_rank: Tensor,  # [N]
    radius: float,
    pad: int,
    layers: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite a band of rows from ``top`` on, as many as ``cells`` has.

    Returns:
        Rgb, coverage, z, way to the nearest point.
    """
    device = uv.device
    (height, width) = (side - 2 * pad for side in cells.shape)
    v, u = torch.meshgrid(
        torch.arange(top, top + height, device=device, dtype=uv.dtype),
        torch.arange(width, device=device, dtype=uv.dtype),
        indexing="ij",
    )
    windows = _disc_windows(cells, uv, radius, pad, v, u)
    colours = torch.zeros(height, width, 3, device=device)
    transmittance = torch.ones(height, width, device=device)
    first_rank = torch.zeros(height, width, dtype=torch.int64, device=device)
    coverage = torch.zeros(height, width, dtype=torch.bool, device=device)
    layer_rank = torch.full((height, width), -1, dtype=torch.int32, device=device)
    # The nearest rank behind the last layer is the least window - layer - 1 in unsigned arithmetic;
    # shifted by the least integer it is the least in signed arithmetic, which wraps alike: two
    # passes a window instead of three.
    least_int = torch.iinfo(torch.int32).min
    shifted_rank, nearest = torch.empty_like(layer_rank), torch.empty_like(layer_rank)
    for _ in range(layers):
        wrapped_base = layer_rank + 1 + least_int
        nearest.fill_(EMPTY_RANK)
        for window in windows:
            torch.sub(window, wrapped_base, out=shifted_rank)
            torch.minimum(nearest, shifted_rank, out=nearest)
        nearest = nearest + wrapped_base
        hit_mask = (nearest > layer_rank) & (nearest < len(uv))
        if not hit_mask.any():
            break
        index = torch.where(hit_mask, nearest, 0).long()
        square_distance = (uv[index, 0] - u).square() + (uv[index, 1] - v).square()
        alpha = torch.where(hit_mask, 1 - square_distance / (radius * radius), 0.0).clamp_min(0)
        colours += (transmittance * alpha)[..., None] * rgb[index]
        transmittance = transmittance * (1 - alpha)
        first_rank = torch.where(coverage, first_rank, index)
        coverage |= hit_mask
        layer_rank = torch.where(hit_mask, nearest, EMPTY_RANK - 1).to(torch.int32)
    depth = torch.where(coverage, depth_by_rank[first_rank], torch.nan)
    return colours, coverage, depth, uv[first_rank] - torch.stack((u, v), dim=-1)


def _disc_windows(
    cells: Tensor, uv: Tensor, radius: float, pad: int, v: Tensor, u: Tensor
) -> list[Tensor]:
    """Gather for each pixel the nearest points of the cells within a disc around it.

    A centre lies up to half a cell's diagonal from its cell's middle: cells near the rim are tested
    point by point."""
    windows = []
    height, width = v.shape
    empty_cells = torch.full((height, width), EMPTY_RANK, dtype=cells.dtype, device=uv.device)
    for row_offset in range(-pad, pad + 1):
        for column_offset in range(-pad, pad + 1):
            distance = (row_offset * row_offset + column_offset * column_offset) ** 0.5
            if distance >= radius + HALF_DIAGONAL:
                continue
            window = cells[
                pad + row_offset : pad + row_offset + height,
                pad + column_offset : pad + column_offset + width,
            ]
            if distance > radius - HALF_DIAGONAL:
                index = torch.where(window < EMPTY_RANK, window, 0).long()
                square_distance = (uv[index, 0] - u).square() + (uv[index, 1] - v).square()
                window = torch.where(square_distance < radius * radius, window, empty_cells)
            windows.append(window)
    return windows
