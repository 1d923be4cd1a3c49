"""Test every fact at the doors that take it: unstated, stated, stated otherwise, declared.

A line of the table says what the numbers of a file really are, what the file states, what the user
declares, and which row comes of it. The take is right exactly where the row has the true value."""

import re
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel, sensor_from_upright
from egox_core.exchange import CameraFile
from egox_core.facts import Declared
from egox_core.facts.table import FACTS
from egox_core.frames import Frames
from egox_core.hands import JOINT_NAMES, hands_in_use, read_hands
from egox_core.stages import align, load_clip, path, scene
from egox_core.takes import read_meta
from egox_core.types import FrameSelection
from egox_train.video_writer import write_video
from tests.core.facts import pose_doors
from tests.core.hands.test_hand_track import draw_hands_at, random_rotations, write_hand_file
from tests.refusals import refuses

COUNT, WIDTH, HEIGHT, FOCAL = 5, 48, 32, 40.0
TIMES = np.arange(COUNT) / 10
FRAMES = Frames.stated(range(COUNT), TIMES.tolist(), COUNT)
LENS = CameraModel.pinhole(WIDTH, HEIGHT, FOCAL)
FLIPS = {
    "opencv": np.diag([1.0, 1, 1, 1]),
    "opengl": np.diag([1.0, -1, -1, 1]),
    "unity": np.diag([1.0, -1, 1, 1]),
}

