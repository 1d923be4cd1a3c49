"""Depth Align: files, the host's depth models or depth pictures to one aligned metric depth of the
exo video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from comfy_api.latest import io

from ..egox_core.depth.adapters import DEPTH_ADAPTERS, DepthSocket
from ..egox_core.depth.align import ADVICE, MISSING_METRIC
from ..egox_core.depth.report import AlignOptions
from ..egox_core.depth.roles import align_sources
from ..egox_core.depth.sources import camera_of_view
from ..egox_core.depth.trust import with_trust
from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import DEPTH, META
from ..egox_core.previews.align_plot import plot_report, report_curves
from ..egox_core.previews.maps import depth_preview, depth_scale
from ..egox_core.prior.options import PRESET_GEOMETRY, PRIOR_PRESETS
from ..egox_core.takes.depth_files import check_depth
from ..egox_core.takes.depth_inputs import (
    FILE_ROLES,
    DepthFileInput,
    check_depth_count,
    check_same_take,
    depth_advice,
    depth_inputs,
    file_counts,
)
from ..egox_core.takes.depth_readers import open_depth
from ..egox_core.takes.exo_camera import EXO_LENSES, ExoLens, meta_beside, with_exo_lens
from ..egox_core.takes.meta import read_meta
from ..egox_core.takes.metric_scale import ScaleSource, with_takes_scale
from ..egox_core.types import FrameSelection, TakeMeta
from .host.graph import Graph, check_or_message, frames_in_use, inputs_of, linked, sidecar_missing
from .host.paths import beside_video, fingerprint, inside, resolve
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXFrames
from .page.previews import Stream, clip_fps, preview_ui
from .search_words import searched
from .sliders import Slider

MoGeGeometry = io.Custom("MOGE_GEOMETRY")
DA3Geometry = io.Custom("DA3_GEOMETRY")
EXO_FOV = Slider("exo field of view", usual=(0.0, 150.0), step=1.0, wide=(0.0, 150.0))
SCALES: Mapping[str, ScaleSource | None] = {
    "as is": "as is",
    "from the wearer": "wearer",
    "number": None,
}
"""The core's word for each choice of the menu; None: scale_factor."""
BY_PRESET = "by preset"


