"""Define the node Depth Align, which makes one metric depth of files or depth models' outputs."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..egox_core.depth import (
    DEPTH_ADAPTERS,
    camera_of_view,
    check_scale,
    depth_advice,
)
from ..egox_core.errors import EgoXInputError
from ..egox_core.facts import NOTHING_DECLARED, Declared
from ..egox_core.file_names import DEPTH, META
from ..egox_core.frames import Frames
from ..egox_core.prior import PRIOR_PRESETS
from ..egox_core.remarks import Remark
from ..egox_core.stages import align
from ..egox_core.takes import (
    check_depth_file,
    meta_beside,
    read_meta,
    with_exo_lens,
    with_takes_raw_scale,
)
from ..egox_core.types import ALIGN_MODES, TakeMeta
from .host.graph import (
    Graph,
    check_or_message,
    frames_in_use,
    inputs_of,
    linked_node_id,
    sidecar_missing,
    this_node,
)
from .host.paths import beside_video, file_fingerprint, require_inside, resolve
from .host.progress import host_progress
from .io_types import EgoXDepth, EgoXFrames
from .own_depth import MOGE_SOCKET, has_auto_moge, lacks_own_depth
from .pose_inputs import declared_input, file_frames_input
from .search_words import node_schema
from .show import depth_preview, plot_report, result_views
from .sliders import Slider

MoGeGeometry = io.Custom("MOGE_GEOMETRY")
DA3Geometry = io.Custom("DA3_GEOMETRY")
EXO_FOV = Slider("exo field of view", usual=(0.0, 150.0), step=1.0, wide=(0.0, 150.0))


class EgoXDepthAlign(io.ComfyNode):
    """Align depth from files and sockets to one metric depth of the exo video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EgoXDepthAlign",
            display_name="Depth Align",
            category="EgoX/geometry",
            description=(
                "Scales a smooth video depth to metres, using a second depth that is metric: D = 1 "
                "/ (α / D_video + β), fitted per frame in inverse depth with momentum. A metric "
                "depth alone passes through unchanged. Depth can also be loaded from files."
            ),
            inputs=[
                EgoXFrames.Input(
                    "frames",
                    optional=True,
                    tooltip=(
                        "From Load Exo Video. Gives the frames and their size. Needed to read "
                        "depth files."
                    ),
                ),
                io.String.Input(
                    "depth_file",
                    default="",
                    tooltip=(
                        "Depth of the whole source video in metres, in the input folder, the "
                        "output folder or the sample: npz (depth_m; also of Depth Anything 3, VGGT "
                        "or MegaSaM as written), npy, or a folder or zip of npy, EXR or 16-bit PNG "
                        "files. If empty, depth.npz next to the video is used. Ignored if a depth "
                        "input is connected."
                    ),
                ),
                io.String.Input(
                    "camera_file",
                    default="",
                    advanced=True,
                    tooltip=(
                        "A meta.json with the exo camera (camera_intrinsics, camera_extrinsics). "
                        "If empty, the meta.json next to the depth file or the video is used; if "
                        "there is none, the camera that the depth model estimated."
                    ),
                ),
                MoGeGeometry.Input(
                    MOGE_SOCKET,
                    optional=True,
                    lazy=True,
                    tooltip=(
                        "From Run MoGe Inference, run on the exo frames. MoGe v2 gives the scale "
                        "in metres. A Run MoGe on Video with model_name auto is not run if there "
                        "is a depth file."
                    ),
                ),
                DA3Geometry.Input(
                    "da3_geometry",
                    optional=True,
                    tooltip=(
                        "From Run Depth Anything 3, run on the exo frames. The Small or Base model "
                        "in multiview mode gives a smooth video depth."
                    ),
                ),
                io.Image.Input(
                    "depth_image",
                    optional=True,
                    tooltip=(
                        "Grey depth images from any node pack, one per frame, in which bright "
                        "means near (if bright means far, add Invert Image). Used as disparity, so "
                        "a metric depth must be connected as well."
                    ),
                ),
                io.Mask.Input(
                    "dynamic_mask",
                    optional=True,
                    tooltip=(
                        "Mask of moving people and objects, for example a SAM3 track. Masked "
                        "pixels are ignored by the fit. The mask is passed on to the scene and "
                        "replaces the depth file's own. A single frame applies to the whole clip; "
                        "an empty mask means that nothing moves."
                    ),
                ),
                io.Mask.Input(
                    "sky_mask",
                    optional=True,
                    tooltip=(
                        "Mask of the sky. Masked pixels are ignored by the fit and have no depth "
                        "in the result. A single frame applies to the whole clip."
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=list(ALIGN_MODES),
                    default=ALIGN_MODES[0],
                    advanced=True,
                    tooltip=(
                        "least squares: the paper's fit. robust: for two depths that disagree in "
                        "some places; outliers are ignored. Takes up to five times as long."
                    ),
                ),
                io.Boolean.Input(
                    "trust_map",
                    default=False,
                    advanced=True,
                    tooltip=(
                        "Rates the reliability of each depth pixel (edges, holes, flicker, the "
                        "model's own confidence). EgoX Model Patch then weakens the attention bias "
                        "at unreliable pixels. If off, all valid pixels have the same weight, as "
                        "in the authors' code."
                    ),
                ),
                io.Float.Input(
                    "scale_factor",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    round=0.0001,
                    advanced=True,
                    tooltip=(
                        "Multiplies the depth. Use it for a depth in another unit or with a known "
                        "scale error; it replaces the preset's scale. 1 keeps the preset's scale."
                    ),
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRIOR_PRESETS),
                    default="released",
                    tooltip=(
                        "The kind of prior to render, passed on by the output 'preset'. exact uses "
                        "the true lens of Ego-Exo4D's GoPro videos if the camera file's K reveals "
                        "it, and corrects the scale by the wearer's tracked head and trunk if the "
                        "file has measured poses. All other presets use lens and scale as given."
                    ),
                ),
                EXO_FOV.input(
                    "exo_fov",
                    default=0.0,
                    tooltip=(
                        "Horizontal field of view of the exo camera in degrees, used if no camera "
                        "file gives it. 0 means unknown: MoGe's estimate is used if connected, "
                        "otherwise 60 degrees are assumed and reported. Typical values: 65 for a "
                        "phone, 90 for an action camera."
                    ),
                ),
                file_frames_input("'depth_file'"),
                declared_input("depth and exo camera", "depth.unit=0.0002, depth.kind=ray"),
            ],
            outputs=[
                EgoXDepth.Output(
                    display_name="depth",
                    tooltip="Z depth in metres, with the exo camera and the masks.",
                ),
                io.Image.Output(
                    display_name="preview",
                    tooltip=(
                        "The depth in colour: warm colours are near, black pixels have no depth."
                    ),
                ),
                io.Image.Output(
                    display_name="plot", tooltip="Plot of α, β and the residual for each frame."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Text that lists what was fitted and what was assumed.",
                ),
                io.Combo.Output(
                    display_name="preset",
                    options=list(PRIOR_PRESETS),
                    tooltip=(
                        "The chosen preset. Connect it to Render Ego Prior, so that one widget "
                        "sets both nodes."
                    ),
                ),
            ],
            # For check_or_message, and for the depth model that is linked.
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            has_intermediate_output=True,  # a cached run shows its preview again
        )

    @classmethod
    def validate_inputs(cls, depth_file=None) -> bool | str:
        return check_or_message(cls, check_depth_inputs)

    @classmethod
    def check_lazy_status(cls, depth_file="", frames=None, **inputs) -> list[str]:
        if MOGE_SOCKET not in inputs or inputs[MOGE_SOCKET] is not None:
            return []
        is_spared = has_auto_moge(*this_node(cls)) and _find_depth_file(depth_file, frames)
        return [] if is_spared else [MOGE_SOCKET]

    @classmethod
    def fingerprint_inputs(cls, depth_file="", camera_file="", **others) -> str:
        """Compute a digest of the depth files, so that ComfyUI runs the node again after they
        changed."""
        names = [
            name for name in (depth_file, camera_file) if isinstance(name, str) and name
        ]  # linked: not known yet
        return "/".join(digest for name in names for digest in _fingerprints(name))

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
        file_frames="auto",
        declared="",
    ) -> io.NodeOutput:
        progress = host_progress()
        sockets = select_connected(
            moge_geometry=moge_geometry, da3_geometry=da3_geometry, depth_image=depth_image
        )
        depth_path = None if sockets else _find_depth_file(depth_file, frames)
        declared_facts = Declared.of(declared)
        meta, lens_note = exo_meta(camera_file, depth_path, frames, preset, declared_facts)
        all_declared = declared_facts if meta is None else declared_facts.over(meta.declared)
        scale = scale_factor
        if scale == 1:  # declared, by the take's file too, or else the preset's
            is_declared = all_declared.value("depth.scale") is not None
            scale = "as is" if is_declared else PRIOR_PRESETS[preset].scale or "as is"
        depth, report = align(
            depth_path,
            frames=frames,
            meta=meta,
            sockets=sockets,
            fov_deg=exo_fov,
            scale=scale,
            dynamic_mask=dynamic_mask,
            sky_mask=sky_mask,
            mode=mode,
            trust=trust_map,
            file_frames="auto" if depth_path is None else file_frames,
            declared=declared_facts,
            progress=progress,
        )
        depth = with_takes_raw_scale(depth, meta, frames or depth.frames, progress=progress)
        report_text = report.fit.text((*report.notes, Remark(lens_note)))
        plot_picture = plot_report(report.fit)
        depth_picture, legend = depth_preview(depth.depth_m)
        ui = result_views and result_views.depth(
            depth, report_text, depth_picture, legend, plot_picture, progress
        )
        return io.NodeOutput(depth, depth_picture, plot_picture, report_text, preset, ui=ui)