# door | fact | true value | stated by the file | declared (= the true value) | its row, or refused
# A row is the value, who gave it, and who said otherwise.
TABLE = """
transforms | ego.axes | opengl | | | opengl (form)
transforms | ego.axes | opencv | | | opengl (form)
transforms | ego.axes | opencv | camera_convention=opencv | | opencv (camera_convention)
transforms | ego.axes | opencv | camera_convention=OpenGL | = | opencv (declared), opengl
transforms | ego.axes | unity | | = | unity (declared)
tum | ego.axes | unity | | | opencv (form)
tum | ego.axes | unity | | = | unity (declared)
array | ego.axes | unity | | | opencv (form)
array | ego.axes | opengl | | = | opengl (declared)
meta | ego.axes | unity | | | opencv (form)
meta | ego.axes | unity | unity | | unity (declared in meta.json)
meta | ego.axes | unity | opengl | = | unity (declared), opengl
npy c2w | ego.axes | opengl | | | refused: ego.axes=opencv, opengl, unity
npy c2w turned | ego.axes | opengl | | = | opengl (declared)
npy c2w | ego.axes | unity | | = | unity (declared)
columns c2w turned | ego.axes | opengl | | = | opengl (declared)
transforms | ego.world_axes | turned | | | turned (form)
transforms | ego.world_axes | stored | | | turned (form)
transforms | ego.world_axes | stored | applied_transform | | stored (applied_transform)
transforms | ego.world_axes | stored | | = | stored (declared)
transforms | ego.world_axes | turned | applied_transform | = | turned (declared), stored
tum unity | ego.world_axes | turned | | = | turned (declared)
columns c2w opengl | ego.world_axes | turned | | = | turned (declared)
columns c2w opengl | ego.world_axes | stored | | = | stored (declared)
npy opencv | ego.direction | w2c | | | refused: ego.direction=c2w
npy opencv | ego.direction | w2c | | = | w2c (declared)
tum | ego.direction | w2c | | = | w2c (declared)
meta | ego.direction | c2w | c2w | | c2w (declared in meta.json)
meta | ego.direction | c2w | w2c | = | c2w (declared), w2c
tum | ego.quaternion | xyzw | | | xyzw (form)
tum | ego.quaternion | wxyz | | | xyzw (form)
tum | ego.quaternion | wxyz | qw qx qy qz | | wxyz (header)
tum | ego.quaternion | wxyz | qx qy qz qw | = | wxyz (declared), xyzw
tum | ego.quaternion | wxyz | | = | wxyz (declared)
transforms | ego.unit | m | | | m (default)
transforms | ego.unit | cm | | | m (default)
transforms | ego.unit | cm | units=cm | | cm (units)
transforms | ego.unit | cm | units=mm | = | cm (declared), mm
transforms | ego.unit | 0.5 | applied_scale=2 | | 0.5 m (applied_scale)
transforms | ego.unit | 0.005 | unit=cm applied_scale=2 | | 0.005 m (applied_scale)
transforms | ego.unit | 0.005 | unit=m applied_scale=2 | cm | 0.005 m (declared), 0.5 m
tum | ego.unit | mm | | | m (default)
tum | ego.unit | ft | | = | ft (declared)
tum | ego.unit | 2 | | = | 2 m (declared)
array | ego.unit | cm | | | m (default)
array | ego.unit | in | | = | in (declared)
meta | ego.unit | 0.3 | | = | 0.3 m (declared)
motive | ego.unit | mm | | | mm (Length Units)
motive | ego.unit | cm | | = | cm (declared), mm
tum | ego.world | take | | | taken to be one with the scene's (default)
tum | ego.world | exo | | | taken to be one with the scene's (default)
tum | ego.world | exo | | = | exo (declared)
npy c2w opengl | ego.world | exo | | = | exo (declared)
array | ego.world | exo | | | that of the exo camera's pose (default)
meta | ego.world | exo | exo | | exo (declared in meta.json)
meta | ego.world | exo | take | = | exo (declared), take
tum | ego.camera_from_tracker | 0 -.12 -.08 18 12 5 | | | no tracker, .* (default)
tum | ego.camera_from_tracker | 0 -.12 -.08 18 12 5 | | = | 14.4 cm and 21.7 .* (declared)
tum | ego.camera_from_tracker | 1 0 0 0 0 1 0 -.12 0 0 1.0000004 0 | | = | 12 cm and 0 .* (declared)
tum | ego.camera_from_tracker | -1 0 0 0 0 1 0 -.12 0 0 -1.0000004 0 | | = | .* and 180.* (declared)
meta | ego.camera_from_tracker | 0 -.12 0 | 0 -.12 0 | | 12 cm.* (declared in meta.json)
meta | ego.camera_from_tracker | 0 -.12 0 | 0 0 0 | = | 12 cm.* (declared), 0 cm
euroc | ego.camera_from_tracker | 0 -.12 0 | | = | 12 cm.* (declared)
aria | ego.camera_from_tracker | 0 0 0 | | | refused: T_camera_device
aria | ego.sensor_from_tracker | .01 .02 0 80 9 7 | | | refused: ego.sensor_from_tracker
aria | ego.sensor_from_tracker | .01 .02 0 80 9 7 | | = | 2.24 cm.* (declared)
meta | ego.sensor_from_tracker | 0 -.12 0 | 0 -.12 0 | | 12 cm.* (declared in meta.json)
meta | ego.sensor_from_tracker | 0 -.12 0 | 0 0 0 | = | 12 cm.* (declared), 0 cm
tum | ego.camera_from_tracker | MOUNT | | = | 8.19 cm and 62.* (declared)
tum | ego.camera_from_tracker | MOUNT | | MOUNT BY ROWS | 8.19 cm and 62.* (declared)
tum | ego.camera_from_tracker | MOUNT | | MOUNT BY COLUMNS | 8.19 cm and 62.* (declared)
tum | ego.camera_from_tracker | MOUNT | | MOUNT AND MORE | refused: give 12 numbers
tum | ego.camera_from_tracker | TURN | | TURN OF 16 | refused: give 12 numbers
tum | ego.camera_from_tracker | 0 -.12 -.08 18 12 5 | | 0 -120 -80 18 12 5 | refused: in metres
tum | ego.camera_from_tracker | TURN | | = | 0 cm and 62.* (declared)
tum | ego.camera_from_tracker | 0 0 0 0 0 180 | | HALF TURN OF 16 | 0 cm and 180.* (declared)
meta | ego.camera_from_tracker | MOUNT | MOUNT BY COLUMNS | | 8.19 cm.* (declared in meta.json)
tum clock | ego.time_offset_s | -0.2 | | | refused: ego.time_offset_s
transforms clock | ego.time_offset_s | -0.2 | | | refused: ego.time_offset_s
tum without end | ego.time_offset_s | -0.2 | | | 0 s (default)
tum clock | ego.time_offset_s | -0.2 | | = | -0.2 s (declared)
transforms clock | ego.time_offset_s | -0.2 | | = | -0.2 s (declared)
array | ego.time_offset_s | 0 | | = | refused: ego.time_offset_s
tum clock | ego.time_factor | 1e-9 | | | refused: ego.time_offset_s
tum clock declared | ego.time_factor | 1e-9 | | = | 1e-09 (declared)
exo array | exo.axes | opengl | | | opencv (form)
exo array | exo.axes | opengl | | = | opengl (declared)
exo transforms | exo.axes | opencv | camera_convention=opencv | | opencv (camera_convention)
exo transforms | exo.axes | unity | camera_convention=opencv | = | unity (declared), opencv
exo meta | exo.axes | unity | opengl | = | unity (declared), opengl
exo transforms | exo.world_axes | stored | | | turned (form)
exo transforms | exo.world_axes | stored | applied_transform | | stored (applied_transform)
exo transforms | exo.world_axes | stored | | = | stored (declared)
exo transforms | exo.world_axes | turned | applied_transform | = | turned (declared), stored
exo npy opencv | exo.direction | w2c | | | refused: exo.direction=c2w
exo npy opencv | exo.direction | w2c | | = | w2c (declared)
exo meta | exo.direction | c2w | c2w | | c2w (declared in meta.json)
exo meta | exo.direction | c2w | w2c | = | c2w (declared), w2c
exo tum | exo.quaternion | wxyz | | | xyzw (form)
exo tum | exo.quaternion | wxyz | | = | wxyz (declared)
exo tum | exo.quaternion | wxyz | qw qx qy qz | | wxyz (header)
exo tum | exo.quaternion | wxyz | qx qy qz qw | = | wxyz (declared), xyzw
exo array | exo.unit | cm | | | m (default)
exo array | exo.unit | cm | | = | cm (declared)
exo transforms | exo.unit | cm | units=cm | | cm (units)
exo meta | exo.unit | cm | mm | = | cm (declared), mm
exo euroc | exo.unit | m | | | refused: give the product as TUM
npz | depth.kind | z | | | z (default)
npz | depth.kind | ray | | | z (default)
npz | depth.kind | inverse | inverse_depth | | inverse (the name inverse_depth)
npz | depth.kind | ray | ray_depth | | ray (the name ray_depth)
npz | depth.kind | ray | distance | | ray (the name distance)
npz | depth.kind | z | distance_to_image_plane | | z (default)
npz | depth.kind | inverse | disparity | = | inverse (declared)
npz | depth.kind | z | ray_depth | = | z (declared), ray
npz | depth.kind | ray | | = | ray (declared)
array | depth.kind | ray | | = | ray (declared)
array | depth.kind | inverse | | | z (default)
npz | depth.unit | mm | | | m (default)
npz | depth.unit | mm | depth_mm | | mm (the name depth_mm)
npz | depth.unit | cm | depth_mm | = | cm (declared), mm
npz | depth.unit | ft | | = | ft (declared)
array | depth.unit | cm | | = | cm (declared)
meta | depth.unit | cm | cm | | cm (declared in meta.json)
png | depth.unit | mm | | | mm (16-bit PNG)
png | depth.unit | 0.0002 | | | mm (16-bit PNG)
png | depth.unit | 0.0002 | | = | 0.0002 m (declared), mm
png | depth.unit | 0.00390625 | | = | 0.00390625 m (declared), mm
npz | depth.metric | yes | | | none
npz | depth.metric | no | | = | refused: depth.unit
npz | depth.metric | yes | depth is_metric | = | yes (declared), no
meta | depth.metric | yes | yes | | yes (declared in meta.json)
npz | depth.unit | 0.5 | depth is_metric | = | 0.5 m (declared)
npz | depth.frames | source | | | refused: file_frames
npz | depth.frames | source | | = | source (declared)
npz | depth.frames | in use | | = | in use (declared)
npz | depth.frames | in use | file_frames=in use | | in use (argument file_frames)
npz | depth.frames | in use | file_frames=source | = | refused: depth.frames and file_frames
meta | depth.frames | in use | in use | | in use (declared in meta.json)
meta | depth.frames | in use | source | = | in use (declared), source
array | depth.frames | in use | | = | in use (declared)
meta | ego.frames | in use | | | refused: file_frames
meta | ego.frames | source | | = | source (declared)
meta | ego.frames | in use | in use | | in use (declared in meta.json)
meta | ego.frames | in use | source | = | in use (declared), source
array | ego.frames | in use | | = | in use (declared)
array | ego.frames | source | file_frames=in use | = | refused: ego.frames and file_frames
npy | exo.frames | in use | | | refused: times that fit in one way
npy | exo.frames | in use | | = | in use (declared)
npy | exo.frames | source | file_frames=source | | source (argument file_frames)
npy | exo.frames | source | file_frames=in use | = | refused: exo.frames and file_frames
transforms | ego.every_nth | -2 | | | none
transforms | ego.every_nth | -2 | | = | -2 (declared)
transforms | ego.every_nth | -2 | every_nth=-2 | | -2 (argument every_nth)
transforms | ego.every_nth | -2 | every_nth=-1 | = | refused: ego.every_nth and every_nth
transforms | exo.every_nth | -2 | | | none
transforms | exo.every_nth | -2 | | = | -2 (declared)
transforms | exo.every_nth | -2 | every_nth=-2 | | -2 (argument every_nth)
transforms | exo.every_nth | -2 | every_nth=-1 | = | refused: exo.every_nth and every_nth
npz | depth.scale | as is | | | none
npz | depth.scale | 2 | | = | 2 (declared)
npz | depth.scale | 2 | scale=2 | | 2 (argument scale)
meta | depth.scale | 2 | 2 | | 2 (declared in meta.json)
meta | depth.scale | 2 | 3 | = | 2 (declared), 3
npz | depth.far_m | 50 | | | none
png ceiling | depth.far_m | 65.5345 | | | 65.5345 m (65535, the largest number)
png ceiling | depth.far_m | 70 | | = | 70 m (declared)
array ceiling | depth.far_m | 65.5345 | | | 65.5345 m (65535, the largest number)
array ceiling | depth.far_m | 70 | | = | 70 m (declared), 65.5345
npz | depth.far_m | 50 | | = | 50 m (declared)
array | depth.far_m | 50 | | = | 50 m (declared)
meta | depth.far_m | 50 | 50 | | 50 m (declared in meta.json)
meta | depth.far_m | 50 | 20000 | = | 50 m (declared), 20000 m
hands | hands.axes | opencv | | | opencv (default)
hands | hands.axes | opengl | | = | opengl (declared)
hands | hands.axes | opengl | axes=opengl | | opengl (hands.json)
hands | hands.axes | unity | axes=opengl | = | unity (declared), opengl
hands | hands.frames | in use | | | refused: file_frames
hands | hands.frames | in use | | = | in use (declared)
hands | hands.frames | source | file_frames=source | | source (argument file_frames)
hands | hands.frames | source | file_frames=in use | = | refused: hands.frames and file_frames
hands | hands.unit | mm | | | mm (the hands' own size)
hands | hands.unit | mm | units=mm | | mm (hands.json)
hands | hands.unit | in | | = | in (declared)
hands | hands.unit | 0.7 | unit=m | = | 0.7 m (declared), m
hands | hands.names | REVERSED | | | refused: names
hands | hands.names | REVERSED | | = | little_tip.* (declared)
hands | hands.names | REVERSED | joint_names=REVERSED | | little_tip.* (hands.json)
hands | hands.names | REVERSED | names=OURS | = | little_tip.* (declared), wrist
kitti | ego.axes | opencv | | | opencv (form)
kitti_360 | ego.axes | opencv | | | opencv (form)
lens | exo.fov_deg | 60 | | | none
lens | exo.fov_deg | 60 | | = | 60 degrees (declared)
lens | exo.fov_deg | 60 | fov | | 60 degrees (argument fov_deg)
lens | exo.fov_deg | 50 | fov | = | refused: exo.fov_deg and fov_deg
lens | exo.lens | guess | | | .* (default)
lens | exo.lens | npz | npz | | .* (K of depth.npz)
lens | exo.lens | meta | meta | | .* (camera_intrinsics of)
lens | exo.lens | meta | npz meta | | .* (camera_intrinsics of), pinhole, focal length 40
lens | exo.lens | npz | npz fov | | .* (K of depth.npz), pinhole, focal length 42
lens | exo.lens | fov | array fov | | .* (argument fov_deg)
lens | exo.lens | camera | array camera fov | | .* (argument camera), pinhole, focal length 42
turned | exo.picture | shown | | | shown (default)
turned | exo.picture | stored | | | shown (default)
turned | exo.picture | stored | | = | stored (declared)
turned | exo.picture | stored | stored | | stored (declared in meta.json)
turned | exo.picture | stored | shown | = | stored (declared), shown
picture | exo.part | left | | | none
picture | exo.part | left | | = | left (declared)
picture | exo.part | mirrored | | = | mirrored (declared)
picture | exo.part | right | right | | right (declared in meta.json)
picture | exo.part | right | left | = | right (declared), left
picture | exo.part | right | left | whole | whole (declared), left
"""


