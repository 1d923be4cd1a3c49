"""Load, align and scale the depth of a take for the frames in use.

The file counts while no socket is given. The take's own camera and poses go before what a depth
model estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..cameras import CameraModel
from ..depth import (
    AlignReport,
    DepthSource,
    align_sources,
    camera_of_view,
    choose_roles,
    depth_advice,
    depth_window,
    socket_sources,
)
from ..errors import EgoXInputError
from ..facts import NOTHING_DECLARED, Declared, StatedLens
from ..file_names import DEPTH, DEPTH_NAMES
from ..frames import FileFrames, Frames, settle_frames
from ..progress import Progress, no_progress
from ..remarks import Remark, StageReport
from ..types import AlignMode, DepthVideo, FrameSelection, ScaleSource, TakeMeta, is_a
from .depth_files import check_depth, load_depth_file
from .depth_readers import open_depth
from .metric_scale import ScaleReport, with_takes_scale
from .same_take import check_same_take
from .take_cameras import exo_poses, given_lens, lenses_in_use, with_exo_lens


@dataclass(frozen=True, kw_only=True)
class DepthReport(StageReport):
    """Report on a clip's depth: the fit of each frame, and the scale."""

    fit: AlignReport
    scale: ScaleReport


def take_depth(
    # The depth's file, or sources sorted by priority.
    source: Path | Sequence[DepthSource] | None,
    # The exo camera, as far as it is known.
    meta: TakeMeta | None,
    # The frames in use; None: those of the depth.
    frames: Frames | None,
    # Payloads of the connected sockets, see depth.adapters.
    sockets: Mapping[str, Any] | None = None,
    *,
    # The exo camera, or its K, in px of source, frames or maps.
    lens: CameraModel | Array | None = None,
    # Above 0: width of the exo camera's view, if nothing else gives it.
    fov_deg: float = 0.0,
    # A file without intrinsics gets a guess instead of being refused.
    guess_camera: bool = True,
    # See metric_scale.with_scale.
    scale: ScaleSource | float = "as is",
    dynamic_mask: Array | None = None,  # [B, h, w] host MASK, in place of the sources' own
    sky_mask: Array | None = None,  # [B, h, w] host MASK, added to the sources' own
    mode: AlignMode = "least squares",
    # Of which frames a file's maps are, or those of a caller's arrays.
    file_frames: FileFrames = "auto",
    # What the user says of the maps of a file.
    declared: Declared = NOTHING_DECLARED,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, DepthReport]:
    """Load, align and scale depth for the frames in use, from a file or depth models' output.

    Raises:
        EgoXInputError: no metric depth from anywhere; as :func:`check_depth_file`,
            :func:`depth_files.load_depth_file`, the sockets' adapters,
            :func:`depth.roles.align_sources` and :func:`metric_scale.with_takes_scale`.
    """
    own_arguments = {"depth.frames": file_frames, "depth.scale": scale, "exo.fov_deg": fov_deg}
    declared = declared if meta is None else declared.over(meta.declared)
    declared = declared.with_arguments(own_arguments)
    file_frames, scale, fov_deg = map(declared.argument_value, own_arguments)
    if is_a(frames, FrameSelection):
        _check_exo_part(frames, meta)
    from_file = not sockets and isinstance(source, Path)
    if sockets:
        sources = list(socket_sources(sockets))
    elif isinstance(source, Path):
        with depth_advice(), open_depth(source) as file:
            check_same_take("depth", source, Frames.video_of(frames))
            file_depth = load_depth_file(
                file,
                meta,
                frames,
                guess_camera=guess_camera,
                declared=declared,
                progress=progress,
            )
        sources = [file_depth]
    else:
        sources = list(source or ())
    beside = None if from_file else meta
    metric_depth = choose_roles(sources)[0][0].depth
    frames = settle_frames(frames, metric_depth.frames)
    map_size = metric_depth.exo.camera.stored_size
    exo = None
    if beside is not None:
        exo = exo_poses(beside, frames if beside.exo.stands else frames.known)
    depth, fit, notes = align_sources(
        sources,
        frames=frames,
        exo=exo,
        lenses=_stated_lenses(beside, frames, map_size, fov_deg, lens),
        file_frames="auto" if from_file else file_frames,
        dynamic_mask=dynamic_mask,
        sky_mask=sky_mask,
        mode=mode,
        progress=progress,
    )
    exo_rows = [*declared.rows("depth.scale", "exo.fov_deg")]
    exo_rows += [] if from_file else declared.rows("depth.frames")
    exo_rows += (
        []
        if meta is None
        else [row for row in meta.facts if row.fact.startswith(("exo.", "fields"))]
    )
    if is_a(frames, FrameSelection):
        exo_rows += frames.facts
    depth = replace(
        depth,
        facts=(*depth.facts, *exo_rows),
        raw_lens=_raw_lens(meta, frames, map_size),
        raw_scale=None,
    )
    depth, scale_report = with_takes_scale(depth, scale, meta, frames, progress=progress)
    return depth, DepthReport(
        notes=(*notes, Remark(scale_report.text())),
        facts=depth.facts,
        fit=fit,
        scale=scale_report,
    )


