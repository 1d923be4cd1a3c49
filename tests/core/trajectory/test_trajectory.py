"""Test camera paths: interpolation, smoothing, keyframes, looks, files and refused input."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import camera_centre, invert, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.trajectory_files import read_trajectory, write_trajectory
from egox_core.safe_files import read_json, write_json
from egox_core.takes.meta import read_meta
from egox_core.trajectory.keyframes import keyframe_track, sensor_pose, upright_pose
from egox_core.trajectory.path import PoseTrack, adapted, interpolate_poses, resample
from egox_core.types import FrameSelection, TakeNotes
from tests.frames_in_use import frames_in_use
from tests.poses import make_path
from tests.refusals import refuses

CAMERA = preset_camera("aria_released", 64)


def circle_poses(
    count: int,
) -> torch.Tensor:  # [T, 3, 4] float64: a camera that walks a circle and looks at its middle
    angles = torch.linspace(0, 1.5, count, dtype=torch.float64)
    return torch.stack(
        [look_at((2 * math.cos(a), 0.1 * a, 2 * math.sin(a)), (0.0, 0.0, 0.0)) for a in angles]
    )


def select_frames(indices: Sequence[int]) -> FrameSelection:
    return frames_in_use(indices, (80, 48))


def relative_rotation(a: torch.Tensor, b: torch.Tensor) -> Rotation:
    """Compute the rotations that lead from poses ``b`` to poses ``a``."""
    return Rotation.from_matrix((a[:, :, :3] @ b[:, :, :3].mT).numpy())


def test_interpolation_is_exact_at_the_poses_and_close_between():
    poses = circle_poses(31)
    times = torch.arange(31, dtype=torch.float64)
    assert torch.equal(interpolate_poses(poses, times, times), poses)
    true_poses = circle_poses(61)
    middle_poses = interpolate_poses(poses, times, torch.arange(61, dtype=torch.float64) / 2)
    assert (camera_centre(middle_poses) - camera_centre(true_poses)).norm(dim=-1).max() < 1e-5
    assert (
        relative_rotation(middle_poses, true_poses).magnitude().max() < 2e-3
    )  # slerp turns evenly between two poses, the circle does not quite
    linear_pose = interpolate_poses(
        poses, times, torch.tensor([0.5], dtype=torch.float64), "linear"
    )
    assert torch.allclose(camera_centre(linear_pose)[0], camera_centre(poses[:2]).mean(0))
    for count in (1, 2, 3):
        few_poses = interpolate_poses(poses[:count], times[:count], times[:count])
        assert torch.allclose(few_poses, poses[:count], atol=1e-12)


def test_times_of_poses_rise_and_cover_the_frames():
    poses, times = circle_poses(2), torch.tensor([0.0, 3.9])
    pose_track = PoseTrack(w2c=poses, moments=times, clock="seconds", name="editor")
    with refuses("times 0 to 3.9 s"):
        pose_track.of_frames(select_frames([80]))
    with refuses("poses end at 3.9 s: use 1 frames"):
        pose_track.of_frames(select_frames([0, 80]))
    with refuses("poses begin at frame 2: start there or later"):
        replace(pose_track, moments=times + 2, clock="index").of_frames(select_frames([0, 3]))
    for wrong_times, message in ((times[[1, 1]], "do not rise"), (times[:1], "one finite time")):
        with refuses(message):
            replace(pose_track, moments=wrong_times)


def test_smoothing_reduces_noise_and_keeps_steady_motion():
    poses = circle_poses(60)
    rng = np.random.default_rng(0)
    noise_rotations = torch.from_numpy(
        Rotation.from_rotvec(rng.normal(size=(60, 3)) * 0.02).as_matrix()
    )
    noisy_poses = noise_rotations @ poses

    def smooth_poses(path: torch.Tensor, sigma_s: float) -> torch.Tensor:
        return adapted(make_path(path, CAMERA, 20), smooth_s=sigma_s).ego.w2c

    def mean_rotation(path: torch.Tensor) -> float:
        return float(
            np.abs(np.diff(relative_rotation(path[1:], path[:-1]).as_rotvec(), axis=0)).mean()
        )

    assert mean_rotation(smooth_poses(noisy_poses, 0.1)) < 0.25 * mean_rotation(noisy_poses)
    steady_poses = torch.stack(
        [look_at((0.1 * t, 0.0, 0.0), (0.1 * t, 0.0, 5.0)) for t in range(20)]
    )
    assert torch.allclose(smooth_poses(steady_poses, 0.15), steady_poses, atol=1e-9)
    assert torch.equal(smooth_poses(poses, 0), poses)


def meta_content() -> dict:
    return {
        "prompt": "[Exo view] a room\n[Ego view] hands",
        "camera_intrinsics": [[900.0, 0, 960], [0, 900, 540], [0, 0, 1]],
        "camera_extrinsics": look_at((0.0, -1, -2), (0.0, 0, 0)).tolist(),
        "ego_intrinsics": [[150.0, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
        "ego_extrinsics": circle_poses(50).tolist(),
    }


def list_entry(name: str, **changes) -> dict:
    return meta_content() | {"exo_path": f"./videos/{name}/exo.mp4", "prompt": name} | changes


def write_list(folder: Path, *entries: dict, key: str = "test_datasets") -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "list.json", {key: entries})
    return folder / "list.json"


@pytest.mark.parametrize("key", ["train_datasets", "val_datasets", "test_datasets"])
def test_an_entry_of_a_list_is_chosen_by_name_number_folder_or_video(tmp_path, key):
    list_file = write_list(
        tmp_path / "kitchen", list_entry("garden"), list_entry("kitchen"), key=key
    )
    for entry in ("garden", "0"):
        assert read_meta(list_file, entry).prompt == "garden"
    video = tmp_path / "kitchen" / "exo.mp4"
    for meta in (read_meta(list_file), read_meta(list_file, video=video)):
        assert meta.prompt == "kitchen"
    for entry, message in (("cellar", "'garden', 'kitchen'"), ("gard", r"one of \['garden'\]")):
        with refuses(message):
            read_meta(list_file, entry)
    assert read_meta(write_list(tmp_path, list_entry("garden"))).prompt == "garden"
    list_file = list_file.rename(tmp_path / "other.json")
    with refuses("name the take"):
        read_meta(list_file)
    frames = replace(select_frames(range(49)), source=tmp_path / "garden" / "exo.mp4")
    assert read_trajectory(list_file, CAMERA, frames)[1].prompt == "garden"
    with refuses("prepare --clips"):
        read_meta(tmp_path / "dataset_info_unseen.csv")


def test_a_bad_pose_in_a_list_is_named_by_entry_and_frame(tmp_path):
    poses = circle_poses(50).tolist()
    lost_poses = [None if frame in (7, 9) else pose for frame, pose in enumerate(poses)]
    bent_poses = [*poses[:4], (2 * torch.eye(3, 4)).tolist(), *poses[5:]]
    entries = [
        list_entry(n, ego_extrinsics=p) for n, p in (("lost", lost_poses), ("bent", bent_poses))
    ]
    list_file = write_list(tmp_path, list_entry("kitchen"), *entries)
    assert read_meta(list_file, "kitchen").ego is not None
    for entry, fact in (("lost", "frame 7: got null, as in 1 more"), ("bent", "frame 4")):
        with refuses(f"{entry}, {fact}"):
            read_meta(list_file, entry)


def test_list_entries_of_one_name_are_chosen_by_number(tmp_path):
    first_entry = list_entry("b_1_49")
    equal_entry = {**first_entry, "exo_path": "C:\\elsewhere\\b_1_49\\exo.mp4"}
    other_poses = circle_poses(49).flip(0).tolist()
    other_entry = {**first_entry, "ego_extrinsics": other_poses, "best_camera": "cam02"}
    list_file = write_list(tmp_path, first_entry, equal_entry)
    assert read_meta(list_file, "b_1_49").ego is not None, "the same one twice is no question"
    list_file = write_list(tmp_path, first_entry, equal_entry, other_entry)
    for entry, video in (("b_1_49", None), ("", tmp_path / "b_1_49" / "exo.mp4")):
        with refuses("numbers 0, 1, 2, which differ in best_camera, ego_extrinsics.*0 or 1 or 2"):
            read_meta(list_file, entry, video)
    paths = [read_meta(list_file, number).ego for number in "012"]
    assert paths[0] == paths[1] != paths[2]


def test_bad_meta_is_refused(tmp_path):
    for changed_fields, message in (
        ({"camera_intrinsics": [[1, 0], [0, 1]]}, r"camera_intrinsics.*shape \(2, 2\)"),
        ({"ego_extrinsics": [[1, 2, 3, 4]]}, "ego_extrinsics.*shape"),
        ({"camera_extrinsics": (2 * torch.eye(3, 4)).tolist()}, "not a rotation"),
        ({"exo_camera": [1, 2, 3]}, "exo_camera"),
        ({"ego_extrinsics": None}, "no ego_extrinsics"),
        ({"ego_camera": {"lens": "pinhole"}}, "ego_camera"),
    ):
        write_json(tmp_path / "meta.json", meta_content() | changed_fields)
        with refuses(message):
            read_trajectory(tmp_path / "meta.json", CAMERA)
    for content in ({"a": 1}, 3, {"test_datasets": []}):
        write_json(tmp_path / "meta.json", content)
        with refuses("meta file"):
            read_trajectory(tmp_path / "meta.json", CAMERA)


def test_written_trajectory_is_read_back_equal(tmp_path):
    path_file = tmp_path / "path.json"
    exo_camera = {"exo_w2c": circle_poses(1)[0], "exo_camera": preset_camera("pinhole", 32)}
    written_path = make_path(circle_poses(21), CAMERA, 20, **exo_camera)
    intrinsics = torch.eye(3, dtype=torch.float64)
    notes = TakeNotes(prompt="ä", source="editor", meta_intrinsics=intrinsics)
    write_trajectory(path_file, written_path, notes)
    read_path, read_notes = read_trajectory(path_file, preset_camera("pinhole", 8))
    assert read_path.ego.camera == CAMERA
    assert read_path.exo.lens == written_path.exo.lens
    assert (read_notes.prompt, read_notes.source) == ("ä", "editor") and torch.equal(
        read_notes.meta_intrinsics, intrinsics
    )
    assert (read_path.ego, read_path.exo) == (written_path.ego, written_path.exo)
    expected_w2c = written_path.ego.w2c[[0, 2, 4]]
    for source_path in (written_path, resample(written_path, select_frames([0, 2, 2, 4]))):
        resampled_path = resample(source_path, select_frames([0, 2, 4]))
        assert torch.allclose(resampled_path.ego.w2c, expected_w2c)
    path_json = read_json(path_file)
    look_point = (camera_centre(written_path.ego.w2c)[8] + torch.tensor([0.3, 1.0, 2.0])).tolist()
    write_json(
        path_file,
        path_json | {"looks": [{"frame": 8, "point": look_point}], "confidence": [1.0] * 21},
    )
    looking_path, _ = read_trajectory(path_file, CAMERA)
    assert torch.allclose(camera_centre(looking_path.ego.w2c), camera_centre(written_path.ego.w2c))
    gaze_direction = CAMERA.upright_poses(looking_path.ego.w2c)[8, 2, :3]
    point_offset = (
        torch.tensor(look_point, dtype=torch.float64) - camera_centre(written_path.ego.w2c)[8]
    )
    assert float(gaze_direction @ point_offset) == pytest.approx(float(point_offset.norm()))
    write_trajectory(
        path_file, looking_path, notes, [{"time_s": 0.4, "point": look_point}]
    )  # as the command does
    assert torch.allclose(
        read_trajectory(path_file, CAMERA)[0].ego.w2c, looking_path.ego.w2c, atol=1e-12
    )
    for broken_content, message in (
        (path_json | {"looks": [{"frame": 40, "point": look_point}]}, "frame or time_s|clock"),
        (path_json | {"looks": 5}, "a list of objects"),
        (path_json | {"colour": 1}, "unknown .'colour'"),
        (path_json | {"version": 9}, "version 9"),
        (
            {intrinsics: v for intrinsics, v in path_json.items() if intrinsics != "w2c"},
            "missing keys .'w2c'",
        ),
        (path_json | {"times_s": [0, 1]}, "one finite time"),
        (path_json | {"times_s": "soon"}, "times_s"),
    ):
        write_json(path_file, broken_content)
        with refuses(message):
            read_trajectory(path_file, CAMERA)


def test_keyframes_of_positions_angles_and_matrices_give_a_path():
    keyframe_json = {
        "keyframes": [
            {"time_s": 0, "position": [0, 0, 1], "look_at": [0, 0, 3]},
            {"time_s": 1, "position": [1, 0, 1], "yaw_deg": 0, "pitch_deg": 0, "roll_deg": 0},
            {
                "time_s": 2,
                "w2c": sensor_pose(
                    look_at((2.0, 0, 1), (2.0, 0, 3)), CAMERA.quarter_turns
                ).tolist(),
            },
        ],
        "interpolation": "linear",
    }
    path = keyframe_track(keyframe_json, CAMERA).trajectory(
        CAMERA, select_frames([0, 10, 20, 30, 40])
    )
    assert torch.allclose(
        camera_centre(path.ego.w2c)[:, 0], torch.tensor([0, 0.5, 1, 1.5, 2], dtype=torch.float64)
    )
    # The picture is upright: the middle of the stored picture looks along z, its right side towards
    # +x, its foot to +y.
    world_rays = CAMERA.pixel_rays(torch.float64)[0] @ invert(path.ego.w2c[0])[:, :3].T
    assert (
        world_rays[32, 32, 2] > 0.99 and world_rays[32, 60, 0] > 0.5 and world_rays[60, 32, 1] > 0.5
    )
    constant_track = keyframe_track([keyframe_json["keyframes"][0]], CAMERA)
    resting_pose = upright_pose((1.0, 2, 3), 20, 0, 0)
    resting_track, origin_track = (
        keyframe_track([], CAMERA, rest=resting_pose),
        keyframe_track([], CAMERA),
    )
    assert resting_track.constant and torch.equal(
        resting_track.w2c[0], sensor_pose(resting_pose, CAMERA.quarter_turns)
    )
    assert torch.equal(
        origin_track.w2c[0], sensor_pose(torch.eye(3, 4, dtype=torch.float64), CAMERA.quarter_turns)
    )
    assert constant_track.trajectory(CAMERA, select_frames([0, 5, 99])).ego.w2c.shape == (3, 3, 4)


def test_looks_turn_the_camera_to_points_and_keep_its_motion_between():
    """Check that the camera points to each look's target and keeps its own rotations between
    looks."""
    frames = select_frames(range(49))
    keyframes = [
        {
            "frame": frame,
            "position": [0.02 * frame, 0, 1],
            "yaw_deg": 30 * math.sin(frame / 5),
            "roll_deg": 5,
        }
        for frame in range(0, 49, 4)
    ]
    up = [0.1, -1.0, 0.2]
    points = [[0.5, 0.6, 2.0], [2.5, -0.3, 1.5]]

    def path_with_looks(*looks: tuple[int, int], path_keys=keyframes) -> torch.Tensor:
        keyframe_json = {"keyframes": path_keys, "up": up}
        keyframe_json |= (
            {
                "looks": [
                    {"frame": frame, "point": points[point_index]} for frame, point_index in looks
                ]
            }
            if looks
            else {}
        )
        return keyframe_track(keyframe_json, CAMERA).trajectory(CAMERA, frames).ego.w2c

    def frame_rotations(w2c: torch.Tensor) -> np.ndarray:
        return relative_rotation(w2c[1:], w2c[:-1]).magnitude()

    bare_path, one_look_path, two_looks_path = (
        path_with_looks(),
        path_with_looks((24, 0)),
        path_with_looks((8, 0), (40, 1)),
    )
    assert np.allclose(frame_rotations(one_look_path), frame_rotations(bare_path), atol=1e-9)
    assert (
        np.degrees(np.abs(frame_rotations(two_looks_path) - frame_rotations(bare_path)).max()) < 6
    )
    for looking_path, frame, point_index in (
        (one_look_path, 24, 0),
        (two_looks_path, 8, 0),
        (two_looks_path, 40, 1),
    ):
        camera_position = camera_centre(bare_path)[frame]
        assert torch.allclose(
            CAMERA.upright_poses(looking_path[frame]),
            look_at(camera_position, points[point_index], up),
            atol=1e-9,
        )
    assert torch.allclose(camera_centre(two_looks_path), camera_centre(bare_path))
    single_key_path = path_with_looks(
        (8, 0), (40, 1), path_keys=keyframes[:1]
    )  # one pose: the shortest way from look to look
    assert (
        np.ptp(frame_rotations(single_key_path)[8:40]) < 1e-9
        and frame_rotations(single_key_path)[:8].max() < 1e-7
    )
    for looks, message in (
        ([{"frame": 3}], "a list of objects"),
        ([{"time_s": 3, "point": [0, 0, 9]}], "clock of the path"),
        ([{"frame": 3, "point": [0, 0, 9]}] * 2, "rising"),
        ([{"frame": 0, "point": [0.1, -1, 1.2]}], "straight above"),
    ):
        with refuses(message):
            keyframe_track({"keyframes": keyframes, "up": up, "looks": looks}, CAMERA)


def test_keyframe_angles_turn_the_camera_right_up_and_clockwise():
    def direction_in_camera(point, yaw=0, pitch=0, roll=0):
        rotation = upright_pose((0.0, 0, 0), yaw, pitch, roll)[:, :3]
        return (rotation @ torch.tensor(point).double()).round(decimals=9).tolist()

    right_direction = (1.0, 0, 0)
    assert direction_in_camera(right_direction, yaw=90) == [
        0,
        0,
        1,
    ]  # turned right, what was on the right is ahead
    assert direction_in_camera((0.0, -1, 0), pitch=90) == [0, 0, 1]  # looking up (y is down)
    assert direction_in_camera(right_direction, roll=90) == [
        0,
        -1,
        0,
    ]  # tilted clockwise, what was on the right is above
    assert upright_pose((0.0, 0, 0), 0, 0, 0, up=(0.0, 0, 1))[1, 2] < -0.99


KEYFRAME_POSE = {"position": [0, 0, 0], "yaw_deg": 0}
FIRST_KEYFRAME = {"time_s": 0, **KEYFRAME_POSE}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"frames": []}, "list of keyframes"),
        ([{"time_s": 0}], "keys"),
        ([FIRST_KEYFRAME | {"position": [0, 0]}], "position"),
        ([FIRST_KEYFRAME | {"zoom": 2}], "keys"),
        ([FIRST_KEYFRAME | {"yaw_deg": "left"}], "yaw_deg"),
        ([FIRST_KEYFRAME, {"frame": 4, **KEYFRAME_POSE}], "throughout"),
        ([FIRST_KEYFRAME | {"time_s": 1}, FIRST_KEYFRAME], "rise"),
        ({"keyframes": [{"time_s": 0, "w2c": [[1]]}]}, "shape"),
        ({"keyframes": [], "interpolation": "jump"}, "one of spline, linear, hold"),
    ],
)
def test_bad_keyframes_are_refused(content, message):
    with refuses(message):
        keyframe_track(content, CAMERA)


def test_changing_the_camera_keeps_the_view_upright():
    path = make_path(circle_poses(3), CAMERA)
    upright_path = adapted(path, camera=preset_camera("pinhole", 64))
    for changed_path in (upright_path, adapted(upright_path, camera=CAMERA)):
        assert torch.allclose(changed_path.ego.upright_w2c, path.ego.upright_w2c)