@dataclass(frozen=True)
class Truth:
    c2w: np.ndarray  # [T, 4, 4] of the wearer's camera, OpenCV's axes and metres
    exo_c2w: np.ndarray  # [4, 4]
    depth: np.ndarray  # [T, HEIGHT, WIDTH] float32 z depth of exo
    pictures: torch.Tensor  # [T, HEIGHT, WIDTH, 3] uint8

    @property
    def exo_w2c(self) -> np.ndarray:
        return np.linalg.inv(self.exo_c2w)[:3]


@pytest.fixture(scope="module")
def truth() -> Truth:
    rng = np.random.default_rng(3)
    matrices = np.tile(np.eye(4), (1 + COUNT, 1, 1))
    turns = rng.uniform(-0.6, 0.6, (1 + COUNT, 3))
    matrices[:, :3, :3] = Rotation.from_euler("yxz", turns).as_matrix()
    matrices[:, :3, 3] = rng.uniform(-0.8, 0.8, (1 + COUNT, 3))
    frames, rows, columns = np.mgrid[:COUNT, :HEIGHT, :WIDTH]
    depth = (4 + np.sin(columns / 8) + np.cos(rows / 6) + frames / 4).astype(np.float32)
    pictures = torch.from_numpy(40 * depth[..., None]).repeat(1, 1, 1, 3)
    return Truth(matrices[1:], matrices[0], depth, pictures.to(torch.uint8))


