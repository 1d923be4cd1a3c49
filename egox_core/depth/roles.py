"""Combine several depth sources into one aligned depth."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..arrays import Array
from ..cameras import CameraModel, CameraPath
from ..errors import EgoXInputError, in_words
from ..facts import StatedLens, first_posed, settle_lens
from ..frame_store import store_frames
from ..frames import FileFrames, Frames, Numbering, entries_of
from ..progress import Progress, no_progress
from ..remarks import Remark, RemarkKind
from ..types import AlignMode, DepthVideo, FrameSelection, of_frames
from .align import ADVICE, MISSING_METRIC, align_depth
from .kind import scale_notes
from .report import AlignReport
from .resample import DepthWindow, fit_depth_size, fit_host_mask, mask_share, window_of_size
from .sources import GUESSED_FOV_DEG, DepthSource

NO_MASK = Remark(
    "warning: no mask of what moves, so people are part of the fit, and the scene has to guess "
    "what moves; give a dynamic_mask (a SAM3 track)",
    RemarkKind.WARNING,
)

LENS_GUESSED = (
    f"warning: no intrinsics of the exo camera anywhere; a field of view of {GUESSED_FOV_DEG:g} "
    "degrees across is assumed (give fov_deg of stages.align if you know it, or MoGe's output, "
    "which estimates it)"
)


Sources = Sequence[DepthSource]


def choose_roles(sources: Sources) -> tuple[Sources, Sources]:
    """Choose the metric depth and the video depth among sources, and list those left out.

    Sources come by priority: the first metric one gives the scale, the first other one is the
    video depth. That may be metric too. Only its changes over time count then, not its scale.

    Raises:
        EgoXInputError: no source, or none of them metric: says what is missing.
    """
    metric = next((source for source in sources if source.depth.kind == "metric z"), None)
    if metric is None:
        names = ", ".join(f"{source.name} ({source.depth.kind})" for source in sources)
        raise EgoXInputError(
            MISSING_METRIC,
            got=names or "no depth at all",
            expected="a metric depth: MoGe v2, or a depth file and no depth model",
            fix=ADVICE,
        )
    other_sources = [source for source in sources if source is not metric]
    return [metric, *other_sources[:1]], other_sources[1:]


def align_sources(
    # They are sorted by priority; sizes and lengths may differ, by the rules below.
    sources: Sequence[DepthSource],
    *,
    # The exo frames in use.
    frames: Frames,
    # Poses of the exo camera, where they are known.
    exo: CameraPath | None = None,
    # Its lens at the frames' size, as others state it than the sources.
    lenses: Sequence[StatedLens] = (),
    dynamic_mask: Array | None = None,  # [B, h, w] host MASK, in place of the sources' own
    sky_mask: Array | None = None,  # [B, h, w] host MASK, added to the sources' own
    mode: AlignMode = "least squares",
    # Of which frames the maps of sources are that don't say it.
    file_frames: FileFrames = "auto",
    progress: Progress = no_progress,
) -> tuple[DepthVideo, AlignReport, tuple[Remark, ...]]:
    """Align depth sources of different sizes and lengths to one depth for the frames in use.

    Returns:
        The depth, its fit, and notes on what was assumed.

    Raises:
        EgoXInputError: as :func:`choose_roles`, the size and mask rules, and
            :func:`depth.align.align_depth`; no valid pixel is left.
    """
    chosen_sources, unused_sources = choose_roles(sources)
    height, width = chosen_sources[0].depth.depth_m.shape[1:]
    width, height = FrameSelection.of_picture(frames, (width, height)).size

    def used_source(source: DepthSource) -> DepthSource:
        if source.depth.frames == frames.without_sizes:
            return source
        what = f"depth of {source.name}"
        entries = entries_of(frames, Numbering.of_own(what, source.depth.frames, file_frames))
        depth = of_frames(source.depth, entries.at)
        return replace(source, depth=depth, notes=(*source.notes, entries.remark))

    chosen_sources = [used_source(source) for source in chosen_sources]
    windows = [
        window_of_size(source.depth, (width, height), f"depth of {source.name}", frames)
        for source in chosen_sources
    ]
    for lens_given in lenses:
        lens_given.lens.check_size("exo camera", width, height)
    lens, lens_row = settle_lens(
        [
            *lenses,
            *(
                source.stated_lens if window is None else source.stated_lens.seen(window.camera)
                for source, window in zip(chosen_sources, windows, strict=True)
            ),
        ]
    )
    if chosen_sources[0].along_rays:
        lens.check_rays()
        z_depth = _depth_of_rays(chosen_sources[0].depth, lens.lens, windows[0])
        chosen_sources[0] = replace(chosen_sources[0], depth=z_depth)

    def fit_source(source: DepthSource) -> DepthSource:
        depth, note = fit_depth_size(source.depth, width, height, f"depth of {source.name}", frames)
        size_notes = (Remark(note),) if note else ()
        return replace(source, depth=depth, notes=(*source.notes, *size_notes))

    mask_notes: list[Remark] = []

    def fit_mask(mask: Array | None, label: str) -> Tensor | None:
        if mask is None:
            return None
        fitted_mask, read_notes = fit_host_mask(mask, frames, height, width, label)
        mask_notes.extend(read_notes)
        return fitted_mask

    chosen_sources = [fit_source(source) for source in chosen_sources]
    metric, *video_depths = (source.depth for source in chosen_sources)
    exo_path = first_posed(exo, metric.exo)
    exo_path = FrameSelection.shown_by(frames, exo_path, lens=lens.lens, lens_guessed=lens.guessed)
    other_rows = (row for row in metric.facts if row.fact != lens_row.fact)
    metric = replace(metric, exo=exo_path, facts=(*other_rows, lens_row))
    dynamic, sky = fit_mask(dynamic_mask, "dynamic mask"), fit_mask(sky_mask, "sky mask")
    if dynamic is not None:
        metric, *video_depths = (replace(depth, dynamic=None) for depth in (metric, *video_depths))
    video_depth = video_depths[0] if video_depths else None
    depth, report = align_depth(metric, video_depth, dynamic, sky, mode, progress)
    if not any(bool(torch.isfinite(frame).any()) for frame in depth.depth_m):
        raise EgoXInputError(
            "aligned depth",
            got="no valid pixel in any frame",
            expected="some that are not sky",
            fix="check the sky mask (1 for sky) and the depth source",
        )
    no_video_note = (
        () if video_depth else (Remark("no video depth: the metric depth is used as it is"),)
    )
    video_name = f"{chosen_sources[1].name} ({video_depth.kind})" if video_depth else "none"
    masks_text = (
        f"dynamic {100 * mask_share(depth.dynamic):.1f} %, "
        f"sky {100 * mask_share(depth.sky):.1f} % of the pixels"
    )
    lens_remark = Remark(lens.note or f"exo camera from {lens.by}: {lens.lens.words}")
    if lens.guessed:
        lens_remark = Remark(in_words(LENS_GUESSED), RemarkKind.WARNING)
    no_mask_note = (NO_MASK,) if video_depth and depth.dynamic is None else ()
    return (
        depth,
        report,
        (
            Remark(f"metric depth: {chosen_sources[0].name}; video depth: {video_name}"),
            Remark(masks_text),
            *no_mask_note,
            *(Remark(f"{source.name} is not used") for source in unused_sources),
            *(note for source in chosen_sources for note in source.notes),
            *mask_notes,
            lens_remark,
            *scale_notes(metric),
            *no_video_note,
        ),
    )


def _depth_of_rays(
    depth: DepthVideo,
    lens: CameraModel,  # of the maps as they will be used
    window: DepthWindow | None,  # that resizes them
) -> DepthVideo:
    """Convert distances from the camera to z depth, on the maps' own grid."""
    if window is not None:
        lens = window.map_camera(lens, depth.exo.camera.stored_size)
    ray_lengths = lens.ray_lengths()
    z_maps = store_frames((frame / ray_lengths for frame in depth.depth_m), len(depth.depth_m))
    return replace(depth, depth_m=z_maps)
