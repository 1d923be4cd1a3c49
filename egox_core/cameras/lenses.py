"""Define lens models, which map viewing rays to points of the image plane and back.

The image plane has focal length 1 and its centre at 0.

A new lens is one entry of :data:`LENSES`; everything else that depends on a lens reads the table.
Focal lengths, centres, sizes and quarter turns belong to the camera
(:mod:`egox_core.cameras.model`).

Pinhole: ``x / z``. OpenCV's plain lens moves that point by a radial and a tangential part (k1, k2,
p1, p2). Fisheye lenses measure the incidence angle theta and put the point at radius
``theta * (1 + k1 theta^2 + k2 theta^4 + ...)``: four numbers in OpenCV's fisheye model, six in
Aria's, whose plane then moves by a tangential and a thin-prism part (the FisheyeRadTanThinPrism
of projectaria_tools)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..frozen import frozen

ARIA_RADIAL = 6  # of its twelve numbers k1...k6, p1, p2, s1...s4
TABLE_SIZE = 512
RADIAL_NEWTON_STEPS = 3
"""Steps after the table start: two reach the type's precision, the third carries the gradient
(``benchmarks/results/constants.md``)."""
MIN_SLOPE = 0.02
"""Least d radius / d theta; below it the polynomial is about to fold back: the lens ends there."""
PLANE_STEPS = 40
"""Most Newton steps in the plane: 4 to 6 for real lenses, more where OpenCV's plain one nearly
folds back. One more carries the gradient."""
WIDEST_PLAIN = math.radians(89)
ANY_RADIUS = 1e9
"""Largest angle of OpenCV's plain lens; a radius beyond every plane."""

Distortion = tuple[float, ...]
"""Numbers of a lens in its own order; () where a calibration gives none: all zero."""


@frozen
class Lens:
    """Projection of one lens, and the names that other programs have for it, with angles in
    radians."""

    project: Callable[[Tensor, Distortion, float], tuple[Tensor, Tensor]]
    """(points [..., 3], distortion, largest angle) -> (plane [..., 2], valid [...]); invalid ones
    on finite numbers."""
    unproject: Callable[[Tensor, Distortion, float], tuple[Tensor, Tensor]]
    """(plane [..., 2], distortion, largest angle) -> (unit rays [..., 3], valid [...])."""
    distortion_count: int
    straight: bool = False  # straight lines stay straight in the picture
    # quarter turns that the sensor behind such a lens usually has (Aria's glasses: one)
    sensor_turns: int = 0
    turn_distortion: Callable[[Distortion], Distortion] = lambda distortion: distortion
    """The numbers after one clockwise turn of the picture; radial ones don't change."""
    mirror_signs: tuple[int, ...] = ()  # factors of the numbers in a mirror, where any changes
    # name in COLMAP's cameras.txt; its numbers are fx, fy, cx, cy, then ours in our order
    colmap: str | None = None
    simpler: Mapping[str, int] = field(default_factory=dict)
    """Other programs' names for it with one focal length, and how many of our first numbers
    follow."""
    blender: str  # camera_model of transforms.json
    blender_keys: tuple[str, ...] = ()  # of its distortion numbers there
    blender_fit: Callable[[Distortion, float], Distortion] | None = None
    """(distortion, largest angle) -> numbers for those keys, where the form has no such lens and
    ``blender`` names the closest, as which it is read back."""