@pytest.fixture(scope="module")
def points(truth):
    depth, _ = align(truth.depth, camera=LENS, exo_w2c=truth.exo_w2c, frames=FRAMES)
    return scene(truth.pictures, depth)[0]


def in_file(truth: Truth, facts: Declared, camera: str, default_axes: str) -> np.ndarray:
    """Write the wearer's poses as a file has them, of which ``facts`` are true."""
    c2w, value = truth.c2w, lambda name: facts.value(f"{camera}.{name}")
    if (mount := value("camera_from_tracker")) is not None:
        c2w = c2w @ np.vstack([np.reshape(mount, (3, 4)), [0, 0, 0, 1]])
    if (mount := value("sensor_from_tracker")) is not None:
        # Its x runs down the upright picture, and its y to the left.
        upright_from_sensor = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        upright_from_tracker = upright_from_sensor @ np.reshape(mount, (3, 4))
        c2w = c2w @ np.vstack([upright_from_tracker, [0, 0, 0, 1]])
    if value("world") == "exo":
        c2w = np.linalg.inv(truth.exo_c2w) @ c2w
    flip = FLIPS[value("axes") or default_axes]
    c2w = (np.eye(4) if value("world_axes") == "stored" else flip) @ c2w @ flip
    c2w[:, :3, 3] /= value("unit") or 1
    return c2w


