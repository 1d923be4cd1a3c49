"""Test camera paths: interpolation, smoothing, keyframes, looks, files and refused input."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras.poses import camera_centre, invert, look_at
from egox_core.cameras.presets import preset_camera
from egox_core.exchange.trajectory_files import read_trajectory, write_trajectory
from egox_core.frames import Frames
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


def test_timed_poses_are_interpolated_by_time():
    poses = circle_poses(40)
    pose_track = PoseTrack(
        w2c=poses,
        moments=torch.arange(40, dtype=torch.float64) / 10,
        clock="seconds",
        name="editor",
    )
    interpolated_poses = pose_track.of_frames(
        select_frames([0, 2, 4])
    )  # at 20 fps every second frame has a pose
    assert torch.allclose(interpolated_poses, poses[:3], atol=1e-12)
    with refuses("times 0 to 3.9 s"):
        pose_track.of_frames(select_frames([80]))
    with refuses("do not rise"):
        PoseTrack(w2c=poses[:2], moments=torch.tensor([1.0, 1.0]), clock="seconds", name="x")
    with refuses("one finite time"):
        PoseTrack(w2c=poses[:2], moments=torch.tensor([1.0]), clock="seconds", name="x")


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


def test_released_meta_json_is_read_alone_and_in_a_list(tmp_path):
    folder = tmp_path / "kitchen"
    folder.mkdir()
    write_json(folder / "meta.json", meta_content())
    path, notes = read_trajectory(folder / "meta.json", CAMERA, select_frames(range(49)))
    assert (
        path.ego.w2c.shape == (49, 3, 4)
        and notes.prompt.startswith("[Exo view]")
        and path.ego.camera == CAMERA
    )
    assert path.exo.lens.stored_size == (80, 48)
    assert float(notes.meta_intrinsics[0, 0]) == 150
    file_camera = preset_camera("pinhole", 40)
    write_json(folder / "own.json", meta_content() | {"ego_camera": file_camera.to_json()})
    assert read_trajectory(folder / "own.json", CAMERA)[0].ego.camera == file_camera
    other_entry = meta_content() | {"prompt": "other", "exo_path": "./videos/garden/exo.mp4"}
    wanted_entry = meta_content() | {"exo_path": "./videos/kitchen/exo.mp4"}
    write_json(folder / "list.json", {"test_datasets": [other_entry, wanted_entry]})
    assert torch.equal(
        read_trajectory(folder / "list.json", CAMERA, Frames.of_count(49))[0].ego.w2c, path.ego.w2c
    )  # by the folder's name
    assert read_meta(folder / "list.json", "garden").prompt == "other"
    assert read_meta(folder / "list.json", "0").prompt == "other"
    with refuses("'garden', 'kitchen'"):
        read_meta(folder / "list.json", "cellar")
    with refuses(r"one of \['garden'\]"):
        read_meta(folder / "list.json", "gard")
    write_json(tmp_path / "list.json", {"test_datasets": [other_entry, wanted_entry]})
    with refuses("name the take"):
        read_meta(tmp_path / "list.json")
    write_json(tmp_path / "list.json", {"test_datasets": [other_entry]})
    assert read_meta(tmp_path / "list.json").prompt == "other"


@pytest.mark.parametrize("key", ["train_datasets", "val_datasets", "test_datasets"])
def test_lists_of_the_authors_name_the_entry_and_frame_of_a_bad_pose(tmp_path, key):
    valid_entry = meta_content() | {"exo_path": "./videos/b_1_49/exo.mp4"}
    missing_pose_entry, bad_pose_entry = (
        {**valid_entry, "exo_path": f"./videos/{n}/exo.mp4"} for n in ("lost", "bent")
    )
    missing_pose_entry["ego_extrinsics"] = [
        None if n in (7, 9) else p for n, p in enumerate(circle_poses(50).tolist())
    ]
    bad_pose_entry["ego_extrinsics"] = [
        (2 * torch.eye(3, 4)).tolist() if n == 4 else p
        for n, p in enumerate(circle_poses(50).tolist())
    ]
    list_file = tmp_path / "meta_train.json"
    write_json(list_file, {key: [missing_pose_entry, valid_entry, bad_pose_entry]})
    exo_video_file = tmp_path / "b_1_49" / "exo.mp4"
    assert read_meta(list_file, "b_1_49").ego == read_meta(list_file, video=exo_video_file).ego
    path, _ = read_trajectory(
        list_file, CAMERA, replace(select_frames(range(49)), source=exo_video_file)
    )
    assert path.ego.w2c.shape == (49, 3, 4)
    for entry, message_pattern in (
        ("lost", "lost, frame 7: got null, as in 1 more"),
        ("bent", "bent, frame 4"),
    ):
        with refuses(message_pattern):
            read_meta(list_file, entry)
    with refuses("prepare --clips"):
        read_meta(tmp_path / "dataset_info_unseen.csv")


def test_list_entries_of_one_name_are_chosen_by_number(tmp_path):
    first_entry = meta_content() | {"exo_path": "./videos/b_1_49/exo.mp4"}
    equal_entry = {**first_entry, "exo_path": "C:\\elsewhere\\b_1_49\\exo.mp4"}
    other_entry = {
        **first_entry,
        "ego_extrinsics": circle_poses(49).flip(0).tolist(),
        "best_camera": "cam02",
    }
    list_file = tmp_path / "meta_seen.json"
    write_json(list_file, {"val_datasets": [first_entry, equal_entry]})
    assert read_meta(list_file, "b_1_49").ego is not None, "the same one twice is no question"
    write_json(list_file, {"val_datasets": [first_entry, equal_entry, other_entry]})
    message_pattern = "numbers 0, 1, 2, which differ in best_camera, ego_extrinsics.*0 or 1 or 2"
    for entry, video in (("b_1_49", None), ("", tmp_path / "b_1_49" / "exo.mp4")):
        with refuses(message_pattern):
            read_meta(list_file, entry, video)
    assert (
        read_meta(list_file, "0").ego
        == read_meta(list_file, "1").ego
        != read_meta(list_file, "2").ego
    )


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
    selected_path, _ = read_trajectory(path_file, CAMERA, select_frames([0, 2, 4]))
    assert torch.allclose(selected_path.ego.w2c, written_path.ego.w2c[[0, 2, 4]], atol=1e-12)
    repeated_path = resample(written_path, select_frames([0, 2, 2, 4]))
    for source_path in (written_path, repeated_path):
        resampled_path = resample(source_path, select_frames([0, 2, 4]))
        assert torch.allclose(resampled_path.ego.w2c, selected_path.ego.w2c)
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
    same_camera_path = adapted(path, camera=preset_camera("aria_meta", 64))
    assert torch.equal(same_camera_path.ego.w2c, path.ego.w2c)
    upright_path = adapted(path, camera=preset_camera("pinhole", 64))
    for original_path, changed_path in (
        (path, upright_path),
        (upright_path, adapted(upright_path, camera=CAMERA)),
    ):
        world_rays = [
            path_compared.ego.camera.pixel_rays(torch.float64)[0][32, [32, 60]]
            @ invert(path_compared.ego.w2c[1])[:, :3].T
            for path_compared in (original_path, changed_path)
        ]
        # The lenses differ, so only directions from the middle are compared: the same way is ahead
        # and to the right.
        assert (world_rays[0][0] * world_rays[1][0]).sum() > 0.99
        right_rays = [
            torch.nn.functional.normalize(rays[1] - (rays[1] @ rays[0]) * rays[0], dim=0)
            for rays in world_rays
        ]
        assert (right_rays[0] * right_rays[1]).sum() > 0.99
