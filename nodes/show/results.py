"""Show each kind of result on its node.

All but :func:`live` return the node's ``ui``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ...egox_core.cameras import CameraModel
from ...egox_core.frames import Frames
from ...egox_core.metrics import PathError
from ...egox_core.page import common_step, coverage_preview, path_from_above, sightings_picture
from ...egox_core.progress import Progress
from ...egox_core.remarks import RemarkKind, StageReport
from ...egox_core.types import (
    CameraTrajectory,
    DepthVideo,
    EgoPrior,
    PointCloud,
)
from ...egox_core.video import side_by_side
from ..host.film import Film
from ..host.graph import this_node, upstream_values, workflow_id
from ..host.truth import read_truth_beside
from ..host.video import clip_fps
from ..observed import Observed
from ..pose_inputs import digest_editor_inputs
from .editor import collect_editor_data
from .geometry import collect_geometry
from .judgement import angle_curve, measure_path_error, truth_psnr
from .live import LivePreview, show_frame
from .player import Ui, preview_ui
from .temp_files import write_temp_video

PICK = {"x": "ego_x", "y": "ego_y", "frame": "frame"}
LENS_GUESSED = "lensGuessed"
STRANGE = (
    RemarkKind.HEAD_VIDEO,
    RemarkKind.STRANGE_DEPTH,
    RemarkKind.IMPOSSIBLE_PLACE,
    RemarkKind.STRANGE_PLACE,
)
Node = type[io.ComfyNode]


def note(text: str) -> ui.PreviewText:
    """Show a text on the node that has run."""
    return ui.PreviewText(text)


def live(
    node: str | None, factors: Tensor | None, trajectory: CameraTrajectory | None
) -> LivePreview:
    """Show the clip on the node while it is sampled."""
    return LivePreview(node, factors, clip_fps(trajectory))


def pictures(node: Node, images: Tensor) -> ui.PreviewImage:  # [N, H, W, 3]
    """Show pictures on the node as ComfyUI's own preview nodes do."""
    return ui.PreviewImage(images, cls=node)


def depth(
    depth: DepthVideo,
    text: str,
    picture: Tensor,  # [T, H, W, 3]
    legend: Ui | None,
    plot: Tensor,  # [1, H, W, 3]
    progress: Progress,
) -> Ui:
    """Show a depth video in a player on the node, with the plot of its alignment."""
    return preview_ui(
        "depth",
        {"depth": picture, "plot": plot},
        depth,
        text=text,
        legends={"depth": legend},
        full_size_names=("plot",),
        badge=LENS_GUESSED * depth.exo.lens_guessed,
        progress=progress,
    )


def motion(
    frames: Tensor,  # [T, H, W, 3] of exo
    depth: DepthVideo,
    # See ExoMotion of the core.
    sightings: Any,
    text: str,
    progress: Progress,
) -> Ui:
    """Show tracked points and the exo camera's path in a player."""
    points_clip, legend = sightings_picture(frames, sightings)
    streams = {"points": points_clip}
    if sightings is not None and not depth.exo.stands:
        streams["path"] = path_from_above(depth.exo)
    return preview_ui(
        "motion",
        streams,
        depth,
        text=text,
        legends={"points": legend},
        badge=LENS_GUESSED * depth.exo.lens_guessed,
        progress=progress,
    )


def head(
    path: CameraTrajectory,
    picture: Tensor,  # [T, H, W, 3]
    legend: Ui,
    text: str,
    lens_guessed: bool,
    progress: Progress,
) -> Ui:
    """Show the wearer's estimated head in a player of the exo frames."""
    return preview_ui(
        "head",
        {"head": picture},
        path,
        text=text,
        legends={"head": legend},
        badge=LENS_GUESSED * lens_guessed,
        progress=progress,
    )


def path(
    node: Node,
    path: CameraTrajectory,
    frames: Frames | None,
    scene: PointCloud | None,
    exo_images: Tensor | None,  # [T, H, W, 3]
) -> Ui:
    """Show the path and its scene in the page's pose editor."""
    graph, node_id = this_node(node)
    editor_data = collect_editor_data(path, frames, scene, exo_images, node_id)
    editor_data["origin"] = digest_editor_inputs(graph, node_id) if node_id in graph else None
    return {"egox_pose": [editor_data]}