def select_connected(**payloads: Any) -> dict[str, Any]:
    """Select the depth sockets that are connected."""
    return {name: payload for name, payload in payloads.items() if payload is not None}


def check_depth_inputs(graph: Graph, node: str) -> None:
    """Check depth files and exo camera before a run starts.

    Raises:
        EgoXInputError: no metric depth from anywhere, a file that is not there or of another video,
            a field of view or a lens that can't be.
    """
    input_values = inputs_of(graph, node)
    depth_file, camera_file = (input_values.get(name) for name in ("depth_file", "camera_file"))
    fov_deg = input_values.get("exo_fov")
    if isinstance(camera_file, str) and camera_file.strip():
        resolve(camera_file, "camera file")
    declared = NOTHING_DECLARED
    if isinstance(declared_text := input_values.get("declared"), str):
        declared = Declared.of(declared_text, own=("depth.", "exo."))
    if isinstance(fov_deg, (int, float)) and fov_deg > 0:
        camera_of_view(1, 1, fov_deg)
    connected_sockets = [
        name for name in DEPTH_ADAPTERS if linked_node_id(graph, node, name) is not None
    ]
    if has_auto_moge(graph, node) and not lacks_own_depth(graph, node):
        connected_sockets = []
    file_alone = isinstance(depth_file, str) and not connected_sockets
    is_missing = file_alone and not depth_file.strip() and sidecar_missing(graph, node, DEPTH)
    no_depth_text = f"no {DEPTH} next to the video, no depth_file, and no depth model connected"
    check_scale(connected_sockets, no_depth_text if is_missing else "")
    if not file_alone:
        return
    frames = frames_in_use(graph, node)
    depth_path = _find_depth_file(depth_file, frames)
    if depth_path is not None:
        file_frames = input_values.get("file_frames") or "auto"
        declared = declared.with_arguments({"depth.frames": file_frames})
        check_depth_file(depth_path, frames, declared.argument_value("depth.frames"))
    if isinstance(camera_file, str):
        exo_meta(camera_file, depth_path, frames, str(input_values.get("preset")), declared)


