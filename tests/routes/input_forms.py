"""Write and read a clip in each input format."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egox_core import stages
from egox_core.cameras import CameraModel
from egox_core.exchange import export_path
from egox_core.takes import read_meta
from egox_core.types import CameraTrajectory
from tests.path_forms import FORMS, FORMS_WITH_BOTH_CAMERAS
from tests.refusals import refuses

from .drawn_clip import CLIP_FRAMES, FPS, SOURCE_FRAMES, Clip
from .results import (
    ARRAY_TOLERANCE,
    FILE_TOLERANCE,
    DepthAndPath,
    read_exo_poses,
    reference_result,
    reference_scene,
)

INPUT_FORMS: dict[str, tuple[Callable[[Clip], DepthAndPath], float, bool]] = {}


def register_input_form(
    name: str, pose_tolerance: float = ARRAY_TOLERANCE, compares_later_results: bool = False
):
    """Register a function that writes and reads a clip in one input format."""

    def keep_function(function: Callable[[Clip], Any]) -> Callable[[Clip], Any]:
        INPUT_FORMS[name] = function, pose_tolerance, compares_later_results
        return function

    return keep_function


def align_depth(clip: Clip, depth: Any = None, **options: Any) -> DepthAndPath:
    """Align given depth maps with the clip."""
    options = {"frames": clip.frames} | options
    depth = clip.depth_maps() if depth is None and "sockets" not in options else depth
    aligned_depth, _ = stages.align(depth, **options)
    return DepthAndPath(aligned_depth, reference_result(clip).path)


def align_with_camera(clip: Clip, depth: Any, camera: Any) -> DepthAndPath:
    return align_depth(clip, depth, camera=camera, exo_w2c=clip.exo_pose)


def camera_from_matrix(intrinsics: np.ndarray, size: tuple[int, int]) -> CameraModel:
    return CameraModel.from_intrinsics(intrinsics, *size)


register_input_form("K: array, of the frames")(
    lambda clip: align_with_camera(clip, None, clip.intrinsics())
)
register_input_form("K: array, of the source")(
    lambda clip: align_with_camera(clip, None, clip.source_intrinsics)
)
register_input_form("K: array, of the frames, depth of half their size")(
    lambda clip: align_with_camera(clip, clip.depth_maps(2), clip.intrinsics())
)
register_input_form("K: array, of a depth of half the frames' size")(
    lambda clip: align_with_camera(clip, clip.depth_maps(2), clip.intrinsics(0.5))
)
register_input_form("K: array, of the source, depth of half the frames' size")(
    lambda clip: align_with_camera(clip, clip.depth_maps(2), clip.source_intrinsics)
)
register_input_form("K: array, of a depth of the source's size")(
    lambda clip: align_with_camera(
        clip, clip.take.exo_depth_m.numpy()[clip.indices], clip.source_intrinsics
    )
)
register_input_form("K: camera of the frames", compares_later_results=True)(
    lambda clip: align_with_camera(
        clip, None, camera_from_matrix(clip.intrinsics(), clip.picture.size)
    )
)
register_input_form("K: camera of the source")(
    lambda clip: align_with_camera(
        clip, None, camera_from_matrix(clip.source_intrinsics, clip.picture.source)
    )
)
register_input_form("K: camera of the source, with a file")(
    lambda clip: align_with_camera(
        clip, clip.depth_file(), camera_from_matrix(clip.source_intrinsics, clip.picture.source)
    )
)
register_input_form("K: array, of the source, with a file")(
    lambda clip: align_with_camera(clip, clip.depth_file(), clip.source_intrinsics)
)
register_input_form("K: array, of the source, with a file of half its size")(
    lambda clip: align_with_camera(clip, clip.depth_file(2), clip.source_intrinsics)
)
register_input_form("K: exo_camera of meta.json")(
    lambda clip: align_depth(clip, clip.depth_file(), meta=read_meta(clip.exact_meta_file()))
)
register_input_form("K: exo_camera of meta.json, file of half the size")(
    lambda clip: align_depth(clip, clip.depth_file(2), meta=read_meta(clip.exact_meta_file()))
)


@register_input_form("K: meta.json")
def _(clip: Clip) -> DepthAndPath:
    return align_depth(
        clip, clip.depth_file(), meta=read_meta(clip.meta("full size", clip.source_intrinsics))
    )


@register_input_form("K: meta.json, of another resolution")
def _(clip: Clip) -> DepthAndPath:
    k = np.diag([7.5, 7.5, 1]) @ clip.source_intrinsics  # its centre stays the middle, as released
    return align_depth(clip, clip.depth_file(), meta=read_meta(clip.meta("large", k)))


@register_input_form("K: meta.json, without a frame's K in sockets", FILE_TOLERANCE)
def _(clip: Clip) -> DepthAndPath:
    sockets = {"moge_geometry": moge_payload(clip, clip.intrinsics(1.3))}
    return align_depth(clip, sockets=sockets, meta=read_meta(clip.exact_meta_file()))


def moge_payload(clip: Clip, intrinsics: np.ndarray) -> dict[str, Tensor]:
    """Build the depth output of ComfyUI's MoGe node."""
    (width, height), intrinsics = clip.picture.size, torch.tensor(intrinsics).float()
    intrinsics[:2, 2] += 0.5
    intrinsics = intrinsics / torch.tensor([[width], [height], [1.0]])
    depth = torch.from_numpy(clip.depth_maps().copy())
    return {
        "depth": depth,
        "mask": depth.isfinite(),
        "normal": depth[..., None].expand(-1, -1, -1, 3),
        "intrinsics": intrinsics.expand(CLIP_FRAMES, 3, 3),
    }