def prior(
    node: Node,
    prior: EgoPrior,
    report: StageReport,
    depth_picture: Tensor,  # [T, H, W, 3] of the prior
    legend: Ui | None,
    scene: PointCloud,
    trajectory: CameraTrajectory,
    exo_images: Tensor | None,  # [T, H, W, 3 or 4]
    depth: DepthVideo | None,
    progress: Progress,
) -> Ui:
    """Show the ego prior in a player, beside the exo video and true ego video."""
    graph, node_id = this_node(node)
    size = prior.rgb.shape[1]
    streams = {
        "prior": prior.rgb,
        "coverage": coverage_preview(prior.rgb, prior.coverage),
        "depth": depth_picture,
        "exo": exo_images,
    }
    coverage_percent = [100 * float(frame.float().mean()) for frame in prior.coverage]
    remark_kinds = {note.kind for note in report.notes}
    player_ui = preview_ui(
        "prior",
        streams,
        trajectory,
        text=f"{report.text()}\nexo lens of the scene: {scene.exo.camera.words}",
        facts=report.facts,
        legends={"depth": legend},
        badge=next((str(kind.value) for kind in STRANGE if kind in remark_kinds), None),
        progress=progress,
        curve={"label": "coverage", "unit": "%", "values": coverage_percent},
        geometry=collect_geometry(depth, trajectory, exo_images, size, graph, node_id),
    )
    clip_by_name = {
        "exo": exo_images,
        "prior": prior.rgb,
        "truth": read_truth_beside(graph, (size, size)),
    }
    clip_by_name = {name: clip for name, clip in clip_by_name.items() if clip is not None}
    frame_step = common_step(len(prior.rgb))
    joined_clips = side_by_side(
        list(clip_by_name.values()), list(clip_by_name), frame_step, progress
    )
    video_metadata = {**(node.hidden.extra_pnginfo or {}), "prompt": graph} if graph else {}
    # The host's form, queue and assets show it; "images" would also lie over our player.
    video = write_temp_video(
        "prior", joined_clips, clip_fps(trajectory) / frame_step, video_metadata
    )
    return {**player_ui, "video": [video]}


def first_frame(node: Node, picture: Tensor) -> None:  # [H, W, 3] 0...1
    """Show the first frame of a clip on its node and in the form, while the others are drawn."""
    show_frame(this_node(node)[1], picture)


def preview(
    node: Node,
    film: Film,
    text: str,
    # Depth of the prior, with the times of its frames.
    depth: DepthVideo,
    # See PRIOR_SOURCES.
    sources: Mapping[str, Any],
    progress: Progress,
) -> Ui:
    """Show a preview of the ego view in a player, beside its prior and the exo video."""
    clip_by_name = {"ego" if name == "preview" else name: clip for name, clip in film.clips.items()}
    if "truth" in clip_by_name:
        graph_node = workflow_id(node), this_node(node)[1]
        truth = clip_by_name["truth"]
        text += f"\n{truth_psnr(clip_by_name['ego'], truth[..., :3], graph_node)[1]}"
    return preview_ui(
        "preview",
        clip_by_name,
        depth,
        text=text,
        badge=LENS_GUESSED * film.lens_guessed,
        seen=sources.get("seen"),
        progress=progress,
    )


