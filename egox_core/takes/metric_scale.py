"""Scale a take's depth: unchanged, by a number, or by the wearer's body."""

import math
from contextlib import suppress
from dataclasses import replace

from ..cameras import CameraPath, preset_camera
from ..errors import EgoXInputError
from ..frames import Frames
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..sizes import REFERENCE_SIZE
from ..types import FROM_HEAD_KEYPOINTS, DepthVideo, ScaleSource, TakeMeta
from .body_scale import MODEL_ERROR, WearerScale, wearer_scale
from .meta import META_PRESET
from .take_cameras import meta_trajectory


@frozen
class ScaleReport:
    """Report on the factor that the depth was multiplied by."""

    scale: float = 1.0
    given: bool = False  # as a number
    wearer: WearerScale | None = None  # where it was asked
    unseen: str = ""  # why the wearer can't tell

    def text(self) -> str:
        """Describe the scale and its source in one line."""
        if self.wearer is not None:
            return self.wearer.text()
        if self.given:
            return f"scale {self.scale:g}, as given"
        return f"scale as is: {self.unseen}" if self.unseen else "scale as is"

    def content(self) -> dict[str, object]:
        """Collect the figures of the depth's scale for JSON."""
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
    """Scale a depth video by a number or by the wearer's body, or keep it as it is.

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
        return depth.scaled(source), ScaleReport(scale=source, given=True)
    try:
        is_made_on_depth = _made_on_depth(pose_source, source)
        if is_made_on_depth or ego is None:
            raise EgoXInputError(
                "scale from the wearer",
                got=f"poses from the {pose_source}, which were made on this "
                "very depth and carry its scale"
                if is_made_on_depth
                else "no ego_extrinsics in the camera file",
                expected="the wearer's measured poses",
                fix="use scale as is, or give a number",
            )
        wearer = wearer_scale(depth, ego, progress=progress)
    except EgoXInputError as error:
        if source == "wearer":
            raise
        return depth, ScaleReport(unseen=f"{error.what}: {error.got}")
    return depth.scaled(wearer.scale), ScaleReport(scale=wearer.scale, wearer=wearer)


def with_raw_scale(
    depth: DepthVideo,
    # The wearer's camera as measured; None: unknown.
    ego: CameraPath | None,
    *,
    progress: Progress = no_progress,
) -> DepthVideo:
    """State with a depth's raw lens the factor by the wearer that makes its maps metric."""
    if depth.raw_lens is None:
        return depth
    if ego is None or ego.world != depth.exo.world:
        return replace(depth, raw_scale=(1.0, "scale as is", MODEL_ERROR))
    raw_depth = replace(depth, exo=replace(depth.exo, lens=depth.raw_lens))
    try:
        report = wearer_scale(raw_depth, ego, progress=progress)
    except EgoXInputError as error:
        scale_note = f"scale as is: {error.what}: {error.got}"
        return replace(depth, raw_scale=(1.0, scale_note, MODEL_ERROR))
    return replace(depth, raw_scale=(report.scale, report.text(), report.sigma))


def with_takes_raw_scale(
    depth: DepthVideo,
    meta: TakeMeta | None,
    frames: Frames,
    *,
    progress: Progress = no_progress,
) -> DepthVideo:
    """State the scale of :func:`with_raw_scale` by the ego poses of a take's meta file."""
    ego = None
    if depth.raw_lens is not None and meta is not None and meta.ego is not None:
        with suppress(EgoXInputError):  # a path that nobody asked for
            ego = _takes_ego(meta, frames)
    return with_raw_scale(depth, ego, progress=progress)


def _made_on_depth(pose_source: str, source: ScaleSource) -> bool:
    """Check whether ego poses were made from the depth itself, so that they can't give its scale.

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
    """Scale a take's depth, using the ego poses of its meta file for the scale by the wearer.

    Raises:
        EgoXInputError: as there; fewer poses than frames in use.
    """
    needs_no_wearer = source == "as is" or not isinstance(source, str)
    if needs_no_wearer or meta is None or meta.ego is None:
        return with_scale(depth, source, None)
    if _made_on_depth(meta.pose_source, source):
        return with_scale(depth, source, None, pose_source=meta.pose_source)
    return with_scale(
        depth,
        source,
        _takes_ego(meta, frames),
        pose_source=meta.pose_source,
        progress=progress,
    )


def _takes_ego(meta: TakeMeta, frames: Frames) -> CameraPath:
    """Read the wearer's camera of a take's meta file."""
    return meta_trajectory(meta, preset_camera(META_PRESET, REFERENCE_SIZE), frames)[0].ego