def write_transforms(folder, matrices, times, stated):
    frames = [
        {"file_path": f"frame_{number:03d}.png", "transform_matrix": matrix.tolist()}
        | ({} if times is None else {"time": float(times[number])})
        for number, matrix in enumerate(matrices)
    ]
    content = {"w": 32, "h": 32, "fl_x": 20.0, "frames": frames}
    for field in stated.split():
        key, _, value = field.partition("=")
        content[key] = {"applied_transform": np.eye(4)[:3].tolist(), "applied_scale": 2.0}.get(
            key, value
        )
    return pose_doors.write_json(folder / "transforms.json", content)


def write_tum(folder, matrices, times, stated, w_first=False):
    quaternions = pose_doors.quaternions(matrices)[:, [3, 0, 1, 2] if w_first else [0, 1, 2, 3]]
    table = np.c_[TIMES if times is None else times, matrices[:, :3, 3], quaternions]
    header = f"# time tx ty tz {stated}" if stated else ""
    np.savetxt(folder / "path.tum", table, header=header, comments="", fmt="%.17g")
    return folder / "path.tum"


def poses_at(folder, truth, door, facts, stated):
    """Write a file of the wearer's poses, or return w2c [T, 3, 4] of an array."""
    camera = "exo" if door.startswith("exo") else "ego"
    form, *more = door.removeprefix("exo ").split()
    default_axes = "opengl" if form in ("transforms", "columns") else "opencv"
    default_axes = next((word for word in more if word in FLIPS), default_axes)
    matrices = in_file(truth, facts, camera, default_axes)
    times = None
    if more[:1] in (["clock"], ["without"]):  # two poses are of before the video
        matrices = np.concatenate([matrices[:1], matrices[:1], matrices])
        times = np.arange(len(matrices)) / 10 + (7.3 if more == ["clock"] else 0)
        times = times / (facts.value("ego.time_factor") or 1)
    if facts.value(f"{camera}.direction") == ("c2w" if form in ("array", "meta") else "w2c"):
        matrices = np.linalg.inv(matrices)
    if form == "transforms":
        return write_transforms(folder, matrices, times, stated)
    if form == "tum":
        is_w_first = facts.value(f"{camera}.quaternion") == "wxyz"
        return write_tum(folder, matrices, times, stated, is_w_first)
    if form in ("array", "meta"):
        return np.linalg.inv(matrices)[:, :3]
    if form == "motive":  # writes metres as millimetres
        matrices[:, :3, 3] /= 1000
        form = "optitrack"
    if form == "columns":
        matrices = FLIPS["opengl"] @ matrices @ FLIPS["opengl"]
        form = "arkit_columns"
    return getattr(pose_doors, form)(folder, matrices, TIMES)


EXTRA = {
    "c2w": "direction=c2w",
    "opencv": "axes=opencv",
    "opengl": "axes=opengl",
    "unity": "axes=unity",
    "turned": "world_axes=turned",
    "motive": "camera_from_tracker=0 0 0",
    "tum clock declared": "time_offset_s=-0.2",
}
"""Declarations besides, by a word of the door."""


