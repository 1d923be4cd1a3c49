"""Paths are exact at the given poses and sensible between them. Files are read in every accepted
form, lengths and defects are named."""

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
from tests.poses import path_of
from tests.refusals import refuses

CAMERA = preset_camera("aria_released", 64)


def circle(
    count: int,
) -> torch.Tensor:  # [T, 3, 4] float64: a camera that walks a circle and looks at its middle
    angles = torch.linspace(0, 1.5, count, dtype=torch.float64)
    return torch.stack(
        [look_at((2 * math.cos(a), 0.1 * a, 2 * math.sin(a)), (0.0, 0.0, 0.0)) for a in angles]
    )


def selection(indices: Sequence[int]) -> FrameSelection:
    return frames_in_use(indices, (80, 48))


def turned(a: torch.Tensor, b: torch.Tensor) -> Rotation:
    """Compute the turns from poses b to poses a."""
    return Rotation.from_matrix((a[:, :, :3] @ b[:, :, :3].mT).numpy())


def test_interpolation_is_exact_at_the_poses_and_close_between():
    poses = circle(31)
    times = torch.arange(31, dtype=torch.float64)
    assert torch.equal(interpolate_poses(poses, times, times), poses)
    truth = circle(61)
    between = interpolate_poses(poses, times, torch.arange(61, dtype=torch.float64) / 2)
    assert (camera_centre(between) - camera_centre(truth)).norm(dim=-1).max() < 1e-5
    assert (
        turned(between, truth).magnitude().max() < 2e-3
    )  # slerp turns evenly between two poses, the circle does not quite
    straight = interpolate_poses(poses, times, torch.tensor([0.5], dtype=torch.float64), "linear")
    assert torch.allclose(camera_centre(straight)[0], camera_centre(poses[:2]).mean(0))
    for count in (1, 2, 3):
        few = interpolate_poses(poses[:count], times[:count], times[:count])
        assert torch.allclose(few, poses[:count], atol=1e-12)


def test_numbered_poses_follow_the_source_index():
    poses = circle(50)
    track = PoseTrack.numbered(poses, "take")
    assert torch.allclose(track.of_frames(selection(range(8, 49, 2))), poses[8:49:2])
    full_path = track.trajectory(CAMERA, Frames.of_count(49))
    assert torch.equal(full_path.ego.w2c, poses[:49])
    for call in (
        lambda: track.of_frames(selection([48, 49, 50])),
        lambda: track.trajectory(CAMERA, Frames.of_count(53)),
        lambda: PoseTrack.numbered(poses[:2], "take").of_frames(selection([1, 2])),
    ):
        with refuses("frames in use"):
            call()
    still = PoseTrack.numbered(poses[3:4], "take").trajectory(CAMERA, selection([4, 9]))
    assert torch.equal(still.ego.w2c, poses[3].expand(2, 3, 4))


def test_timed_poses_follow_the_time():
    poses = circle(40)
    track = PoseTrack(
        w2c=poses,
        moments=torch.arange(40, dtype=torch.float64) / 10,
        clock="seconds",
        name="editor",
    )
    at = track.of_frames(selection([0, 2, 4]))  # at 20 fps every second frame has a pose
    assert torch.allclose(at, poses[:3], atol=1e-12)
    with refuses("times 0 to 3.9 s"):
        track.of_frames(selection([80]))
    with refuses("do not rise"):
        PoseTrack(w2c=poses[:2], moments=torch.tensor([1.0, 1.0]), clock="seconds", name="x")
    with refuses("one finite time"):
        PoseTrack(w2c=poses[:2], moments=torch.tensor([1.0]), clock="seconds", name="x")