def _check_exo_part(frames: FrameSelection, meta: TakeMeta | None) -> None:
    """Refuse a picture that was taken whole though the take declares a part of it.

    Raises:
        EgoXInputError: it does, and nobody declared another part for the video.
    """
    declared_part = "whole" if meta is None else meta.declared.exo_part
    if declared_part != "whole" and not frames.facts:
        raise EgoXInputError(
            "exo.part",
            got=f"{declared_part}, declared in the take's meta file, and frames of the whole video",
            expected="frames of that part",
            fix=f"declare exo.part={declared_part} where the video is read",
        )


def _stated_lenses(
    meta: TakeMeta | None,
    frames: Frames,
    map_size: tuple[int, int],  # (width, height)
    fov_deg: float,
    lens: CameraModel | Array | None,
) -> list[StatedLens]:
    """State the exo lens at the size of the frames or depth maps, as far as it is given."""
    clip = FrameSelection.of_picture(frames, map_size)
    source, size = clip.source_size, clip.size
    stated = lenses_in_use(meta, clip)
    if lens is not None:
        pictures: dict = {
            map_size: depth_window(map_size, frames, "depth").camera,
            source: clip.camera,
        }
        pictures[size] = lambda camera: camera
        stated.append(given_lens(lens, pictures))
    if fov_deg > 0:
        angle_lens = camera_of_view(*size, fov_deg)
        stated.append(StatedLens(lens=angle_lens, by="argument fov_deg", source="angle"))
    return stated


def _raw_lens(
    meta: TakeMeta | None, frames: Frames, map_size: tuple[int, int]
) -> CameraModel | None:
    """State the raw lens that follows from a take's K, in px of the frames, or None."""
    raw_meta = meta and with_exo_lens(meta, "raw where known")[0]
    if raw_meta is None or raw_meta is meta:
        return None
    return lenses_in_use(raw_meta, FrameSelection.of_picture(frames, map_size))[0].lens


def find_depth(folder: Path) -> Path:
    """Find the depth of a take folder: depth.npz, depth.zip, depth.npy, or a folder named depth.

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


def check_depth_file(path: Path, frames: Frames | None, file_frames: FileFrames = "auto") -> None:
    """Check before decoding that a depth file belongs to the video.

    A workflow that was opened with its sample keeps naming the sample's depth when the user chooses
    a video of their own, and nothing in the numbers would tell.

    Raises:
        EgoXInputError: the file of another take, maps that may be of other frames, another aspect.
    """
    with depth_advice(), open_depth(path) as file:
        check_same_take("depth", path, Frames.video_of(frames))
        check_depth(file, frames, file_frames=file_frames)