def read_poses(folder, truth, points, line):
    door, fact, true, stated, declared = line
    camera = fact.partition(".")[0]
    texts = [
        f"{camera}.{text}" for word, text in EXTRA.items() if word == door or word in door.split()
    ]
    facts = Declared.of({fact: true})
    poses = poses_at(folder, truth, door, facts, stated)
    declared = ", ".join(filter(None, [*texts, declared]))
    frames = FRAMES if "without end" not in door else Frames.timed(torch.from_numpy(TIMES))
    meta_file = folder / "meta.json"
    content = {"ego_camera": LENS.to_json(), "declared": {fact: stated} if stated else {}}
    if door == "meta":
        content |= {"ego_extrinsics": poses.tolist(), "camera_extrinsics": truth.exo_w2c.tolist()}
        pose_doors.write_json(meta_file, content)
        trajectory, _ = path(meta_file, frames=frames, camera=LENS, declared=declared)
    elif camera == "ego":
        options = {"exo_w2c": truth.exo_w2c} if door == "array" else {"scene": points}
        trajectory, _ = path(poses, frames=frames, camera=LENS, declared=declared, **options)
    elif door == "exo array":
        depth, _ = align(truth.depth, camera=LENS, exo_w2c=poses, frames=FRAMES, declared=declared)
        w2c, rows = depth.exo.w2c, depth.facts
    elif door == "exo meta":
        content |= {
            "camera_extrinsics": poses.tolist(),
            "camera_intrinsics": LENS.intrinsics.tolist(),
        }
        meta = read_meta(pose_doors.write_json(meta_file, content), declared=Declared.of(declared))
        depth, _ = align(truth.depth, meta=meta, frames=FRAMES)
        w2c, rows = depth.exo.w2c, depth.facts
    else:
        depth, _ = align(truth.depth, camera=LENS, frames=FRAMES)
        camera_file = CameraFile.read(poses).settled(Declared.of(declared), "exo")
        w2c, rows = camera_file.for_depth(depth)[0].w2c, camera_file.rows
    if camera == "ego":
        w2c, rows = trajectory.ego.upright_w2c, trajectory.facts
    return np.abs(w2c.numpy() - np.linalg.inv(truth.c2w)[:, :3]).max() < 1e-6, rows


def read_depth(folder, truth, points, line):
    door, fact, true, stated, declared = line
    facts = Declared.of({fact: true})
    values = truth.depth.astype(np.float64)
    if facts.value("depth.kind") == "ray":
        values = values * LENS.ray_lengths().numpy()
    if facts.value("depth.kind") == "inverse":
        values = 1 / values
    far_m = facts.value("depth.far_m")
    is_ceiling = door.endswith("ceiling")  # whole millimetres, and the largest number of 16 bits
    door = door.removesuffix(" ceiling")
    if far_m:
        values[:, :2] = 65.535 if is_ceiling else 200
    expected = values.astype(np.float32) if is_ceiling else truth.depth.copy()
    if is_ceiling:
        expected, values = np.round(expected, 3), np.round(1000 * values)
        declared = ", ".join(filter(None, (declared, "depth.unit=mm")))
    values = values / (facts.value("depth.unit") or 1)
    scale = facts.value("depth.scale")
    values = values / (scale if isinstance(scale, float) else 1)
    meta, options = None, {"declared": declared}
    if stated.startswith("scale="):
        options["scale"], stated = float(stated[6:]), ""
    file = folder / "depth.npz"
    if door == "png":
        file = folder / "depth"
        file.mkdir()
        for number, frame in enumerate(values):
            cv2.imwrite(str(file / f"{number:05d}.png"), np.round(frame).astype(np.uint16))
    elif door == "array":
        file, options = values.astype(np.float32), options | {"camera": LENS}
    else:
        key, *flags = (door == "npz" and stated or "depth").split()
        flag = {"is_metric": np.array(False)} if flags else {}
        np.savez(file, **{key: values.astype(np.float32)}, **flag, K=LENS.intrinsics.numpy())
    if door == "meta":
        content = {"camera_intrinsics": LENS.intrinsics.tolist(), "declared": {fact: stated}}
        meta = read_meta(pose_doors.write_json(folder / "meta.json", content))
    depth, report = align(file, frames=FRAMES, meta=meta, **options)
    if far_m and (not is_ceiling or far_m < 65.535):
        expected[:, :2] = np.nan
    # A picture's numbers are whole.
    error = 0.51 * (facts.value("depth.unit") or 0.001) if door == "png" else 2e-6 * expected
    got = depth.depth_m.numpy()
    is_right = np.where(np.isnan(expected), np.isnan(got), np.abs(got - expected) <= error).all()
    return is_right, report.facts


def read_hand_file(folder, truth, points, line):
    _, fact, true, stated, declared = line
    joints = draw_hands_at(random_rotations(4))
    facts = Declared.of({fact: NAMES.get(true, true)})
    names = facts.value("hands.names") or JOINT_NAMES
    written = joints[:, :, [JOINT_NAMES.index(name) for name in names]]
    written = written * torch.tensor(facts.value("hands.axes") or (1, 1, 1))
    fields = dict(field.split("=") for field in stated.split())
    fields = {key: NAMES.get(value, value) for key, value in fields.items()}
    file = write_hand_file(folder, written / (facts.value("hands.unit") or 1), **fields)
    hands = read_hands(file, Declared.of(declared))
    return bool((hands.joints - joints).abs().max() < 1e-9), hands.facts


