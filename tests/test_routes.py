"""Test that every input format gives the true cameras and depth of a drawn take.

A cell is a way and a picture, with frames from 0, from 4 and every second one; the exo camera
stands in some and moves in others. Its right value was declared before the code gave it.

Payloads' fields are read by the first functions alone.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from egox_core import stages
from egox_core.cameras import CameraModel
from egox_core.exchange import CameraFile, export_path
from egox_core.file_names import HEAD_TRAJECTORY
from egox_core.gga import gga_geometry
from egox_core.hands import HandTrack, draw_hands
from egox_core.prior import ExoCandidate, rank_exo_cameras
from egox_core.prior.placement import measure, seen_heads
from egox_core.robots import camera_fit, make_episodes
from egox_core.scene import ego_in_scene, viewer_camera
from egox_core.stereo import StereoForm, second_eye
from egox_core.stereo.right_eye import SecondEye
from egox_core.takes import read_meta
from egox_core.types import (
    CameraTrajectory,
    DepthVideo,
    FrameSelection,
    GgaGeometry,
    PointCloud,
)
from egox_train.data.prepare_options import PrepareOptions
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, SyntheticTake, make_take, write_take
from lab.sample import write_keypoints
from tests.path_forms import FORMS, FORMS_WITH_BOTH_CAMERAS, Poses
from tests.refusals import refuses
from tests.train.prepared_takes import prepare_and_read
from train_egox import main as train_egox

# --- What the payloads hold -------------------------------------------------------------------


def depth_lens(depth: DepthVideo) -> CameraModel:
    return depth.exo.camera


def depth_exo_poses(depth: DepthVideo, count: int) -> Tensor:  # [count, 3, 4]
    return depth.exo.poses(count)


def path_lens(path: CameraTrajectory) -> CameraModel:
    return path.ego.camera


def ego_from_exo(path: CameraTrajectory) -> Tensor:  # [T, 3, 4] as the path itself has it
    return relative_poses(path.ego.w2c, path.required_exo.poses(len(path)))


def read_exo_poses(file: Path, depth: DepthVideo) -> Tensor:  # [T, 3, 4] of the depth's frames
    return CameraFile.read(file).for_depth(depth)[0].w2c


def rank_by_frame(depth: DepthVideo, path: CameraTrajectory) -> Tensor:
    candidate = ExoCandidate(name="a", trajectory=path, depth=depth)
    return rank_exo_cameras([candidate])[0].by_frame


def episode_columns(
    exo: Tensor, ego: Tensor, depth: DepthVideo, path: CameraTrajectory, hands: HandTrack
) -> Mapping[str, np.ndarray]:
    """Build the table columns of one robot episode."""
    fps = round(1 / float(path.ego.frames.times_s.diff().mean()))
    episodes = make_episodes(
        "a", "do it", exo, ego, path.with_depth_camera(depth.exo), hands, fps=fps
    )
    return episodes[0].columns


# --- The truth, drawn -------------------------------------------------------------------------

SOURCE_FRAMES, FPS, CLIP_FRAMES = 12, 24.0, 5
FRAME_INDICES: Mapping[str, list[int]] = {
    "from 0": [0, 1, 2, 3, 4],
    "from 4": [4, 5, 6, 7, 8],
    "every second": [0, 2, 4, 6, 8],
}


class Picture(NamedTuple):
    source: tuple[int, int]
    left_px: float  # px of the source that are cut off
    scale: float
    size: tuple[int, int]


PICTURES: Mapping[str, Picture] = {
    "as it is": Picture((96, 64), 0, 1, (96, 64)),
    "square": Picture((96, 64), 16, 1, (64, 64)),
    "half": Picture((96, 64), 0, 1 / 2, (48, 32)),
    "16:9 to square": Picture((128, 72), 28, 64 / 72, (64, 64)),
}


FULLY_COMPARED_PICTURES = ("as it is", "square")
"""Pictures of whose clips every later result is compared, not only the cameras."""


def relative_poses(target: Tensor, source: Tensor) -> Tensor:  # w2c [T, 3, 4] each
    """Compute relative camera poses target_from_source [T, 3, 4]."""
    bottom_row = torch.tensor([[[0.0, 0, 0, 1]]]).double().expand(len(target), 1, 4)
    matrices = [torch.cat((pose.double(), bottom_row), 1) for pose in (target, source)]
    return (matrices[0] @ torch.linalg.inv(matrices[1]))[:, :3]


def intrinsics_matrix(fx: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1.0]])


@cache
def drawn_take(source: tuple[int, int], exo_moves: bool, view_count: int = 1) -> SyntheticTake:
    motion_options = {"exo_motion": 0.05, "exo_turn_deg": 2.0} if exo_moves else {}
    spec = SyntheticSpec(
        seed=3,
        frames=SOURCE_FRAMES,
        fps=FPS,
        exo_width=source[0],
        exo_height=source[1],
        ego_size=64,
        texture="soft",
        clutter="calm",
        wearer="drawn",
        edge_samples=1,
        exo_views=view_count,
        **motion_options,
    )
    return make_take(spec)


@dataclass(frozen=True, eq=False)
class Clip:
    """Used frames of a drawn take with their true cameras and depth."""

    take: SyntheticTake
    folder: Path
    picture: Picture
    indices: list[int]
    exo: Tensor  # [T, H, W, 3]
    frames: FrameSelection
    exo_moves: bool

    @property
    def source_exo_w2c(self) -> Tensor:  # [COUNT, 3, 4]
        return self.take.exo.w2c.expand(SOURCE_FRAMES, 3, 4)

    @property
    def exo_w2c(self) -> Tensor:  # [T, 3, 4]
        return self.source_exo_w2c[self.indices]

    @property
    def exo_pose(self) -> np.ndarray:  # [3, 4], or [T, 3, 4] of a camera that moves
        return (self.exo_w2c if self.exo_moves else self.take.exo.pose).numpy()

    @property
    def ego_w2c(self) -> Tensor:  # [T, 3, 4]
        return self.take.ego.w2c[self.indices]

    def intrinsics(self, extra_scale: float = 1.0) -> np.ndarray:
        """Compute the intrinsic matrix K at another picture scale."""
        lens, scale_factor = self.take.exo.camera, self.picture.scale * extra_scale
        left_px = self.picture.left_px
        return intrinsics_matrix(
            lens.fx * scale_factor,
            (lens.cx - left_px + 0.5) * scale_factor - 0.5,
            (lens.cy + 0.5) * scale_factor - 0.5,
        )

    @property
    def source_intrinsics(self) -> np.ndarray:
        lens = self.take.exo.camera
        return intrinsics_matrix(lens.fx, lens.cx, lens.cy)

    def depth_maps(self, every: int = 1) -> np.ndarray:  # [T, h, w], of the frames
        """Sample the true depth at the pixels of the frames in use."""
        (width, height), scale_factor = self.picture.size, self.picture.scale
        source_rows, source_columns = ((np.arange(n) + 0.5) / scale_factor for n in (height, width))
        clip_maps_m = self.take.exo_depth_m.numpy()[self.indices][:, source_rows.astype(int)]
        return clip_maps_m[:, ::every, (source_columns + self.picture.left_px).astype(int)[::every]]

    @property
    def ego(self) -> CameraModel:
        return self.take.ego.camera.rescale(self.picture.size[1], self.picture.size[1])

    def poses(self, of_exo: bool, upright: bool = True) -> Poses:
        """Build the true poses of the exo or ego camera for all source frames."""
        ego_w2c = self.take.ego.w2c
        ego_w2c = self.take.ego.camera.upright_poses(ego_w2c) if upright else ego_w2c
        exo_w2c = self.source_exo_w2c.numpy()
        intrinsics_and_size = (
            (self.source_intrinsics, self.picture.source)
            if of_exo
            else (intrinsics_matrix(32, 31.5, 31.5), (64, 64))
        )
        return Poses(exo_w2c if of_exo else ego_w2c.numpy(), *intrinsics_and_size, FPS, exo_w2c)

    def file(self, name: str, content: dict[str, object]) -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content), "utf-8")
        return file

    def meta(self, name: str, intrinsics: np.ndarray | None = None, **more_entries: object) -> Path:
        """Write the true camera poses to a meta.json file."""
        meta_content = {"camera_extrinsics": self.take.exo.rows()}
        meta_content |= {"ego_extrinsics": self.take.ego.w2c.tolist()}
        meta_content |= {} if intrinsics is None else {"camera_intrinsics": intrinsics.tolist()}
        return self.file(f"{name}/meta.json", meta_content | more_entries)

    def exact_meta_file(self) -> Path:
        lens = self.take.exo.camera
        return self.meta("exact", exo_camera=lens.to_json())

    def depth_file(self, every: int = 1) -> Path:
        file = self.folder / f"depth{every}.npz"
        if not file.is_file():
            depth_maps_m = self.take.exo_depth_m.numpy()[
                :, every // 2 :: every, every // 2 :: every
            ]
            np.savez(file, depth_m=depth_maps_m)
        return file

    @property
    def lens(self) -> CameraModel:
        return CameraModel.from_intrinsics(self.intrinsics(), *self.picture.size)


@pytest.fixture(scope="module")
def load_drawn_clip(tmp_path_factory) -> Callable[[str, str, bool], Clip]:
    pytest.importorskip("av", reason="decodes video")

    @cache
    def write_exo_video(source: tuple[int, int], exo_moves: bool) -> Path:
        path, take = tmp_path_factory.mktemp("routes"), drawn_take(source, exo_moves)
        write_video(path / "exo.mp4", take.exo_rgb, FPS, quality=1)
        return path

    @cache
    def clip(picture_name: str, frames_name: str, exo_moves: bool) -> Clip:
        picture_spec, indices = PICTURES[picture_name], FRAME_INDICES[frames_name]
        video_folder = write_exo_video(picture_spec.source, exo_moves)
        loaded_clip, _ = stages.load_clip(
            video_folder / "exo.mp4",
            start_frame=indices[0],
            frame_count=CLIP_FRAMES,
            target_fps=FPS / 2 if frames_name == "every second" else 0.0,
            size=picture_spec.size,
        )
        assert loaded_clip.selection.indices.tolist() == indices
        return Clip(
            drawn_take(picture_spec.source, exo_moves),
            video_folder,
            picture_spec,
            indices,
            loaded_clip.exo,
            loaded_clip.selection,
            exo_moves,
        )

    return clip


# --- What follows from cameras and depth ------------------------------------------------------


class DepthAndPath(NamedTuple):
    depth: DepthVideo
    path: CameraTrajectory


@cache
def reference_result(clip: Clip) -> DepthAndPath:
    """Build a depth video and a camera path from a clip's true values."""
    depth, _ = stages.align(
        clip.depth_maps(), frames=clip.frames, camera=clip.lens, exo_w2c=clip.exo_pose
    )
    path, _ = stages.path(
        clip.ego_w2c.numpy(), frames=clip.frames, camera=clip.ego, exo_w2c=clip.exo_pose
    )
    return DepthAndPath(depth, path)


