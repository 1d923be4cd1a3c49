"""One picture seen from a second eye: depth made whole, its edges snapped to the picture's, pixels
moved by it, holes filled.

Depth is kept as nearness, 1 / metres along the ray: a pixel's way is in proportion to it, and sky is
0."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import CameraModel
from ..frozen import frozen

NEAREST_FILL_M = 0.4
"""Nothing that is made up comes nearer: eyes would have to squint at it."""
STEP = 0.04
"""Relative step of nearness from pixel to pixel, beyond which one surface ends."""
SNAP_PX = 2
"""Reach, at each side of a step, within which the picture says where the edge is."""
COLOUR, WAY_PX = 0.1, 3.0
"""Difference of colour, and way, that count the same in that decision."""
STAY = 3.0
"""By how much another surface must be more like it."""
FINE = 2
"""Samples to a pixel, so that a surface that is wider in the other eye stays closed."""
RIM_PX = 2
"""Right of what is nearer the picture mixes both colours: the second eye would see an outline there,
with nothing in it."""


@frozen
class Moved:
    """Where the pixels of the second eye's picture are in the first one's."""

    source: Tensor  # [H, W, 2] float32 px; NaN: the first eye doesn't see it
    nearness: Tensor  # [H, W] float32, 1/m; NaN there


def whole_nearness(
    nearness: Tensor,  # [H, W] float32, 1/m
    observed: Tensor,  # [H, W] bool
) -> Tensor:  # [H, W]
    """What was observed, and a smooth fill, no nearer than 40 cm, elsewhere."""
    known = observed.float()
    smooth = _spread(torch.where(observed, nearness, 0.0), known)
    return torch.where(observed, nearness, smooth.clamp(max=1 / NEAREST_FILL_M))


def _spread(values: Tensor, known: Tensor) -> Tensor:
    """Fill what isn't known from the mean of ever larger blocks."""
    if min(values.shape) == 1 or bool((known > 0).all()):
        return values / known.clamp_min(1e-6) if bool(known.any()) else values
    pooled = F.avg_pool2d(
        torch.stack((values, known))[:, None], 2, ceil_mode=True, count_include_pad=False
    )
    # Of a block only what is known counts, however little of it that is.
    coarse = _spread(*pooled[:, 0])
    wide = F.interpolate(coarse[None, None], values.shape, mode="bilinear")[0, 0]
    return torch.where(known > 0, values / known.clamp_min(1e-6), wide)


def snap_edges(
    nearness: Tensor,  # [H, W]
    observed: Tensor,  # [H, W] bool
    picture: Tensor,  # [H, W, 3] float 0...1
) -> Tensor:  # [H, W]
    """Nearness whose observed steps are where the picture's edges are.

    A pixel within :data:`SNAP_PX` of a step takes the nearness of the pixel beyond that reach that
    is most like it in colour and place, if that one is on another surface.
    """
    height, width = nearness.shape
    high = F.max_pool2d(nearness.masked_fill(~observed, 0.0)[None, None], 3, 1, 1)
    low = -F.max_pool2d(-nearness.masked_fill(~observed, torch.inf)[None, None], 3, 1, 1)
    step = (high - low > STEP * high).float()
    unsure = observed & (F.max_pool2d(step, 2 * SNAP_PX - 1, 1, SNAP_PX - 1)[0, 0] > 0)
    row, column = unsure.nonzero(as_tuple=True)
    own = nearness[unsure]
    best, found = torch.full_like(own, torch.inf), own
    reach = 2 * SNAP_PX
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            beside = (row + down).clamp(0, height - 1), (column + right).clamp(0, width - 1)
            cost = ((picture[beside] - picture[unsure]) / COLOUR).square().sum(-1)
            cost += (down**2 + right**2) / WAY_PX**2
            other = (nearness[beside] - own).abs() > STEP * own
            cost[other] += STAY
            cost[unsure[beside] | ~observed[beside]] = torch.inf
            better = cost < best
            best = torch.where(better, cost, best)
            found = torch.where(better, torch.where(other, nearness[beside], own), found)
    return nearness.masked_scatter(unsure, found)


