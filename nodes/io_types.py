"""The pack's own socket types. Each carries one frozen payload of ``egox_core.types``, documented
there."""

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
    """A canvas and the host's encoders, with which a sampler redoes the picture embedding from its
    own seed."""

    vae: VAE
    clip_vision: ClipVisionModel | None


@dataclass(frozen=True, kw_only=True)  # no slots: nodes hold it weakly
class TrajectoryWithNotes(CameraTrajectory):
    """A path, and what its file has next to it: one socket carries both."""

    notes: TakeNotes


def notes_of(trajectory: CameraTrajectory) -> TakeNotes:
    """Look up the notes that came along with a path, or make empty ones."""
    return trajectory.notes if isinstance(trajectory, TrajectoryWithNotes) else TakeNotes()


MADE_OF = "egox_made_of"
"""Key of an ego LATENT under which EgoX Conditioning (exo_images and prior [T, H, W, 3], tile_size
in px, the scene and trajectory that the prior was drawn from, and the classes of its pixels, seen
[T, H, W]) and Wan EgoX Sampler (its trajectory
and depth) leave what it was made of; samplers hand it on. Decode Ego Half takes from it what isn't
connected or set."""