@cache
def reference_scene(clip: Clip) -> PointCloud:
    return stages.scene(clip.exo, reference_result(clip).depth)[0]


def exact_gga_geometry(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> GgaGeometry:
    ego_side_px = clip.picture.size[1]
    picture_sizes = {"exo_size": clip.picture.size, "ego_size": (ego_side_px, ego_side_px)}
    return gga_geometry(depth, path, "exact", frames=CLIP_FRAMES, **picture_sizes)


def make_second_eye(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> SecondEye:
    scene_points, _ = stages.scene(clip.exo, depth)
    ego_prior, _ = stages.prior(scene_points, path, draw_anyway=True)
    return second_eye(ego_prior.rgb, scene_points, path, StereoForm())


def later_results(
    clip: Clip, depth: DepthVideo, path: CameraTrajectory
) -> Iterator[tuple[str, Any]]:
    """Yield all results that are computed from a depth video and a camera path."""
    scene_points, _ = stages.scene(clip.exo, depth)
    ego_prior, _ = stages.prior(scene_points, path)
    yield "prior", ego_prior.rgb
    head_points = seen_heads(scene_points, ego_in_scene(scene_points, path))
    yield "placement", torch.tensor(measure(head_points))
    yield "rank", rank_by_frame(depth, path)
    geometry = exact_gga_geometry(clip, depth, path)
    yield "GGA queries", geometry.query_dirs
    yield "GGA keys", geometry.key_dirs
    hands = clip.take.hands.select(torch.tensor(clip.indices))
    yield "hands", torch.cat([joint_part.flatten() for joint_part in hands.in_head(path)])
    for name, column in episode_columns(clip.exo, ego_prior.rgb, depth, path, hands).items():
        yield name, torch.as_tensor(np.array(column)).double()
    yield "second eye", second_eye(ego_prior.rgb, scene_points, path, StereoForm()).rgb
    viewer_settings = viewer_camera(path)
    yield (
        "viewer",
        torch.tensor(
            [
                *viewer_settings["position"].values(),
                viewer_settings["fov"],
                viewer_settings["aspect"],
            ]
        ),
    )
    quaternion = torch.tensor(list(viewer_settings["quaternion"].values())).double()
    yield "viewer's turn", quaternion * quaternion[3].sign()


@cache
def true_results(clip: Clip) -> Mapping[str, Any]:
    """Compute the true value of every result."""
    true_values = dict(later_results(clip, *reference_result(clip)))
    # Independently of the code: hands, cameras in the columns, the viewer.
    exo_c2w = relative_poses(torch.eye(3, 4).double().expand(CLIP_FRAMES, 3, 4), clip.exo_w2c)
    head_from_exo = relative_poses(clip.ego.upright_poses(clip.ego_w2c), clip.exo_w2c)
    joints = clip.take.hands.joints[clip.indices].flatten(1, 2)
    joints = joints @ head_from_exo[:, :, :3].mT + head_from_exo[:, None, :, 3]
    true_values["hands"] = torch.cat((joints.flatten(), true_values["hands"][joints.numel() :]))
    true_values["egox.exo_K"] = torch.tensor(clip.intrinsics()).flatten().expand(CLIP_FRAMES, 9)
    true_values["egox.exo_c2w"] = torch.cat(
        (exo_c2w.flatten(1), torch.tensor([[0.0, 0, 0, 1]]).double().expand(CLIP_FRAMES, 4)), 1
    )
    opengl_flip = torch.tensor([1.0, -1, -1]).double()
    first_head_pose = relative_poses(torch.eye(3, 4).double()[None], head_from_exo[:1])[0]
    viewer_rotation = opengl_flip[:, None] * first_head_pose[:, :3] * opengl_flip
    true_values["viewer's turn"] = rotation_as_quaternion(viewer_rotation)
    true_values["viewer"] = torch.cat(
        (opengl_flip * first_head_pose[:, 3], true_values["viewer"].double()[3:])
    )
    return true_values


def rotation_as_quaternion(rotation: Tensor) -> Tensor:  # [3, 3] -> x y z w, w >= 0
    w_component = math.sqrt(max(0.0, 1 + float(rotation.trace()))) / 2
    axis_components = torch.stack(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    return torch.cat((axis_components / (4 * w_component), torch.tensor([w_component]).double()))


def largest_difference(first_values: Tensor, second_values: Tensor) -> float:
    assert first_values.shape == second_values.shape
    assert torch.equal(first_values.isnan(), second_values.isnan())
    return float((first_values.double() - second_values.double()).nan_to_num().abs().max())


def decibels(first_image: Tensor, second_image: Tensor) -> float:
    return -10 * math.log10(float((first_image - second_image).square().mean()) + 1e-12)


def check_cameras(clip: Clip, result: DepthAndPath, pose_tolerance: float) -> None:
    lens, expected_k = depth_lens(result.depth), torch.tensor(clip.intrinsics())
    x_scale, y_scale = (
        side / stored_side
        for side, stored_side in zip(clip.picture.size, lens.stored_size, strict=True)
    )
    centre = (lens.cx + 0.5) * x_scale - 0.5, (lens.cy + 0.5) * y_scale - 0.5
    result_intrinsics = torch.tensor(
        [lens.fx * x_scale, lens.fy * y_scale, *centre], dtype=torch.float64
    )
    assert (
        largest_difference(
            result_intrinsics,
            torch.stack([expected_k[0, 0], expected_k[1, 1], expected_k[0, 2], expected_k[1, 2]]),
        )
        < 1e-6
    )
    assert (
        largest_difference(depth_exo_poses(result.depth, CLIP_FRAMES), clip.exo_w2c)
        < pose_tolerance
    )
    assert (
        largest_difference(ego_from_exo(result.path), relative_poses(clip.ego_w2c, clip.exo_w2c))
        < 3 * pose_tolerance
    )
    assert largest_difference(result.path.ego.frames.times_s, clip.frames.times_s) < 1e-9
    assert path_lens(result.path) == clip.ego


def check_later_results(clip: Clip, result: DepthAndPath) -> None:
    expected_values = true_results(clip)
    for name, value in later_results(clip, *result):
        if name in ("prior", "second eye"):
            assert decibels(value, expected_values[name]) > 60, name
        else:
            assert largest_difference(value, expected_values[name]) < 1e-5, name


# --- The ways ---------------------------------------------------------------------------------

ARRAY_TOLERANCE, FILE_TOLERANCE = 1e-9, 1e-6
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
    lambda clip: read_ego_path(
        clip,
        whole_source_path(clip),
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
    """Check that one depth map too many is refused, except for frames that start at 0."""
    maps = whole_source_clip(clip).depth_maps()[[*clip.indices, clip.indices[-1] + 1]]
    if clip.indices[:5] == [0, 1, 2, 3, 4]:
        return align_with_camera(clip, maps, clip.lens)
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


# --- What is not crossed with pictures ---------------------------------------------------------


def check_wide_intrinsics_beside_a_narrower_video(load_drawn_clip) -> None:
    """Check the lens when the intrinsics belong to a wider picture than the video."""
    clip, size = load_drawn_clip("as it is", "from 0", False), (126, 72)  # of whole 128x72
    frames = replace(clip.frames, source_size=size, size=size)
    narrow_depth_file = clip.folder / "narrow.npz"
    np.savez(narrow_depth_file, depth_m=np.full((SOURCE_FRAMES, *size[::-1]), 2, np.float32))
    meta = read_meta(clip.meta("wide", intrinsics_matrix(1540, 960, 540)))
    lens = depth_lens(stages.align(narrow_depth_file, frames=frames, meta=meta)[0])
    assert (lens.fx, lens.cx, lens.cy) == pytest.approx((1540 * 72 / 1080, 63, 36), abs=1e-6)
    assert lens.fy == pytest.approx(lens.fx)


def check_lens_of_another_aspect_ratio(load_drawn_clip) -> None:
    """Check that a wide lens is cropped to the square ego picture."""
    clip = load_drawn_clip("as it is", "from 0", False)
    source_poses = clip.poses(of_exo=False)
    wide_poses = replace(
        source_poses, intrinsics=intrinsics_matrix(1000, 959.5, 539.5), size=(1920, 1080)
    )
    for form in ("colmap text", "transforms", "ours"):
        folder = clip.folder / f"wide {form}"
        folder.mkdir()
        ego_path, notes = stages.path(
            FORMS[form](folder, wide_poses),
            frames=clip.frames,
            ego_size=256,
            scene=reference_scene(clip),
        )
        lens = path_lens(ego_path)
        expected_focal = 1000 * 256 / 1080
        assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx(
            (expected_focal, expected_focal, 127.5, 127.5)
        )
        assert lens.stored_size == (256, 256) and "1080x1080" in notes.placed


def check_contradicting_arguments_are_refused(load_drawn_clip) -> None:
    """Check that an argument that contradicts the input file is refused."""
    clip = load_drawn_clip("as it is", "from 0", False)
    other_intrinsics, meta = intrinsics_matrix(50, 48, 32), read_meta(clip.exact_meta_file())
    depth = reference_result(clip).depth
    for source, options in (
        (clip.depth_file(), {"meta": meta, "camera": other_intrinsics}),
        (clip.depth_file(), {"meta": meta, "exo_w2c": clip.exo_pose + [[0, 0, 0, 1.0]]}),
        (depth, {"camera": other_intrinsics}),
        (depth, {"exo_w2c": clip.exo_pose + [[0, 0, 0, 1.0]]}),
    ):
        with refuses("camera|exo_w2c"):
            stages.align(source, frames=clip.frames, **options)
    with refuses("camera"):
        stages.scene(clip.exo, depth, camera=other_intrinsics)
    for source, options in ((clip.depth_file(), {"meta": meta}), (depth, {})):
        result = align_depth(
            clip, source, camera=clip.source_intrinsics, exo_w2c=clip.exo_pose, **options
        )
        check_cameras(clip, result, ARRAY_TOLERANCE)


def check_different_frames_are_refused(load_drawn_clip) -> None:
    """Check that depth and poses of different video frames can't be combined."""
    late_clip, early_clip = (
        load_drawn_clip("as it is", name, False) for name in ("from 4", "from 0")
    )
    depth, late_path = reference_result(late_clip)
    early_path = reference_result(early_clip).path
    late_scene = reference_scene(late_clip)
    ego_prior = stages.prior(late_scene, late_path)[0].rgb
    hands = replace(
        late_clip.take.hands.select(torch.tensor(late_clip.indices)),
        frames=late_clip.frames.without_sizes,
    )
    for combine in (
        lambda path: stages.prior(late_scene, path),
        lambda path: stages.judge(ego_prior, scene=late_scene, trajectory=path),
        lambda path: exact_gga_geometry(late_clip, depth, path),
        lambda path: rank_by_frame(depth, path),
        lambda path: camera_fit(late_scene, path, ego_prior, True),
        lambda path: second_eye(ego_prior, late_scene, path, StereoForm()),
        lambda path: episode_columns(late_clip.exo, ego_prior, depth, path, hands),
        lambda path: draw_hands(hands, path),
        lambda path: make_episodes(
            "a", "do it", late_clip.exo, ego_prior, replace(path, exo=depth.exo), hands, fps=24
        ),
    ):
        combine(late_path)
        with refuses("moments of (scene|depth|hands) and path"):
            combine(early_path)


def check_wrong_counts_are_refused(load_drawn_clip) -> None:
    """Check that inputs with a wrong number of poses or masks are refused."""
    clip = load_drawn_clip("as it is", "from 4", True)
    with refuses("got 7 "):
        stages.path(clip.take.ego.w2c.numpy()[:7], frames=clip.frames, camera=clip.ego)
    with refuses("got 7 "):
        align_depth(clip, camera=clip.lens, exo_w2c=clip.source_exo_w2c.numpy()[:7])
    with refuses("got 7 "):
        align_depth(clip, camera=clip.lens, dynamic_mask=np.eye(96)[None, :64].repeat(7, 0))
    with refuses("got 4 "):
        stages.align(clip.depth_maps(), camera=clip.lens, exo_w2c=clip.exo_pose[:4])
    with refuses("exo_w2c: got 5 frames; expected 12"):
        stages.path(clip.exact_meta_file(), exo_w2c=clip.exo_pose)


def check_path_of_unknown_world(load_drawn_clip) -> None:
    """Check which results a pose file gives if its world coordinates are unknown."""
    clip = load_drawn_clip("as it is", "from 0", True)
    hands, depth = clip.take.hands.select(torch.tensor(clip.indices)), reference_result(clip).depth
    black_frames = torch.zeros(CLIP_FRAMES, 64, 64, 3, dtype=torch.uint8)
    for form in FORMS.keys() - {*FORMS_WITH_BOTH_CAMERAS}:
        folder = clip.folder / f"unknown world {form}"
        folder.mkdir()
        pose_file = FORMS[form](folder, clip.poses(of_exo=False))
        path, _ = stages.path(pose_file, frames=clip.frames, camera=clip.ego)
        assert (
            decibels(stages.prior(reference_scene(clip), path)[0].rgb, true_results(clip)["prior"])
            > 60
        )
        assert (
            decibels(make_second_eye(clip, depth, path).rgb, true_results(clip)["second eye"]) > 60
        )
        assert largest_difference(rank_by_frame(depth, path), true_results(clip)["rank"]) < 1e-5
        assert viewer_camera(path) == {}
        for compute in (
            lambda path=path: hands.in_head(path),
            lambda path=path: episode_columns(clip.exo, black_frames, depth, path, hands),
            lambda path=path: exact_gga_geometry(clip, depth, path),
        ):
            with refuses("world"):
                compute()


def draw_two_views(load_drawn_clip) -> tuple[Clip, Clip]:
    """Draw a take that two exo cameras film."""
    first_view, clips = load_drawn_clip("as it is", "from 4", False), []
    for view_index, take in enumerate(drawn_take((96, 64), False, view_count=2).views):
        folder = first_view.folder / f"view {view_index}"
        folder.mkdir(exist_ok=True)
        write_video(folder / "exo.mp4", take.exo_rgb, FPS, quality=1)
        loaded_clip, _ = stages.load_clip(
            folder / "exo.mp4", start_frame=4, frame_count=CLIP_FRAMES
        )
        clip_fields = {"exo": loaded_clip.exo, "frames": loaded_clip.selection}
        clips.append(replace(first_view, take=take, folder=folder, **clip_fields))
    return clips[0], clips[1]


def stage_remarks(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> Mapping[str, list[str]]:
    """Collect the remarks that each processing stage makes."""
    scene_points, _ = stages.scene(clip.exo, depth)
    drawn_prior, report = stages.prior(scene_points, path, draw_anyway=True)
    ego_prior = drawn_prior.rgb
    return {
        "prior": report.warnings(),
        "judge": stages.judge(ego_prior, scene=scene_points, trajectory=path)[1].warnings(),
        "geometry": exact_gga_geometry(clip, depth, path).notes(),
        "second eye": make_second_eye(clip, depth, path).warnings(),
        "fit": camera_fit(scene_points, path, ego_prior, True).warnings(),
    }


def check_path_of_the_other_exo_camera(load_drawn_clip) -> None:
    """Check the results and the remark if the poses come from another exo camera's file."""
    both_views = draw_two_views(load_drawn_clip)
    for path_view, clip in (both_views, both_views[::-1]):
        depth, scene = reference_result(clip).depth, reference_scene(clip)
        assert not any(
            "against" in remark_texts
            for remark_texts in stage_remarks(clip, *reference_result(clip))["prior"]
        )
        unplaced_path, _ = stages.path(
            path_view.exact_meta_file(), frames=clip.frames, camera=clip.ego
        )
        for stage, remark_texts in stage_remarks(clip, depth, unplaced_path).items():
            assert any("another camera of the take" in remark for remark in remark_texts), stage
        placed_path, notes = stages.path(
            path_view.exact_meta_file(), frames=clip.frames, camera=clip.ego, scene=scene
        )
        assert "another camera of the take" in notes.placed
        for path in (
            placed_path,
            unplaced_path.with_depth_camera(depth.exo),
            unplaced_path.in_world_of(scene.exo),
        ):
            check_later_results(clip, DepthAndPath(depth, path))
        # Where depth has no pose, the videos tell.
        path_view_path, _ = stages.path(
            path_view.exact_meta_file(), frames=path_view.frames, camera=clip.ego
        )
        for compared_view, is_remarked in ((clip, True), (path_view, False)):
            unposed_depth, _ = stages.align(
                compared_view.depth_maps(), frames=compared_view.frames, camera=compared_view.lens
            )
            warnings = (
                *path_view_path.other_exo(unposed_depth.exo),
                *path_view_path.other_hands(compared_view.frames),
            )
            assert len(warnings) == (2 if is_remarked else 0)
            assert all("two cameras" in str(warning) for warning in warnings)


def check_worlds_that_contradict_are_remarked(load_drawn_clip) -> None:
    """Check that depth and poses in contradicting world coordinates cause a remark."""
    clip, world_from_other_world = load_drawn_clip("as it is", "from 4", True), np.eye(4)
    world_from_other_world[:3, :3] = [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]]
    world_from_other_world[:3, 3] = 0.3, 0.1, -0.2
    depth, _ = stages.align(
        clip.depth_maps(),
        frames=clip.frames,
        camera=clip.lens,
        exo_w2c=clip.exo_pose @ world_from_other_world,
    )
    path, _ = stages.path(clip.exact_meta_file(), frames=clip.frames, camera=clip.ego)
    assert path.other_exo(depth.exo) and path.other_exo(*stages.scene(clip.exo, depth)[0].exos)
    for stage, remark_texts in stage_remarks(clip, depth, path).items():
        assert any("the same one, these are two worlds" in remark for remark in remark_texts), stage
    # As the remark says: without the depth's own pose, the path's ties it.
    unposed_depth, _ = stages.align(clip.depth_maps(), frames=clip.frames, camera=clip.lens)
    if not clip.exo_moves:
        check_later_results(
            clip, DepthAndPath(unposed_depth, path.with_depth_camera(unposed_depth.exo))
        )


def check_distorted_lenses(load_drawn_clip) -> None:
    """Check that distorted lenses are cropped and resized together with the picture."""
    lenses = (
        {"lens": "opencv", "distortion": (-0.1, 0.02, 0.001, -0.002)},
        {"lens": "opencv_fisheye", "distortion": (0.03, -0.01, 0.002, 0.0)},
        {"lens": "pinhole"},
    )
    for picture_name in PICTURES:
        clip = load_drawn_clip(picture_name, "from 4", False)
        (width, height), used_picture, scale_factor = (
            clip.picture.source,
            clip.picture,
            clip.picture.scale,
        )
        for lens_index, lens_fields in enumerate(lenses):
            lens = CameraModel(
                width=width,
                height=height,
                fx=70,
                fy=71,
                cx=width / 2 - 4,
                cy=height / 2 + 3,
                **lens_fields,
            )
            meta = read_meta(clip.meta(f"lens {lens_index}", exo_camera=lens.to_json()))
            points = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double()
            points = points * torch.tensor([0.4, 0.3, 0.1]) + torch.tensor([0, 0, 1.5])
            source_uv = lens.project(points)[0] + 0.5
            expected_uv = (source_uv - torch.tensor([used_picture.left_px, 0])) * scale_factor - 0.5
            for result in (
                align_depth(clip, clip.depth_file(), meta=meta),
                align_depth(clip, clip.depth_file(), camera=lens),
                align_depth(clip, camera=lens),
            ):
                result_lens = depth_lens(result.depth)
                result_uv = result_lens.rescale(*used_picture.size).project(points)[0]
                assert largest_difference(result_uv, expected_uv) < 1e-6, (
                    picture_name,
                    lens_fields["lens"],
                )


def check_poses_at_twice_the_frame_rate(load_drawn_clip) -> None:
    """Check that poses at twice the video's frame rate are assigned by their times."""
    clip = load_drawn_clip("as it is", "from 4", False)
    source_poses = clip.poses(of_exo=False)
    middle_w2c = (source_poses.w2c[:-1] + source_poses.w2c[1:]) / 2
    u, _, vh = np.linalg.svd(middle_w2c[:, :, :3])
    middle_w2c[:, :, :3] = u @ vh
    doubled_w2c = np.empty((2 * SOURCE_FRAMES - 1, 3, 4))
    doubled_w2c[::2], doubled_w2c[1::2] = source_poses.w2c, middle_w2c
    doubled_poses = replace(source_poses, w2c=doubled_w2c, fps=2 * FPS, exo_w2c=None)
    for form in FORMS:
        folder = clip.folder / f"twice {form}"
        folder.mkdir()
        pose_file = FORMS[form](folder, doubled_poses)
        if form in ("tum", "ours"):
            ego_path, _ = stages.path(pose_file, frames=clip.frames, scene=reference_scene(clip))
            assert (
                largest_difference(
                    ego_path.ego.upright_w2c, torch.tensor(source_poses.w2c[clip.indices])
                )
                < FILE_TOLERANCE
            ), form
        else:
            with refuses():
                stages.path(pose_file, frames=clip.frames, scene=reference_scene(clip))


def check_keyframes_without_a_lens_are_upright(load_drawn_clip) -> None:
    """Check that keyframes without a lens are read as an upright view."""
    clip = load_drawn_clip("as it is", "from 4", False)
    upright_w2c = clip.take.ego.camera.upright_poses(clip.ego_w2c)
    frame_poses = zip(clip.indices, upright_w2c.tolist(), strict=True)
    keyframe_json = {"keyframes": [{"frame": index, "w2c": w2c} for index, w2c in frame_poses]}
    for lens in (CameraModel.pinhole(64, 64, 32), clip.ego.upright()):
        file_name, content = export_path(
            "keyframes", keyframe_json, lens, clip.frames.without_sizes, reference_scene(clip)
        )
        exported_file = clip.folder / file_name
        exported_file.write_bytes(content)
        for camera in (None, lens, clip.ego):
            ego_path, _ = stages.path(exported_file, frames=clip.frames, camera=camera)
            assert largest_difference(ego_path.ego.upright_w2c, upright_w2c) < ARRAY_TOLERANCE
    _, notes = stages.path(keyframe_json, frames=clip.frames)
    assert "turned by 90 degrees" in notes.placed


def check_viewer_angle_of_a_pinhole(load_drawn_clip) -> None:
    """Check that the viewer opens with the pinhole camera's angle of view."""
    clip = load_drawn_clip("as it is", "from 0", False)
    path, _ = stages.path(
        clip.take.ego.camera.upright_poses(clip.ego_w2c).numpy(),
        frames=clip.frames,
        camera=CameraModel.pinhole(64, 64, 32),
        exo_w2c=clip.exo_pose,
    )
    viewer_settings = viewer_camera(path)
    assert viewer_settings["fov"] == pytest.approx(90)
    quaternion = torch.tensor(list(viewer_settings["quaternion"].values())).double()
    assert (
        largest_difference(quaternion * quaternion[3].sign(), true_results(clip)["viewer's turn"])
        < 1e-5
    )


def check_prepared_clips(load_drawn_clip) -> None:
    """Check the cameras that prepared clips store."""
    for exo_moves, step, (width, height) in ((True, 1, (64, 64)), (False, 2, (48, 32))):
        picture_name = "square" if width == height else "half"
        clip = load_drawn_clip(picture_name, "from 4" if step == 1 else "every second", exo_moves)
        takes_folder = clip.folder / f"takes {exo_moves}"
        write_take(drawn_take((96, 64), exo_moves), takes_folder / "a", quality=1)
        prepare_options = PrepareOptions(
            frames=CLIP_FRAMES,
            stride=4,
            step=step,
            exo_size=(width, height),
            ego_size=height,
            device="cpu",
        )
        records, _ = prepare_and_read(
            takes_folder, clip.folder / f"set {exo_moves}", prepare_options
        )
        clip_record = next(
            prepared_record
            for prepared_record in records
            if prepared_record.start == clip.indices[0]
        )
        folder = clip.folder / f"set {exo_moves}" / clip_record.folder
        meta = read_meta(folder / "meta.json")
        depth, _ = stages.align(folder / "depth.npz", meta=meta)
        path, _ = stages.path(meta, count=CLIP_FRAMES)
        frames = clip.frames.without_sizes
        cut_depth_and_path = (
            replace(depth, exo=replace(depth.exo, frames=frames)),
            replace(path, ego=replace(path.ego, frames=frames)),
        )
        check_cameras(clip, DepthAndPath(*cut_depth_and_path), FILE_TOLERANCE)


def check_headpose_file(load_drawn_clip) -> None:
    """Check that a head pose file also gives the exo camera of a cropped picture."""
    clip = load_drawn_clip("square", "from 4", False)
    folder = clip.folder / "with head"
    write_take(clip.take, folder)
    write_keypoints(clip.take.spec, folder / "points.json")
    assert train_egox(["headpose", str(folder), "--keypoints", str(folder / "points.json")]) == 0
    path, _ = stages.path(folder / HEAD_TRAJECTORY, frames=clip.frames)
    black_frames = torch.zeros(CLIP_FRAMES, 64, 64, 3, dtype=torch.uint8)
    hands = HandTrack.unknown(CLIP_FRAMES)
    columns = episode_columns(clip.exo, black_frames, reference_result(clip).depth, path, hands)
    for name in ("egox.exo_K", "egox.exo_c2w"):
        assert (
            largest_difference(torch.from_numpy(columns[name]), true_results(clip)[name])
            < FILE_TOLERANCE
        ), name


CHECKS_WITHOUT_PICTURES = (
    check_wide_intrinsics_beside_a_narrower_video,
    check_lens_of_another_aspect_ratio,
    check_contradicting_arguments_are_refused,
    check_different_frames_are_refused,
    check_wrong_counts_are_refused,
    check_path_of_unknown_world,
    check_path_of_the_other_exo_camera,
    check_worlds_that_contradict_are_remarked,
    check_distorted_lenses,
    check_poses_at_twice_the_frame_rate,
    check_keyframes_without_a_lens_are_upright,
    check_viewer_angle_of_a_pinhole,
    check_prepared_clips,
    check_headpose_file,
)


@pytest.mark.parametrize("check", CHECKS_WITHOUT_PICTURES, ids=lambda check: check.__name__)
def test_single_input_case(check, load_drawn_clip):
    check(load_drawn_clip)


@pytest.mark.parametrize("picture_name", PICTURES)
@pytest.mark.parametrize("input_form", INPUT_FORMS)
def test_input_form_gives_the_drawn_camera(input_form, picture_name, load_drawn_clip):
    function, pose_tolerance, compares_later_results = INPUT_FORMS[input_form]
    for number, frames_name in enumerate(FRAME_INDICES):
        clip = load_drawn_clip(
            picture_name, frames_name, exo_moves=(number + [*PICTURES].index(picture_name)) % 2 == 0
        )
        result = function(clip)
        check_cameras(clip, result, pose_tolerance)
        assert not result.path.other_exo(result.depth.exo)
        if (
            compares_later_results
            and picture_name in FULLY_COMPARED_PICTURES
            and number == [*PICTURES].index(picture_name)
        ):
            check_later_results(clip, result)
