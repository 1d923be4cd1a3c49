"""Follow the remedies that the core's refusals and warnings name, each literally at its door."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraPath
from egox_core.facts import Declared
from egox_core.frames import Frames, Numbering, entries_of
from egox_core.hands import read_hands
from egox_core.page.uploads import find_take_files
from egox_core.robots.episode import nearest_frames
from egox_core.scene.exo_motion import estimate_exo_motion
from egox_core.sizes import latent_frames, latent_size
from egox_core.stages import align, load_clip, path, prior, scene
from egox_core.takes import read_meta
from egox_core.trajectory.head_payloads import mhr_people
from egox_core.trajectory.keyframes import check_made_on
from egox_core.types import DepthVideo, FrameSelection
from egox_core.wan.chunks import check_covers, check_overlap
from egox_core.wan.file_kinds import check_new_file
from egox_core.wan.vision import embedding_picture
from tests.core.facts import pose_doors
from tests.core.facts.test_table import (
    COUNT,
    FRAMES,
    HEIGHT,
    LENS,
    WIDTH,
    write_transforms,
    write_tum,
)
from tests.core.hands.test_hand_track import draw_hands_at, random_rotations, write_hand_file
from tests.core.page.test_uploads import write_files
from tests.core.trajectory.test_head_payloads import mhr_person, project_points
from tests.core.video.test_video import encode, numbered_frames
from tests.frames_in_use import frames_in_use
from tests.remedies import OUT, Remedies, unfollowed

DEPTH = 4 + torch.rand(COUNT, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
W2C = torch.eye(3, 4).double().repeat(COUNT, 1, 1)
W2C[:, 0, 3] = torch.arange(COUNT) / 50
OTHER_POSE = torch.tensor([[1.0, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0]])
LENGTHS = {"frames": Frames.stated(range(2, 2 + COUNT), torch.arange(2, 2 + COUNT) / 10, 12)}


def with_frames(door, **fixed):
    return partial(door, frames=FRAMES, **fixed)


align_here = with_frames(align, camera=LENS)
path_here = with_frames(path)


def in_folder(write, *arguments, **fields):
    return partial(lambda folder: write(folder, *arguments, **fields))


def write_poses(
    folder: Path, form: str, start_s: float = 0, factor: float = 1, count=COUNT
) -> Path:
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, 0, 3] = np.arange(count) / 50
    times = (start_s + np.arange(count) / 10) / factor
    if form == "tum":
        return write_tum(folder, c2w, times, "")
    return getattr(pose_doors, form)(folder, c2w, times)


def write_meta(folder: Path, *left_out: str, **fields) -> Path:
    content = {"camera_intrinsics": LENS.intrinsics.tolist(), "ego_extrinsics": W2C.tolist()}
    content = {key: value for key, value in (content | fields).items() if key not in left_out}
    (folder / "meta.json").write_text(json.dumps(content), "utf-8")
    return folder / "meta.json"


def write_depth(folder: Path, key: str = "depth", count: int = COUNT, **arrays) -> Path:
    np.savez(folder / "depth.npz", **{key: DEPTH.repeat(4, 1, 1)[:count].numpy()}, **arrays)
    return folder / "depth.npz"


def write_named(folder: Path, count: int) -> Path:
    return write_transforms(folder, np.tile(np.eye(4), (count, 1, 1)), None, "")


def write_stereo(folder: Path) -> Path:
    encode(folder / "a.mkv", numbered_frames(5), options={"x264-params": "frame-packing=3"})
    return folder / "a.mkv"


def write_ours(folder: Path, count: int = COUNT, **fields) -> Path:
    content = {
        "format": "egox_trajectory",
        "version": 1,
        "camera": LENS.to_json(),
        "times_s": (np.arange(count) / 10).tolist(),
        "w2c": torch.eye(3, 4).repeat(count, 1, 1).tolist(),
    }
    return pose_doors.write_json(folder / "path.json", content | fields)


def read_hands_of(folder: Path, factor=1.0, declared=None, **fields):
    file = write_hand_file(folder, draw_hands_at(random_rotations(3)) * factor, **fields)
    return read_hands(file, Declared.of(declared))


def align_take(meta=None, **given):
    return align(frames=given.pop("frames", FRAMES), meta=meta and read_meta(meta), **given)


def align_turned(folder: Path, quarter_turns: int = 0):
    lens = LENS.to_json() | {"quarter_turns": quarter_turns}
    return align_take(write_meta(folder, exo_camera=lens), depth=DEPTH)


def write_ceiling(folder: Path) -> Path:
    maps = (1000 * DEPTH).numpy().round()
    maps[:, :2] = 65535
    np.save(folder / "depth.npy", maps.astype(np.uint16))
    return folder / "depth.npy"


PICTURES = (40 * DEPTH[..., None]).expand(-1, -1, -1, 3).to(torch.uint8)
SCENE = scene(
    PICTURES,
    align(
        DEPTH,
        camera=LENS,
        exo_w2c=OTHER_POSE,
        frames=FRAMES,
        declared="exo.axes=opengl, exo.world_axes=stored",
    )[0],
)[0]


LATER = frames_in_use(range(2, 2 + COUNT), (WIDTH, HEIGHT), fps=10, total=12)
STANDING, _ = align(DEPTH, camera=LENS, frames=FRAMES)
MOVING = CameraPath.of_exo(LENS, W2C, frames=STANDING.frames)
PICTURES_WIDE = PICTURES.repeat(1, 1, 2, 1)
PHONE = replace(FrameSelection.of_picture(FRAMES, (WIDTH, HEIGHT)), source=Path("exo.mp4"))
SMALL_PERSON = {**mhr_person(), "pred_keypoints_2d": project_points(mhr_person(), (100, 50))}
CUT = torch.randint(
    0, 255, (2, 1, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
)
CUT = torch.cat((CUT[0].expand(8, -1, -1, -1), CUT[1].expand(9, -1, -1, -1)))


def draw(**given):
    """Make a path of bare matrices, and draw it from a scene whose exo camera has a pose."""
    trajectory, _ = path(frames=FRAMES, camera=LENS, **given)
    return trajectory, prior(SCENE, trajectory, draw_anyway=True, preset="exact")


def row(site, door, given, changes):
    return pytest.param(Remedies(f"egox_core/{site}", door, given, changes), id=site)


LATENT = torch.zeros(1, 16, 1, 2, 2)
ELSEWHERE = {
    "egox_core/frames/numbers.py:_name_advice": "tests/core/facts/test_clocks.py"
    "::test_names_that_end_before_the_video_say_both_ways",
    "egox_core/gga/backends.py:_unusable_kernel": "tests/core/gga/test_kernel_check.py"
    "::test_kernel_wrong_in_one_small_head_is_rejected",
    "egox_core/prior/render.py:_near_scene_warning": "tests/core/prior/test_render.py"
    "::test_scene_scale_draws_a_small_scene_at_its_true_size",
    "egox_core/takes/meta.py:read_meta": "tests/train/data/test_clip_lists.py"
    "::test_clips_are_listed_by_tables_and_json_files",
    "egox_core/scene/exo_motion.py:_choose_motion": "tests/core/scene/test_exo_motion.py"
    "::test_poses_and_depth_are_close_to_the_truth",
}
"""Places in the code whose remedies another test follows."""
OPENGL = {"ego.axes": "opengl", "ego.direction": "c2w"}
ROWS = [
    row(
        "stages.py:_with_exo_pose",
        partial(align, DepthVideo(depth_m=DEPTH, exo=CameraPath.of_exo(LENS, OTHER_POSE.double()))),
        {"exo_w2c": 2 * OTHER_POSE - torch.eye(3, 4)},
        {"leave exo_w2c out": {"exo_w2c": OUT}},
    ),
    row(
        "stages.py:_refuse_arguments",
        align_take,
        {"depth": in_folder(write_depth), "camera": LENS, "video_depth": DEPTH},
        {"leave video_depth out": {"video_depth": OUT}},
    ),
    row(
        "stages.py:prior",
        draw,
        {
            "poses": in_folder(write_poses, "npy"),
            "declared": OPENGL,
        },
        {
            "declare ego.world_axes=stored": {"ego.world_axes": "stored"},
            "give stages.path the scene": {"scene": SCENE},
        },
    ),
    row(
        "facts/exo_lens.py:settle_lens",
        align_take,
        {"depth": DEPTH, "meta": in_folder(write_meta), "camera": replace(LENS, fx=50.0, fy=50.0)},
        {"leave camera out": {"camera": OUT}},
    ),
    row(
        "facts/clock.py:settle_numbering",
        path_here,
        {"poses": in_folder(write_poses, "kitti"), "declared": {"ego.time_offset_s": 1}},
        {"leave ego.time_offset_s and ego.time_factor out": {"ego.time_offset_s": OUT}},
    ),
    row(
        "facts/clock.py:_with_factor",
        path_here,
        {"poses": in_folder(write_poses, "tum", 7.3, 1e-4), "declared": {"ego.time_offset_s": 0}},
        {"declare ego.time_factor": {"ego.time_factor": 1e-4}},
    ),
    row(
        "facts/clock.py:_with_factor",
        path_here,
        {"poses": in_folder(write_poses, "tum"), "declared": {"ego.time_offset_s": 0}},
        {"declare ego.time_factor where it is another": {"ego.time_factor": 1}},
    ),
    row(
        "facts/declared.py:Declared.with_arguments",
        align_take,
        {"depth": DEPTH, "camera": LENS, "scale": 2, "declared": {"depth.scale": 3}},
        {"leave scale at as is": {"scale": "as is"}, "or depth.scale out": {"depth.scale": OUT}},
    ),
    row(
        "facts/declared.py:Declared.check_applied",
        path_here,
        {"poses": W2C, "declared": {"ego.world_axes": "stored"}},
        {"leave ego.world_axes out": {"ego.world_axes": OUT}},
    ),
    row(
        "facts/depth_maps.py:settle_depth",
        align_take,
        {"depth": in_folder(write_depth, is_metric=np.array(False)), "camera": LENS},
        {"declare depth.unit, the metres per unit": {"depth.unit": 1}},
    ),
    row(
        "facts/depth_maps.py:settle_depth",
        align_take,
        {"depth": in_folder(write_depth, "disparity"), "camera": LENS},
        {"declare depth.kind=inverse": {"depth.kind": "inverse"}},
    ),
    row(
        "facts/depth_maps.py:settle_depth",
        align_take,
        {"depth": DEPTH, "camera": LENS},
        {
            "declare depth.kind where": {"depth.kind": "ray"},
            "declare depth.unit where": {"depth.unit": "ft"},
        },
    ),
    row(
        "facts/depth_maps.py:settle_depth",
        align_take,
        {"depth": in_folder(write_ceiling), "camera": LENS, "declared": {"depth.unit": "mm"}},
        {"declare a larger depth.far_m": {"depth.far_m": 70}},
    ),
    row(
        "facts/poses.py:settle_poses",
        path_here,
        {"poses": in_folder(write_poses, "tum")},
        {
            "declare ego.axes where": {"ego.axes": "opengl"},
            "declare ego.unit where": {"ego.unit": "cm"},
            "declare ego.quaternion=wxyz": {"ego.quaternion": "wxyz"},
        },
    ),
    row(
        "facts/poses.py:settle_poses",
        path_here,
        {"poses": in_folder(write_poses, "tum"), "declared": {"ego.axes": "opengl"}},
        {"declare ego.world_axes where": {"ego.world_axes": "turned"}},
    ),
    row(
        "facts/poses.py:settle_poses",
        path_here,
        {
            "poses": in_folder(write_poses, "tum"),
            "declared": {"ego.axes": "unity", "ego.world_axes": "stored"},
        },
        {"leave ego.world_axes out": {"ego.world_axes": OUT}},
    ),
    row(
        "facts/poses.py:with_exo_axes",
        path_here,
        {
            "poses": in_folder(write_poses, "npy"),
            "exo_w2c": OTHER_POSE,
            "declared": OPENGL,
        },
        {
            "declare ego.world_axes=stored": {"ego.world_axes": "stored"},
            "ego.world_axes=turned": {"ego.world_axes": "turned"},
        },
    ),
    row(
        "facts/poses.py:_check_known",
        path_here,
        {"poses": in_folder(write_poses, "npy")},
        {
            "declare ego.direction=c2w (camera to world: ARKit, most trackers) or w2c, and "
            "ego.axes=opencv": {"ego.direction": "c2w", "ego.axes": "opencv"},
        },
    ),
    row(
        "facts/poses.py:_check_known",
        path_here,
        {"poses": in_folder(write_poses, "euroc")},
        {
            "declare ego.camera_from_tracker": {"ego.camera_from_tracker": "0 0 0"},
            "of Aria: ego.sensor_from_tracker": {
                "ego.sensor_from_tracker": "1 0 0 0 0 1 0 0 0 0 1 0"
            },
        },
    ),
    row(
        "trajectory/declared.py:with_declared_mount",
        path_here,
        {
            "poses": W2C,
            "declared": {"ego.camera_from_tracker": "0 0 0", "ego.sensor_from_tracker": "0 0 0"},
        },
        {"leave ego.sensor_from_tracker out": {"ego.sensor_from_tracker": OUT}},
    ),
    row(
        "trajectory/declared.py:taken_facts",
        path_here,
        {"poses": in_folder(write_poses, "tum"), "scene": SCENE},
        {"or declare ego.world=exo": {"ego.world": "exo"}},
    ),
    row(
        "trajectory/declared.py:taken_facts",
        path_here,
        {"poses": in_folder(write_poses, "tum"), "exo_w2c": OTHER_POSE, "scene": SCENE},
        {"declare ego.world=exo where": {"ego.world": "exo"}},
    ),
    row(
        "trajectory/declared.py:taken_facts",
        path_here,
        {"poses": in_folder(write_poses, "tum")},
        {"declare ego.camera_from_tracker where": {"ego.camera_from_tracker": "0 0 0"}},
    ),
    row(
        "facts/declared.py:Declared.check_whole_video",
        lambda declared=None: Declared.of(declared).check_whole_video("take"),
        {"declared": {"exo.part": "left"}},
        {"leave exo.part out": {"exo.part": OUT}},
    ),
    row(
        "depth/roles.py",
        align_take,
        {"depth": in_folder(write_depth)},
        {"give fov_deg of stages.align": {"fov_deg": 60}},
    ),
    row(
        "depth/kind.py:check_order",
        align_take,
        {"depth": DEPTH, "camera": LENS, "video_depth": 1 / DEPTH},
        {"set video_kind to 'disparity'": {"video_kind": "disparity"}},
    ),
    row(
        "depth/kind.py:check_order",
        align_take,
        {"depth": DEPTH, "camera": LENS, "video_depth": DEPTH, "video_kind": "disparity"},
        {"set video_kind to 'relative z'": {"video_kind": "relative z"}},
    ),
    row(
        "exchange/camera_files.py:CameraFile.clock_rows",
        partial(path, frames=Frames.timed(torch.arange(COUNT) / 10)),
        {"poses": in_folder(write_poses, "tum", -0.2)},
        {"declare ego.time_offset_s": {"ego.time_offset_s": 0}},
    ),
    row(
        "frames/numbers.py:find_moments",
        path_here,
        {"poses": in_folder(write_poses, "tum"), "every_nth": 2, "file_frames": "source"},
        {
            "leave every_nth at 0": {"every_nth": 0},
            "file_frames at 'auto'": {"file_frames": "auto"},
        },
    ),
    row(
        "frames/numbers.py:states_moments",
        path_here,
        {"poses": in_folder(write_ours), "file_frames": "source"},
        {"leave file_frames at 'auto'": {"file_frames": "auto"}},
    ),
    row(
        "frames/numbers.py:_clock_advice",
        path_here,
        {"poses": in_folder(write_poses, "tum", 7.3, count=COUNT + 2)},
        {
            "declare ego.time_offset_s, the video's time at the path's first pose: 0": {
                "ego.time_offset_s": 0
            }
        },
    ),
    row(
        "frames/rule.py:_mismatch_error",
        partial(path, frames=LATER),
        {"poses": W2C.repeat(4, 1, 1)[:12], "file_frames": "in use"},
        {"set file_frames to 'auto'": {"file_frames": "auto"}},
    ),
    row(
        "frames/rule.py:_mismatch_error",
        partial(path, frames=LATER),
        {"poses": W2C.repeat(4, 1, 1)[:8]},
        {"set file_frames to 'source'": {"file_frames": "source"}},
    ),
    row(
        "frames/rule.py:_mismatch_error",
        partial(align_take, frames=LATER, camera=LENS),
        {"depth": in_folder(write_depth, count=8)},
        {"'source'": {"file_frames": "source"}},
    ),
    row(
        "frames/rule.py:_mismatch_error",
        partial(align_take, frames=LATER, camera=LENS),
        {"depth": in_folder(write_depth)},
        {"'in use'": {"file_frames": "in use"}},
    ),
    row(
        "frames/rule.py:entries_of",
        lambda file_frames: entries_of(
            FRAMES, Numbering(what="a", count=COUNT, file_frames=file_frames)
        ),
        {"file_frames": "all"},
        {"leave file_frames at auto": {"file_frames": "auto"}},
    ),
    row(
        "hands/files.py:_are_swapped",
        read_hands_of,
        {"folder": Path, "sides": ["left", "left"]},
        {"leave sides out": {"sides": OUT}},
    ),
    row(
        "hands/files.py:_frame_numbers",
        read_hands_of,
        {"folder": Path, "frame_idx": [0.5, 1, 2]},
        {"leave frame_idx out": {"frame_idx": OUT}},
    ),
    row(
        "hands/files.py:_joint_order",
        read_hands_of,
        {"folder": Path, "names": ["wrist"]},
        {"leave names out": {"names": OUT}},
    ),
    row(
        "hands/files.py:_read_reasons",
        read_hands_of,
        {"folder": Path, "reason": [[9, 0]] * 3},
        {"leave reason out": {"reason": OUT}},
    ),
    row(
        "hands/forms.py:hands_unit",
        read_hands_of,
        {"folder": Path, "factor": 1 / 0.0254},
        {
            "state the joints' unit as 'unit'": {"unit": "in"},
            "or declare hands.unit": {"hands.unit": "in"},
        },
    ),
    row(
        "hands/forms.py:hands_unit",
        read_hands_of,
        {"folder": Path, "factor": torch.tensor([1.0, -1, -1])},
        {"declare hands.axes=opengl": {"hands.axes": "opengl"}},
    ),
    row(
        "robots/episode.py:nearest_frames",
        partial(nearest_frames, torch.arange(5).double() / 25, name="a"),
        {"fps": 30, "resample": False},
        {"by 'resample'": {"resample": True}},
    ),
    row(
        "scene/exo_motion.py:estimate_exo_motion",
        partial(estimate_exo_motion, PICTURES, STANDING),
        {"motion": "stands", "given": MOVING},
        {"set motion to auto": {"motion": "auto"}, "leave given out": {"given": OUT}},
    ),
    row("sizes.py:latent_frames", latent_frames, {"frames": 8}, {"use 9 frames": {"frames": 9}}),
    row(
        "sizes.py:latent_size",
        lambda size: latent_size(int(size[:3]), int(size[4:])),
        {"size": "450x448"},
        {"use 448x448": {"size": "448x448"}},
    ),
    row(
        "takes/depth_inputs.py:_check_exo_part",
        lambda declared=None, **given: align_take(
            frames=load_clip(PICTURES_WIDE, frame_count=5, one_shot=True, declared=declared)[
                0
            ].selection,
            **given,
        ),
        {"depth": DEPTH, "meta": in_folder(write_meta, declared={"exo.part": "left"})},
        {"declare exo.part=left": {"exo.part": "left"}},
    ),
    row(
        "trajectory/keyframes.py:check_made_on",
        lambda made_on=None: check_made_on(
            {"made_on": made_on} if made_on else {}, {"video": "b.mp4", "id": "2"}
        ),
        {"made_on": {"video": "a.mp4", "id": "1"}},
        {'delete "made_on"': {"made_on": OUT}},
    ),
    row(
        "trajectory/keyframes.py:check_made_on",
        lambda made_on=None: check_made_on(
            {"made_on": made_on} if made_on else {}, {"video": "b.mp4", "id": "2"}
        ),
        {"made_on": "a.mp4"},
        {"delete made_on": {"made_on": OUT}},
    ),
    row(
        "trajectory/path.py:PoseTrack._reach_advice",
        lambda frame_count, **given: path(
            frames=frames_in_use(range(2, 2 + frame_count), (WIDTH, HEIGHT), fps=10, total=12),
            **given,
        ),
        {"poses": in_folder(write_ours, 7), "frame_count": 9},
        {"use 5 frames": {"frame_count": 5}},
    ),
    row(
        "trajectory/path.py:PoseTrack._reach_advice",
        partial(path, frames=LATER),
        {"poses": in_folder(write_poses, "tum"), "declared": {"ego.time_factor": 1}},
        {"declare ego.time_offset_s": {"ego.time_offset_s": 0.2}},
    ),
    row(
        "video/cuts.py:refuse_cuts",
        load_clip,
        {"video": CUT, "frame_count": 17},
        {
            "start at frame 0, 5 frames": {"frame_count": 5},
            "start at frame 8, 9 frames": {"start_frame": 8, "frame_count": 9},
            "set one_shot": {"one_shot": True},
        },
    ),
    row(
        "video/selection.py:select_frames",
        load_clip,
        {"video": PICTURES, "frame_count": 9},
        {"use frame_count 5": {"frame_count": 5}},
    ),
    row(
        "video/selection.py:part_info",
        load_clip,
        {
            "video": torch.zeros(1, 32, 47, 3),
            "frame_count": 1,
            "size": (48, 32),
            "declared": {"exo.part": "left"},
        },
        {"leave exo.part out": {"exo.part": OUT}},
    ),
    row(
        "wan/chunks.py:check_overlap",
        check_overlap,
        {"length": 9, "known": 9},
        {"use 5": {"known": 5}},
    ),
    row(
        "wan/chunks.py:check_covers",
        lambda look_away_memory: check_covers(None, None, 5, look_away_memory),
        {"look_away_memory": True},
        {"switch look_away_memory off": {"look_away_memory": False}},
    ),
    row(
        "wan/file_kinds.py:check_new_file",
        partial(check_new_file, sources=()),
        {"target": Path("a.pt")},
        {"use a.safetensors": {"target": Path("a.safetensors")}},
    ),
    row(
        "wan/vision.py:embedding_picture",
        embedding_picture,
        {"mode": "exo only"},
        {"give exo_frame": {"exo_frame": torch.zeros(1, 8, 8, 3)}},
    ),
    row(
        "frames/numbers.py:_number_readings",
        partial(path, frames=Frames.stated(range(2), torch.arange(2) / 10, 6)),
        {"poses": in_folder(write_named, 3)},
        {"alone, set every_nth 1": {"every_nth": 1}},
    ),
    row(
        "frames/numbers.py:_number_readings",
        partial(path, frames=Frames.stated(range(3), torch.arange(3) / 10, 6)),
        {"poses": in_folder(write_named, 3)},
        {"set every_nth 1": {"every_nth": 1}, "set every_nth 2 where": {"every_nth": 2}},
    ),
    row(
        "page/uploads.py:_choose_one",
        lambda folder, name: find_take_files(write_files(folder / name, name, "b.npz")),
        {"folder": Path, "name": "a.npz"},
        {"name the one to use depth.npz": {"name": "depth.npz"}},
    ),
    row(
        "takes/shown_picture.py:_settled_turns",
        align_turned,
        {"folder": Path, "quarter_turns": 1},
        {"leave quarter_turns out": {"quarter_turns": OUT}, "say 2": {"quarter_turns": 2}},
    ),
    row(
        "takes/shown_picture.py:_settled_turns",
        partial(align_take, frames=replace(PHONE, turn=(False, -1, -1))),
        {"depth": DEPTH, "meta": in_folder(write_meta)},
        {"declare exo.picture=stored": {"exo.picture": "stored"}},
    ),
    row(
        "takes/shown_picture.py:_settled_turns",
        partial(align_take, frames=replace(PHONE, turn=(False, -1, 1))),
        {"depth": DEPTH, "meta": in_folder(write_meta), "declared": {"exo.picture": "stored"}},
        {"leave exo.picture out": {"exo.picture": OUT}},
    ),
    row(
        "trajectory/head_payloads.py:_check_projection",
        lambda image_size: mhr_people({"frames": [[SMALL_PERSON]] * 3, "image_size": image_size}),
        {"image_size": (100, 200)},
        {"give image_size (50, 100)": {"image_size": (50, 100)}},
    ),
    row(
        "video/tracks.py",
        load_clip,
        {"video": in_folder(write_stereo), "frame_count": 5},
        {"declare exo.part=left": {"exo.part": "left"}},
    ),
    row(
        "wan/vision.py:embedding_picture",
        lambda noise_seed=None: embedding_picture(
            "released",
            exo_latent=LATENT,
            ego_noise=noise_seed,
            decode=lambda latent: torch.zeros(1, 16, 32, 3),
        ),
        {},
        {"give noise_seed and the VAE": {"noise_seed": LATENT}},
    ),
]


@pytest.mark.parametrize("remedies", ROWS)
def test_a_remedy_of_the_core_is_followed(remedies, tmp_path):
    remedies.follow(tmp_path)


def test_every_remedy_that_the_core_names_is_followed():
    assert not unfollowed("egox_core", ROWS, ELSEWHERE)
