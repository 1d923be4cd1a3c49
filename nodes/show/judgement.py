"""Comparison of a decoded ego video with the path that it was ordered on, and with the wearer's own
video."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.file_names import TRUTH
from ...egox_core.metrics import PathError, PathViews, exact_scene
from ...egox_core.stages import judge
from ...egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from ...egox_core.video import probe_video, read_frames
from ..host.graph import LOADER, Graph, selection_of
from ..host.progress import host_progress
from ..host.remember import remembered

EXACT = (
    "Judged by the exact geometry ({}), which shows what the wearer saw. The prior has another lens and "
    "scale, so a video that follows the prior itself can be called off"
)
_last_psnr: dict[str, tuple[torch.Size, float, float]] = {}
"""Node id -> shape and mean of the truth that its last run was compared with, and the PSNR, dB."""


def followed_path(
    frames: Tensor,
    scene: PointCloud | None,
    trajectory: CameraTrajectory | None,
    depth: DepthVideo | None = None,
    exo_images: Tensor | None = None,
) -> tuple[PathError | str | None, str]:
    """Measure the angle of decoded frames to the ordered path, or say why there is none (None
    without scene or path).

    The second result says by which geometry, "" for the scene's own. A scene of Ego-Exo4D as
    the released presets have it is judged by the exact one instead.
    """
    if scene is None or trajectory is None:
        return None, ""
    try:  # what doesn't fit here must not cost a sampled video
        exact_result = None
        if depth is not None and exo_images is not None and scene.exo == depth.exo:
            exact_result = exact_views(exo_images, depth, trajectory)
        views, geometry = exact_result or (ordered_views(scene, trajectory), "")
        return judge(frames, views=views)[0].path, geometry and EXACT.format(geometry)
    except EgoXInputError as error:
        return f"Whether the view follows the path can't be judged: {error}", ""


@remembered(slots=1)
def exact_views(
    exo_images: Tensor, depth: DepthVideo, trajectory: CameraTrajectory
) -> tuple[PathViews, str] | None:
    """Draw the exact scene from the ordered path, with a note on it, if it is known."""
    exact_result = exact_scene(exo_images, depth, trajectory, progress=host_progress())
    if exact_result is None:
        return None
    points, note = exact_result
    return PathViews.of(points, trajectory, progress=host_progress()), note


@remembered(slots=1)
def ordered_views(scene: PointCloud, trajectory: CameraTrajectory) -> PathViews:
    """Draw the scene from the ordered path, and remember it, as the next λ_g is compared with the
    same."""
    return PathViews.of(scene, trajectory, progress=host_progress())


def angle_curve(followed: PathError, frames: int) -> dict[str, Any]:
    """List the degrees off the path, one for each of so many frames."""
    angles = [
        float(angle) if is_judged else None
        for angle, is_judged in zip(followed.angle_deg, followed.judged, strict=True)
    ]
    values = [angles[t // followed.step] for t in range(frames)]
    return {"label": "off the path", "unit": "°", "values": values}


def truth_beside(graph: Graph, size: tuple[int, int]) -> Tensor | None:
    """Read the wearer's own video beside the graph's one exo video, [T, H, W, 3] at the frames in
    use, None without one."""
    loaders = [node for node, entry in (graph or {}).items() if entry["class_type"] == LOADER]
    try:  # what doesn't fit here must not cost a sampled video
        selection = selection_of(graph, loaders[0]) if len(loaders) == 1 else None
        if selection is None or selection.source is None:
            return None
        path = selection.source.with_name(TRUTH)
        if not path.is_file():
            return None
        info, (height, width) = probe_video(path), size
        if abs(info.fps / selection.rate - 1) > 0.001 or info.frame_count <= selection.last:
            return None
        resized = replace(
            selection,
            source_size=(info.width, info.height),
            part=info.part,
            size=(width, height),
            resize="crop",
        )
        return read_frames(path, info, resized).float() / 255
    except EgoXInputError:
        return None


def truth_psnr(frames: Tensor, truth: Tensor, node: str) -> tuple[float, str]:
    """Compute the PSNR to the truth, dB, and write a line about it.

    The line names that of this node's run before, where the truth was the same.
    """
    errors_db = judge(frames.cpu(), truth=truth.cpu())[0].psnr_db
    assert errors_db is not None  # there is a truth
    psnr_db = float(errors_db.mean())
    key = (truth.shape, float(truth.double().mean()))
    last_run = _last_psnr.get(node)
    _last_psnr[node] = (*key, psnr_db)
    line = f"PSNR to the truth {psnr_db:.1f} dB"
    if last_run is not None and last_run[:2] == key:
        line += f"; the run before {last_run[2]:.1f} dB"
    return psnr_db, line
