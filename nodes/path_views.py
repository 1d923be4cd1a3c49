"""Render the scene from what a path ordered, for a comparison with a decoded video."""

from torch import Tensor

from ..egox_core.metrics import PathViews
from ..egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from .host.progress import host_progress
from .host.remember import remembered


def views_of(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    depth: DepthVideo | None,
    exo_images: Tensor | None,
) -> tuple[PathViews, str]:
    """Render the path's views from the exact geometry where that is known, with its note."""
    exact_result = exact_views_of(scene, trajectory, depth, exo_images)
    return exact_result or (render_requested_views(scene, trajectory), "")


def exact_views_of(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    depth: DepthVideo | None,
    exo_images: Tensor | None,
) -> tuple[PathViews, str] | None:
    """Render the path's views from the exact geometry with its note, or return None."""
    if depth is None or exo_images is None or scene.exo != depth.exo:
        return None
    return render_exact_views(exo_images, depth, trajectory)


@remembered(slots=1)
def render_exact_views(
    exo_images: Tensor, depth: DepthVideo, trajectory: CameraTrajectory
) -> tuple[PathViews, str] | None:
    """Render the exact scene along the requested path, or return None."""
    return PathViews.exact(exo_images, depth, trajectory, progress=host_progress())


@remembered(slots=1)
def render_requested_views(scene: PointCloud, trajectory: CameraTrajectory) -> PathViews:
    """Render the scene along the requested path, and cache the result."""
    return PathViews.of(scene, trajectory, progress=host_progress())