def ego(
    node: Node,
    film: Film,
    decoded: Tensor,  # [T, H', W', 3] as the model made them
    # See LATENT_SOURCES.
    sources: Mapping[str, Any],
    # Classes of the decoded frames.
    observed: Observed | None,
    # Lens of the decoded frames.
    lens: CameraModel,
    # The camera for which the film's ego frames were redrawn.
    pinhole: CameraModel | None,
    # What was done to the view, in words.
    view_notes: Sequence[str] = (),
) -> Ui:
    """Show the ego video in a player, with its deviation from path and truth."""
    graph, node_id = this_node(node)
    frames, truth = film.clips["ego"], film.clips.get("truth")
    frame_count, height, width = frames.shape[:3]
    trajectory, exo_images = sources.get("trajectory"), sources.get("exo_images")
    lora_lines = [sources["loras"]] if "loras" in sources else []
    note_lines = [f"{frame_count} frames of {width}x{height}", *lora_lines, *view_notes]
    error_curve = None
    short_result = None
    path_error, geometry = measure_path_error(
        decoded, sources.get("scene"), trajectory, sources.get("depth"), exo_images
    )
    if isinstance(path_error, str):
        note_lines.append(path_error)
    elif path_error is not None:
        note_lines.append(path_error.text())
        if bool(path_error.judged.any()):
            short_result = f"{path_error.median_deg:.1f}°"
            error_curve = angle_curve(path_error, frame_count)
        if geometry:
            note_lines.append(geometry)
    if truth is not None and truth.shape[:3] == frames.shape[:3]:
        psnr_db, psnr_line = truth_psnr(frames, truth[..., :3], (workflow_id(node), node_id))
        note_lines.append(psnr_line)
        short_result = f"{psnr_db:.1f} dB"
    if observed is not None:
        # The classes are of the prior's geometry, and stay where another one was judged by.
        observed_path_error = (
            path_error if isinstance(path_error, PathError) and not geometry else None
        )
        observed = observed.match_view(observed_path_error, lens, pinhole)
        note_lines.extend(observed.doubts())
    # A pinhole view doesn't show the ego pixels that the model had.
    geometry_sources = None if pinhole else (sources.get("depth"), trajectory, exo_images)
    return preview_ui(
        "compare",
        film.clips,
        trajectory,
        text="\n".join(note_lines),
        curve=error_curve,
        geometry=geometry_sources and collect_geometry(*geometry_sources, width, graph, node_id),
        values=upstream_values(graph, node_id),
        measure=short_result,
        seen=None if observed is None else observed.seen,
        seen_parts="" if observed is None else observed.describe_parts(),
        video_classes=None if observed is None else observed.classes,
        redrawn=None if observed is None else observed.redrawn_shares(),
    )


def eyes(
    left: Tensor,  # [T, H, W, 3]
    right: Tensor,  # [T, H, W, 3]
    text: str,
    trajectory: CameraTrajectory,
    progress: Progress,
) -> Ui:
    """Show both eyes' views in a player."""
    clip_by_name = {"leftEye": left, "rightEye": right}
    return preview_ui("eyes", clip_by_name, trajectory, text=text, progress=progress)


def long_ego(
    node: Node,
    # Frames [T, H, W, 3] by name.
    clips: Mapping[str, Tensor],
    path: CameraTrajectory | None,
    chunks: int,
    # Number of frames of a chunk.
    length: int,
    # Notes of the sampled chunks.
    notes: Sequence[str],
    seen: Tensor | None,  # [T, H, W] uint8 classes of the ego pixels
    # What was done to the view, in words.
    view_notes: Sequence[str] = (),
) -> Ui:
    """Show the chunks of a long video in a player."""
    summary = f"{len(clips['ego'])} frames in {chunks} chunks of {length}"
    if len(notes) < chunks:
        summary += f", {chunks - len(notes)} of them from a run that was ended"
    summary = "\n".join([summary, *notes[-1:], *filter(None, view_notes)])
    values = upstream_values(*this_node(node))
    return preview_ui("compare", clips, path, text=summary, values=values, seen=seen)


def attention(
    exo_images: Tensor,  # [T, H, W, 3]
    ego_images: Tensor,  # [T, H, W_ego, 3]
    pixel: tuple[int, int],  # (x, y) in ego
    frame: int,
    # Heat maps of that pixel.
    maps: Sequence[Any],
    text: str,
) -> Ui:
    """Show attention maps over the exo frame in a player with a clickable ego frame."""
    heat_pictures = {heat_map.name: heat_map.picture(exo_images[frame])[None] for heat_map in maps}
    return preview_ui(
        "attention",
        {"ego": ego_images, **heat_pictures},
        text=text,
        legends={heat_map.name: heat_map.legend() for heat_map in maps},
        full_size_names=heat_pictures,
        pick=PICK,
        mark={"x": pixel[0], "y": pixel[1], "frame": frame},
    )
