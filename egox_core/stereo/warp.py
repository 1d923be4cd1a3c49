"""Make one eye's picture from the other's by its depth.

Depth is kept as nearness, 1 / metres along the ray: a pixel's way is in proportion to it, and sky
is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import CameraModel

NEAREST_FILL_M = 0.4
"""Nothing that is made up comes nearer: eyes would have to squint at it."""
STEP = 0.04
"""Relative step of nearness from pixel to pixel, beyond which one surface ends."""
SNAP_PX = 2
"""Reach, at each side of a step, within which the picture says where the edge is."""
COLOUR, SAME_COST_PX = 0.1, 3.0
"""Difference of colour, and way, that count the same in that decision."""
SURFACE_PENALTY = 3.0
"""By how much another surface must be more like it."""
RIM_PX = 2
"""Right of what is nearer the picture mixes both colours: the second eye would see an outline
there, with nothing in it."""
OFFSETS = ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))
"""Samples of a pixel, so that a surface that is wider in the other eye stays closed."""


def fill_nearness(
    nearness: Tensor,  # [H, W] float32, 1/m
    observed: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W]
    """Fill unobserved nearness by the mean of the smallest surrounding blocks with observed values.

    The fill is no nearer than 40 cm.
    """
    nearness_and_mask = torch.stack((nearness.where(observed, 0.0), observed.float()))[None]
    filled_nearness = nearness.where(observed, torch.nan)
    side = 1
    while bool(filled_nearness.isnan().any()) and side < max(filled_nearness.shape):
        side *= 2
        blocks = F.avg_pool2d(nearness_and_mask, side, ceil_mode=True)
        values, share = F.interpolate(blocks, filled_nearness.shape, mode="bilinear")[0]
        filled_nearness = filled_nearness.where(
            ~filled_nearness.isnan(), (values / share).clamp(max=1 / NEAREST_FILL_M)
        )
    return filled_nearness.nan_to_num(0.0)


def snap_edges(
    nearness: Tensor,  # [H, W]
    observed: Tensor,  # [H, W] bool
    picture: Tensor,  # [H, W, 3] float 0...1
) -> Tensor:  # [H, W]
    """Move the steps of observed nearness to the edges of the picture.

    A pixel within :data:`SNAP_PX` of a step takes the nearness of the pixel beyond that reach that
    is most like it in colour and place, if that one is on another surface.
    """
    highest = F.max_pool2d(nearness.where(observed, 0.0)[None, None], 3, 1, 1)
    lowest = -F.max_pool2d(-nearness.where(observed, torch.inf)[None, None], 3, 1, 1)
    step_mask = (highest - lowest > STEP * highest).float()
    unsure_mask = observed & (F.max_pool2d(step_mask, 2 * SNAP_PX - 1, 1, SNAP_PX - 1)[0, 0] > 0)
    reach_px = 2 * SNAP_PX
    layers = torch.cat((torch.stack((nearness, observed & ~unsure_mask)), picture.movedim(-1, 0)))
    padded = F.pad(layers, (reach_px, reach_px, reach_px, reach_px))
    for axis in (1, 2):
        padded = padded.unfold(axis, 2 * reach_px + 1, 1)
    neighbours, sure_flags, *colours = padded[:, unsure_mask].flatten(2)  # [N, places]
    edge_nearness = nearness[unsure_mask][:, None]
    other_surface = (neighbours - edge_nearness).abs() > STEP * edge_nearness
    offsets = torch.arange(-reach_px, reach_px + 1)
    match_cost = (
        offsets[:, None] ** 2 + offsets**2
    ).flatten() / SAME_COST_PX**2 + SURFACE_PENALTY * other_surface
    for neighbour_colours, own_colours in zip(colours, picture[unsure_mask].T, strict=True):
        match_cost += ((neighbour_colours - own_colours[:, None]) / COLOUR) ** 2
    best_place = match_cost.where(sure_flags > 0, torch.inf).argmin(1, keepdim=True)
    is_snapped = (other_surface & (sure_flags > 0)).gather(1, best_place)
    return nearness.masked_scatter(
        unsure_mask, neighbours.gather(1, best_place).where(is_snapped, edge_nearness)
    )


def find_source_positions(
    camera: CameraModel,  # of both eyes, upright
    nearness: Tensor,  # [H, W] float32, 1/m
    eye: Tensor,  # [3] metres, place of the second eye, to the right, in the first one's camera
) -> tuple[Tensor, Tensor]:
    """Find for each pixel of the second eye the nearest surface's pixel in the first eye.

    Returns:
        Places in the first picture, px [H, W, 2], and their nearness [H, W]; NaN where the first
        eye sees nothing.
    """
    (height, width) = nearness.shape
    grid = camera.pixel_grid()
    rays, inside = camera.pixel_rays()
    positions, in_lens = camera.project(rays - nearness[..., None] * eye.float())
    padded = F.pad(nearness[None, None], (RIM_PX, 0, 0, 0))
    frontmost = (1 - STEP) * F.max_pool2d(padded, (1, RIM_PX + 1), 1)[0, 0] <= nearness
    # The bits of a positive float are in the order of its value; the pixel's number goes below.
    pixel_numbers = torch.arange(height * width).view(height, width)
    nearness_and_pixel = nearness.contiguous().view(torch.int32).long() << 32 | pixel_numbers
    front_keys = torch.full((height * width,), -1)
    for offset in OFFSETS:
        landing = positions + torch.tensor(offset)
        lands_mask = inside & in_lens & frontmost & camera.inside(landing)
        column, row = landing[lands_mask].round().long().unbind(-1)
        front_keys.scatter_reduce_(0, row * width + column, nearness_and_pixel[lands_mask], "amax")
    front_keys = front_keys.view(height, width)
    hole_mask = front_keys < 0
    pixel_numbers = front_keys.clamp(min=0) & 0xFFFFFFFF
    source_positions = grid - (positions - grid).view(-1, 2)[pixel_numbers]
    moved_nearness = nearness.take(pixel_numbers).masked_fill(hole_mask, torch.nan)
    return source_positions.masked_fill(hole_mask[..., None], torch.nan), moved_nearness


def sample_at(
    picture: Tensor,  # [H, W, 3] float
    places: Tensor,  # [h, w, 2] px, NaN: nowhere
) -> Tensor:  # [h, w, 3]
    """Sample colours between pixels by cubic interpolation, 0 where the position is NaN."""
    last_pixel = places.new_tensor(picture.shape[1::-1]) - 1
    sampled = F.grid_sample(
        picture.movedim(-1, 0)[None],
        (places / last_pixel * 2 - 1).nan_to_num(0.0)[None],
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )[0].movedim(0, -1)
    return sampled.clamp(0, 1).where(~places.isnan().any(-1, keepdim=True), 0.0)


def wide_parts(
    holes: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W] bool
    """Select the parts of holes that are at least 3 x 3 px large."""
    block_centres = F.pad(-F.max_pool2d(-holes.float()[None], 3, 1), (2, 2, 2, 2))
    return F.max_pool2d(block_centres, 3, 1)[0] > 0


def fill_holes(
    picture: Tensor,  # [H, W, 3]
    nearness: Tensor,  # [H, W], NaN in holes
) -> Tensor:  # [H, W, 3]
    """Fill the picture's holes along rows from the side that is farther away.

    Colours are evened out from row to row, or they would flicker.
    """
    hole_mask = nearness.isnan()
    last_column = nearness.shape[1] - 1
    column = torch.arange(last_column + 1).expand_as(hole_mask)
    left_column = column.where(~hole_mask, 0).cummax(1).values
    right_column = column.where(~hole_mask, last_column).flip(1).cummin(1).values.flip(1)
    left_nearness, right_nearness = (
        nearness.gather(1, column_index).nan_to_num(torch.inf)
        for column_index in (left_column, right_column)
    )
    source_column = left_column.where(left_nearness < right_nearness, right_column)
    layers = (
        picture.gather(1, source_column[..., None].expand_as(picture)),
        torch.ones_like(picture),
    )
    even_colours, share = (
        F.avg_pool2d((layer * hole_mask[..., None]).movedim(-1, 0), (5, 1), 1, (2, 0)).movedim(
            0, -1
        )
        for layer in layers
    )
    return (even_colours / share).where(hole_mask[..., None], picture)
