"""Render the scene from what a path ordered, for a comparison with a decoded video."""

from torch import Tensor

from ..egox_core.metrics import PathViews, exact_scene
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
    exact_result = None
    if depth is not None and exo_images is not None and scene.exo == depth.exo:
        exact_result = render_exact_views(exo_images, depth, trajectory)
    return exact_result or (render_requested_views(scene, trajectory), "")


@remembered(slots=1)
def render_exact_views(
    exo_images: Tensor, depth: DepthVideo, trajectory: CameraTrajectory
) -> tuple[PathViews, str] | None:
    """Render the exact scene along the requested path, or return None."""
    exact_result = exact_scene(exo_images, depth, trajectory, progress=host_progress())
    if exact_result is None:
        return None
    points, note = exact_result
    return PathViews.of(points, trajectory, progress=host_progress()), note


@remembered(slots=1)
def render_requested_views(scene: PointCloud, trajectory: CameraTrajectory) -> PathViews:
    """Render the scene along the requested path, and cache the result."""
    return PathViews.of(scene, trajectory, progress=host_progress())