@register_input_form("K: meta.json of ViPE", FILE_TOLERANCE)
def _(clip: Clip) -> DepthAndPath:
    folder = clip.folder / f"vipe{clip.exo_moves}"
    folder.mkdir(exist_ok=True)
    FORMS["vipe"](folder, clip.poses(of_exo=True))
    return align_depth(clip, clip.depth_file(), meta=read_meta(folder / "intrinsics" / "clip.npz"))


@register_input_form("K: the editor's meta.json", FILE_TOLERANCE)
def _(clip: Clip) -> DepthAndPath:
    meta = export_folder(clip, "meta") / "meta.json"
    return align_depth(clip, clip.depth_file(), meta=read_meta(meta))


register_input_form("exo pose: array of the frames", compares_later_results=True)(
    lambda clip: align_with_camera(clip, None, clip.lens)
)
register_input_form("exo pose: array of the source")(
    lambda clip: align_depth(clip, camera=clip.lens, exo_w2c=clip.source_exo_w2c.numpy())
)
register_input_form("exo pose: array, with a file")(
    lambda clip: align_depth(
        clip, clip.depth_file(), camera=clip.source_intrinsics, exo_w2c=clip.exo_pose
    )
)
register_input_form("exo pose: array of the source, with a file")(
    lambda clip: align_depth(
        clip, clip.depth_file(), camera=clip.source_intrinsics, exo_w2c=clip.source_exo_w2c.numpy()
    )
)
register_input_form("exo pose: meta.json, with sockets", FILE_TOLERANCE)(
    lambda clip: align_depth(
        clip,
        sockets={"moge_geometry": moge_payload(clip, clip.intrinsics())},
        meta=read_meta(clip.exact_meta_file()),
    )
)


def register_pose_file_form(form: str) -> None:
    @register_input_form(f"exo pose: {form}", FILE_TOLERANCE)
    def _(clip: Clip) -> DepthAndPath:
        folder = clip.folder / f"{form} {clip.exo_moves}"
        folder.mkdir(exist_ok=True)
        file = FORMS[form](folder, clip.poses(of_exo=form not in FORMS_WITH_BOTH_CAMERAS))
        poses = read_exo_poses(file, reference_result(clip).depth)
        return align_depth(clip, camera=clip.lens, exo_w2c=poses.numpy())

    @register_input_form(f"ego path: {form}", FILE_TOLERANCE, compares_later_results=True)
    def _(clip: Clip) -> DepthAndPath:
        folder = clip.folder / f"ego {form} {clip.exo_moves}"
        folder.mkdir(exist_ok=True)
        file = FORMS[form](folder, clip.poses(of_exo=False, upright=form != "meta"))
        path, _ = stages.path(
            file, frames=clip.frames, camera=clip.ego, scene=reference_scene(clip)
        )
        return DepthAndPath(reference_result(clip).depth, path)


for _pose_form in FORMS:
    register_pose_file_form(_pose_form)


def read_ego_path(clip: Clip, poses: Any, **options: Any) -> DepthAndPath:
    path, _ = stages.path(poses, frames=clip.frames, camera=clip.ego, **options)
    return DepthAndPath(reference_result(clip).depth, path)