class EgoXDepthAlign(io.ComfyNode):
    """Files and sockets in, one metric depth of the exo video out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = AlignOptions()
        return io.Schema(
            node_id="EgoXDepthAlign",
            display_name="Depth Align",
            category="EgoX/geometry",
            **searched("EgoXDepthAlign"),
            description="Brings a steady video depth to the metric scale of another depth: D = 1 / (α / D_video + β), "
            "fitted a frame in inverse depth, with momentum. One metric depth alone passes through. Also "
            "loads depth from files.",
            inputs=[
                EgoXFrames.Input(
                    "frames",
                    optional=True,
                    tooltip="From Load Exo Video: which frames are in use, and at which size. Depth files "
                    "are read by it.",
                ),
                io.String.Input(
                    "depth_file",
                    default="",
                    tooltip="Depth of the whole source video, in the input or output folder or the pack's "
                    "sample: npz (depth_m), npy, or a folder or zip of npy, EXR or 16-bit PNG. "
                    "Empty: depth comes from the sockets or, while none is connected, from the "
                    "depth.npz beside the video.",
                ),
                io.String.Input(
                    "camera_file",
                    default="",
                    advanced=True,
                    tooltip="meta.json with the exo camera (camera_intrinsics, camera_extrinsics). Empty: "
                    "the meta.json beside the depth file or the video; where there is none, the "
                    "camera that the depth model estimated.",
                ),
                io.Combo.Input(
                    "file_role",
                    options=list(FILE_ROLES),
                    default="auto",
                    advanced=True,
                    tooltip="What the depth file is. auto: metric depth, and only used while no depth "
                    "socket is connected. The others use it together with the sockets. Ray depth: "
                    "distances from the camera's centre, not along its axis.",
                ),
                MoGeGeometry.Input(
                    "moge_geometry",
                    optional=True,
                    tooltip="From Run MoGe Inference, on the exo frames. MoGe v2 gives the scale.",
                ),
                DA3Geometry.Input(
                    "da3_geometry",
                    optional=True,
                    tooltip="From Run Depth Anything 3, on the exo frames. Small or Base in multiview "
                    "mode gives a steady video depth; Metric-Large can give the scale.",
                ),
                io.Image.Input(
                    "depth_image",
                    optional=True,
                    tooltip="A grey depth map of any pack, one picture a frame. Used as disparity.",
                ),
                io.Mask.Input(
                    "dynamic_mask",
                    optional=True,
                    tooltip="Moving people and things (e.g. a SAM3 track): left out of the fit, and handed "
                    "on to the scene, in place of a depth file's own. One frame holds for all; all "
                    "zero is no mask.",
                ),
                io.Mask.Input(
                    "sky_mask",
                    optional=True,
                    tooltip="Sky: left out of the fit, invalid in the result. One frame holds for all.",
                ),
                io.Combo.Input(
                    "mode",
                    options=["least squares", "robust"],
                    default=default.mode,
                    advanced=True,
                    tooltip="least squares: as the paper. robust: for depths that disagree in places; what "
                    "lies far off the line does not count. Takes up to five times as long.",
                ),
                io.Float.Input(
                    "momentum",
                    default=default.momentum,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.0001,
                    advanced=True,
                    tooltip="How much of α and β is kept from frame to frame. 0: every frame on its own.",
                ),
                io.Combo.Input(
                    "depth_image_bright",
                    options=["near", "far"],
                    default="near",
                    advanced=True,
                    tooltip="What bright pixels of depth_image mean.",
                ),
                io.Combo.Input(
                    "moge_scale",
                    options=["auto", "metric", "relative"],
                    default="auto",
                    advanced=True,
                    tooltip="auto: metric if the geometry has normals (MoGe v2), else of unknown scale "
                    "(v1). Set 'metric' for a MoGe v2 without normals.",
                ),
                io.Combo.Input(
                    "da3_variant",
                    options=["auto", "small or base", "mono", "metric"],
                    default="auto",
                    advanced=True,
                    tooltip="Which Depth Anything 3 it is. auto: Small or Base if there is a confidence "
                    "map, else Mono. Metric-Large must be named; it is scaled by the focal length.",
                ),
                io.Boolean.Input(
                    "exo_moves",
                    default=False,
                    advanced=True,
                    tooltip="Take the camera poses that Depth Anything 3 estimated. Off: the exo camera "
                    "stands still, as EgoX expects.",
                ),
                io.Boolean.Input(
                    "trust_map",
                    default=False,
                    advanced=True,
                    tooltip="Hand on how far each depth pixel is to be believed (edges, holes, flicker, "
                    "the model's own confidence): EgoX Model Patch then turns the attention's "
                    "bias down there. Off: every valid pixel counts alike, as the authors do.",
                ),
                io.Combo.Input(
                    "exo_lens",
                    options=[*EXO_LENSES.values(), BY_PRESET],
                    default=BY_PRESET,
                    tooltip="as given: the camera file's K, as a pinhole; what the released LoRA's priors "
                    "were made with. raw: the true lens of Ego-Exo4D's GoPro videos, which follows "
                    "from their K; geometry then meets the ego view. by preset: raw where it is "
                    "known with preset exact, else as given.",
                ),
                io.Combo.Input(
                    "scale",
                    options=[*SCALES, BY_PRESET],
                    default=BY_PRESET,
                    tooltip="Of the depth. from the wearer: by where the head and trunk of the tracked "
                    "wearer must be (ego_extrinsics of the camera file, measured ones only). "
                    "number: times scale_factor. by preset: from the wearer, where that can be, "
                    "with preset exact, else as is.",
                ),
                io.Float.Input(
                    "scale_factor",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    round=0.0001,
                    advanced=True,
                    tooltip="With scale 'number': what the depth is multiplied by.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRIOR_PRESETS),
                    default="released",
                    tooltip="What the prior shall be, handed on to Render Ego Prior by the output preset. "
                    "Here it says what 'by preset' means: exact takes the raw lens where it is "
                    "known and the scale from the wearer where that can be; all others take both "
                    "as they are given.",
                ),
                EXO_FOV.input(
                    "exo_fov",
                    default=0.0,
                    tooltip="What the exo camera sees across the picture, degrees, where no camera file says "
                    "it. 0: unknown; then MoGe's estimate counts where it is connected, else 60 is "
                    "assumed and the node says so. A phone has some 65, an action camera some 90.",
                ),
            ],
            outputs=[
                EgoXDepth.Output(
                    display_name="depth", tooltip="Metric z depth with the exo camera and masks."
                ),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The depth in colour: near is warm, invalid black.",
                ),
                io.Image.Output(
                    display_name="plot", tooltip="α, β and the residual, frame by frame."
                ),
                io.String.Output(
                    display_name="report", tooltip="What was fitted and assumed, in words."
                ),
                io.Combo.Output(
                    display_name="preset",
                    options=list(PRIOR_PRESETS),
                    tooltip="The preset, for Render Ego Prior: one switch for both.",
                ),
            ],
            hidden=[io.Hidden.unique_id],  # for check_or_message
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def validate_inputs(cls, depth_file=None) -> bool | str:
        return check_or_message(cls, check_depth_inputs)

    @classmethod
    def fingerprint_inputs(cls, depth_file="", camera_file="", **others) -> str:
        """Files that changed on disk make the node run again."""
        names = [
            name for name in (depth_file, camera_file) if isinstance(name, str) and name
        ]  # linked: not known yet
        return "/".join(state for name in names for state in _fingerprints(name))

    @classmethod
    def execute(
        cls,
        depth_file,
        camera_file,
        file_role,
        mode,
        momentum,
        depth_image_bright,
        moge_scale,
        da3_variant,
        exo_moves,
        trust_map,
        exo_lens,
        scale,
        scale_factor,
        preset,
        exo_fov,
        frames=None,
        moge_geometry=None,
        da3_geometry=None,
        depth_image=None,
        dynamic_mask=None,
        sky_mask=None,
    ) -> io.NodeOutput:
        _, preset_scale = geometry_of(preset)
        wanted_scale = preset_scale if scale == BY_PRESET else SCALES[scale] or scale_factor
        progress = host_progress()
        sockets = {
            name: DepthSocket(payload=payload, options=settings)
            for name, payload, settings in (
                ("moge_geometry", moge_geometry, {"metric": moge_scale}),
                ("da3_geometry", da3_geometry, {"variant": da3_variant, "camera_moves": exo_moves}),
                ("depth_image", depth_image, {"bright": depth_image_bright}),
            )
            if payload is not None
        }
        depth_path = _file_path(depth_file, frames) if file_counts(file_role, sockets) else None
        file = None if depth_path is None else DepthFileInput(path=depth_path, role=file_role)
        meta, lens_note = exo_meta(camera_file, depth_path, frames, exo_lens, preset)
        inputs = depth_inputs(file, meta, frames, sockets, fov_deg=exo_fov, progress=progress)
        depth, report = align_sources(
            inputs.sources,
            frames=frames,
            camera=inputs.camera,
            exo_w2c=inputs.exo_w2c,
            dynamic_mask=dynamic_mask,
            sky_mask=sky_mask,
            options=AlignOptions(mode=mode, momentum=momentum),
            progress=progress,
        )
        depth, scaled = with_takes_scale(depth, wanted_scale, meta, frames, progress=progress)
        report = replace(report, notes=(*report.notes, lens_note, scaled.note))
        depth = with_trust(depth, progress=progress) if trust_map else replace(depth, trust=None)
        text = report.text()
        colours = depth_scale(depth.depth_m)
        picture, plot = depth_preview(depth.depth_m, colours), plot_report(report)
        ui = preview_ui(
            "depth",
            [Stream(name="depth", label="depth", frames=picture, legend=colours.legend())],
            text=text,
            fps=clip_fps(depth.times_s),
            plots=report_curves(report),
            badge="lensGuessed" if depth.camera_guessed else None,
            progress=progress,
        )
        return io.NodeOutput(depth, picture, plot, text, preset, ui=ui)


def check_depth_inputs(graph: Graph, node: str) -> None:
    """Check what is known of depth and camera before a run.

    Raises:
        EgoXInputError: no depth from anywhere, a file that is not there or of another video, a
            field of view or a lens that can't be.
    """
    values = inputs_of(graph, node)
    depth_file, camera_file = (values.get(name) for name in ("depth_file", "camera_file"))
    role = values.get("file_role", "auto")
    fov_deg = values.get("exo_fov")
    if isinstance(camera_file, str) and camera_file.strip():
        resolve(camera_file, "camera file")
    if isinstance(fov_deg, (int, float)) and fov_deg > 0:
        camera_of_view(1, 1, fov_deg)
    sockets = [name for name in DEPTH_ADAPTERS if linked(graph, node, name) is not None]
    if not isinstance(depth_file, str) or not file_counts(role, sockets):
        return
    if not depth_file.strip() and not sockets and sidecar_missing(graph, node, DEPTH):
        raise EgoXInputError(
            MISSING_METRIC,
            got=f"no depth at all: no {DEPTH} beside the video, no depth_file, and no "
            "depth model connected",
            expected="a depth file, or a depth model",
            fix=ADVICE,
        )
    frames = frames_in_use(graph, node)
    path = _file_path(depth_file, frames)
    if path is not None and frames is not None:
        with depth_advice():
            if role == "auto":
                check_same_take(path, frames.source_path)
            with open_depth(path) as depth:
                check_depth(depth, frames)
                if role == "auto":
                    check_depth_count(depth, frames)
    if isinstance(camera_file, str) and frames is not None:
        exo_meta(
            camera_file, path, frames, values.get("exo_lens", BY_PRESET), str(values.get("preset"))
        )


def _file_path(name: str, frames: FrameSelection | None) -> Path | None:
    """The named depth file, else the one beside the video; None where there is neither."""
    if not name.strip():
        return beside_video(frames, DEPTH)
    with depth_advice():
        return resolve(name, "depth file", folder_too=True)


def geometry_of(preset: str) -> tuple[ExoLens, ScaleSource]:
    """Exo lens and scale that 'by preset' means."""
    return PRESET_GEOMETRY.get(preset, ("as given", "as is"))


def exo_meta(
    camera_file: str,
    depth_path: Path | None,
    frames: FrameSelection | None,
    exo_lens: ExoLens | Literal["by preset"],
    preset: str,
) -> tuple[TakeMeta | None, str]:
    """Exo camera as far as it is known, and a note on its lens.

    Raises:
        EgoXInputError: a file that can't be read, a raw lens that isn't known.
    """
    lens = geometry_of(preset)[0] if exo_lens == BY_PRESET else exo_lens
    path = _meta_path(camera_file, depth_path, frames)
    if path is not None:
        return with_exo_lens(read_meta(path), lens)
    if lens == "raw":
        raise EgoXInputError(
            "exo lens",
            got="raw, but no camera file",
            expected="the take's meta.json, whose K tells the lens",
            fix="press 'Upload own files' and add the meta.json, or set exo_lens to 'as given'",
        )
    return None, "exo lens as given"


def _meta_path(name: str, depth_path: Path | None, frames: FrameSelection | None) -> Path | None:
    """The named camera file, else the meta.json beside the depth file, else the one beside the
    video."""
    if name.strip():
        return resolve(name, "camera file")
    path = None if depth_path is None else meta_beside(depth_path)
    return beside_video(frames, META) if path is None else inside(path, META)


def _fingerprints(name: str) -> list[str]:
    """Of a named file, and of the meta.json that is read with it."""
    try:
        meta_path = meta_beside(resolve(name, "depth file", folder_too=True))
    except EgoXInputError:
        meta_path = None
    return [fingerprint(name), *([] if meta_path is None else [fingerprint(meta_path)])]