def _find_depth_file(name: str, frames: Frames | None) -> Path | None:
    """Find the named depth file, or the one beside the video if no name is given."""
    if not name.strip():
        return beside_video(frames, DEPTH)
    with depth_advice():
        return resolve(name, "depth file", folder_too=True)


def exo_meta(
    camera_file: str,
    depth_path: Path | None,
    frames: Frames | None,
    preset: str,
    declared: Declared = NOTHING_DECLARED,
) -> tuple[TakeMeta | None, str]:
    """Read the exo camera from a meta.json file, with a note on its lens.

    Raises:
        EgoXInputError: a file that can't be read.
    """
    meta_path = _find_meta_file(camera_file, depth_path, frames)
    if meta_path is not None:
        prior_options = PRIOR_PRESETS.get(preset)
        lens = prior_options.exo_lens if prior_options is not None else None
        meta = read_meta(meta_path, video=Frames.video_of(frames), declared=declared.part("exo."))
        return with_exo_lens(meta, lens or "as given")
    return None, "exo lens as given"


def _find_meta_file(name: str, depth_path: Path | None, frames: Frames | None) -> Path | None:
    """Find the named camera file, else the meta.json beside the depth file, else the one beside the
    video."""
    if name.strip():
        return resolve(name, "camera file")
    meta_path = None if depth_path is None else meta_beside(depth_path)
    return beside_video(frames, META) if meta_path is None else require_inside(meta_path, META)


def _fingerprints(name: str) -> list[str]:
    """Compute digests of a named depth file and of the meta.json that is read with it."""
    try:
        meta_path = meta_beside(resolve(name, "depth file", folder_too=True))
    except EgoXInputError:
        meta_path = None
    return [file_fingerprint(name), *([] if meta_path is None else [file_fingerprint(meta_path)])]