def read_picture(folder, truth, points, line):
    _, fact, true, stated, declared = line
    pictures = truth.pictures
    beside = pictures.flip(1)
    halves = {"left": (pictures, beside), "right": (beside, pictures)}.get(true)
    video = pictures.flip(2) if halves is None else torch.cat(halves, 2)
    if stated:
        content = {"prompt": "", "declared": {fact: stated}}
        pose_doors.write_json(folder / "meta.json", content)
        write_video(folder / "exo.mp4", video, 10, quality=1)
        video = folder / "exo.mp4"
    clip, report = load_clip(video, frame_count=None, declared=declared, one_shot=True)
    is_same_size = clip.exo.shape == pictures.shape
    difference = (clip.exo.float() - pictures).abs().mean() if is_same_size else np.inf
    return bool(difference < 8), report.facts  # of the codec, or of another picture


def read_turned(folder, truth, points, line):
    """Read the exo pose beside a video that its container turns by half a turn."""
    _, fact, true, stated, declared = line
    stored_w2c = truth.exo_w2c
    content = {
        "camera_extrinsics": stored_w2c.tolist(),
        "camera_intrinsics": LENS.intrinsics.tolist(),
    }
    content |= {"declared": {fact: stated}} if stated else {}
    meta = read_meta(pose_doors.write_json(folder / "meta.json", content))
    frames = FrameSelection.of_picture(FRAMES, (WIDTH, HEIGHT))
    frames = replace(frames, turn=(False, -1, -1), source=folder / "exo.mp4")
    depth, report = align(truth.depth, meta=meta, frames=frames, declared=declared)
    turn = sensor_from_upright(2 if true == "stored" else 0).numpy().T
    return np.abs(depth.exo.at(0).numpy() - turn @ stored_w2c).max() < 1e-9, report.facts


def read_entries(folder, truth, points, line):
    """Read a file of three frames of nine, in whose place it may have the first five."""
    door, fact, true, stated, declared = line
    camera, _, kind = fact.partition(".")
    used = [0, 2, 4]
    frames = Frames.stated(used, TIMES[used], COUNT if kind == "every_nth" else 9)
    entries = slice(None) if true == "source" else used
    name, _, value = stated.rpartition("=")
    options = {name: int(value) if kind == "every_nth" else value} if name else {}
    content = {"camera_intrinsics": LENS.intrinsics.tolist()}
    content |= {"declared": {fact: stated}} if door == "meta" and stated else {}
    maps, c2w = truth.depth[entries], truth.c2w[entries]
    w2c, expected_w2c = (np.linalg.inv(matrices)[:, :3] for matrices in (c2w, truth.c2w[used]))
    if camera == "depth":
        meta = read_meta(pose_doors.write_json(folder / "meta.json", content))
        np.savez(folder / "depth.npz", depth=maps)
        source = maps if door == "array" else folder / "depth.npz"
        depth, report = align(source, frames=frames, meta=meta, declared=declared, **options)
        return np.array_equal(depth.depth_m, truth.depth[used]), report.facts
    if camera == "hands":
        joints = draw_hands_at(random_rotations(COUNT))
        file = write_hand_file(folder, joints[entries])
        facts = Declared.of(declared).with_arguments(
            dict.fromkeys((fact,) if options else (), *options.values())
        )
        hands = hands_in_use(file, frames, facts)
        return torch.equal(hands.joints, joints[used]), hands.facts
    file = w2c
    if door == "transforms":
        flip = FLIPS["opengl"]
        file = write_transforms(folder, flip @ c2w @ flip, None, "")
    elif door == "npy":
        file = folder / "poses.npy"
        np.save(file, c2w)
    elif door == "meta":
        content |= {"ego_camera": LENS.to_json(), "ego_extrinsics": w2c.tolist()}
        file = pose_doors.write_json(folder / "meta.json", content)
    if camera == "ego":
        trajectory, _ = path(file, frames=frames, camera=LENS, declared=declared, **options)
        w2c, rows = trajectory.ego.upright_w2c, trajectory.facts
    else:
        more = "exo.axes=opencv, exo.direction=c2w" if door == "npy" else ""
        facts = Declared.of(", ".join(filter(None, (declared, more))))
        facts = facts.with_arguments(dict.fromkeys((fact,) if options else (), *options.values()))
        depth, _ = align(truth.depth[used], camera=LENS, frames=frames)
        camera_file = CameraFile.read(file).settled(facts, "exo")
        w2c, rows = camera_file.for_depth(depth)[0].w2c, camera_file.rows
    return np.abs(w2c.numpy() - expected_w2c).max() < 1e-6, rows


FOCALS = {"npz": 40.0, "meta": 44.0, "camera": 48.0, "fov": WIDTH / 2 / np.tan(np.pi / 6)}


