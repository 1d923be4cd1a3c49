"""Convert a scene to flat Gaussians, each as large as the exo pixel that its point came from."""

import torch
from torch import Tensor

from ..cameras import transform
from ..frozen import frozen
from ..types import PointCloud, PointSet

SIGMA_STEPS = 0.6
"""Standard deviation along the surface, in steps to the next point: less leaves gaps, more blurs
outlines."""
FLATNESS = 0.1
"""Thickness (standard deviation) of a Gaussian, in the smaller of its two steps."""
OPACITY = 0.999
DC_SHARE = 0.28209479177387814
"""Y_00, the constant spherical harmonic."""
MIN_M, MIN_SHARE = 1e-6, 1e-3
"""A step that is none, in metres and of the other one."""


@frozen
class Gaussians:
    """Gaussians of one instant as 3D Gaussian splatting files have them, x right, y down."""

    positions: Tensor  # [N, 3] float32, metres
    scales: Tensor  # [N, 3] float32, standard deviations, metres
    rotations: Tensor  # [N, 4] float32, unit quaternions w, x, y, z
    opacities: Tensor  # [N, 1] float32 0...1
    harmonics: Tensor  # [N, 1, 3] float32, the constant spherical harmonic of each colour

    def __len__(self) -> int:
        """Count the Gaussians."""
        return len(self.positions)


def scene_gaussians(scene: PointCloud, frame: int) -> Gaussians:
    """Convert the static points and one frame's moving points to flat Gaussians.

    The exo camera of frame 0 is the origin in every frame, as for
    :func:`~egox_core.scene.viewer_ply`.
    """
    return point_gaussians(scene.points(frame), scene.exo.at(0))


def point_gaussians(
    points: PointSet,
    target_from_points: Tensor,  # [3, 4] float64, pose
) -> Gaussians:
    """Convert points to flat Gaussians in another frame."""
    points = points.to(torch.device("cpu"))
    target_from_points = target_from_points.cpu()
    axes, sigmas = _surface_patches(points, target_from_points[:, :3].float())
    return Gaussians(
        positions=transform(target_from_points, points.xyz.double()).float(),
        scales=sigmas,
        rotations=_quaternions(axes),
        opacities=torch.full((len(points), 1), OPACITY),
        harmonics=((points.rgb.float() / 255 - 0.5) / DC_SHARE)[:, None],
    )


def _surface_patches(
    points: PointSet,
    turn: Tensor,  # [3, 3] float32
) -> tuple[Tensor, Tensor]:  # [N, 3, 3] axes as columns, [N, 3] standard deviations, metres
    """Compute the axes of each point's surface patch, and the standard deviations along them."""
    right_steps, down_steps = (turn @ points.steps).unbind(-1)
    # The main axes of an askew patch: the same pair of steps, turned so that they are
    # perpendicular.
    angle = 0.5 * torch.atan2(
        2 * (right_steps * down_steps).sum(-1, keepdim=True),
        (right_steps.square() - down_steps.square()).sum(-1, keepdim=True),
    )
    long_steps = angle.cos() * right_steps + angle.sin() * down_steps
    short_steps = angle.cos() * down_steps - angle.sin() * right_steps
    width = long_steps.norm(dim=-1, keepdim=True).clamp_min(MIN_M)
    x_axis = torch.where(width > MIN_M, long_steps / width, torch.eye(3)[0])
    short_steps = short_steps - (short_steps * x_axis).sum(-1, keepdim=True) * x_axis
    height = short_steps.norm(dim=-1, keepdim=True).clamp_min(MIN_M)
    # At the rim of a lens' image circle a step may be missing, or lie along the other.
    is_step = height > (MIN_SHARE * width).clamp_min(MIN_M)
    y_axis = torch.where(is_step, short_steps / height, _perpendicular(x_axis))
    axes = torch.stack((x_axis, y_axis, torch.linalg.cross(x_axis, y_axis)), dim=-1)
    thickness = FLATNESS * torch.minimum(width, height)
    return axes, torch.cat((SIGMA_STEPS * width, SIGMA_STEPS * height, thickness), dim=-1)


def _perpendicular(x_axis: Tensor) -> Tensor:  # [N, 3] unit vectors, both
    """Compute a unit vector perpendicular to each axis."""
    least_axis = torch.eye(3)[x_axis.abs().argmin(-1)]
    perpendicular = torch.linalg.cross(x_axis, least_axis)
    return perpendicular / perpendicular.norm(dim=-1, keepdim=True)


def _quaternions(axes: Tensor) -> Tensor:  # [N, 3, 3] rotations -> [N, 4] w, x, y, z
    from scipy.spatial.transform import Rotation

    return torch.from_numpy(Rotation.from_matrix(axes.numpy()).as_quat()).float()[:, [3, 0, 1, 2]]
