"""The lenses themselves: from a ray to the normalised image plane (focal length 1, centre 0) and back.

Only mathematics of one lens lives here; focal lengths, sizes and turns are :mod:`cameras`' business.

Pinhole: ``x / z``. Fisheye lenses measure the incidence angle theta and put the point at radius
``theta * (1 + k1 theta^2 + k2 theta^4 + ...)``: four numbers in OpenCV's fisheye model, six in Aria's, whose plane then
moves by a tangential and a thin-prism part (the FisheyeRadTanThinPrism of projectaria_tools).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

TABLE_SIZE = 512
RADIAL_NEWTON_STEPS = 3
"""Steps after the table start. Linear interpolation in 512 cells starts within (theta_max / 512)^2 / 8 * |r''/r'|, some
1e-5 rad for real lenses; each step squares the error, so two reach 1e-16 and the third, which carries the gradient, is
for lenses that nearly fold back at their end."""
PLANE_NEWTON_STEPS = 5
"""Tangential and thin-prism parts are small (p, s of some 1e-3): the start is off by about 1e-2, its error is squared
each time (1e-4, 1e-8, 1e-16); one more for calibrations ten times as strong. The last one carries the gradient."""
MIN_SLOPE = 0.02
"""Where d radius / d theta falls below this the polynomial is about to fold back: the lens ends there."""


def project_pinhole(points: Tensor, max_angle: float) -> tuple[Tensor, Tensor]:
    """``x/z, y/z`` of points [..., 3]; returns (plane [..., 2], valid [...]). Invalid ones land on finite numbers."""
    xy, z = points[..., :2], points[..., 2]
    valid = z > 0
    plane = xy / torch.where(valid, z, torch.ones_like(z))[..., None]
    return plane, valid & (plane.square().sum(-1) <= math.tan(min(max_angle, math.radians(89.9))) ** 2)


def unproject_pinhole(plane: Tensor, max_angle: float) -> tuple[Tensor, Tensor]:
    """Unit rays of plane points [..., 2]; returns (rays [..., 3], valid [...])."""
    rays = torch.cat((plane, torch.ones_like(plane[..., :1])), dim=-1)
    valid = plane.square().sum(-1) <= math.tan(min(max_angle, math.radians(89.9))) ** 2
    return rays / rays.norm(dim=-1, keepdim=True), valid


def project_fisheye(points: Tensor, distortion: tuple[float, ...], max_angle: float) -> tuple[Tensor, Tensor]:
    """Fisheye plane of points [..., 3]; ``distortion``: none, 4 (OpenCV) or 12 (Aria) numbers.

    Returns (plane [..., 2], valid [...]); valid means that the incidence angle is one that the lens maps uniquely.
    Points behind the camera are allowed as far as the angle goes.
    """
    radial, _ = split_distortion(distortion)
    xy, z = points[..., :2], points[..., 2]
    square = xy.square().sum(-1)
    # On the axis the derivative of the norm is 0/0; there the map is x / z exactly.
    on_axis = square <= 1e-24 * (1 + z.square())
    norm = torch.where(on_axis, torch.ones_like(square), square).sqrt()
    theta = torch.atan2(norm, z)
    limit = angle_limit(radial, max_angle)
    valid = torch.where(on_axis, z > 0, theta <= limit)
    scale = torch.where(on_axis, 1 / torch.where(on_axis & (z > 0), z, torch.ones_like(z)),
                        _radius(theta, radial) / norm)
    return _shift_plane(xy * scale[..., None], distortion), valid


def unproject_fisheye(plane: Tensor, distortion: tuple[float, ...], max_angle: float) -> tuple[Tensor, Tensor]:
    """Unit rays of fisheye plane points [..., 2]; returns (rays [..., 3], valid [...]). Inverse of the above."""
    radial, _ = split_distortion(distortion)
    plane = _unshift_plane(plane, distortion)
    square = plane.square().sum(-1)
    on_axis = square <= 1e-24
    radius = torch.where(on_axis, torch.ones_like(square), square).sqrt()
    theta, valid = _theta(torch.where(on_axis, torch.zeros_like(radius), radius), radial, max_angle)
    scale = torch.where(on_axis, torch.ones_like(radius), torch.sin(theta) / radius)
    return torch.cat((plane * scale[..., None], torch.cos(theta)[..., None]), dim=-1), valid


def split_distortion(distortion: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(radial numbers, the six tangential and thin-prism numbers or none)."""
    return (distortion[:6], distortion[6:]) if len(distortion) == 12 else (distortion, ())


