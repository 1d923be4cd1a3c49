"""Turn a decoded ego video back to its camera path, or the path to the video."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..egox_core.cameras import CameraModel
from ..egox_core.errors import EgoXInputError
from ..egox_core.metrics import correct_path, straighten_picture
from ..egox_core.types import CameraTrajectory
from .host.progress import host_progress
from .path_views import views_of


def straighten_input() -> io.Combo.Input:
    """Build the input that chooses what is turned."""
    return io.Combo.Input(
        "straighten",
        options=["off", "picture", "camera"],
        default="off",
        optional=True,
        tooltip=(
            "The released weights turn a clip's picture by some degrees. picture: turned back to "
            "the camera path if the turn can be measured and is 5 to 10 degrees; the rim keeps the "
            "old pixels. camera: the picture stays, and the output 'trajectory' is the path that "
            "it shows."
        ),
    )


def colour_input() -> io.Combo.Input:
    """Build the input that chooses the video's colours."""
    return io.Combo.Input(
        "colour",
        options=["as drawn", "tint", "as exo"],
        default="as drawn",
        optional=True,
        tooltip=(
            "The released weights draw everything too blue. tint: taken back by fixed gains, as "
            "measured for the released LoRA at strength 1. as exo: the exo video's white, for "
            "clips in the wild."
        ),
    )


def straighten_view(
    frames: Tensor,  # [T, H, W, 3] as decoded
    choice: str,  # picture or camera
    lens: CameraModel,
    # See LATENT_SOURCES.
    sources: Mapping[str, Any],
) -> tuple[Tensor, CameraTrajectory | None, dict[str, Any], str]:
    """Turn the decoded frames or their path by the clip's measured turn.

    Returns:
        Frames, path, the sources with that path, and what was done, in words.
    """
    path, scene = sources.get("trajectory"), sources.get("scene")
    unchanged = frames, path, dict(sources)
    if scene is None or path is None:
        return *unchanged, "Not straightened: neither scene nor camera path came with the latent"
    try:  # what doesn't fit here must not cost a sampled video
        views, _ = views_of(scene, path, sources.get("depth"), sources.get("exo_images"))
        turn = views.clip_turn(frames.cpu())
    except EgoXInputError as error:
        return *unchanged, f"Not straightened: {error}"
    if choice == "picture":
        frames, words = straighten_picture(
            frames.cpu(), turn, lens, progress=host_progress(len(frames))
        )
        return frames, path, dict(sources), words
    if not turn.judged:
        return *unchanged, f"Camera path not corrected: {turn.reason}"
    path = correct_path(path, turn)
    words = f"Camera path corrected by {turn.angle_deg:.0f}° ± {turn.interval_deg:.0f}"
    return frames, path, {**sources, "trajectory": path}, words
