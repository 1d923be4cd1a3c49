"""Define the immutable payloads between the rooms, a file each.

Where a camera is, :class:`~egox_core.cameras.CameraPath` knows: lens, poses, moments and world.
"""

from ..choices import (
    ALIGN_MODES,
    DYNAMIC_CHOICES,
    FROM_EDITOR,
    FROM_HEAD_KEYPOINTS,
    GGA_MODES,
    HIDDEN_LINES,
    IMAGE_EMBEDDING_MODES,
    MASK_MODES,
    RAY_MODES,
    AlignMode,
    DepthKind,
    Dynamic,
    ExoLens,
    GgaMode,
    HiddenLines,
    ImageEmbeddingMode,
    MaskMode,
    Motion,
    Moving,
    RayMode,
    Resize,
    ScaleSource,
)
from .canvas import Canvas
from .clip import FrameSelection, Sound
from .depth_video import DepthVideo
from .ego_prior import EgoPrior
from .frame_part import OF_FRAMES, of_frames
from .gga_geometry import GgaGeometry
from .kept import MADE_BY, Kept, is_a
from .pixel_classes import (
    DOUBTFUL,
    EARLIER,
    KEPT_EARLIER,
    KEPT_NOW,
    NOW,
    REDRAWN,
    SEEN_KINDS,
    UNOBSERVED,
    seen_shares,
    seen_text,
    video_classes,
)
from .point_cloud import RELEASED_RANGE, ExoSight, MovingPoints, PointCloud, PointSet
from .take_meta import TakeMeta, TakeNotes
from .trajectory import CameraTrajectory