register_input_form("ego path: array, in the scene's world", compares_later_results=True)(
    lambda clip: read_ego_path(clip, clip.ego_w2c.numpy(), scene=reference_scene(clip))
)
register_input_form("ego path: array of the source")(
    lambda clip: read_ego_path(clip, clip.take.ego.w2c.numpy(), exo_w2c=clip.source_exo_w2c.numpy())
)
register_input_form("ego path: keyframes")(
    lambda clip: read_ego_path(
        clip, keyframe_document(clip)["keyframes"], scene=reference_scene(clip)
    )
)
register_input_form("ego path: a path of the whole source")(
    lambda clip: DepthAndPath(
        reference_result(clip).depth,
        stages.adapt_path(whole_source_path(clip), frames=clip.frames, camera=clip.ego)[0],
    )
)
register_input_form("ego path: meta.json as read")(
    lambda clip: read_ego_path(clip, read_meta(clip.exact_meta_file()))
)


def whole_source_clip(clip: Clip) -> Clip:
    """Copy a clip with all frames of its source video."""
    indices = torch.arange(SOURCE_FRAMES)
    frames = replace(clip.frames, indices=indices, times_s=indices.double() / FPS, fps=FPS)
    return replace(clip, indices=indices.tolist(), frames=frames)


def whole_source_path(clip: Clip) -> CameraTrajectory:
    source_clip = whole_source_clip(clip)
    return stages.path(
        source_clip.ego_w2c.numpy(),
        frames=source_clip.frames,
        camera=clip.ego,
        exo_w2c=source_clip.exo_pose,
    )[0]


def keyframe_document(clip: Clip) -> dict[str, Any]:
    """Build a JSON document of camera keyframes for the clip."""
    frame_poses = zip(clip.indices, clip.ego_w2c.tolist(), strict=True)
    return {"keyframes": [{"frame": index, "w2c": w2c} for index, w2c in frame_poses]}


def export_folder(clip: Clip, form: str) -> Path:
    """Write a camera path to a folder in one of the editor's export formats."""
    file_name, content = export_path(
        form, keyframe_document(clip), clip.ego, clip.frames.without_sizes, reference_scene(clip)
    )
    folder = clip.folder / f"{form} of {clip.picture.size} {clip.indices} {clip.exo_moves}"
    folder.mkdir(exist_ok=True)
    if file_name.endswith(".zip"):
        zipfile.ZipFile(BytesIO(content)).extractall(folder)
    else:
        (folder / file_name).write_bytes(content)
    return folder


EDITOR_EXPORTS = {
    "meta": "meta.json",
    "colmap": "images.txt",
    "trajectory": "egox_trajectory.json",
    "keyframes": "egox_keyframes.json",
    "blender": "transforms.json",
    "chan": "ego_camera.chan",
}


def register_editor_export(form: str, file: str) -> None:
    @register_input_form(
        f"ego path: the editor's {file}",
        FILE_TOLERANCE,
        compares_later_results=form in ("meta", "blender"),
    )
    def _(clip: Clip) -> DepthAndPath:
        options = {"every_nth": 1} if form == "chan" else {}  # 1 to 5 may be every second frame
        folder = export_folder(clip, form)
        folder = folder / "colmap" if form == "colmap" and clip.exo_moves else folder
        return read_ego_path(clip, folder / file, scene=reference_scene(clip), **options)


for _pose_form, _file in EDITOR_EXPORTS.items():
    register_editor_export(_pose_form, _file)


register_input_form("depth: array of the source")(
    lambda clip: align_with_camera(clip, whole_source_clip(clip).depth_maps(), clip.lens)
)


@register_input_form("depth: of the whole source, aligned")
def _(clip: Clip) -> DepthAndPath:
    source_clip = whole_source_clip(clip)
    depth, _ = stages.align(
        source_clip.depth_maps(),
        frames=source_clip.frames,
        camera=clip.lens,
        exo_w2c=source_clip.exo_pose,
    )
    return align_depth(clip, depth)


@register_input_form("depth: a map more than frames")
def _(clip: Clip) -> DepthAndPath:
    """Check that one depth map too many is refused."""
    maps = whole_source_clip(clip).depth_maps()[[*clip.indices, clip.indices[-1] + 1]]
    with refuses("depth array: got 6 "):
        align_with_camera(clip, maps, clip.lens)
    return reference_result(clip)


@register_input_form("depth: what moves, of the source")
def _(clip: Clip) -> DepthAndPath:
    dynamic_mask = np.zeros((SOURCE_FRAMES, *clip.picture.size[::-1]))
    for frame in range(SOURCE_FRAMES):
        dynamic_mask[frame, :, frame] = 1
    result = align_depth(clip, camera=clip.lens, exo_w2c=clip.exo_pose, dynamic_mask=dynamic_mask)
    assert torch.equal(result.depth.dynamic, torch.from_numpy(dynamic_mask[clip.indices] > 0))
    return result
