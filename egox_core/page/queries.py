"""Find the surface or head under a clicked pixel, for the pose editor."""

import torch
from torch import Tensor

from ..cameras import CameraModel, CameraPath, invert, transform
from ..frozen import frozen
from ..prior import CoarsePoints
from ..trajectory import HEAD_HALF, OWN_BODY_M
from ..types import DOUBTFUL, EARLIER, UNOBSERVED
from .maps import HATCH_PX

REACH_PX = 12.0
"""Largest distance of a point from the click; a thinned cloud of a 784 x 448 picture has one within
2 px on surfaces."""
WINDOW_PX = 7.0
"""Side of the square around a click in which the nearest thing counts: a head in the back of a room
is that small."""
SAME_OBJECT, MIN_OBJECT_SHARE = 0.05, 0.15
"""Relative depth that the points of one thing span there, and the share of the points that it must
have: fewer are strays between two surfaces."""
HEAD_STEPS = 12
HEAD_HEIGHT_M, HEAD_LENGTH_M = (2 * HEAD_HALF[1:]).tolist()
"""Of a head, metres."""
SAME_SURFACE, SLOPE_UNKNOWN = 0.03, 0.2
"""Relative depth from a surface within which a point belongs to it; the wider bound before its
slope is fitted."""


@frozen
class Pick:
    """Point of the scene under an exo pixel."""

    point: Tensor  # [3] float64, metres, scene frame
    depth_m: float  # z depth in the exo camera
    off_px: float  # from the click to the nearest point


def pick_point(
    points: CoarsePoints,
    # The exo camera in one frame, in the points' world.
    exo: CameraPath,
    pixel: tuple[float, float],  # (u, v), stored px of the exo camera
    *,
    wearer: Tensor | None = None,  # [3] the head's place, scene frame: what is near is no surface
) -> Pick | None:
    """Find the surface point under an exo pixel, or return None if no point is near.

    The points around the click that are on the surface there give the depth. The point itself
    lies on the pixel's own ray, so that a click is exact however thin the cloud.
    """
    xyz = transform(exo.at(0).float(), points.xyz)
    uv, valid = exo.camera.project(xyz)
    if wearer is not None:
        valid &= (points.xyz - wearer.to(points.xyz)).norm(dim=-1) > OWN_BODY_M
    distances_px = (uv - uv.new_tensor(pixel)).norm(dim=-1)
    near_points = (valid & (xyz[:, 2] > 0) & (distances_px <= REACH_PX)).nonzero()[:, 0]
    if not len(near_points):
        return None
    depth = _surface_depth(uv[near_points] - uv.new_tensor(pixel), xyz[near_points, 2])
    ray = _ray(exo.camera, pixel)
    point = ray * (depth / float(ray[2])) if float(ray[2]) > 1e-3 else ray * depth
    return Pick(
        point=transform(invert(exo.at(0)), point[None])[0],
        depth_m=depth,
        off_px=float(distances_px[near_points].min()),
    )


def _surface_depth(
    offsets_px: Tensor,  # [N, 2] px from the click
    depths_m: Tensor,  # [N] metres
) -> float:
    """Compute the z depth at the click from a plane through the closest points.

    Inverse depth of a plane is linear in px.
    """
    distance = offsets_px.norm(dim=-1)
    window_mask = offsets_px.abs().amax(-1) <= WINDOW_PX / 2
    # A thin cloud may have nothing there: of the closest few the front one is what is seen.
    start_depth = (
        _nearest_object_depth(depths_m[window_mask])
        if window_mask.any()
        else float(depths_m[distance.argsort()[:3]].min())
    )
    weight = torch.exp(-0.5 * (distance / (float(distance.min()) + 2)).square())
    plane_terms = torch.cat((torch.ones_like(depths_m)[:, None], offsets_px), dim=-1).double()
    plane_coefficients = torch.tensor([1 / start_depth, 0, 0], dtype=torch.float64)
    for tolerance in (SLOPE_UNKNOWN, SAME_SURFACE, SAME_SURFACE):
        on_surface = ((plane_terms @ plane_coefficients) * depths_m - 1).abs() < tolerance
        if int(on_surface.sum()) < 6:
            break
        root_weight = (weight * on_surface).sqrt().double()[:, None]
        plane_coefficients = torch.linalg.lstsq(
            root_weight * plane_terms, root_weight / depths_m.double()[:, None], driver="gelsd"
        ).solution[:, 0]
    depth = 1 / float(plane_coefficients[0]) if float(plane_coefficients[0]) > 0 else start_depth
    return depth if abs(depth / start_depth - 1) < SLOPE_UNKNOWN else start_depth


def _nearest_object_depth(depths: Tensor) -> float:  # [N] metres
    """Find the depth of the nearest object among points of several objects."""
    depths = depths.double().sort().values
    neighbour_counts = torch.searchsorted(
        depths, depths * (1 + SAME_OBJECT), right=True
    ) - torch.arange(len(depths))
    first_index = int(
        (neighbour_counts >= max(min(2, len(depths)), MIN_OBJECT_SHARE * len(depths)))
        .int()
        .argmax()
    )
    return float(depths[first_index : first_index + int(neighbour_counts[first_index])].median())


