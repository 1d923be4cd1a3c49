"""Convert a third-person (exo) video with depth to the model input and attention bias that generate
its first-person (ego) video.

What a graph runs, in plain torch and numpy; knows no host. The rooms, each importing only rooms
further down:

    page        pictures of payloads, the pose editor's clicks, uploads
    take        a take folder as what the pipeline works on
    stages      the seven stages, each one function
    stereo      a right eye for an ego video, and both as a headset reads them
    robots      runs as episodes that policies of robots learn from
    metrics     figures that a node shows
    exchange    camera paths as files of other programs, and as our own
    prior       points to the ego picture; which exo camera shows most of it
    scene       points from frames and depth, static and moving
    takes       a recording's files
    depth       any depth to metric z depth: the affine fit, masks, trust
    wan         the model's canvas, names, encoders, schedule
    video       frames, sound and frame selection; other lenses
    hands       a wearer's hands: joints, doubts, wrists, their file and picture
    trajectory  paths: interpolated, set by hand, estimated from a head
    gga         geometry-guided attention; λ_g acts here
    types       the payloads between the rooms
    facts       what sources and the user say of a take; one value of each
    cameras     lenses, poses, and both as one: a camera that knows where it is
    frames      frames of a video, and of which of them entries are
    archives, arrays, finite, safe_files, foreign_files, file_names, sizes, frame_store: the ground
    choices, progress, remarks, frozen, errors: the ground

The pipeline is seven calls, in :mod:`egox_core.stages`; the examples in the repository's docs go on
from there to a model's input and its attention.

Poses are w2c [R|t] with OpenCV's axes (x right, y down, z forward); lengths are metres, depth is z,
invalid depth NaN. Pixels are integer centres, sizes (width, height). A clip has 4n + 1 frames.
"""

from typing import TYPE_CHECKING, Any

from .errors import EgoXInputError

if TYPE_CHECKING:
    from .types import (
        CameraTrajectory,
        Canvas,
        DepthVideo,
        EgoPrior,
        FrameSelection,
        GgaGeometry,
        PointCloud,
        PointSet,
        TakeMeta,
    )

__version__ = "1.3.0"

PAYLOADS = frozenset(
    "CameraTrajectory Canvas DepthVideo EgoPrior FrameSelection GgaGeometry PointCloud PointSet "
    "TakeMeta".split()
)
"""Names of :mod:`.types` that are imported when they are asked for, since they import torch."""


def __getattr__(name: str) -> Any:
    if name not in PAYLOADS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import types

    return getattr(types, name)
