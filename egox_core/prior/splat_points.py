"""Define the input, options and output of splatting points, and the patches of style ``surface``.

Two styles. ``composite`` is what the released priors were drawn with: discs of one radius, fading
towards their rim, the nearest 20 laid over each other front to back. ``surface`` takes each point
as a patch of the surface it was sampled from: the patch's projection is a parallelogram that
reaches halfway to the neighbouring samples, so that a near floor has no gaps between its points and
a far wall is not blurred; what is behind the front surface is hidden. Its colour is interpolated
between the samples around, as a picture's is between its pixels: patches of one colour each would
make every edge of a patch an edge of the picture, which crawls as the camera moves."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import check_choice
from ..frozen import frozen

Style = Literal["composite", "surface"]
MIN_WEIGHT = 0.01
"""Least weight of a sample within its own reach, so that a pixel covered by one far corner of a
patch has a colour."""


@frozen
class ScreenPoints:
    """Points projected into one camera, all in front of it and inside its lens."""

    uv: Tensor  # [N, 2] float32, stored px
    # [N] float32, metres, > 0: orders points along a ray; see :attr:`SplatOptions.depth_is_z`
    depth: Tensor
    rgb: Tensor  # [N, 3] float32 0...1
    # [N, 2, 2] float32, px: columns are the picture's steps to the next sample (style surface)
    axes: Tensor
    extent: Tensor  # [N] float32, metres: how far depth changes across the patch (style surface)

    def __len__(self) -> int:
        return self.uv.shape[0]


BLEND = 1.0
"""Reach of a sample's colour, in samples: interpolated linearly. No patch reaches farther."""
MIN_SIZE_PX = 1.0
"""Smallest side of a patch, px of any picture: denser points leave no gaps."""
MAX_SIZE_PX = 20.0
"""Largest side, px of a picture of the reference height. Sparser samples leave gaps, which is
honest."""
DEPTH_TOLERANCE = 0.003
"""Relative depth within which two samples belong to one surface."""


@frozen
class SplatOptions:
    """Options of splatting points.

    Lengths are in px of a picture of the reference height, and scale with the picture.

    Raises:
        EgoXInputError: unknown style.
    """

    style: Style = "surface"
    radius_px: float = 5.0  # composite: radius of every disc
    points_per_pixel: int = 20  # composite: layers laid over each other
    # surface: half a patch in samples; over 0.5, since neighbouring patches don't fit exactly
    reach: float = 0.52

    @property
    def depth_is_z(self) -> bool:
        """True for style composite, which orders points by z depth as PyTorch3D does.

        Surface orders by distance, which changes less across a fisheye.
        """
        return self.style == "composite"

    def __post_init__(self) -> None:
        check_choice("splat style", self.style, get_args(Style))


@frozen
class SplatImage:
    """Picture drawn from points."""

    rgb: Tensor  # [H, W, 3] float32 0...1, black where nothing landed
    coverage: Tensor  # [H, W] bool, exactly where something landed
    depth: Tensor  # [H, W] float32, metres, NaN where nothing landed
    # [H, W] bool, surfaces seen from behind, which exo saw from in front (style surface)
    back: Tensor
    # [H, W, 2] float32, px from the pixel to the point whose depth it has (style composite)
    off: Tensor


def empty_image(width: int, height: int, device: torch.device | str = "cpu") -> SplatImage:
    """Make an empty picture."""
    return SplatImage(
        rgb=torch.zeros(height, width, 3, device=device),
        coverage=torch.zeros(height, width, dtype=torch.bool, device=device),
        depth=torch.full((height, width), float("nan"), device=device),
        back=torch.zeros(height, width, dtype=torch.bool, device=device),
        off=torch.zeros(height, width, 2, device=device),
    )


def seen_from_behind(points: ScreenPoints) -> Tensor:  # [N] bool
    """Check which patches are seen from their back side."""
    axes = points.axes
    return axes[:, 0, 0] * axes[:, 1, 1] < axes[:, 0, 1] * axes[:, 1, 0]


def patches(points: ScreenPoints, scale: float) -> tuple[Tensor, Tensor]:
    """Compute the patch of each point in style ``surface``.

    The pixel at d from a centre is covered where |inverse d| <= reach, both parts, and takes
    the point's colour where |inverse d| <= :data:`BLEND`.

    A patch is the parallelogram of the projected steps: neighbours tile the surface, and an outline
    is overdrawn by about the half sample that it may really reach. Its axes are stretched to at
    least :data:`MIN_SIZE_PX`, for pixels are no smaller, and cut at :data:`MAX_SIZE_PX`; the
    directions stay.

    Args:
        scale: picture height / reference height.

    Returns:
        (inverse [N, 2, 2]: from px to samples, half [N, 2]: half size of the box around all that it
        colours, px).
    """
    # A little of the identity keeps patches that are seen edge-on invertible.
    stretched_axes = points.axes + 1e-3 * torch.eye(2, device=points.axes.device)
    square_x, square_y = (
        stretched_axes[:, 0].square().sum(-1),
        stretched_axes[:, 1].square().sum(-1),
    )
    product_xy = (stretched_axes[:, 0] * stretched_axes[:, 1]).sum(-1)
    # Singular values and left singular directions of the axes, from A A'.
    mean_square, difference = (
        0.5 * (square_x + square_y),
        torch.hypot(0.5 * (square_x - square_y), product_xy),
    )
    long_size = (mean_square + difference).sqrt()
    determinant = (
        stretched_axes[:, 0, 0] * stretched_axes[:, 1, 1]
        - stretched_axes[:, 0, 1] * stretched_axes[:, 1, 0]
    )
    short_size = (determinant.abs() / long_size.clamp_min(1e-9)).clamp_min(1e-5)
    half_angle = 0.5 * torch.atan2(product_xy, 0.5 * (square_x - square_y))
    long_axis = torch.stack((half_angle.cos(), half_angle.sin()), dim=-1)
    least_px = MIN_SIZE_PX
    most_px = max(MAX_SIZE_PX * scale, MIN_SIZE_PX)
    long_stretch = long_size.clamp(least_px, most_px) / long_size
    short_stretch = short_size.clamp(least_px, most_px) / short_size
    # Stretched axes: F A with F = f_small 1 + (f_large - f_small) e e'.
    outer = long_axis[:, :, None] * long_axis[:, None, :]
    identity = torch.eye(2, device=stretched_axes.device)
    stretch = (
        short_stretch[:, None, None] * identity
        + (long_stretch - short_stretch)[:, None, None] * outer
    )
    stretched_axes = stretch @ stretched_axes
    determinant = (
        stretched_axes[:, 0, 0] * stretched_axes[:, 1, 1]
        - stretched_axes[:, 0, 1] * stretched_axes[:, 1, 0]
    )
    adjugate = torch.stack(
        (
            stretched_axes[:, 1, 1],
            -stretched_axes[:, 0, 1],
            -stretched_axes[:, 1, 0],
            stretched_axes[:, 0, 0],
        ),
        dim=-1,
    ).view(-1, 2, 2)
    return adjugate / determinant[:, None, None], BLEND * stretched_axes.abs().sum(-1)
