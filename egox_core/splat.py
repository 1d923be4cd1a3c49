"""Point splatting: one signature, three backends.

``reference`` is plain loops, the judge of the others; ``torch`` is vectorised, on CPU or CUDA, and the default;
``pytorch3d`` is that package's rasteriser, taken only when asked for and installed.

Two styles. ``composite`` is what the released priors were drawn with: discs of one radius, fading towards their rim,
the nearest 20 laid over each other front to back. ``surface`` takes each point as a patch of the surface it was
sampled from: the patch's projection is an ellipse that reaches the neighbouring samples, so that a near floor has
no gaps between its points and a far wall is not blurred; samples of the front surface are averaged, what lies behind
is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from .errors import EgoXInputError

Backend = Literal["torch", "reference", "pytorch3d"]
REFERENCE_SIZE = 448
"""Picture height that radii in px are given for; they scale with the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenPoints:
    """Points as one camera sees them; all of them in front of it and inside its lens."""

    uv: Tensor  # [N, 2] float32, stored px
    ray_depth: Tensor  # [N] float32, distance from the camera, metres, > 0; orders points along a ray in any lens
    rgb: Tensor  # [N, 3] float32 0...1
    axes: Tensor  # [N, 2, 2] float32, px: columns are the picture's steps to the next sample (style surface)
    extent: Tensor  # [N] float32, metres: how far ray_depth changes across the patch (style surface)

    def __len__(self) -> int:
        return self.uv.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplatOptions:
    """How points are drawn. Lengths in px of a picture 448 high.

    Raises:
        EgoXInputError: unknown style, a radius that is not positive, counts under 1.
    """

    style: Literal["composite", "surface"] = "surface"
    radius_px: float = 5.0  # composite: radius of every disc
    points_per_pixel: int = 20  # composite: layers laid over each other
    reach: float = 0.75  # surface: half axis of the ellipse in samples; 0.71 just covers a cell's corners
    min_radius_px: float = 0.75  # surface: smallest half axis, so that points less than 1 px apart leave no gaps
    max_radius_px: float = 14.0  # surface: largest half axis; sparser samples leave gaps, which is honest
    depth_tolerance: float = 0.01  # surface: relative depth within which two samples belong to one surface

    def __post_init__(self) -> None:
        if self.style not in ("composite", "surface"):
            raise EgoXInputError("splat style", got=repr(self.style), expected="composite or surface",
                                 fix="choose one of them")
        for name in ("radius_px", "reach", "min_radius_px", "max_radius_px", "depth_tolerance"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise EgoXInputError(f"splat option {name}", got=value, expected="a positive number",
                                     fix="give a radius above 0, e.g. the preset's")
        if self.points_per_pixel < 1:
            raise EgoXInputError("splat option points_per_pixel", got=self.points_per_pixel, expected="at least 1",
                                 fix="the released renderer uses 20")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplatImage:
    """What was drawn."""

    rgb: Tensor  # [H, W, 3] float32 0...1, black where nothing landed
    coverage: Tensor  # [H, W] bool, exactly where something landed
    ray_depth: Tensor  # [H, W] float32, metres, NaN where nothing landed


Splatter = Callable[[ScreenPoints, int, int, SplatOptions], SplatImage]


def splat(points: ScreenPoints, width: int, height: int, options: SplatOptions = SplatOptions(), *,  # noqa: B008 frozen
          backend: Backend = "torch") -> SplatImage:
    """Draw points into a picture of ``width`` x ``height`` px; no points give a black picture.

    Raises:
        EgoXInputError: unknown backend, pytorch3d asked for but missing, or asked for the style that it lacks.
    """
    return splatter(backend)(points, width, height, options)


def splatter(backend: Backend) -> Splatter:
    """The function behind a backend's name; see :func:`splat`."""
    if backend == "torch":
        from .splat_torch import splat_torch

        return splat_torch
    if backend == "reference":
        from .splat_reference import splat_reference

        return splat_reference
    if backend == "pytorch3d":
        if not has_pytorch3d():
            raise EgoXInputError("splat backend", got="pytorch3d, which is not installed", expected="torch",
                                 fix="choose backend torch, or install the package easypytorch3d that fits your torch")
        from .splat_pytorch3d import splat_pytorch3d

        return splat_pytorch3d
    raise EgoXInputError("splat backend", got=repr(backend), expected="torch, reference or pytorch3d",
                         fix="choose one of them")


def has_pytorch3d() -> bool:
    """Whether PyTorch3D can be imported (its extension is tried only on use)."""
    return find_spec("pytorch3d") is not None


def blank(width: int, height: int, device: torch.device | str = "cpu") -> SplatImage:
    """The picture of no points."""
    return SplatImage(rgb=torch.zeros(height, width, 3, device=device),
                      coverage=torch.zeros(height, width, dtype=torch.bool, device=device),
                      ray_depth=torch.full((height, width), float("nan"), device=device))


def conics(points: ScreenPoints, options: SplatOptions, scale: float) -> tuple[Tensor, Tensor]:
    """Ellipses of style ``surface``: the pixel d away from a centre is inside where d' conic d <= 1.

    The patch spans one sample to each side: its shape is reach^2 A A', A the projected steps, grown to at least
    ``min_radius_px`` (pixels are no smaller) and cut at ``max_radius_px`` along its major axis.

    Args:
        scale: picture height / 448.

    Returns:
        (conic [N, 3] as (xx, xy, yy), half [N, 2]: half size of the bounding box, px).
    """
    a = points.axes * options.reach
    xx = a[:, 0].square().sum(-1)
    yy = a[:, 1].square().sum(-1)
    xy = (a[:, 0] * a[:, 1]).sum(-1)
    # Eigenvalues of the 2x2 shape; both are clamped, the directions stay.
    middle, half_gap = 0.5 * (xx + yy), torch.hypot(0.5 * (xx - yy), xy)
    low, high = (options.min_radius_px * max(scale, 1.0)) ** 2, (options.max_radius_px * scale) ** 2
    big = (middle + half_gap).clamp(low, max(high, low))
    small = (middle - half_gap).clamp(low, max(high, low))
    safe = half_gap.clamp_min(1e-12)
    cos2, sin2 = torch.where(half_gap > 1e-9, 0.5 * (xx - yy) / safe, torch.ones_like(xx)), xy / safe
    middle, half_gap = 0.5 * (big + small), 0.5 * (big - small)
    xx, yy, xy = middle + half_gap * cos2, middle - half_gap * cos2, half_gap * sin2
    det = (big * small).clamp_min(1e-12)
    return torch.stack((yy / det, -xy / det, xx / det), dim=-1), torch.stack((xx.sqrt(), yy.sqrt()), dim=-1)