def read_lens(folder, truth, points, line):
    _, fact, true, stated, declared = line
    sources = stated.split()
    k = {source: replace(LENS, fx=focal, fy=focal).intrinsics for source, focal in FOCALS.items()}
    depth, meta = truth.depth, None
    if "array" not in sources:
        depth = folder / "depth.npz"
        np.savez(depth, depth=truth.depth, **({"K": k["npz"].numpy()} if "npz" in sources else {}))
    if "meta" in sources:
        content = {"camera_intrinsics": k["meta"].tolist()}
        meta = read_meta(pose_doors.write_json(folder / "meta.json", content))
    camera = k["camera"] if "camera" in sources else None
    fov_deg = 60 if "fov" in sources else 0
    aligned, report = align(
        depth, meta=meta, camera=camera, fov_deg=fov_deg, frames=FRAMES, declared=declared
    )
    (row,) = (row for row in report.facts if row.fact == "exo.lens")
    assert sources != ["npz", "meta"] or row.text in report.text()
    focal = FOCALS["fov" if fact == "exo.fov_deg" else true] if true != "guess" else 0
    return true == "guess" or abs(aligned.exo.camera.fx / focal - 1) < 1e-6, report.facts


TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", (0.2, -0.5, 0.9)).as_matrix()
MOUNT = TURN.copy()
MOUNT[:3, 3] = 0.03, -0.07, 0.03
MATRICES = {
    "MOUNT": MOUNT[:3],
    "MOUNT BY ROWS": MOUNT,
    "MOUNT BY COLUMNS": MOUNT.T,
    "MOUNT AND MORE": MOUNT + 0.1,
    "TURN": TURN[:3],
    "TURN OF 16": TURN,
    "HALF TURN OF 16": np.diag([-1.0, -1, 1, 1]),
}
NAMES = {"REVERSED": [*reversed(JOINT_NAMES)], "OURS": [*JOINT_NAMES]}
TEXTS = {name: " ".join(map(str, matrix.ravel())) for name, matrix in MATRICES.items()}
"""Numbers of a mount by the words of a line."""
READERS = {
    **{"ego": read_poses, "exo": read_poses, "depth": read_depth, "hands": read_hand_file},
    **{"picture": read_picture, "turned": read_turned, "lens": read_lens},
}
ENTRY_FACTS = ("frames", "every_nth")
LINES = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
DEFAULTS = {
    **{
        "exo.picture": "shown",
        "ego.world": "take",
        "depth.metric": "yes",
        "depth.scale": "as is",
        "exo.fov_deg": "60",
    },
    **{"ego.every_nth": "-2", "exo.every_nth": "-2"},  # found from the names
}
"""True values of which a default's row has other words, or that have none."""


@pytest.mark.parametrize(
    "line", LINES, ids=["-".join(line[:5]).replace(" ", "_") for line in LINES]
)
def test_a_fact_at_a_door(truth, points, tmp_path, line):
    door, fact, true, stated, declared, outcome = line
    declared_value = true if declared == "=" else declared
    declared_value = " ".join(NAMES.get(declared_value, [declared_value]))
    true, stated, declared_value = (
        TEXTS.get(text, text) for text in (true, stated, declared_value)
    )
    line = door, fact, true, stated, declared and f"{fact}={declared_value}"
    read = READERS.get(door) or READERS[fact.partition(".")[0]]
    if fact.endswith(ENTRY_FACTS):
        read = read_entries
    if outcome.startswith("refused: "):
        with refuses(re.escape(outcome.removeprefix("refused: "))):
            read(tmp_path, truth, points, line)
        return
    is_right, rows = read(tmp_path, truth, points, line)
    own_rows = [row for row in rows if row.fact == fact]
    if outcome == "none":
        assert not own_rows and is_right == (true == DEFAULTS.get(fact))
        return
    (row,) = own_rows
    value, by, others = re.fullmatch(r"(.*?) \((.*)\)(?:, (.*))?", outcome).groups()
    assert re.fullmatch(value, row.value) and by in row.by, row.text
    assert [other.startswith(others or "") for other in row.others] == [True] * bool(others)
    if door == "lens":  # which no text declares
        assert is_right
        return
    true_text = FACTS[fact].show(FACTS[fact].parse(NAMES.get(true, true)))
    assert is_right == (row.value == true_text or (by == "default" and true == DEFAULTS.get(fact)))
    # Whatever is wrong because nobody said it names what to declare.
    assert is_right or stated or declared or "declare" in row.advice


def test_every_fact_has_its_lines():
    """Check that each fact is unstated, stated, stated otherwise and declared in the table."""
    situations = {(fact, bool(stated), bool(declared)) for _, fact, _, stated, declared, _ in LINES}
    # A form that is asked for it, or a meta.json, states it; no file states a clock.
    clock = {"ego.time_offset_s", "ego.time_factor"}
    expected = {(fact, False, is_declared) for fact in FACTS for is_declared in (False, True)}
    expected |= {(fact, True, both) for fact in FACTS.keys() - clock for both in (False, True)}
    assert expected - situations == set()
