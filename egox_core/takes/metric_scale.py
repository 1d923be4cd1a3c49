"""The scale of a take's depth (as it is, from the wearer, or a number), and a report on it in words
and numbers."""

import math
from dataclasses import replace

from ..cameras import CameraPath, preset_camera
from ..errors import EgoXInputError
from ..frame_store import drop_pages, store_frames
from ..frames import Frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..sizes import REFERENCE_SIZE
from ..types import FROM_HEAD_KEYPOINTS, DepthVideo, ScaleSource, TakeMeta
from .body_scale import WearerScale, wearer_scale
from .meta import META_PRESET
from .take_cameras import meta_trajectory


@frozen
class ScaleReport:
    """By what the depth was multiplied, and why."""

    scale: float = 1.0
    given: bool = False  # as a number
    wearer: WearerScale | None = None  # where it was asked
    unseen: str = ""  # why the wearer can't tell

    def text(self) -> str:
        """Describe the scale in one line for notes."""
        if self.wearer is not None:
            return self.wearer.text()
        if self.given:
            return f"scale {self.scale:g}, as given"
        return f"scale as is: {self.unseen}" if self.unseen else "scale as is"

    def content(self) -> dict[str, object]:
        """Collect plain numbers for JSON."""
        if self.wearer is not None:
            return {"source": "wearer"} | self.wearer.content()
        return {
            "source": "as is" if self.scale == 1 else "number",
            "scale": self.scale,
            "note": self.text(),
        }


def with_scale(
    depth: DepthVideo,
    source: ScaleSource | float,
    # The wearer's camera as measured, in the depth's world; None: unknown.
    ego: CameraPath | None,
    *,
    # The maker of the poses, if their file names one.
    pose_source: str = "",
    progress: Progress = no_progress,
) -> tuple[DepthVideo, ScaleReport]:
    """Bring a depth to a scale.

    ``wearer where seen`` leaves it unchanged if the wearer can't tell, and says why.

    Raises:
        EgoXInputError: ``wearer`` without measured poses or a wearer in sight, see
            :func:`.body_scale.wearer_scale`; a number that is no factor.
    """
    if source == "as is":
        return depth, ScaleReport()
    if not isinstance(source, str):
        if not (math.isfinite(source) and source > 0):
            raise EgoXInputError(
                "scale", got=source, expected="a positive number", fix="1 leaves the depth as it is"
            )
        return _scaled_copy(depth, source), ScaleReport(scale=source, given=True)
    try:
        made_here = _made_on_depth(pose_source, source)
        if made_here or ego is None:
            raise EgoXInputError(
                "scale from the wearer",
                got=f"poses from the {pose_source}, which were made on this "
                "very depth and carry its scale"
                if made_here
                else "no ego_extrinsics in the camera file",
                expected="the wearer's measured poses",
                fix="use scale as is, or give a number",
            )
        wearer = wearer_scale(depth, ego, progress=progress)
    except EgoXInputError as error:
        if source == "wearer":
            raise
        return depth, ScaleReport(unseen=f"{error.what}: {error.got}")
    return _scaled_copy(depth, wearer.scale), ScaleReport(scale=wearer.scale, wearer=wearer)


def _made_on_depth(pose_source: str, source: ScaleSource) -> bool:
    """Check whether poses carry the scale of the very depth they were made on.

    Those from keypoints of the head alone leave it to the trunk where that is seen.
    """
    return bool(pose_source) and (pose_source, source) != (FROM_HEAD_KEYPOINTS, "wearer where seen")


def with_takes_scale(
    depth: DepthVideo,
    source: ScaleSource | float,
    meta: TakeMeta | None,
    frames: Frames,
    *,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, ScaleReport]:
    """Scale depth as :func:`with_scale` does, with the take file's poses of the wearer's camera in
    the frames in use.

    Raises:
        EgoXInputError: as there; fewer poses than frames in use.
    """
    needs_no_wearer = source == "as is" or not isinstance(source, str)
    if needs_no_wearer or meta is None or meta.ego is None:
        return with_scale(depth, source, None)
    if _made_on_depth(meta.pose_source, source):
        return with_scale(depth, source, None, pose_source=meta.pose_source)
    in_use = frames.or_those(depth.frames)
    path, _ = meta_trajectory(meta, preset_camera(META_PRESET, REFERENCE_SIZE), in_use)
    return with_scale(
        depth,
        source,
        path.ego,
        pose_source=meta.pose_source,
        progress=progress,
    )


def _scaled_copy(depth: DepthVideo, scale: float) -> DepthVideo:
    """Multiply a copy of the depth, because its maps may be another node's, and may be on the disk."""
    scaled = store_frames(
        (frame.float().cpu() * scale for frame in depth.depth_m), len(depth.depth_m)
    )
    drop_pages(depth.depth_m)
    return replace(depth, depth_m=scaled)
