"""The depth of a take in the frames in use: a file or depth models' output, aligned and in metres.

The file counts while no socket is given. The take's own camera and poses go before what a depth
model estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..cameras import CameraModel
from ..depth import (
    AlignOptions,
    AlignReport,
    DepthSource,
    align_sources,
    camera_of_view,
    depth_advice,
    socket_sources,
)
from ..errors import EgoXInputError
from ..file_names import DEPTH, DEPTH_NAMES
from ..progress import Progress, no_progress
from ..remarks import Remark, StageReport
from ..types import DepthVideo, FrameSelection, ScaleSource, TakeMeta
from .depth_files import check_depth, load_depth_file
from .depth_readers import DepthFile, open_depth
from .metric_scale import ScaleReport, with_takes_scale
from .same_take import check_same_count, check_same_take
from .take_cameras import exo_camera_of_size, exo_poses


@dataclass(frozen=True, kw_only=True)
class DepthReport(StageReport):
    """Remarks on a clip's depth: α and β per frame, and its scale."""

    fit: AlignReport
    scale: ScaleReport


def take_depth(
    source: Path | Sequence[DepthSource] | None,  # the depth's file, or sources by priority
    meta: TakeMeta | None,  # what is known of the exo camera
    frames: FrameSelection | None,  # the frames in use; None: those of the depth
    sockets: Mapping[str, Any] | None = None,  # payloads of the given ones, see depth.adapters
    *,
    fov_deg: float = 0.0,  # above 0: what the exo camera sees across, where the take doesn't say
    guess_camera: bool = True,  # a file without intrinsics gets a guess instead of being refused
    scale: ScaleSource | float = "as is",  # see metric_scale.with_scale
    dynamic_mask: Array | None = None,  # [B, h, w] host MASK, in place of the sources' own
    sky_mask: Array | None = None,  # [B, h, w] host MASK, beside the sources' own
    options: AlignOptions = AlignOptions(),  # noqa: B008  frozen
    progress: Progress = no_progress,
) -> tuple[DepthVideo, DepthReport]:
    """Read, align and scale the depth of the frames in use.

    Raises:
        EgoXInputError: no metric depth from anywhere; as :func:`file_source`, the sockets' adapters,
            :func:`depth.roles.align_sources` and :func:`metric_scale.with_takes_scale`.
    """
    camera = None if frames is None else _exo_camera(meta, frames, frames.size, fov_deg)
    if sockets:
        sources = list(socket_sources(sockets, camera))
    elif isinstance(source, Path):
        sources = [file_source(source, meta, frames, guess_camera=guess_camera, progress=progress)]
    else:
        sources = list(source or ())
    if frames is None and sources:
        camera = _exo_camera(meta, None, sources[0].depth.camera.stored_size, fov_deg)
    if not sockets and meta is not None and meta.exo_camera is not None:
        camera = None  # a file alone brings the camera, cut as its maps are, and poses itself
    depth, fit, notes = align_sources(
        sources,
        frames=frames,
        camera=camera,
        exo_w2c=exo_poses(meta, frames) if sockets else None,
        dynamic_mask=dynamic_mask,
        sky_mask=sky_mask,
        options=options,
        progress=progress,
    )
    depth, scaled = with_takes_scale(depth, scale, meta, frames, progress=progress)
    return depth, DepthReport(notes=(*notes, Remark(scaled.text())), fit=fit, scale=scaled)


def _exo_camera(
    meta: TakeMeta | None, frames: FrameSelection | None, size: tuple[int, int], fov_deg: float
) -> CameraModel | None:
    if meta is not None and meta.exo_camera is not None:
        return exo_camera_of_size(meta, frames, size)
    return camera_of_view(*size, fov_deg) if fov_deg > 0 else None


def find_depth(folder: Path) -> Path:
    """The depth of a take folder: depth.npz, depth.zip, depth.npy, or a folder named depth.

    Raises:
        EgoXInputError: none of them.
    """
    for name in DEPTH_NAMES:
        if (folder / name).exists():
            return folder / name
    raise EgoXInputError(
        f"take {folder.name}",
        got=f"no {DEPTH}",
        expected="depth of the exo video",
        fix="add the file, or give the output of a depth model to stages.align",
    )


def file_source(
    path: Path,
    meta: TakeMeta | None,  # without intrinsics the camera is a guess
    frames: FrameSelection | None = None,
    *,
    guess_camera: bool = True,
    progress: Progress = no_progress,
) -> DepthSource:
    """Load a depth file as an input of the alignment.

    Raises:
        EgoXInputError: as :func:`check_depth_file` and :func:`depth_files.load_depth_file`.
    """
    with depth_advice(), open_depth(path) as file:
        if frames is not None:
            _check_file(file, path, frames)
        return load_depth_file(file, meta, frames, guess_camera=guess_camera, progress=progress)


def check_depth_file(path: Path, frames: FrameSelection) -> None:
    """Refuse the depth of another video, before anything is decoded.

    Raises:
        EgoXInputError: the file of another take, another count of maps than the video has frames,
            shorter than the frames in use, another aspect.
    """
    with depth_advice(), open_depth(path) as file:
        _check_file(file, path, frames)
        check_depth(file, frames)


def _check_file(file: DepthFile, path: Path, frames: FrameSelection) -> None:
    """Refuse a take's depth for another video.

    A workflow that was opened with its sample keeps naming the sample's depth when the user chooses
    a video of their own, and nothing in the numbers would tell. Only folders laid out as a take (a
    meta.json and a video) say whose depth they hold; a copy of the same video elsewhere counts as
    the same."""
    check_same_take("depth", path, frames.source_path)
    check_same_count(
        f"depth {file.name}",
        file.frame_count,
        frames,
        "compute depth for every frame of this video",
    )