def _ray(
    camera: CameraModel, pixel: tuple[float, float]
) -> Tensor:  # [3] float64, unit, exo camera frame
    return camera.unproject(torch.tensor([pixel], dtype=torch.float64))[0][0]


def pick_head(
    points: CoarsePoints,
    # The exo camera in one frame, in the points' world.
    exo: CameraPath,
    pixel: tuple[float, float],  # (u, v), stored px of the exo camera
    lens_guessed: bool = False,
) -> Pick | None:
    """Find the centre of the head under an exo pixel, or return None if no point is near.

    From the surface under the click the centre lies half a head's length further along the ray
    (ANSUR II, as ``trajectory/head_template.py`` has it). A click is seldom on the middle of a
    head, so the centre then moves to the middle of the surface that is seen within half a head's
    height around it, until it stays. It stays on the ray of the click where it would end further
    than half a head from it, which is no head's middle, and where the lens is guessed: a head's
    size in metres is then not known.
    """
    surface_pick = pick_point(points, exo, pixel)
    if surface_pick is None:
        return None
    xyz = transform(exo.at(0), points.xyz.double())
    surface_point = transform(exo.at(0), surface_pick.point[None])[0]
    centre = clicked_centre = surface_point * (1 + HEAD_LENGTH_M / 2 / float(surface_point.norm()))
    xyz = xyz[(xyz - centre).norm(dim=-1) < 3 * HEAD_HEIGHT_M]  # it moves by less than a head
    for _ in range(0 if lens_guessed else HEAD_STEPS):
        centre_distance = float(centre.norm())
        ray = centre / centre_distance
        along_ray = xyz @ ray
        off_ray = xyz - along_ray[:, None] * ray
        # What is seen of a head is before its centre.
        visible_mask = (
            (off_ray.norm(dim=-1) < HEAD_HEIGHT_M / 2)
            & (along_ray < centre_distance)
            & (along_ray > centre_distance - HEAD_LENGTH_M)
        )
        if int(visible_mask.sum()) < 3:
            break
        front_distance = float(
            along_ray[visible_mask].quantile(0.1)
        )  # the foremost, but for strays
        centre = off_ray[visible_mask].mean(0) + ray * (front_distance + HEAD_LENGTH_M / 2)
    ray = _ray(exo.camera, pixel)
    one_px = float((_ray(exo.camera, (pixel[0] + 1, pixel[1])) - ray).norm() * centre.norm())
    if float((centre - (centre @ ray) * ray).norm()) > HEAD_HEIGHT_M / 2 + one_px:
        centre = clicked_centre
    return Pick(
        point=transform(invert(exo.at(0)), centre[None])[0],
        depth_m=float(centre[2]),
        off_px=surface_pick.off_px,
    )


def lens_outline(
    camera: CameraModel, samples: int = 64
) -> Tensor:  # [samples, 3] unit rays, upright camera axes
    """Compute rays along the visible rim of the lens's picture, for drawing the camera's frustum.

    The rim is walked clockwise from the middle of the upper edge, from the centre outwards to the
    picture's edge or, where the lens ends before it (a fisheye's circle), to there.
    """
    upright_camera = camera.upright()
    width, height = upright_camera.stored_size
    angle = torch.arange(samples, dtype=torch.float64) * (2 * torch.pi / samples) - torch.pi / 2
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    half_size = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    # To the edge of the rectangle along each direction; then back until the lens knows a ray.
    to_edge = (half_size / direction.abs().clamp_min(1e-9)).amin(-1)
    edge_shares = torch.linspace(1.0, 0.05, 96, dtype=torch.float64)
    pixels = centre + direction[:, None] * (to_edge[:, None] * edge_shares)[..., None]
    rays, valid = upright_camera.unproject(pixels)
    first_valid = valid.int().argmax(-1)
    return rays[torch.arange(samples), first_valid]


def mark_seen(
    rgb: Tensor,  # [H, W, 3] uint8
    seen: Tensor,  # [H, W] uint8, of types.NOW and the other classes
) -> Tensor:  # [H, W, 3] uint8
    """Draw the class of each pixel over a picture, as the page's players do.

    A grey veil covers what exo saw at another time, dots what is doubtful, a hatch what it never
    saw.
    """
    rows, columns = torch.meshgrid(*map(torch.arange, seen.shape), indexing="ij")
    picture = rgb.clone()
    veil_mask = seen == EARLIER
    picture[veil_mask] = picture[veil_mask] // 2 + 64
    hatch_middle = HATCH_PX // 2
    dot_pattern = (rows % HATCH_PX // 2 == hatch_middle // 2) & (
        columns % HATCH_PX // 2 == hatch_middle // 2
    )
    picture[(seen == DOUBTFUL) & dot_pattern] = 255
    picture[(seen == UNOBSERVED) & ((rows + columns) % HATCH_PX == 0)] = 160
    return picture