def move(
    camera: CameraModel,  # of both eyes, upright
    nearness: Tensor,  # [H, W] float32, 1/m
    eye: Tensor,  # [3] metres, place of the second eye, to the right, in the first one's camera
) -> Moved:
    """Find each pixel of the second eye's picture in the first one's; of several the nearest."""
    height, width = nearness.shape
    grid, rays, inside = _rays(camera)
    place, seen = camera.project(rays - nearness[..., None] * eye.float())
    beside = F.pad(nearness[None, None], (RIM_PX, 0, 0, 0))
    pure = (1 - STEP) * F.max_pool2d(beside, (1, RIM_PX + 1), 1)[0, 0] <= nearness
    good = (inside & seen & pure).float()
    fine = _finer(torch.cat((place - grid, torch.stack((nearness, good), -1)), -1))
    down, across = fine.shape[:2]
    start = camera.rescale(across, down).pixel_grid() / FINE
    pixel = (start + fine[..., :2]).round()
    lands = ((pixel >= 0) & (pixel < pixel.new_tensor((width, height)))).all(-1)
    lands &= fine[..., 3] == 1
    column, row = pixel[lands].long().unbind(-1)
    # The bits of a positive float are in the order of its value; the sample's number goes below.
    number = torch.arange(down * across).view(down, across)
    key = (fine[..., 2].contiguous().view(torch.int32).long() << 32 | number)[lands]
    first = torch.full((height * width,), -1)
    first.scatter_reduce_(0, row * width + column, key, "amax")
    sample = fine.view(-1, 4)[(first & 0xFFFFFFFF).clamp(max=down * across - 1)]
    sample = torch.where((first < 0)[:, None], torch.nan, sample).view(height, width, 4)
    return Moved(source=grid - sample[..., :2], nearness=sample[..., 2])


@lru_cache(maxsize=2)
def _rays(camera: CameraModel) -> tuple[Tensor, Tensor, Tensor]:
    """A camera's pixels [H, W, 2], their rays [H, W, 3], and whether the lens has them [H, W]."""
    return camera.pixel_grid(), *camera.pixel_rays()


def _finer(
    values: Tensor,  # [H, W, 4] way, px, nearness, whether it counts
) -> Tensor:  # [FINE (H - 1) + 1, FINE (W - 1) + 1, 4]
    """Values between pixels: interpolated within a surface, else the nearest pixel's."""
    height, width = (FINE * (side - 1) + 1 for side in values.shape[:2])
    row, column = ((torch.arange(side) + FINE // 2) // FINE for side in (height, width))
    own = values[row][:, column]
    between = F.interpolate(
        values.movedim(-1, 0)[None], (height, width), mode="bilinear", align_corners=True
    )[0].movedim(0, -1)
    one = (between[..., 2] - own[..., 2]).abs() <= STEP / FINE * own[..., 2]
    return torch.where(one[..., None], between, own)


def sample_at(
    picture: Tensor,  # [H, W, C] float
    places: Tensor,  # [h, w, 2] px, NaN: nowhere
) -> Tensor:  # [h, w, C]
    """Colours between pixels, by cubic interpolation; 0 where there is no place."""
    height, width, _ = picture.shape
    size = places.new_tensor((max(width - 1, 1), max(height - 1, 1)))
    at = (places / size * 2 - 1).nan_to_num(0.0)[None]
    drawn = F.grid_sample(
        picture.movedim(-1, 0)[None],
        at,
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )[0].movedim(0, -1)
    return torch.where(places.isnan().any(-1, keepdim=True), 0.0, drawn.clamp(0, 1))


def fill_holes(
    picture: Tensor,  # [H, W, 3]
    nearness: Tensor,  # [H, W], NaN in holes
) -> Tensor:  # [H, W, 3]
    """The picture, its holes filled along rows from the side that is farther away.

    Colours are evened out from row to row.
    """
    height, width = nearness.shape
    hole = nearness.isnan()
    column = torch.arange(width).expand(height, width)
    left = torch.where(hole, -1, column).cummax(1).values
    right = torch.where(hole, width, column).flip(1).cummin(1).values.flip(1)

    ends = [at.clamp(0, width - 1) for at in (left, right)]
    before, behind = (nearness.gather(1, at).nan_to_num(torch.inf) for at in ends)
    chosen = torch.where(before < behind, *ends)
    row = torch.arange(height)[:, None]
    filled = picture[row, chosen]
    share = torch.cat((filled * hole[..., None], hole[..., None].float()), -1).movedim(-1, 0)
    even = F.avg_pool2d(share[None], (5, 1), 1, (2, 0))[0].movedim(0, -1)
    return torch.where(hole[..., None], even[..., :3] / even[..., 3:].clamp_min(1e-6), picture)