def project_pinhole(
    points: Tensor,  # [..., 3]
    distortion: Distortion,  # none
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # plane [..., 2], valid [...]
    """Project points by a pinhole to ``x/z, y/z``, with finite numbers for invalid points."""
    xy = points[..., :2]
    z = points[..., 2]
    valid = z > 0
    plane = xy / torch.where(valid, z, torch.ones_like(z))[..., None]
    return plane, valid & (
        plane.square().sum(-1) <= math.tan(min(max_angle, math.radians(89.9))) ** 2
    )


def unproject_pinhole(
    plane: Tensor,  # [..., 2]
    distortion: Distortion,  # none
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # rays [..., 3], valid [...]
    """Convert points of a pinhole's image plane to unit rays."""
    rays = torch.cat((plane, torch.ones_like(plane[..., :1])), dim=-1)
    valid = plane.square().sum(-1) <= math.tan(min(max_angle, math.radians(89.9))) ** 2
    return rays / rays.norm(dim=-1, keepdim=True), valid


def project_opencv(
    points: Tensor,  # [..., 3]
    distortion: Distortion,  # k1, k2, p1, p2
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # plane [..., 2], valid [...]
    """Project points with OpenCV's plain distortion, valid within the radius that the lens maps
    uniquely."""
    plane, valid = project_pinhole(points, (), max_angle)
    distortion_terms, radius_limit = _opencv_terms(distortion, max_angle)
    return _distort(plane, distortion_terms), valid & (plane.norm(dim=-1) <= radius_limit)


def unproject_opencv(
    plane: Tensor,  # [..., 2]
    distortion: Distortion,  # k1, k2, p1, p2
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # rays [..., 3], valid [...]
    """Convert image plane points of OpenCV's plain lens to unit rays, the inverse of
    :func:`project_opencv`."""
    distortion_terms, radius_limit = _opencv_terms(distortion, max_angle)
    undistorted = _undistort(plane, distortion_terms, radius_limit)
    converged_mask = (_distort(undistorted, distortion_terms) - plane).detach().norm(dim=-1) <= 1e-5
    rays, valid = unproject_pinhole(undistorted, (), max_angle)
    return rays, valid & converged_mask


def project_fisheye(
    points: Tensor,  # [..., 3]
    radial: Distortion,  # k1, k2, ...
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # plane [..., 2], valid [...]
    """Project points with a fisheye's radial distortion, valid up to the incidence angle that the
    lens maps uniquely.

    Points behind the camera are allowed as far as the angle goes.
    """
    xy = points[..., :2]
    z = points[..., 2]
    radius_squared = xy.square().sum(-1)
    # On the axis the derivative of the norm is 0/0; there the map is x / z exactly.
    on_axis = radius_squared <= 1e-24 * (1 + z.square())
    axis_distance = torch.where(on_axis, torch.ones_like(radius_squared), radius_squared).sqrt()
    theta = torch.atan2(axis_distance, z)
    theta_limit = angle_limit(radial, max_angle)
    valid = torch.where(on_axis, z > 0, theta <= theta_limit)
    scale = torch.where(
        on_axis,
        1 / torch.where(on_axis & (z > 0), z, torch.ones_like(z)),
        _radius(theta, radial) / axis_distance,
    )
    return xy * scale[..., None], valid


def unproject_fisheye(
    plane: Tensor,  # [..., 2]
    radial: Distortion,  # k1, k2, ...
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # rays [..., 3], valid [...]
    """Convert image plane points of a fisheye to unit rays, the inverse of
    :func:`project_fisheye`."""
    radius_squared = plane.square().sum(-1)
    on_axis = radius_squared <= 1e-24
    radius = torch.where(on_axis, torch.ones_like(radius_squared), radius_squared).sqrt()
    theta, valid = _incidence_angle(
        torch.where(on_axis, torch.zeros_like(radius), radius), radial, max_angle
    )
    scale = torch.where(on_axis, torch.ones_like(radius), torch.sin(theta) / radius)
    return torch.cat((plane * scale[..., None], torch.cos(theta)[..., None]), dim=-1), valid


def project_aria(
    points: Tensor,  # [..., 3]
    distortion: Distortion,  # k1...k6, p1, p2, s1...s4
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # plane [..., 2], valid [...]
    """Project points by Aria's lens: as a fisheye, then with tangential and thin-prism
    distortion."""
    plane, valid = project_fisheye(points, distortion[:ARIA_RADIAL], max_angle)
    return _distort(plane, _aria_terms(distortion)), valid


def unproject_aria(
    plane: Tensor,  # [..., 2]
    distortion: Distortion,  # k1...k6, p1, p2, s1...s4
    max_angle: float,
) -> tuple[Tensor, Tensor]:  # rays [..., 3], valid [...]
    """Convert image plane points of Aria's lens to unit rays, the inverse of
    :func:`project_aria`."""
    undistorted = _undistort(plane, _aria_terms(distortion), ANY_RADIUS)
    return unproject_fisheye(undistorted, distortion[:ARIA_RADIAL], max_angle)


def turn_opencv(distortion: Distortion) -> Distortion:
    """Rotate the distortion of OpenCV's plain lens by a clockwise quarter turn of the picture."""
    k1, k2, p1, p2 = distortion
    return k1, k2, p2, -p1


def turn_aria(distortion: Distortion) -> Distortion:
    """Rotate the distortion of Aria's lens by a clockwise quarter turn of the picture."""
    *radial, p1, p2, s1, s2, s3, s4 = distortion
    return (*radial, -p2, p1, -s3, -s4, s1, s2)  # (x, y) of the plane becomes (-y, x)


def closest_opencv_fisheye(radial: Distortion, max_angle: float) -> Distortion:
    """Fit the distortion k1...k4 of the OpenCV fisheye to a radial polynomial."""
    theta = np.linspace(0.02, angle_limit(radial, max_angle), 400)
    powers = np.stack([theta ** (2 * power + 3) for power in range(4)], axis=-1)
    return tuple(np.linalg.lstsq(powers, _radius(theta, radial) - theta, rcond=None)[0].tolist())


@lru_cache(maxsize=64)
def angle_limit(radial: Distortion, max_angle: float) -> float:
    """Find the largest incidence angle (radians, at most ``max_angle``) up to which the radius
    grows with the angle."""
    theta = np.linspace(0.0, max_angle, 20001)
    folded_indices = np.flatnonzero(_slope(theta, radial) < MIN_SLOPE)
    return (
        float(theta[max(int(folded_indices[0]) - 1, 1)])
        if folded_indices.size
        else float(max_angle)
    )


def _radius(theta, radial: Distortion):
    """Compute the distance from the centre of the image plane at incidence angle theta."""
    theta_squared = theta * theta
    polynomial = 0.0
    for coefficient in reversed(radial):
        polynomial = (polynomial + coefficient) * theta_squared
    return theta * (1 + polynomial)


def _slope(theta, radial: Distortion):
    """Compute the derivative of :func:`_radius` by the angle."""
    theta_squared = theta * theta
    polynomial = 0.0
    for index in reversed(range(len(radial))):
        polynomial = (polynomial + (2 * index + 3) * radial[index]) * theta_squared
    return 1 + polynomial


@lru_cache(maxsize=64)
def _angle_table(radial: Distortion, max_angle: float) -> tuple[np.ndarray, float]:
    largest_angle = angle_limit(radial, max_angle)
    fine_angles = np.linspace(0.0, largest_angle, 32 * TABLE_SIZE)
    radius = _radius(fine_angles, radial)
    return np.interp(np.linspace(0.0, radius[-1], TABLE_SIZE + 1), radius, fine_angles), float(
        radius[-1]
    )


def _incidence_angle(radius: Tensor, radial: Distortion, max_angle: float) -> tuple[Tensor, Tensor]:
    """Compute the incidence angles of image plane radii [...], and which of them are valid.

    Radii outside the lens take its last angle.
    """
    if not any(radial):
        largest_angle = angle_limit(radial, max_angle)
        return radius.clamp(max=math.pi), radius <= largest_angle
    angle_values, largest_radius = _angle_table(radial, max_angle)
    valid = radius <= largest_radius * (1 + 1e-6)
    clipped_radius = radius.clamp(max=largest_radius)
    with torch.no_grad():
        angle_table = torch.as_tensor(angle_values, dtype=radius.dtype, device=radius.device)
        table_position = clipped_radius * (TABLE_SIZE / largest_radius)
        table_index = table_position.long().clamp(max=TABLE_SIZE - 1)
        lower_angle = angle_table[table_index]
        theta = lower_angle + (table_position - table_index) * (
            angle_table[table_index + 1] - lower_angle
        )
        for _ in range(RADIAL_NEWTON_STEPS - 1):
            theta = theta - (_radius(theta, radial) - clipped_radius) / _slope(theta, radial)
        residual, slope = _radius(theta, radial), _slope(theta, radial)
    # The last step sees the radius with its gradient: d theta / d radius = 1 / slope, without
    # unrolling Newton.
    return theta - (residual - clipped_radius) / slope, valid


def _opencv_terms(distortion: Distortion, max_angle: float) -> tuple[Distortion, float]:
    """Arrange the distortion of OpenCV's plain lens for :func:`_distort`, with the largest
    undistorted radius."""
    k1, k2, p1, p2 = distortion or (0.0,) * 4
    limit = angle_limit((k1, k2), math.tan(min(max_angle, WIDEST_PLAIN)))
    return (k1, k2, p2, p1, 0.0, 0.0, 0.0, 0.0), limit


def _aria_terms(distortion: Distortion) -> Distortion:
    return (0.0, 0.0, *distortion[ARIA_RADIAL:]) if distortion else ()


def _distort(plane: Tensor, distortion_terms: Distortion) -> Tensor:  # [..., 2] -> [..., 2]
    """Distort image plane points by a radial (k1, k2), a tangential (px, py) and a thin-prism part
    (s1...s4)."""
    if not any(distortion_terms):
        return plane
    (k1, k2, px, py, s1, s2, s3, s4) = distortion_terms
    (x, y) = plane.unbind(-1)
    radius_squared = x * x + y * y
    radial_factor = 1 + radius_squared * (k1 + k2 * radius_squared) + 2 * (px * x + py * y)
    return torch.stack(
        (
            x * radial_factor + radius_squared * (px + s1 + s2 * radius_squared),
            y * radial_factor + radius_squared * (py + s3 + s4 * radius_squared),
        ),
        dim=-1,
    )


def _undistort(plane: Tensor, distortion_terms: Distortion, radius_limit: float) -> Tensor:
    """Invert :func:`_distort` within a radius by Newton's method."""
    if not any(distortion_terms):
        return plane
    guess = plane.detach()
    tolerance = torch.finfo(plane.dtype).eps ** 0.75  # whose square is nothing
    for _ in range(PLANE_STEPS):
        last_guess = guess
        guess = guess - _newton_step(guess, plane.detach(), distortion_terms)
        guess = guess * (radius_limit / guess.norm(dim=-1, keepdim=True).clamp_min(radius_limit))
        if bool(((guess - last_guess).abs() <= tolerance).all()):
            break
    # As in _incidence_angle: only the last step has the gradient of the plane.
    return guess - _newton_step(guess, plane, distortion_terms)


def _newton_step(
    guess: Tensor, target: Tensor, distortion_terms: Distortion
) -> Tensor:  # each [..., 2]
    """Compute Newton's step from a guess towards the point whose distortion gives the target."""
    (k1, k2, px, py, s1, s2, s3, s4) = distortion_terms
    (x, y) = guess.unbind(-1)
    radius_squared = x * x + y * y
    radial_factor = 1 + radius_squared * (k1 + k2 * radius_squared) + 2 * (px * x + py * y)
    factor_slope = 2 * (k1 + 2 * k2 * radius_squared)
    factor_by_x, factor_by_y = (
        factor_slope * x + 2 * px,
        factor_slope * y + 2 * py,
    )  # derivatives of the factor
    prism_x, prism_y = (
        2 * (px + s1 + 2 * s2 * radius_squared),
        2 * (py + s3 + 2 * s4 * radius_squared),
    )
    jacobian_xx, jacobian_xy = (
        radial_factor + factor_by_x * x + prism_x * x,
        factor_by_y * x + prism_x * y,
    )
    jacobian_yx, jacobian_yy = (
        factor_by_x * y + prism_y * x,
        radial_factor + factor_by_y * y + prism_y * y,
    )
    error_x, error_y = (_distort(guess, distortion_terms) - target).unbind(-1)
    step = torch.stack(
        (
            jacobian_yy * error_x - jacobian_xy * error_y,
            jacobian_xx * error_y - jacobian_yx * error_x,
        ),
        dim=-1,
    )
    return step / (jacobian_xx * jacobian_yy - jacobian_xy * jacobian_yx).clamp_min(1e-6)[..., None]


PINHOLE = "pinhole"
LENSES: Mapping[str, Lens] = {
    PINHOLE: Lens(
        project=project_pinhole,
        unproject=unproject_pinhole,
        distortion_count=0,
        straight=True,
        colmap="PINHOLE",
        simpler={"SIMPLE_PINHOLE": 0},
        blender="PINHOLE",
    ),
    "opencv": Lens(
        project=project_opencv,
        unproject=unproject_opencv,
        distortion_count=4,
        turn_distortion=turn_opencv,
        mirror_signs=(1, 1, 1, -1),
        colmap="OPENCV",
        simpler={"SIMPLE_RADIAL": 1, "RADIAL": 2},
        blender="OPENCV",
        blender_keys=("k1", "k2", "p1", "p2"),
    ),
    "opencv_fisheye": Lens(
        project=project_fisheye,
        unproject=unproject_fisheye,
        distortion_count=4,
        colmap="OPENCV_FISHEYE",
        simpler={"SIMPLE_RADIAL_FISHEYE": 1, "RADIAL_FISHEYE": 2},
        blender="OPENCV_FISHEYE",
        blender_keys=("k1", "k2", "k3", "k4"),
    ),
    "aria_fisheye": Lens(
        project=project_aria,
        unproject=unproject_aria,
        distortion_count=12,
        sensor_turns=1,
        turn_distortion=turn_aria,
        mirror_signs=(*(1,) * ARIA_RADIAL, -1, 1, -1, -1, 1, 1),
        colmap="RAD_TAN_THIN_PRISM_FISHEYE",
        blender="OPENCV_FISHEYE",
        blender_keys=("k1", "k2", "k3", "k4"),
        blender_fit=lambda distortion, max_angle: closest_opencv_fisheye(
            distortion[:ARIA_RADIAL], max_angle
        ),
    ),
}
"""Lenses by the name that files and nodes give them, in no order."""
