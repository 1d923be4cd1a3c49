"""Compare a decoded ego video with its requested camera path and with the wearer's true ego
video."""

from typing import Any

import torch
from torch import Tensor

from ...egox_core.errors import EgoXInputError
from ...egox_core.metrics import PathError
from ...egox_core.stages import judge
from ...egox_core.types import CameraTrajectory, DepthVideo, PointCloud
from ..path_views import views_of

EXACT = (
    "Judged by the exact geometry ({}), which shows what the wearer saw. The prior has another "
    "lens and scale, so a video that follows the prior itself can be called off"
)
_last_psnr: dict[tuple[str, str], tuple[torch.Size, float, float]] = {}
"""For each node id: shape and mean of the true video of its last run, and the PSNR in dB."""


def measure_path_error(
    frames: Tensor,
    scene: PointCloud | None,
    trajectory: CameraTrajectory | None,
    depth: DepthVideo | None = None,
    exo_images: Tensor | None = None,
) -> tuple[PathError | str | None, str]:
    """Measure the angle between decoded frames and the requested path, or explain why it can't.

    The first result is None without scene or path. The second names the geometry, "" for the
    scene's own: a scene of Ego-Exo4D with a released preset is judged by the exact geometry
    instead.
    """
    if scene is None or trajectory is None:
        return None, ""
    try:  # what doesn't fit here must not cost a sampled video
        views, geometry = views_of(scene, trajectory, depth, exo_images)
        return judge(frames, views=views)[0].path, geometry and EXACT.format(geometry)
    except EgoXInputError as error:
        return f"Whether the view follows the path can't be judged: {error}", ""


def angle_curve(path_error: PathError, frames: int) -> dict[str, Any]:
    """List for each frame the angle to the requested path in degrees."""
    angles = [
        float(angle) if is_judged else None
        for angle, is_judged in zip(path_error.angle_deg, path_error.judged, strict=True)
    ]
    values = [angles[frame // path_error.step] for frame in range(frames)]
    return {"label": "off the path", "unit": "°", "values": values}


def truth_psnr(
    frames: Tensor,
    truth: Tensor,
    # The workflow's id and the node's.
    node: tuple[str, str],
) -> tuple[float, str]:
    """Compute the decoded video's PSNR in dB against the true ego video, with a text line.

    The line also names the PSNR of this node's previous run, if it had the same true video.
    """
    errors_db = judge(frames.cpu(), truth=truth.cpu())[0].psnr_db
    assert errors_db is not None  # there is a truth
    psnr_db = float(errors_db.mean())
    truth_key = (truth.shape, float(truth.double().mean()))
    last_run = _last_psnr.get(node)
    _last_psnr[node] = (*truth_key, psnr_db)
    psnr_line = f"PSNR to the truth {psnr_db:.1f} dB"
    if last_run is not None and last_run[:2] == truth_key:
        psnr_line += f"; the run before {last_run[2]:.1f} dB"
    return psnr_db, psnr_line