@lru_cache(maxsize=64)
def angle_limit(radial: tuple[float, ...], max_angle: float) -> float:
    """Largest incidence angle (radians) up to which radius grows with theta, at most ``max_angle``."""
    theta = np.linspace(0.0, max_angle, 20001)
    slope = np.ones_like(theta)
    for i, k in enumerate(radial):
        slope += (2 * i + 3) * k * theta ** (2 * i + 2)
    folded = np.flatnonzero(slope < MIN_SLOPE)
    return float(theta[max(int(folded[0]) - 1, 1)]) if folded.size else float(max_angle)


def _radius(theta, radial: tuple[float, ...]):
    """Distance from the centre of the plane at incidence angle theta (tensor or array)."""
    square, factor = theta * theta, 0.0
    for k in reversed(radial):
        factor = (factor + k) * square
    return theta * (1 + factor)


def _slope(theta: Tensor, radial: tuple[float, ...]) -> Tensor:
    square, total = theta * theta, torch.zeros_like(theta)
    for i in reversed(range(len(radial))):
        total = (total + (2 * i + 3) * radial[i]) * square
    return 1 + total


@lru_cache(maxsize=64)
def _theta_table(radial: tuple[float, ...], max_angle: float) -> tuple[np.ndarray, float]:
    limit = angle_limit(radial, max_angle)
    fine = np.linspace(0.0, limit, 32 * TABLE_SIZE)
    radius = _radius(fine, radial)
    return np.interp(np.linspace(0.0, radius[-1], TABLE_SIZE + 1), radius, fine), float(radius[-1])


def _theta(radius: Tensor, radial: tuple[float, ...], max_angle: float) -> tuple[Tensor, Tensor]:
    """Incidence angle of plane radii [...]; returns (theta, valid). Radii outside the lens take its last angle."""
    if not any(radial):
        limit = angle_limit(radial, max_angle)
        return radius.clamp(max=math.pi), radius <= limit
    values, last = _theta_table(radial, max_angle)
    valid = radius <= last * (1 + 1e-6)
    inside = radius.clamp(max=last)
    with torch.no_grad():
        table = torch.as_tensor(values, dtype=radius.dtype, device=radius.device)
        place = inside * (TABLE_SIZE / last)
        cell = place.long().clamp(max=TABLE_SIZE - 1)
        low = table[cell]
        theta = low + (place - cell) * (table[cell + 1] - low)
        for _ in range(RADIAL_NEWTON_STEPS - 1):
            theta = theta - (_radius(theta, radial) - inside) / _slope(theta, radial)
        residual, slope = _radius(theta, radial), _slope(theta, radial)
    # The last step sees the radius with its gradient: d theta / d radius = 1 / slope, without unrolling Newton.
    return theta - (residual - inside) / slope, valid


def _shift_plane(plane: Tensor, distortion: tuple[float, ...]) -> Tensor:
    """Adds Aria's tangential (p1, p2) and thin-prism (s1..s4) parts to the radially distorted plane [..., 2]."""
    _, extra = split_distortion(distortion)
    if not any(extra):
        return plane
    p1, p2, s1, s2, s3, s4 = extra
    x, y = plane[..., 0], plane[..., 1]
    square = x * x + y * y
    along = 2 * (p1 * x + p2 * y)
    return torch.stack((x + along * x + square * (p1 + s1 + s2 * square),
                        y + along * y + square * (p2 + s3 + s4 * square)), dim=-1)


def _unshift_plane(plane: Tensor, distortion: tuple[float, ...]) -> Tensor:
    """Inverse of :func:`_shift_plane` by Newton in two unknowns."""
    _, extra = split_distortion(distortion)
    if not any(extra):
        return plane
    p1, p2, s1, s2, s3, s4 = extra
    guess = plane.detach()
    for step in range(PLANE_NEWTON_STEPS):
        x, y = guess[..., 0], guess[..., 1]
        square = x * x + y * y
        prism_x, prism_y = 2 * (p1 + s1 + 2 * s2 * square), 2 * (p2 + s3 + 2 * s4 * square)
        along = 2 * (p1 * x + p2 * y)
        xx, xy = 1 + along + 2 * p1 * x + prism_x * x, 2 * p2 * x + prism_x * y
        yx, yy = 2 * p1 * y + prism_y * x, 1 + along + 2 * p2 * y + prism_y * y
        # As in _theta: only the last step keeps the gradient of the target.
        target = plane if step == PLANE_NEWTON_STEPS - 1 else plane.detach()
        rest = _shift_plane(guess, distortion) - target
        determinant = xx * yy - xy * yx
        determinant = torch.where(determinant.abs() < 1e-6, torch.full_like(determinant, 1e-6), determinant)
        change = torch.stack((yy * rest[..., 0] - xy * rest[..., 1], xx * rest[..., 1] - yx * rest[..., 0]), dim=-1)
        guess = guess - change / determinant[..., None]
    return guess