def test_smoothing_calms_noise_and_keeps_steady_motion():
    poses = circle(60)
    rng = np.random.default_rng(0)
    shake = torch.from_numpy(Rotation.from_rotvec(rng.normal(size=(60, 3)) * 0.02).as_matrix())
    noisy = shake @ poses

    def calm(path: torch.Tensor, sigma_s: float) -> torch.Tensor:
        return adapted(path_of(path, CAMERA, 20), smooth_s=sigma_s).ego.w2c

    def jitter(path: torch.Tensor) -> float:
        return float(np.abs(np.diff(turned(path[1:], path[:-1]).as_rotvec(), axis=0)).mean())

    assert jitter(calm(noisy, 0.1)) < 0.25 * jitter(noisy)
    steady = torch.stack([look_at((0.1 * t, 0.0, 0.0), (0.1 * t, 0.0, 5.0)) for t in range(20)])
    assert torch.allclose(calm(steady, 0.15), steady, atol=1e-9)
    assert torch.equal(calm(poses, 0), poses)


def meta_content() -> dict:
    return {
        "prompt": "[Exo view] a room\n[Ego view] hands",
        "camera_intrinsics": [[900.0, 0, 960], [0, 900, 540], [0, 0, 1]],
        "camera_extrinsics": look_at((0.0, -1, -2), (0.0, 0, 0)).tolist(),
        "ego_intrinsics": [[150.0, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
        "ego_extrinsics": circle(50).tolist(),
    }


def test_released_meta_in_both_forms(tmp_path):
    folder = tmp_path / "kitchen"
    folder.mkdir()
    write_json(folder / "meta.json", meta_content())
    one, notes = read_trajectory(folder / "meta.json", CAMERA, selection(range(49)))
    assert (
        one.ego.w2c.shape == (49, 3, 4)
        and notes.prompt.startswith("[Exo view]")
        and one.ego.camera == CAMERA
    )
    assert one.exo.lens.stored_size == (80, 48) and float(notes.meta_intrinsics[0, 0]) == 150
    file_camera = preset_camera("pinhole", 40)
    write_json(folder / "own.json", meta_content() | {"ego_camera": file_camera.to_json()})
    assert read_trajectory(folder / "own.json", CAMERA)[0].ego.camera == file_camera
    other = meta_content() | {"prompt": "other", "exo_path": "./videos/garden/exo.mp4"}
    wanted_entry = meta_content() | {"exo_path": "./videos/kitchen/exo.mp4"}
    write_json(folder / "list.json", {"test_datasets": [other, wanted_entry]})
    assert torch.equal(
        read_trajectory(folder / "list.json", CAMERA, Frames.of_count(49))[0].ego.w2c, one.ego.w2c
    )  # by the folder's name
    assert read_meta(folder / "list.json", "garden").prompt == "other"
    assert read_meta(folder / "list.json", "0").prompt == "other"
    with refuses("'garden', 'kitchen'"):
        read_meta(folder / "list.json", "cellar")
    with refuses(r"one of \['garden'\]"):
        read_meta(folder / "list.json", "gard")
    write_json(tmp_path / "list.json", {"test_datasets": [other, wanted_entry]})
    with refuses("name the take"):
        read_meta(tmp_path / "list.json")
    write_json(tmp_path / "list.json", {"test_datasets": [other]})
    assert read_meta(tmp_path / "list.json").prompt == "other"


@pytest.mark.parametrize("key", ["train_datasets", "val_datasets", "test_datasets"])
def test_lists_of_the_authors_name_the_entry_and_frame_of_a_bad_pose(tmp_path, key):
    good = meta_content() | {"exo_path": "./videos/b_1_49/exo.mp4"}
    lost, bent = ({**good, "exo_path": f"./videos/{n}/exo.mp4"} for n in ("lost", "bent"))
    lost["ego_extrinsics"] = [None if n in (7, 9) else p for n, p in enumerate(circle(50).tolist())]
    bent["ego_extrinsics"] = [
        (2 * torch.eye(3, 4)).tolist() if n == 4 else p for n, p in enumerate(circle(50).tolist())
    ]
    file = tmp_path / "meta_train.json"
    write_json(file, {key: [lost, good, bent]})
    video = tmp_path / "b_1_49" / "exo.mp4"
    assert read_meta(file, "b_1_49").ego == read_meta(file, video=video).ego
    path, _ = read_trajectory(file, CAMERA, replace(selection(range(49)), source=video))
    assert path.ego.w2c.shape == (49, 3, 4)
    for entry, words in (
        ("lost", "lost, frame 7: got null, as in 1 more"),
        ("bent", "bent, frame 4"),
    ):
        with refuses(words):
            read_meta(file, entry)
    with refuses("prepare --clips"):
        read_meta(tmp_path / "dataset_info_unseen.csv")


def test_namesakes_in_a_list_are_chosen_by_number_where_they_differ(tmp_path):
    first = meta_content() | {"exo_path": "./videos/b_1_49/exo.mp4"}
    again = {**first, "exo_path": "C:\\elsewhere\\b_1_49\\exo.mp4"}
    other = {**first, "ego_extrinsics": circle(49).flip(0).tolist(), "best_camera": "cam02"}
    file = tmp_path / "meta_seen.json"
    write_json(file, {"val_datasets": [first, again]})
    assert read_meta(file, "b_1_49").ego is not None, "the same one twice is no question"
    write_json(file, {"val_datasets": [first, again, other]})
    both = "numbers 0, 1, 2, which differ in best_camera, ego_extrinsics.*0 or 1 or 2"
    for entry, video in (("b_1_49", None), ("", tmp_path / "b_1_49" / "exo.mp4")):
        with refuses(both):
            read_meta(file, entry, video)
    assert read_meta(file, "0").ego == read_meta(file, "1").ego != read_meta(file, "2").ego


def test_bad_meta_is_refused(tmp_path):
    for change, message in (
        ({"camera_intrinsics": [[1, 0], [0, 1]]}, r"camera_intrinsics.*shape \(2, 2\)"),
        ({"ego_extrinsics": [[1, 2, 3, 4]]}, "ego_extrinsics.*shape"),
        ({"camera_extrinsics": (2 * torch.eye(3, 4)).tolist()}, "not a rotation"),
        ({"exo_camera": [1, 2, 3]}, "exo_camera"),
        ({"ego_extrinsics": None}, "no ego_extrinsics"),
        ({"ego_camera": {"lens": "pinhole"}}, "ego_camera"),
    ):
        write_json(tmp_path / "meta.json", meta_content() | change)
        with refuses(message):
            read_trajectory(tmp_path / "meta.json", CAMERA)
    for content in ({"a": 1}, 3, {"test_datasets": []}):
        write_json(tmp_path / "meta.json", content)
        with refuses("meta file"):
            read_trajectory(tmp_path / "meta.json", CAMERA)


def test_own_format_round_trip(tmp_path):
    path = tmp_path / "path.json"
    exo = {"exo_w2c": circle(1)[0], "exo_camera": preset_camera("pinhole", 32)}
    before = path_of(circle(21), CAMERA, 20, **exo)
    k = torch.eye(3, dtype=torch.float64)
    notes = TakeNotes(prompt="ä", source="editor", meta_intrinsics=k)
    write_trajectory(path, before, notes)
    after, read = read_trajectory(path, preset_camera("pinhole", 8))
    assert after.ego.camera == CAMERA and after.exo.lens == before.exo.lens
    assert (read.prompt, read.source) == ("ä", "editor") and torch.equal(read.meta_intrinsics, k)
    assert (after.ego, after.exo) == (before.ego, before.exo)
    half, _ = read_trajectory(path, CAMERA, selection([0, 2, 4]))
    assert torch.allclose(half.ego.w2c, before.ego.w2c[[0, 2, 4]], atol=1e-12)
    twice = resample(before, selection([0, 2, 2, 4]))
    for uneven in (before, twice):
        again = resample(uneven, selection([0, 2, 4]))
        assert torch.allclose(again.ego.w2c, half.ego.w2c)
    content = read_json(path)
    point = (camera_centre(before.ego.w2c)[8] + torch.tensor([0.3, 1.0, 2.0])).tolist()
    write_json(path, content | {"looks": [{"frame": 8, "point": point}], "confidence": [1.0] * 21})
    bent, _ = read_trajectory(path, CAMERA)
    assert torch.allclose(camera_centre(bent.ego.w2c), camera_centre(before.ego.w2c))
    ray = CAMERA.upright_poses(bent.ego.w2c)[8, 2, :3]
    aim = torch.tensor(point, dtype=torch.float64) - camera_centre(before.ego.w2c)[8]
    assert float(ray @ aim) == pytest.approx(float(aim.norm()))
    write_trajectory(path, bent, notes, [{"time_s": 0.4, "point": point}])  # as the command does
    assert torch.allclose(read_trajectory(path, CAMERA)[0].ego.w2c, bent.ego.w2c, atol=1e-12)
    for broken, message in (
        (content | {"looks": [{"frame": 40, "point": point}]}, "frame or time_s|clock"),
        (content | {"looks": 5}, "a list of objects"),
        (content | {"colour": 1}, "unknown .'colour'"),
        (content | {"version": 9}, "version 9"),
        ({k: v for k, v in content.items() if k != "w2c"}, "missing keys .'w2c'"),
        (content | {"times_s": [0, 1]}, "one finite time"),
        (content | {"times_s": "soon"}, "times_s"),
    ):
        write_json(path, broken)
        with refuses(message):
            read_trajectory(path, CAMERA)


def test_keyframes():
    content = {
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
    path = keyframe_track(content, CAMERA).trajectory(CAMERA, selection([0, 10, 20, 30, 40]))
    assert torch.allclose(
        camera_centre(path.ego.w2c)[:, 0], torch.tensor([0, 0.5, 1, 1.5, 2], dtype=torch.float64)
    )
    # The picture is upright: the middle of the stored picture looks along z, its right side towards +x, its foot to +y.
    rays = CAMERA.pixel_rays(torch.float64)[0] @ invert(path.ego.w2c[0])[:, :3].T
    assert rays[32, 32, 2] > 0.99 and rays[32, 60, 0] > 0.5 and rays[60, 32, 1] > 0.5
    constant = keyframe_track([content["keyframes"][0]], CAMERA)
    rest = upright_pose((1.0, 2, 3), 20, 0, 0)
    resting, origin = keyframe_track([], CAMERA, rest=rest), keyframe_track([], CAMERA)
    assert resting.constant and torch.equal(resting.w2c[0], sensor_pose(rest, CAMERA.quarter_turns))
    assert torch.equal(
        origin.w2c[0], sensor_pose(torch.eye(3, 4, dtype=torch.float64), CAMERA.quarter_turns)
    )
    assert constant.trajectory(CAMERA, selection([0, 5, 99])).ego.w2c.shape == (3, 3, 4)


def test_looks_bend_the_path_and_keep_its_own_turns():
    """At their frames the camera looks at the points without roll. Between two of them, and with
    one everywhere, the path turns from frame to frame as it did."""
    frames = selection(range(49))
    wave = [
        {"frame": t, "position": [0.02 * t, 0, 1], "yaw_deg": 30 * math.sin(t / 5), "roll_deg": 5}
        for t in range(0, 49, 4)
    ]
    up, points = [0.1, -1.0, 0.2], [[0.5, 0.6, 2.0], [2.5, -0.3, 1.5]]

    def path(*looks: tuple[int, int], keys=wave) -> torch.Tensor:
        content = {"keyframes": keys, "up": up}
        content |= {"looks": [{"frame": t, "point": points[i]} for t, i in looks]} if looks else {}
        return keyframe_track(content, CAMERA).trajectory(CAMERA, frames).ego.w2c

    def turns(w2c: torch.Tensor) -> np.ndarray:
        return turned(w2c[1:], w2c[:-1]).magnitude()

    bare_path, one, two = path(), path((24, 0)), path((8, 0), (40, 1))
    assert np.allclose(turns(one), turns(bare_path), atol=1e-9)
    assert np.degrees(np.abs(turns(two) - turns(bare_path)).max()) < 6
    for bent, t, i in ((one, 24, 0), (two, 8, 0), (two, 40, 1)):
        centre = camera_centre(bare_path)[t]
        assert torch.allclose(
            CAMERA.upright_poses(bent[t]), look_at(centre, points[i], up), atol=1e-9
        )
    assert torch.allclose(camera_centre(two), camera_centre(bare_path))
    still = path((8, 0), (40, 1), keys=wave[:1])  # one pose: the shortest way from look to look
    assert np.ptp(turns(still)[8:40]) < 1e-9 and turns(still)[:8].max() < 1e-7
    for looks, message in (
        ([{"frame": 3}], "a list of objects"),
        ([{"time_s": 3, "point": [0, 0, 9]}], "clock of the path"),
        ([{"frame": 3, "point": [0, 0, 9]}] * 2, "rising"),
        ([{"frame": 0, "point": [0.1, -1, 1.2]}], "straight above"),
    ):
        with refuses(message):
            keyframe_track({"keyframes": wave, "up": up, "looks": looks}, CAMERA)


def test_angles_turn_the_upright_way():
    def seen(point, yaw=0, pitch=0, roll=0):
        turn = upright_pose((0.0, 0, 0), yaw, pitch, roll)[:, :3]
        return (turn @ torch.tensor(point).double()).round(decimals=9).tolist()

    right = (1.0, 0, 0)
    assert seen(right, yaw=90) == [0, 0, 1]  # turned right, what was on the right is ahead
    assert seen((0.0, -1, 0), pitch=90) == [0, 0, 1]  # looking up (y is down)
    assert seen(right, roll=90) == [0, -1, 0]  # tilted clockwise, what was on the right is above
    assert upright_pose((0.0, 0, 0), 0, 0, 0, up=(0.0, 0, 1))[1, 2] < -0.99


AT = {"position": [0, 0, 0], "yaw_deg": 0}
FIRST = {"time_s": 0, **AT}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"frames": []}, "list of keyframes"),
        ([{"time_s": 0}], "keys"),
        ([FIRST | {"position": [0, 0]}], "position"),
        ([FIRST | {"zoom": 2}], "keys"),
        ([FIRST | {"yaw_deg": "left"}], "yaw_deg"),
        ([FIRST, {"frame": 4, **AT}], "throughout"),
        ([FIRST | {"time_s": 1}, FIRST], "rise"),
        ({"keyframes": [{"time_s": 0, "w2c": [[1]]}]}, "shape"),
        ({"keyframes": [], "interpolation": "jump"}, "one of spline, linear, hold"),
    ],
)
def test_bad_keyframes_are_refused(content, message):
    with refuses(message):
        keyframe_track(content, CAMERA)


def test_another_camera_keeps_the_view_upright():
    path = path_of(circle(3), CAMERA)
    same = adapted(path, camera=preset_camera("aria_meta", 64))
    assert torch.equal(same.ego.w2c, path.ego.w2c)
    upright = adapted(path, camera=preset_camera("pinhole", 64))
    for before, after in ((path, upright), (upright, adapted(upright, camera=CAMERA))):
        worlds = [
            p.ego.camera.pixel_rays(torch.float64)[0][32, [32, 60]] @ invert(p.ego.w2c[1])[:, :3].T
            for p in (before, after)
        ]
        # The lenses differ, so only directions from the middle are compared: the same way is ahead and to the right.
        assert (worlds[0][0] * worlds[1][0]).sum() > 0.99
        sideways = [
            torch.nn.functional.normalize(w[1] - (w[1] @ w[0]) * w[0], dim=0) for w in worlds
        ]
        assert (sideways[0] * sideways[1]).sum() > 0.99
