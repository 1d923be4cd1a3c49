"""Depth Align: files, the host's depth models or depth pictures to one aligned metric depth of the
exo video."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..egox_core.depth import (
    ALIGN_MODES,
    DEPTH_ADAPTERS,
    AlignOptions,
    DepthSocket,
    camera_of_view,
    check_scale,
    depth_advice,
)
from ..egox_core.errors import EgoXInputError
from ..egox_core.file_names import DEPTH, META
from ..egox_core.prior import PRIOR_PRESETS
from ..egox_core.stages import align
from ..egox_core.takes import (
    check_depth_file,
    meta_beside,
    read_meta,
    with_exo_lens,
)
from ..egox_core.types import FrameSelection, TakeMeta
from .host.graph import Graph, check_or_message, frames_in_use, inputs_of, linked, sidecar_missing
from .host.paths import beside_video, fingerprint, inside, resolve
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXFrames
from .search_words import node_schema
from .show import depth_preview, plot_report, shown
from .sliders import Slider

MoGeGeometry = io.Custom("MOGE_GEOMETRY")
DA3Geometry = io.Custom("DA3_GEOMETRY")
EXO_FOV = Slider("exo field of view", usual=(0.0, 150.0), step=1.0, wide=(0.0, 150.0))


class EgoXDepthAlign(io.ComfyNode):
    """Files and sockets in, one metric depth of the exo video out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXDepthAlign",
            display_name="Depth Align",
            category="EgoX/geometry",
            description="Brings a steady video depth to the metric scale of another depth: D = 1 / (α / D_video + β), "
            "fitted per frame in inverse depth, with momentum. One metric depth alone passes through. Also "
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
                    "sample: npz (depth_m), npy, or a folder or zip of npy, EXR or 16-bit PNG, in metres. "
                    "Empty: the depth.npz beside the video. Not used while a depth socket is connected.",
                ),
                io.String.Input(
                    "camera_file",
                    default="",
                    advanced=True,
                    tooltip="meta.json with the exo camera (camera_intrinsics, camera_extrinsics). Empty: "
                    "the meta.json beside the depth file or the video; where there is none, the "
                    "camera that the depth model estimated.",
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
                    "mode gives a steady video depth.",
                ),
                io.Image.Input(
                    "depth_image",
                    optional=True,
                    tooltip="A grey depth map from any pack, one image per frame, near is bright (else put "
                    "Invert Image before it). Used as disparity; connect a metric depth as well.",
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
                    options=list(ALIGN_MODES),
                    default=ALIGN_MODES[0],
                    advanced=True,
                    tooltip="least squares: as the paper. robust: for depths that disagree in places; what "
                    "lies far off the line does not count. Takes up to five times as long.",
                ),
                io.Boolean.Input(
                    "trust_map",
                    default=False,
                    advanced=True,
                    tooltip="Hand on how far each depth pixel is to be believed (edges, holes, flicker, "
                    "the model's own confidence): EgoX Model Patch then turns the attention's "
                    "bias down there. Off: every valid pixel counts alike, as the authors do.",
                ),
                io.Float.Input(
                    "scale_factor",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    round=0.0001,
                    advanced=True,
                    tooltip="Multiplies the depth, for one in another unit or off by a known factor, in place of "
                    "the preset's scale. 1: as the preset has it.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRIOR_PRESETS),
                    default="released",
                    tooltip="The kind of prior to make, handed on to Render Ego Prior by the output preset. "
                    "exact takes the true lens of Ego-Exo4D's GoPro videos where the camera file's K "
                    "tells it, and the scale from the tracked wearer's head and trunk where the file "
                    "has measured poses; all others take both as they are given.",
                ),
                EXO_FOV.input(
                    "exo_fov",
                    default=0.0,
                    tooltip="Angle that the exo camera sees across the picture, degrees, where no camera file says "
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
                    display_name="report", tooltip="All that was fitted and assumed, in words."
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
        mode,
        trust_map,
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
        scale = PRIOR_PRESETS[preset].scale or "as is"
        progress = host_progress()
        sockets = connected(
            moge_geometry=moge_geometry, da3_geometry=da3_geometry, depth_image=depth_image
        )
        depth_path = None if sockets else _file_path(depth_file, frames)
        meta, lens_note = exo_meta(camera_file, depth_path, frames, preset)
        depth, aligned = align(
            depth_path,
            frames=frames,
            meta=meta,
            sockets=sockets,
            fov_deg=exo_fov,
            scale=scale if scale_factor == 1 else scale_factor,
            dynamic_mask=dynamic_mask,
            sky_mask=sky_mask,
            options=AlignOptions(mode=mode),
            trust=trust_map,
            progress=progress,
        )
        report = replace(aligned.fit, notes=(*aligned.notes, lens_note))
        text, plot = report.text(), plot_report(report)
        picture, legend = depth_preview(depth.depth_m)
        ui = shown and shown.depth(depth, text, picture, legend, plot, progress)
        return io.NodeOutput(depth, picture, plot, text, preset, ui=ui)


def connected(**payloads: Any) -> dict[str, DepthSocket]:
    """The depth models' sockets that carry something."""
    return {
        name: DepthSocket(payload=payload)
        for name, payload in payloads.items()
        if payload is not None
    }


def check_depth_inputs(graph: Graph, node: str) -> None:
    """Check what is known of depth and camera before a run.

    Raises:
        EgoXInputError: no metric depth from anywhere, a file that is not there or of another video, a
            field of view or a lens that can't be.
    """
    values = inputs_of(graph, node)
    depth_file, camera_file = (values.get(name) for name in ("depth_file", "camera_file"))
    fov_deg = values.get("exo_fov")
    if isinstance(camera_file, str) and camera_file.strip():
        resolve(camera_file, "camera file")
    if isinstance(fov_deg, (int, float)) and fov_deg > 0:
        camera_of_view(1, 1, fov_deg)
    sockets = [name for name in DEPTH_ADAPTERS if linked(graph, node, name) is not None]
    alone = isinstance(depth_file, str) and not sockets
    missing = alone and not depth_file.strip() and sidecar_missing(graph, node, DEPTH)
    beside = f"no {DEPTH} beside the video, no depth_file, and no depth model connected"
    check_scale(sockets, beside if missing else "")
    if not alone:
        return
    frames = frames_in_use(graph, node)
    path = _file_path(depth_file, frames)
    if path is not None and frames is not None:
        check_depth_file(path, frames)
    if isinstance(camera_file, str) and frames is not None:
        exo_meta(camera_file, path, frames, str(values.get("preset")))


def _file_path(name: str, frames: FrameSelection | None) -> Path | None:
    """The named depth file, else the one beside the video; None where there is neither."""
    if not name.strip():
        return beside_video(frames, DEPTH)
    with depth_advice():
        return resolve(name, "depth file", folder_too=True)


def exo_meta(
    camera_file: str,
    depth_path: Path | None,
    frames: FrameSelection | None,
    preset: str,
) -> tuple[TakeMeta | None, str]:
    """Exo camera as far as it is known, and a note on its lens.

    Raises:
        EgoXInputError: a file that can't be read.
    """
    path = _meta_path(camera_file, depth_path, frames)
    if path is not None:
        chosen = PRIOR_PRESETS.get(preset)
        lens = chosen.exo_lens if chosen is not None else None
        return with_exo_lens(read_meta(path), lens or "as given")
    return None, "exo lens as given"


def _meta_path(name: str, depth_path: Path | None, frames: FrameSelection | None) -> Path | None:
    """The named camera file, else the meta.json beside the depth file, else the one beside the
    video."""
    if name.strip():
        return resolve(name, "camera file")
    path = None if depth_path is None else meta_beside(depth_path)
    return beside_video(frames, META) if path is None else inside(path, META)


def _fingerprints(name: str) -> list[str]:
    """State of a named file, and of the meta.json that is read with it."""
    try:
        meta_path = meta_beside(resolve(name, "depth file", folder_too=True))
    except EgoXInputError:
        meta_path = None
    return [fingerprint(name), *([] if meta_path is None else [fingerprint(meta_path)])]
