"""Define the pack's socket types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..egox_core.frozen import frozen
from ..egox_core.types import CameraTrajectory, Canvas, TakeNotes

if TYPE_CHECKING:
    from comfy.clip_vision import ClipVisionModel
    from comfy.sd import VAE

EgoXFrames = io.Custom("EGOX_FRAMES")  # egox_core.types.FrameSelection
EgoXDepth = io.Custom("EGOX_DEPTH")  # egox_core.types.DepthVideo
EgoXTrajectory = io.Custom("EGOX_TRAJECTORY")  # egox_core.types.CameraTrajectory, or with notes
EgoXScene = io.Custom("EGOX_SCENE")  # egox_core.types.PointCloud
EgoXHands = io.Custom("EGOX_HANDS")  # egox_core.hands.HandTrack
EgoXCanvas = io.Custom("EGOX_CANVAS")  # CanvasWithEncoders
EgoXAttention = io.Custom(
    "EGOX_ATTENTION"
)  # nodes.attention.AttentionCapture, filled while sampling


@frozen
class CanvasWithEncoders(Canvas):
    """Hold a canvas with the encoders that a sampler needs to recompute its image embedding."""

    vae: VAE
    clip_vision: ClipVisionModel | None


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class TrajectoryWithNotes(CameraTrajectory):
    """Hold a path with the notes of its file in one socket."""

    notes: TakeNotes


def notes_of(trajectory: CameraTrajectory) -> TakeNotes:
    """Look up the notes that belong to a camera path."""
    return trajectory.notes if isinstance(trajectory, TrajectoryWithNotes) else TakeNotes()


LATENT_SOURCES = "egox_made_of"
"""Key of an ego LATENT for its sources, which samplers pass on. EgoX Conditioning stores exo_images
and prior [T, H, W, 3], tile_size in px, the prior's scene and trajectory, and its pixels' classes,
seen [T, H, W]. Wan EgoX Sampler adds its trajectory and depth, loras, a line on the model's, and
tint, a LoRA's own.
Decode Ego Half uses them for inputs that aren't connected or set, and for its report."""
