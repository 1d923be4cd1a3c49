"""Load, align and scale the depth of a take for the frames in use.

The file counts while no socket is given. The take's own camera and poses go before what a depth
model estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..cameras import CameraModel, raw_gopro_of
from ..depth import (
    AlignReport,
    DepthSource,
    align_sources,
    camera_of_view,
    choose_roles,
    depth_advice,
    socket_sources,
)
from ..errors import EgoXInputError
from ..facts import NOTHING_DECLARED, Declared, StatedLens
from ..file_names import DEPTH, DEPTH_NAMES
from ..frames import FileFrames, Frames, settle_frames
from ..progress import Progress, no_progress
from ..remarks import Remark, StageReport
from ..types import AlignMode, DepthVideo, FrameSelection, TakeMeta, is_a
from .depth_files import check_depth, load_depth_file
from .depth_readers import open_depth
from .metric_scale import ScaleReport, with_takes_scale
from .same_take import check_same_take
from .shown_picture import shown_take
from .take_cameras import exo_poses, given_lens, meta_lens


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
    # A file without intrinsics gets a guess instead of being refused.
    guess_camera: bool = True,
    dynamic_mask: Array | None = None,  # [B, h, w] host MASK, in place of the sources' own
    sky_mask: Array | None = None,  # [B, h, w] host MASK, added to the sources' own
    mode: AlignMode = "least squares",
    # What the user says of maps and camera: also their frames, the scale and the angle of view.
    declared: Declared = NOTHING_DECLARED,
    progress: Progress = no_progress,
) -> tuple[DepthVideo, DepthReport]:
    """Load, align and scale depth for the frames in use, from a file or depth models' output.

    Raises:
        EgoXInputError: no metric depth from anywhere; as :func:`check_depth_file`,
            :func:`depth_files.load_depth_file`, the sockets' adapters,
            :func:`depth.roles.align_sources` and :func:`metric_scale.with_takes_scale`.
    """
    declared = declared if meta is None else declared.over(meta.declared)
    own_facts = ("depth.frames", "depth.scale", "exo.fov_deg")
    file_frames, scale, fov_deg = map(declared.argument_value, own_facts)
    if is_a(frames, FrameSelection):
        _check_exo_part(frames, meta)
    raw_meta, raw_source_lens = meta, None
    if meta is not None and meta.exo.lens is None and meta.camera_intrinsics is not None:
        raw_source_lens = raw_gopro_of(meta.camera_intrinsics)
    from_file = not sockets and isinstance(source, Path)
    if sockets:
        sources = list(socket_sources(sockets))
    elif isinstance(source, Path):
        with depth_advice(), open_depth(source) as file:
            check_same_take("depth", source, Frames.video_of(frames))
            known_frames = settle_frames(frames, Frames.of_count(file.numbering.count))
            file_depth = load_depth_file(
                file,
                meta,
                frames,
                lenses=_given_lenses(known_frames, file.size, fov_deg, lens),
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
    clip = FrameSelection.of_picture(frames, map_size)
    exo = None
    lenses = [] if from_file else _given_lenses(frames, map_size, fov_deg, lens)
    if beside is not None:
        beside = meta = shown_take(beside, clip, declared)
        exo = exo_poses(beside, frames if beside.exo.stands else frames.known)
        if beside.exo_camera is not None:
            lenses = [meta_lens(beside, clip.source_size, clip).seen(clip.camera), *lenses]
    depth, fit, notes = align_sources(
        sources,
        frames=frames,
        exo=exo,
        lenses=lenses,
        file_frames="auto" if from_file else file_frames,
        dynamic_mask=dynamic_mask,
        sky_mask=sky_mask,
        mode=mode,
        progress=progress,
    )
    raw_lens = None
    if raw_meta is not None and raw_source_lens is not None:
        raw_exo = replace(raw_meta.exo, lens=raw_source_lens)
        raw_meta = shown_take(replace(raw_meta, exo=raw_exo), clip, declared)
        raw_lens = clip.camera(meta_lens(raw_meta, clip.source_size, clip).lens)
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
        raw_lens=raw_lens,
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


def _given_lenses(
    frames: Frames,
    map_size: tuple[int, int],  # (width, height)
    fov_deg: float,
    lens: CameraModel | Array | None,
) -> list[StatedLens]:
    """State the exo lens that a caller gives, as a camera, K or angle, in px of the frames."""
    stated = []
    clip = FrameSelection.of_picture(frames, map_size)
    if lens is not None:
        stated.append(given_lens(lens, frames, map_size))
    if fov_deg > 0:
        angle_lens = camera_of_view(*clip.size, fov_deg)
        stated.append(StatedLens(lens=angle_lens, by="argument fov_deg", source="angle"))
    return stated


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
