"""Each way by which a camera, a path or depth gets in gives the same camera: the one drawn.

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
from tests.path_forms import FORMS, OF_BOTH, Poses
from tests.refusals import refuses
from tests.train.prepared_takes import prepared
from train_egox import main as train_egox

# --- What the payloads hold -------------------------------------------------------------------


def lens_of(depth: DepthVideo) -> CameraModel:
    return depth.exo.camera


def exo_poses_of(depth: DepthVideo, count: int) -> Tensor:  # [count, 3, 4]
    return depth.exo.poses(count)


def lens_of_path(path: CameraTrajectory) -> CameraModel:
    return path.ego.camera


def ego_from_exo(path: CameraTrajectory) -> Tensor:  # [T, 3, 4] as the path itself has it
    return relative(path.ego.w2c, path.known_exo.poses(len(path)))


def on_exo_path(file: Path, depth: DepthVideo) -> Tensor:  # [T, 3, 4] of the depth's frames
    return CameraFile.read(file).of(depth)[0].w2c


def ranked(depth: DepthVideo, path: CameraTrajectory) -> Tensor:
    candidate = ExoCandidate(name="a", trajectory=path, depth=depth)
    return rank_exo_cameras([candidate])[0].by_frame


def columns_of(
    exo: Tensor, ego: Tensor, depth: DepthVideo, path: CameraTrajectory, hands: HandTrack
) -> Mapping[str, np.ndarray]:
    """Call make_episodes as the node does."""
    fps = round(1 / float(path.ego.frames.times_s.diff().mean()))
    episodes = make_episodes("a", "do it", exo, ego, path.beside(depth.exo), hands, fps=fps)
    return episodes[0].columns


# --- The truth, drawn -------------------------------------------------------------------------

COUNT, FPS, USED = 12, 24.0, 5
FRAMES: Mapping[str, list[int]] = {
    "from 0": [0, 1, 2, 3, 4],
    "from 4": [4, 5, 6, 7, 8],
    "every second": [0, 2, 4, 6, 8],
}


class Picture(NamedTuple):
    source: tuple[int, int]
    left: float  # px of the source that are cut off
    scale: float
    size: tuple[int, int]


PICTURES: Mapping[str, Picture] = {
    "as it is": Picture((96, 64), 0, 1, (96, 64)),
    "square": Picture((96, 64), 16, 1, (64, 64)),
    "half": Picture((96, 64), 0, 1 / 2, (48, 32)),
    "16:9 to square": Picture((128, 72), 28, 64 / 72, (64, 64)),
}


WHOLE = ("as it is", "square")
"""Pictures in which everything that follows is compared, too, once each; in all others the cameras."""


def relative(target: Tensor, source: Tensor) -> Tensor:  # w2c [T, 3, 4] each
    """Compute target_from_source, by the plain matrices."""
    last = torch.tensor([[[0.0, 0, 0, 1]]]).double().expand(len(target), 1, 4)
    matrices = [torch.cat((pose.double(), last), 1) for pose in (target, source)]
    return (matrices[0] @ torch.linalg.inv(matrices[1]))[:, :3]


def k_of(fx: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1.0]])


@cache
def drawn(source: tuple[int, int], moves: bool, views: int = 1) -> SyntheticTake:
    motion = {"exo_motion": 0.05, "exo_turn_deg": 2.0} if moves else {}
    spec = SyntheticSpec(
        seed=3,
        frames=COUNT,
        fps=FPS,
        exo_width=source[0],
        exo_height=source[1],
        ego_size=64,
        texture="soft",
        clutter="calm",
        wearer="drawn",
        edge_samples=1,
        exo_views=views,
        **motion,
    )
    return make_take(spec)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in use of a drawn take, and what is true of them."""

    take: SyntheticTake
    folder: Path
    picture: Picture
    indices: list[int]
    exo: Tensor  # [T, H, W, 3]
    frames: FrameSelection
    moves: bool

    @property
    def all_exo(self) -> Tensor:  # [COUNT, 3, 4]
        return self.take.exo.w2c.expand(COUNT, 3, 4)

    @property
    def exo_w2c(self) -> Tensor:  # [T, 3, 4]
        return self.all_exo[self.indices]

    @property
    def pose(self) -> np.ndarray:  # [3, 4], or [T, 3, 4] of a camera that moves
        return (self.exo_w2c if self.moves else self.take.exo.pose).numpy()

    @property
    def ego_w2c(self) -> Tensor:  # [T, 3, 4]
        return self.take.ego.w2c[self.indices]

    def k(self, scale: float = 1.0) -> np.ndarray:
        """Compute K of the frames in use, resized by ``scale``."""
        lens, x = self.take.exo.camera, self.picture.scale * scale
        left = self.picture.left
        return k_of(lens.fx * x, (lens.cx - left + 0.5) * x - 0.5, (lens.cy + 0.5) * x - 0.5)

    @property
    def source_k(self) -> np.ndarray:
        lens = self.take.exo.camera
        return k_of(lens.fx, lens.cx, lens.cy)

    def maps(self, every: int = 1) -> np.ndarray:  # [T, h, w], of the frames
        """Sample the drawn depth in the frames' pixels, exact if these aren't resized."""
        (width, height), x = self.picture.size, self.picture.scale
        row, column = ((np.arange(n) + 0.5) / x for n in (height, width))
        maps = self.take.exo_depth_m.numpy()[self.indices][:, row.astype(int)]
        return maps[:, ::every, (column + self.picture.left).astype(int)[::every]]

    @property
    def ego(self) -> CameraModel:
        return self.take.ego.camera.rescale(self.picture.size[1], self.picture.size[1])

    def poses(self, of_exo: bool, upright: bool = True) -> Poses:
        """Build the poses of the whole source, as a program would write them."""
        ego = self.take.ego.w2c
        ego = self.take.ego.camera.upright_poses(ego) if upright else ego
        exo = self.all_exo.numpy()
        lens = (self.source_k, self.picture.source) if of_exo else (k_of(32, 31.5, 31.5), (64, 64))
        return Poses(exo if of_exo else ego.numpy(), *lens, FPS, exo)

    def file(self, name: str, content: dict[str, object]) -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content), "utf-8")
        return file

    def meta(self, name: str, k: np.ndarray | None = None, **more: object) -> Path:
        """Write a true meta.json in a folder of its own."""
        content = {"camera_extrinsics": self.take.exo.rows()}
        content |= {"ego_extrinsics": self.take.ego.w2c.tolist()}
        content |= {} if k is None else {"camera_intrinsics": k.tolist()}
        return self.file(f"{name}/meta.json", content | more)

    def exact(self) -> Path:
        lens = self.take.exo.camera
        return self.meta("exact", exo_camera=lens.to_json())

    def depth_file(self, every: int = 1) -> Path:
        file = self.folder / f"depth{every}.npz"
        if not file.is_file():
            maps = self.take.exo_depth_m.numpy()[:, every // 2 :: every, every // 2 :: every]
            np.savez(file, depth_m=maps)
        return file

    @property
    def lens(self) -> CameraModel:
        return CameraModel.from_intrinsics(self.k(), *self.picture.size)


@pytest.fixture(scope="module")
def clip_of(tmp_path_factory) -> Callable[[str, str, bool], Clip]:
    pytest.importorskip("av", reason="decodes video")

    @cache
    def folder(source: tuple[int, int], moves: bool) -> Path:
        path, take = tmp_path_factory.mktemp("routes"), drawn(source, moves)
        write_video(path / "exo.mp4", take.exo_rgb, FPS, quality=1)
        return path

    @cache
    def clip(picture: str, frames: str, moves: bool) -> Clip:
        as_shown, indices = PICTURES[picture], FRAMES[frames]
        path = folder(as_shown.source, moves)
        loaded, _ = stages.load_clip(
            path / "exo.mp4",
            start_frame=indices[0],
            frame_count=USED,
            target_fps=FPS / 2 if frames == "every second" else 0.0,
            size=as_shown.size,
        )
        assert loaded.selection.indices.tolist() == indices
        return Clip(
            drawn(as_shown.source, moves),
            path,
            as_shown,
            indices,
            loaded.exo,
            loaded.selection,
            moves,
        )

    return clip


# --- What follows from cameras and depth ------------------------------------------------------


class Made(NamedTuple):
    depth: DepthVideo
    path: CameraTrajectory


@cache
def reference(clip: Clip) -> Made:
    """Make the reference from arrays of what was drawn."""
    depth, _ = stages.align(clip.maps(), frames=clip.frames, camera=clip.lens, exo_w2c=clip.pose)
    path, _ = stages.path(
        clip.ego_w2c.numpy(), frames=clip.frames, camera=clip.ego, exo_w2c=clip.pose
    )
    return Made(depth, path)


@cache
def scene_of(clip: Clip) -> PointCloud:
    return stages.scene(clip.exo, reference(clip).depth)[0]


def geometry_of(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> GgaGeometry:
    side = clip.picture.size[1]
    sizes = {"exo_size": clip.picture.size, "ego_size": (side, side)}
    return gga_geometry(depth, path, "exact", frames=USED, **sizes)


def eye_of(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> SecondEye:
    points, _ = stages.scene(clip.exo, depth)
    ego, _ = stages.prior(points, path, draw_anyway=True)
    return second_eye(ego.rgb, points, path, StereoForm())


def followed(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> Iterator[tuple[str, Any]]:
    """Yield everything that is made of a depth and a path, by name."""
    points, _ = stages.scene(clip.exo, depth)
    ego, _ = stages.prior(points, path)
    yield "prior", ego.rgb
    heads = seen_heads(points, ego_in_scene(points, path))
    yield "placement", torch.tensor(measure(heads))
    yield "rank", ranked(depth, path)
    geometry = geometry_of(clip, depth, path)
    yield "GGA queries", geometry.query_dirs
    yield "GGA keys", geometry.key_dirs
    hands = clip.take.hands.select(torch.tensor(clip.indices))
    yield "hands", torch.cat([part.flatten() for part in hands.in_head(path)])
    for name, column in columns_of(clip.exo, ego.rgb, depth, path, hands).items():
        yield name, torch.as_tensor(np.array(column)).double()
    yield "second eye", second_eye(ego.rgb, points, path, StereoForm()).rgb
    camera = viewer_camera(path)
    yield "viewer", torch.tensor([*camera["position"].values(), camera["fov"], camera["aspect"]])
    turn = torch.tensor(list(camera["quaternion"].values())).double()
    yield "viewer's turn", turn * turn[3].sign()


@cache
def truth(clip: Clip) -> Mapping[str, Any]:
    values = dict(followed(clip, *reference(clip)))
    # Independently of the code: hands, cameras in the columns, the viewer.
    exo_c2w = relative(torch.eye(3, 4).double().expand(USED, 3, 4), clip.exo_w2c)
    head = relative(clip.ego.upright_poses(clip.ego_w2c), clip.exo_w2c)
    joints = clip.take.hands.joints[clip.indices].flatten(1, 2)
    joints = joints @ head[:, :, :3].mT + head[:, None, :, 3]
    values["hands"] = torch.cat((joints.flatten(), values["hands"][joints.numel() :]))
    values["egox.exo_K"] = torch.tensor(clip.k()).flatten().expand(USED, 9)
    values["egox.exo_c2w"] = torch.cat(
        (exo_c2w.flatten(1), torch.tensor([[0.0, 0, 0, 1]]).double().expand(USED, 4)), 1
    )
    flip = torch.tensor([1.0, -1, -1]).double()
    pose = relative(torch.eye(3, 4).double()[None], head[:1])[0]
    turn = flip[:, None] * pose[:, :3] * flip
    values["viewer's turn"] = rotation_as_quaternion(turn)
    values["viewer"] = torch.cat((flip * pose[:, 3], values["viewer"].double()[3:]))
    return values


def rotation_as_quaternion(turn: Tensor) -> Tensor:  # [3, 3] -> x y z w, w >= 0
    w = math.sqrt(max(0.0, 1 + float(turn.trace()))) / 2
    part = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return torch.cat((part / (4 * w), torch.tensor([w]).double()))


def off(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    assert torch.equal(one.isnan(), other.isnan())
    return float((one.double() - other.double()).nan_to_num().abs().max())


def decibels(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(float((one - other).square().mean()) + 1e-12)


def check_cameras(clip: Clip, made: Made, poses: float) -> None:
    lens, k = lens_of(made.depth), torch.tensor(clip.k())
    x, y = (
        side / stored_side
        for side, stored_side in zip(clip.picture.size, lens.stored_size, strict=True)
    )
    centre = (lens.cx + 0.5) * x - 0.5, (lens.cy + 0.5) * y - 0.5
    stated = torch.tensor([lens.fx * x, lens.fy * y, *centre], dtype=torch.float64)
    assert off(stated, torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])) < 1e-6
    assert off(exo_poses_of(made.depth, USED), clip.exo_w2c) < poses
    assert off(ego_from_exo(made.path), relative(clip.ego_w2c, clip.exo_w2c)) < 3 * poses
    assert off(made.path.ego.frames.times_s, clip.frames.times_s) < 1e-9
    assert lens_of_path(made.path) == clip.ego


def check_all(clip: Clip, made: Made) -> None:
    want = truth(clip)
    for name, value in followed(clip, *made):
        if name in ("prior", "second eye"):
            assert decibels(value, want[name]) > 60, name
        else:
            assert off(value, want[name]) < 1e-5, name


# --- The ways ---------------------------------------------------------------------------------

ARRAYS, FILES = 1e-9, 1e-6
WAYS: dict[str, tuple[Callable[[Clip], Made], float, bool]] = {}


def way(name: str, poses: float = ARRAYS, everything: bool = False):
    """Register a way to give the exo lens, the exo pose, the ego path or depth. Everything else is
    the reference's."""

    def kept(function: Callable[[Clip], Any]) -> Callable[[Clip], Any]:
        WAYS[name] = function, poses, everything
        return function

    return kept


def with_depth(clip: Clip, depth: Any = None, **more: Any) -> Made:
    """Align maps, which are those of the frames unless others are given."""
    more = {"frames": clip.frames} | more
    depth = clip.maps() if depth is None and "sockets" not in more else depth
    aligned_depth, _ = stages.align(depth, **more)
    return Made(aligned_depth, reference(clip).path)


def with_k(clip: Clip, depth: Any, camera: Any) -> Made:
    return with_depth(clip, depth, camera=camera, exo_w2c=clip.pose)


def camera(k: np.ndarray, size: tuple[int, int]) -> CameraModel:
    return CameraModel.from_intrinsics(k, *size)


way("K: array, of the frames")(lambda c: with_k(c, None, c.k()))
way("K: array, of the source")(lambda c: with_k(c, None, c.source_k))
way("K: array, of the frames, depth of half their size")(lambda c: with_k(c, c.maps(2), c.k()))
way("K: array, of a depth of half the frames' size")(lambda c: with_k(c, c.maps(2), c.k(0.5)))
way("K: array, of the source, depth of half the frames' size")(
    lambda c: with_k(c, c.maps(2), c.source_k)
)
way("K: array, of a depth of the source's size")(
    lambda c: with_k(c, c.take.exo_depth_m.numpy()[c.indices], c.source_k)
)
way("K: camera of the frames", everything=True)(
    lambda c: with_k(c, None, camera(c.k(), c.picture.size))
)
way("K: camera of the source")(lambda c: with_k(c, None, camera(c.source_k, c.picture.source)))
way("K: camera of the source, with a file")(
    lambda c: with_k(c, c.depth_file(), camera(c.source_k, c.picture.source))
)
way("K: array, of the source, with a file")(lambda c: with_k(c, c.depth_file(), c.source_k))
way("K: array, of the source, with a file of half its size")(
    lambda c: with_k(c, c.depth_file(2), c.source_k)
)
way("K: exo_camera of meta.json")(
    lambda c: with_depth(c, c.depth_file(), meta=read_meta(c.exact()))
)
way("K: exo_camera of meta.json, file of half the size")(
    lambda c: with_depth(c, c.depth_file(2), meta=read_meta(c.exact()))
)


@way("K: meta.json")
def _(c: Clip) -> Made:
    return with_depth(c, c.depth_file(), meta=read_meta(c.meta("own", c.source_k)))


@way("K: meta.json, of another resolution")
def _(c: Clip) -> Made:
    k = np.diag([7.5, 7.5, 1]) @ c.source_k  # its centre stays the middle, as released
    return with_depth(c, c.depth_file(), meta=read_meta(c.meta("large", k)))


@way("K: meta.json, without a frame's K in sockets", FILES)
def _(c: Clip) -> Made:
    sockets = {"moge_geometry": moge(c, c.k(1.3))}
    return with_depth(c, sockets=sockets, meta=read_meta(c.exact()))


def moge(c: Clip, k: np.ndarray) -> dict[str, Tensor]:
    """Build K as the host's node gives it, over the picture's outline, counted from its rim."""
    (width, height), k = c.picture.size, torch.tensor(k).float()
    k[:2, 2] += 0.5
    k = k / torch.tensor([[width], [height], [1.0]])
    depth = torch.from_numpy(c.maps().copy())
    return {
        "depth": depth,
        "mask": depth.isfinite(),
        "normal": depth[..., None].expand(-1, -1, -1, 3),
        "intrinsics": k.expand(USED, 3, 3),
    }


@way("K: meta.json of ViPE", FILES)
def _(c: Clip) -> Made:
    folder = c.folder / f"vipe{c.moves}"
    folder.mkdir(exist_ok=True)
    FORMS["vipe"](folder, c.poses(of_exo=True))
    return with_depth(c, c.depth_file(), meta=read_meta(folder / "intrinsics" / "clip.npz"))


@way("K: the editor's meta.json", FILES)
def _(c: Clip) -> Made:
    meta = exported(c, "meta") / "meta.json"
    return with_depth(c, c.depth_file(), meta=read_meta(meta))


way("exo pose: array of the frames", everything=True)(lambda c: with_k(c, None, c.lens))
way("exo pose: array of the source")(
    lambda c: with_depth(c, camera=c.lens, exo_w2c=c.all_exo.numpy())
)
way("exo pose: array, with a file")(
    lambda c: with_depth(c, c.depth_file(), camera=c.source_k, exo_w2c=c.pose)
)
way("exo pose: array of the source, with a file")(
    lambda c: with_depth(c, c.depth_file(), camera=c.source_k, exo_w2c=c.all_exo.numpy())
)
way("exo pose: meta.json, with sockets", FILES)(
    lambda c: with_depth(c, sockets={"moge_geometry": moge(c, c.k())}, meta=read_meta(c.exact()))
)


def form_way(form: str) -> None:
    @way(f"exo pose: {form}", FILES)
    def _(c: Clip) -> Made:
        folder = c.folder / f"{form} {c.moves}"
        folder.mkdir(exist_ok=True)
        file = FORMS[form](folder, c.poses(of_exo=form not in OF_BOTH))
        poses = on_exo_path(file, reference(c).depth)
        return with_depth(c, camera=c.lens, exo_w2c=poses.numpy())

    @way(f"ego path: {form}", FILES, everything=True)
    def _(c: Clip) -> Made:
        folder = c.folder / f"ego {form} {c.moves}"
        folder.mkdir(exist_ok=True)
        file = FORMS[form](folder, c.poses(of_exo=False, upright=form != "meta"))
        path, _ = stages.path(file, frames=c.frames, camera=c.ego, scene=scene_of(c))
        return Made(reference(c).depth, path)


for _form in FORMS:
    form_way(_form)


def with_path(c: Clip, poses: Any, **more: Any) -> Made:
    path, _ = stages.path(poses, frames=c.frames, camera=c.ego, **more)
    return Made(reference(c).depth, path)


way("ego path: array, in the scene's world", everything=True)(
    lambda c: with_path(c, c.ego_w2c.numpy(), scene=scene_of(c))
)
way("ego path: array of the source")(
    lambda c: with_path(c, c.take.ego.w2c.numpy(), exo_w2c=c.all_exo.numpy())
)
way("ego path: keyframes")(lambda c: with_path(c, document(c)["keyframes"], scene=scene_of(c)))
way("ego path: a path of the whole source")(
    lambda c: with_path(
        c,
        whole_path(c),
    )
)
way("ego path: meta.json as read")(lambda c: with_path(c, read_meta(c.exact())))


def whole(c: Clip) -> Clip:
    """Extend the clip to all frames of the source, in the picture of the frames in use."""
    indices = torch.arange(COUNT)
    frames = replace(c.frames, indices=indices, times_s=indices.double() / FPS, fps=FPS)
    return replace(c, indices=indices.tolist(), frames=frames)


def whole_path(c: Clip) -> CameraTrajectory:
    every = whole(c)
    return stages.path(
        every.ego_w2c.numpy(), frames=every.frames, camera=c.ego, exo_w2c=every.pose
    )[0]


def document(c: Clip) -> dict[str, Any]:
    """Build keyframes of the frames in use."""
    keys = zip(c.indices, c.ego_w2c.tolist(), strict=True)
    return {"keyframes": [{"frame": index, "w2c": pose} for index, pose in keys]}


def exported(c: Clip, form: str) -> Path:
    """Write what the editor exports to a folder."""
    name, content = export_path(form, document(c), c.ego, c.frames.bare, scene_of(c))
    folder = c.folder / f"{form} of {c.picture.size} {c.indices} {c.moves}"
    folder.mkdir(exist_ok=True)
    if name.endswith(".zip"):
        zipfile.ZipFile(BytesIO(content)).extractall(folder)
    else:
        (folder / name).write_bytes(content)
    return folder


EXPORTS = {
    "meta": "meta.json",
    "colmap": "images.txt",
    "trajectory": "egox_trajectory.json",
    "keyframes": "egox_keyframes.json",
    "blender": "transforms.json",
    "chan": "ego_camera.chan",
}


def export_way(form: str, file: str) -> None:
    @way(f"ego path: the editor's {file}", FILES, everything=form in ("meta", "blender"))
    def _(c: Clip) -> Made:
        more = {"every_nth": 1} if form == "chan" else {}  # 1 to 5 may be every second frame
        folder = exported(c, form)
        folder = folder / "colmap" if form == "colmap" and c.moves else folder
        return with_path(c, folder / file, scene=scene_of(c), **more)


for _form, _file in EXPORTS.items():
    export_way(_form, _file)


way("depth: array of the source")(lambda c: with_k(c, whole(c).maps(), c.lens))


@way("depth: of the whole source, aligned")
def _(c: Clip) -> Made:
    e = whole(c)
    depth, _ = stages.align(e.maps(), frames=e.frames, camera=c.lens, exo_w2c=e.pose)
    return with_depth(c, depth)


@way("depth: a map more than frames")
def _(c: Clip) -> Made:
    """Align one map more than frames, which is right if cutting and indexing agree, else refused."""
    maps = whole(c).maps()[[*c.indices, c.indices[-1] + 1]]
    if c.indices[:5] == [0, 1, 2, 3, 4]:
        return with_k(c, maps, c.lens)
    with refuses("depth array: got 6 "):
        with_k(c, maps, c.lens)
    return reference(c)


@way("depth: what moves, of the source")
def _(c: Clip) -> Made:
    marked = np.zeros((COUNT, *c.picture.size[::-1]))
    for frame in range(COUNT):
        marked[frame, :, frame] = 1
    made = with_depth(c, camera=c.lens, exo_w2c=c.pose, dynamic_mask=marked)
    assert torch.equal(made.depth.dynamic, torch.from_numpy(marked[c.indices] > 0))
    return made


# --- What is not crossed with pictures ---------------------------------------------------------


def narrower_video(clip_of) -> None:
    """Check row 5: K of a 16:9 picture beside a video and a depth file of 7:4 (1920x1080 as
    784x448)."""
    clip, size = clip_of("as it is", "from 0", False), (126, 72)  # of whole 128x72
    frames = replace(clip.frames, source_size=size, size=size)
    file = clip.folder / "narrow.npz"
    np.savez(file, depth_m=np.full((COUNT, *size[::-1]), 2, np.float32))
    meta = read_meta(clip.meta("wide", k_of(1540, 960, 540)))
    lens = lens_of(stages.align(file, frames=frames, meta=meta)[0])
    assert (lens.fx, lens.cx, lens.cy) == pytest.approx((1540 * 72 / 1080, 63, 36), abs=1e-6)
    assert lens.fy == pytest.approx(lens.fx)


def lens_of_another_shape(clip_of) -> None:
    """Check row 8: the picture is cropped about the middle."""
    clip = clip_of("as it is", "from 0", False)
    path = clip.poses(of_exo=False)
    wide = replace(path, k=k_of(1000, 959.5, 539.5), size=(1920, 1080))
    for form in ("colmap text", "transforms", "ours"):
        folder = clip.folder / f"wide {form}"
        folder.mkdir()
        read, notes = stages.path(
            FORMS[form](folder, wide), frames=clip.frames, ego_size=256, scene=scene_of(clip)
        )
        lens = lens_of_path(read)
        want = 1000 * 256 / 1080
        assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx((want, want, 127.5, 127.5))
        assert lens.stored_size == (256, 256) and "1080x1080" in notes.placed


def arguments_that_are_not_used(clip_of) -> None:
    """Check row 3: an argument is refused next to a file that says otherwise, and kept next to one
    that agrees."""
    clip = clip_of("as it is", "from 0", False)
    other, meta = k_of(50, 48, 32), read_meta(clip.exact())
    depth = reference(clip).depth
    for source, more in (
        (clip.depth_file(), {"meta": meta, "camera": other}),
        (clip.depth_file(), {"meta": meta, "exo_w2c": clip.pose + [[0, 0, 0, 1.0]]}),
        (depth, {"camera": other}),
        (depth, {"exo_w2c": clip.pose + [[0, 0, 0, 1.0]]}),
    ):
        with refuses("camera|exo_w2c"):
            stages.align(source, frames=clip.frames, **more)
    with refuses("camera"):
        stages.scene(clip.exo, depth, camera=other)
    for source, more in ((clip.depth_file(), {"meta": meta}), (depth, {})):
        results = with_depth(clip, source, camera=clip.source_k, exo_w2c=clip.pose, **more)
        check_cameras(clip, results, ARRAYS)


def moments_of_others(clip_of) -> None:
    """Check row 7: a scene and a path of other frames are refused, and of the same ones everything
    is drawn."""
    late, early = (clip_of("as it is", name, False) for name in ("from 4", "from 0"))
    (depth, path_of_scene), other, scene = reference(late), reference(early).path, scene_of(late)
    ego = stages.prior(scene, path_of_scene)[0].rgb
    hands = replace(late.take.hands.select(torch.tensor(late.indices)), frames=late.frames.bare)
    for made_of_both in (
        lambda path: stages.prior(scene, path),
        lambda path: stages.judge(ego, scene=scene, trajectory=path),
        lambda path: geometry_of(late, depth, path),
        lambda path: ranked(depth, path),
        lambda path: camera_fit(scene, path, ego, True),
        lambda path: second_eye(ego, scene, path, StereoForm()),
        lambda path: columns_of(late.exo, ego, depth, path, hands),
        lambda path: draw_hands(hands, path),
        lambda path: make_episodes(
            "a", "do it", late.exo, ego, replace(path, exo=depth.exo), hands, fps=24
        ),
    ):
        made_of_both(path_of_scene)
        with refuses("moments of (scene|depth|hands) and path"):
            made_of_both(other)


def other_lengths(clip_of) -> None:
    """Check row 7: poses and masks match neither the frames nor the source."""
    late = clip_of("as it is", "from 4", True)
    with refuses("got 7 "):
        stages.path(late.take.ego.w2c.numpy()[:7], frames=late.frames, camera=late.ego)
    with refuses("got 7 "):
        with_depth(late, camera=late.lens, exo_w2c=late.all_exo.numpy()[:7])
    with refuses("got 7 "):
        with_depth(late, camera=late.lens, dynamic_mask=np.eye(96)[None, :64].repeat(7, 0))
    with refuses("got 4 "):
        stages.align(late.maps(), camera=late.lens, exo_w2c=late.pose[:4])
    with refuses("exo_w2c: got 5 frames; expected 12"):
        stages.path(late.exact(), exo_w2c=late.pose)


def world_that_nobody_knows(clip_of) -> None:
    """Check row 2: a file's own world is unknown until a scene, a take or a pose ties it."""
    clip = clip_of("as it is", "from 0", True)
    hands, depth = clip.take.hands.select(torch.tensor(clip.indices)), reference(clip).depth
    ego = torch.zeros(USED, 64, 64, 3, dtype=torch.uint8)
    for form in FORMS.keys() - {*OF_BOTH}:
        folder = clip.folder / f"alone {form}"
        folder.mkdir()
        file = FORMS[form](folder, clip.poses(of_exo=False))
        path, _ = stages.path(file, frames=clip.frames, camera=clip.ego)
        assert decibels(stages.prior(scene_of(clip), path)[0].rgb, truth(clip)["prior"]) > 60
        assert decibels(eye_of(clip, depth, path).rgb, truth(clip)["second eye"]) > 60
        assert off(ranked(depth, path), truth(clip)["rank"]) < 1e-5
        assert viewer_camera(path) == {}
        for made_of_it in (
            lambda path=path: hands.in_head(path),
            lambda path=path: columns_of(clip.exo, ego, depth, path, hands),
            lambda path=path: geometry_of(clip, depth, path),
        ):
            with refuses("world"):
                made_of_it()


def two_views(clip_of) -> tuple[Clip, Clip]:
    """Draw two exo cameras of one take, in one world."""
    first, clips = clip_of("as it is", "from 4", False), []
    for number, take in enumerate(drawn((96, 64), False, views=2).views):
        folder = first.folder / f"view {number}"
        folder.mkdir(exist_ok=True)
        write_video(folder / "exo.mp4", take.exo_rgb, FPS, quality=1)
        loaded, _ = stages.load_clip(folder / "exo.mp4", start_frame=4, frame_count=USED)
        selection = {"exo": loaded.exo, "frames": loaded.selection}
        clips.append(replace(first, take=take, folder=folder, **selection))
    return clips[0], clips[1]


def remarks_of(clip: Clip, depth: DepthVideo, path: CameraTrajectory) -> Mapping[str, list[str]]:
    """Collect the remarks of each stage that has a path and an exo camera, by the stage."""
    points, _ = stages.scene(clip.exo, depth)
    drawn_prior, report = stages.prior(points, path, draw_anyway=True)
    ego = drawn_prior.rgb
    return {
        "prior": report.warnings(),
        "judge": stages.judge(ego, scene=points, trajectory=path)[1].warnings(),
        "geometry": geometry_of(clip, depth, path).notes(),
        "second eye": eye_of(clip, depth, path).warnings(),
        "fit": camera_fit(points, path, ego, True).warnings(),
    }


def two_exo_cameras_of_one_take(clip_of) -> None:
    """Check the path of one camera's file with all else of the other's: results equal the other's
    own, and both are named."""
    views = two_views(clip_of)
    for of_path, clip in (views, views[::-1]):
        depth, scene = reference(clip).depth, scene_of(clip)
        assert not any("against" in lines for lines in remarks_of(clip, *reference(clip))["prior"])
        alone, _ = stages.path(of_path.exact(), frames=clip.frames, camera=clip.ego)
        for stage, lines in remarks_of(clip, depth, alone).items():
            assert any("another camera of the take" in each for each in lines), stage
        path_beside, notes = stages.path(
            of_path.exact(), frames=clip.frames, camera=clip.ego, scene=scene
        )
        assert "another camera of the take" in notes.placed
        for path in (path_beside, alone.beside(depth.exo), alone.tied(scene.exo)):
            check_all(clip, Made(depth, path))
        # Where depth has no pose, the videos tell.
        path_of_exo, _ = stages.path(of_path.exact(), frames=of_path.frames, camera=clip.ego)
        for view, named in ((clip, True), (of_path, False)):
            unposed, _ = stages.align(view.maps(), frames=view.frames, camera=view.lens)
            warnings = (*path_of_exo.other_exo(unposed.exo), *path_of_exo.other_hands(view.frames))
            assert len(warnings) == (2 if named else 0)
            assert all("two cameras" in str(warning) for warning in warnings)


def two_worlds(clip_of) -> None:
    """Check that depth and scene in a world of their own, with the very camera of the path's file,
    are named."""
    clip, turn = clip_of("as it is", "from 4", True), np.eye(4)
    turn[:3, :3] = [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]]
    turn[:3, 3] = 0.3, 0.1, -0.2
    depth, _ = stages.align(
        clip.maps(), frames=clip.frames, camera=clip.lens, exo_w2c=clip.pose @ turn
    )
    path, _ = stages.path(clip.exact(), frames=clip.frames, camera=clip.ego)
    assert path.other_exo(depth.exo) and path.other_exo(*stages.scene(clip.exo, depth)[0].exos)
    for stage, lines in remarks_of(clip, depth, path).items():
        assert any("the same one, these are two worlds" in each for each in lines), stage
    # As the remark says: without the depth's own pose, the path's ties it.
    own_depth, _ = stages.align(clip.maps(), frames=clip.frames, camera=clip.lens)
    if not clip.moves:
        check_all(clip, Made(own_depth, path.beside(own_depth.exo)))


def lenses_that_are_no_pinhole(clip_of) -> None:
    """Fisheye, distorted, off its middle: each way hands on the source's lens, cut and resized."""
    lenses = (
        {"lens": "opencv", "distortion": (-0.1, 0.02, 0.001, -0.002)},
        {"lens": "opencv_fisheye", "distortion": (0.03, -0.01, 0.002, 0.0)},
        {"lens": "pinhole"},
    )
    for picture in PICTURES:
        clip = clip_of(picture, "from 4", False)
        (width, height), used_picture, x = clip.picture.source, clip.picture, clip.picture.scale
        for number, kind in enumerate(lenses):
            lens = CameraModel(
                width=width,
                height=height,
                fx=70,
                fy=71,
                cx=width / 2 - 4,
                cy=height / 2 + 3,
                **kind,
            )
            meta = read_meta(clip.meta(f"lens {number}", exo_camera=lens.to_json()))
            points = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double()
            points = points * torch.tensor([0.4, 0.3, 0.1]) + torch.tensor([0, 0, 1.5])
            source_uv = lens.project(points)[0] + 0.5
            want = (source_uv - torch.tensor([used_picture.left, 0])) * x - 0.5
            for made in (
                with_depth(clip, clip.depth_file(), meta=meta),
                with_depth(clip, clip.depth_file(), camera=lens),
                with_depth(clip, camera=lens),
            ):
                found_lens = lens_of(made.depth)
                got = found_lens.rescale(*used_picture.size).project(points)[0]
                assert off(got, want) < 1e-6, (picture, kind["lens"])


def another_rate(clip_of) -> None:
    """Check a pose for each half frame, which is used by its time, or refused if the file has none."""
    clip = clip_of("as it is", "from 4", False)
    path = clip.poses(of_exo=False)
    between = (path.w2c[:-1] + path.w2c[1:]) / 2
    u, _, vh = np.linalg.svd(between[:, :, :3])
    between[:, :, :3] = u @ vh
    twice = np.empty((2 * COUNT - 1, 3, 4))
    twice[::2], twice[1::2] = path.w2c, between
    doubled = replace(path, w2c=twice, fps=2 * FPS, exo_w2c=None)
    for form in FORMS:
        folder = clip.folder / f"twice {form}"
        folder.mkdir()
        file = FORMS[form](folder, doubled)
        if form in ("tum", "ours"):
            read, _ = stages.path(file, frames=clip.frames, scene=scene_of(clip))
            assert off(read.ego.upright_w2c, torch.tensor(path.w2c[clip.indices])) < FILES, form
        else:
            with refuses():
                stages.path(file, frames=clip.frames, scene=scene_of(clip))


def keyframes_of_an_upright_lens(clip_of) -> None:
    """Check that an export which says nothing of the lens is read again with an upright view."""
    clip = clip_of("as it is", "from 4", False)
    upright = clip.take.ego.camera.upright_poses(clip.ego_w2c)
    keys = zip(clip.indices, upright.tolist(), strict=True)
    document = {"keyframes": [{"frame": index, "w2c": pose} for index, pose in keys]}
    for lens in (CameraModel.pinhole(64, 64, 32), clip.ego.upright()):
        name, content = export_path("keyframes", document, lens, clip.frames.bare, scene_of(clip))
        file = clip.folder / name
        file.write_bytes(content)
        for camera in (None, lens, clip.ego):
            read, _ = stages.path(file, frames=clip.frames, camera=camera)
            assert off(read.ego.upright_w2c, upright) < ARRAYS
    _, notes = stages.path(document, frames=clip.frames)
    assert "turned by 90 degrees" in notes.placed


def viewer_of_a_pinhole(clip_of) -> None:
    """Check row 9: 90 degrees are 90."""
    clip = clip_of("as it is", "from 0", False)
    path, _ = stages.path(
        clip.take.ego.camera.upright_poses(clip.ego_w2c).numpy(),
        frames=clip.frames,
        camera=CameraModel.pinhole(64, 64, 32),
        exo_w2c=clip.pose,
    )
    camera = viewer_camera(path)
    assert camera["fov"] == pytest.approx(90)
    turn = torch.tensor(list(camera["quaternion"].values())).double()
    assert off(turn * turn[3].sign(), truth(clip)["viewer's turn"]) < 1e-5


def prepared_clips(clip_of) -> None:
    """Check `prepare` on a cropped clip of a camera that moves, and on every second frame of one
    that stands."""
    for moves, step, (width, height) in ((True, 1, (64, 64)), (False, 2, (48, 32))):
        picture = "square" if width == height else "half"
        clip = clip_of(picture, "from 4" if step == 1 else "every second", moves)
        root = clip.folder / f"takes {moves}"
        write_take(drawn((96, 64), moves), root / "a", quality=1)
        options = PrepareOptions(
            frames=USED,
            stride=4,
            step=step,
            exo_size=(width, height),
            ego_size=height,
            device="cpu",
        )
        records, _ = prepared(root, clip.folder / f"set {moves}", options)
        record = next(r for r in records if r.start == clip.indices[0])
        folder = clip.folder / f"set {moves}" / record.folder
        meta = read_meta(folder / "meta.json")
        depth, _ = stages.align(folder / "depth.npz", meta=meta)
        path, _ = stages.path(meta, count=USED)
        frames = clip.frames.bare
        made = (
            replace(depth, exo=replace(depth.exo, frames=frames)),
            replace(path, ego=replace(path.ego, frames=frames)),
        )
        check_cameras(clip, Made(*made), FILES)


def headpose_file(clip_of) -> None:
    """Check that the exo part of a headpose file is the take's in another crop, too."""
    clip = clip_of("square", "from 4", False)
    folder = clip.folder / "with head"
    write_take(clip.take, folder)
    write_keypoints(clip.take.spec, folder / "points.json")
    assert train_egox(["headpose", str(folder), "--keypoints", str(folder / "points.json")]) == 0
    path, _ = stages.path(folder / HEAD_TRAJECTORY, frames=clip.frames)
    ego, hands = torch.zeros(USED, 64, 64, 3, dtype=torch.uint8), HandTrack.unknown(USED)
    columns = columns_of(clip.exo, ego, reference(clip).depth, path, hands)
    for name in ("egox.exo_K", "egox.exo_c2w"):
        assert off(torch.from_numpy(columns[name]), truth(clip)[name]) < FILES, name


ALONE = (
    narrower_video,
    lens_of_another_shape,
    arguments_that_are_not_used,
    moments_of_others,
    other_lengths,
    world_that_nobody_knows,
    two_exo_cameras_of_one_take,
    two_worlds,
    lenses_that_are_no_pinhole,
    another_rate,
    keyframes_of_an_upright_lens,
    viewer_of_a_pinhole,
    prepared_clips,
    headpose_file,
)


@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_a_row_has_its_value(check, clip_of):
    check(clip_of)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", WAYS)
def test_a_way_gives_the_drawn_camera(name, picture, clip_of):
    function, poses, everything = WAYS[name]
    for number, frames in enumerate(FRAMES):
        clip = clip_of(picture, frames, moves=(number + [*PICTURES].index(picture)) % 2 == 0)
        made = function(clip)
        check_cameras(clip, made, poses)
        assert not made.path.other_exo(made.depth.exo)
        if everything and picture in WHOLE and number == [*PICTURES].index(picture):
            check_all(clip, made)
