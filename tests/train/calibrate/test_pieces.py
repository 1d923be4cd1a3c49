"""Test the steps of ``calibrate``: clocks by sound, cameras from a moving point, lenses, the
floor."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import train_egox
from egox_core.cameras import CameraModel, look_at
from egox_core.frames import Frames
from egox_core.safe_files import read_json, write_json
from egox_core.trajectory import OPENPOSE_POINTS
from egox_core.video import probe_video
from egox_train.calibrate.fixed_camera import point_between_ears, solve_exo
from egox_train.calibrate.lenses import LENS_NAMES, from_colmap, make_lens, to_colmap
from egox_train.calibrate.logged_point import write_camera_from_log
from egox_train.calibrate.moving_point import camera_from_point
from egox_train.calibrate.picture_sd import jackknife
from egox_train.calibrate.pictures import lens_notes
from egox_train.calibrate.recording_files import ExoFile
from egox_train.calibrate.scale import Scale, find_head_up, floor_scale, similarity
from egox_train.calibrate.sound import SAMPLE_RATE_HZ, Clocks, clocks_by_sound, read_mono
from egox_train.calibrate.structure import (
    Structure,
    adjust_bundle,
    leave_out_parts,
    mirror_pose,
    points_are_in_front,
    reconstruct_pictures,
    restart_still_cameras,
)
from egox_train.calibrate.world import LEAST_PARALLAX, World, parallax
from egox_train.calibrate.written import list_earlier_takes, report_file
from egox_train.options import CalibrateOptions
from lab.drawn.detected import network_points, openpose_content, project_person
from lab.drawn.layout import draw_layout
from tests.core.takes.test_capture_files import calibration_entry
from tests.refusals import refuses
from tests.train.drawn_recordings import SUFFIX_BY_CODEC, RecordingSpec, write_film


def draw_sound(seed: int, seconds: float) -> np.ndarray:
    """Draw random noise with pauses, as a sound."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=round(seconds * SAMPLE_RATE_HZ))
    loudness = np.interp(
        np.arange(len(noise)),
        np.arange(0, len(noise), SAMPLE_RATE_HZ // 4),
        rng.random(-(-len(noise) // (SAMPLE_RATE_HZ // 4))) ** 4,
    )
    return (noise * loudness).astype(np.float32)


@pytest.mark.parametrize(
    "offset_s, ppm, seconds", [(3.21, 50, 45), (-2.87, -40, 45), (1.4, 45, 18)]
)
def test_clock_offset_and_drift_are_measured_by_sound(offset_s, ppm, seconds):
    rng = np.random.default_rng(5)
    world_sound = draw_sound(1, seconds + 10)
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    exo_sound = np.interp(times + 5, np.arange(len(world_sound)) / SAMPLE_RATE_HZ, world_sound)
    ego_sound = np.interp(
        (times - offset_s) / (1 + 1e-6 * ppm) + 5,
        np.arange(len(world_sound)) / SAMPLE_RATE_HZ,
        world_sound,
    )
    exo_sound, ego_sound = (
        recording + 0.1 * rng.normal(size=len(recording)) for recording in (exo_sound, ego_sound)
    )
    clocks, _ = clocks_by_sound(exo_sound.astype(np.float32), ego_sound.astype(np.float32))
    assert clocks is not None and "by sound" in clocks.how_found
    assert clocks.offset_s == pytest.approx(offset_s, abs=2e-3)
    assert clocks.ego_s(np.array([0.9 * seconds]))[0] == pytest.approx(
        0.9 * seconds * (1 + 1e-6 * ppm) + offset_s, abs=1e-3
    )
    assert clocks.drift == pytest.approx(1e-6 * ppm, abs=15e-6)


def test_silence_and_other_sounds_give_no_clock():
    silent = 1e-4 * np.random.default_rng(0).normal(size=(2, 20 * SAMPLE_RATE_HZ)).astype(
        np.float32
    )
    assert clocks_by_sound(*silent) == (None, "no sound of one moment")
    assert clocks_by_sound(draw_sound(1, 20), draw_sound(2, 20))[0] is None


def test_sound_that_repeats_gives_a_clock_only_near_what_something_else_tells():
    rng, period_s = np.random.default_rng(8), 0.5
    period_samples = round(period_s * SAMPLE_RATE_HZ)
    bar = draw_sound(3, period_s)
    loop = np.tile(bar, round(40 / period_s))
    exo_sound, ego_sound = (
        (part + 0.3 * np.std(loop) * rng.normal(size=len(part))).astype(np.float32)
        for part in (
            loop[: 24 * SAMPLE_RATE_HZ],
            loop[period_samples // 3 :][: 24 * SAMPLE_RATE_HZ],
        )
    )
    clocks, reason = clocks_by_sound(exo_sound, ego_sound)
    assert clocks is None
    repeats_s = float(re.search(r"the sound repeats every (\S+) s", reason)[1])
    assert repeats_s == pytest.approx(period_s, rel=0.1)
    offset_s = period_s - period_samples // 3 / SAMPLE_RATE_HZ
    clocks, _ = clocks_by_sound(exo_sound, ego_sound, (offset_s + 0.06, 0.03))
    assert clocks.offset_s == pytest.approx(offset_s, abs=1e-3)
    assert clocks_by_sound(exo_sound, ego_sound, (offset_s, period_s / 2))[0] is None


def test_loop_that_drifts_is_told_by_its_period():
    """Check a loop whose clocks drift apart by 1,000 ppm.

    A round that looks farther than the last one's clock leaves finds it 28 s off."""
    rng, loop = np.random.default_rng(13), np.tile(draw_sound(13, 2.0), 20)
    times, loop_times = (np.arange(s * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ for s in (30, 40))
    sounds = [
        np.interp(moments + 4, loop_times, loop) + 0.3 * np.std(loop) * rng.normal(size=len(times))
        for moments in (times, times / 0.999)
    ]
    clocks = clocks_by_sound(*(sound.astype(np.float32) for sound in sounds))
    assert clocks == (None, "the sound repeats every 2 s")


def test_drift_that_blurs_the_windows_is_measured():
    world_sound = draw_sound(1, 40)
    times = np.arange(24 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    world_times = np.arange(len(world_sound)) / SAMPLE_RATE_HZ
    exo_sound = np.interp(times + 5, world_times, world_sound).astype(np.float32)
    ego_sound = np.interp(times / 1.001 + 5, world_times, world_sound).astype(np.float32)
    clocks, _ = clocks_by_sound(exo_sound, ego_sound)
    assert np.abs(clocks.ego_s(times) - times * 1.001).max() < 1e-3


@pytest.mark.parametrize("codec", SUFFIX_BY_CODEC)
def test_sound_begins_with_the_first_picture_in_each_codec(codec, tmp_path):
    """Check that sound and pictures are synchronous in files of each audio codec."""
    sound = np.interp(
        np.arange(12 * 48000) / 3, np.arange(12 * SAMPLE_RATE_HZ), 0.1 * draw_sound(3, 12)
    )
    file = tmp_path / f"film{SUFFIX_BY_CODEC[codec]}"
    write_film(file, np.zeros((96, 16, 16, 3), np.uint8), 8, sound, codec)
    read_sound = read_mono(file)
    clocks, _ = clocks_by_sound(0.1 * draw_sound(3, 12), read_sound)
    assert clocks is not None and abs(clocks.offset_s) < 2e-3
    silent_file = tmp_path / "silent.mp4"
    write_film(silent_file, np.zeros((96, 16, 16, 3), np.uint8), 8, None, codec)
    assert read_mono(silent_file) is None


PINHOLE_LENS = CameraModel.pinhole(640, 360, 500.0)
POINT_M = np.array([0.05, 0.03, -0.08])


def head_path(count: int, spread: float):
    rng = np.random.default_rng(2)
    times_s = np.arange(count) / 20
    sine_waves = sum(
        rng.normal(size=3) * np.sin(times_s[:, None] * rng.uniform(0.5, 2) + rng.uniform(0, 6, 3))
        for _ in range(4)
    )
    positions = spread * sine_waves + [0, 0, 1.6]
    rotations = Rotation.from_rotvec(np.sin(times_s)[:, None] * [0, 0, 1.0]).as_matrix()

    def head_pose_function(moments):
        interpolated_positions = np.stack(
            [np.interp(moments, times_s, positions[:, i]) for i in range(3)], axis=1
        )
        nearest_indices = np.clip(np.round(moments * 20).astype(int), 0, count - 1)
        return interpolated_positions, rotations[nearest_indices]

    return times_s, head_pose_function


@pytest.mark.parametrize("lag_s", [None, 0.25])
def test_camera_is_solved_from_a_moving_point(lag_s):
    """Check the camera pose that is solved from a moving point, with and without a clock lag."""
    true_pose = look_at((2.0, 1.0, 2.0), (0.0, 0.0, 1.5), (0.0, 0.0, 1.0)).numpy()
    times, head_pose_function = head_path(400, 0.25)
    head_positions, head_rotations = head_pose_function(times + (lag_s or 0.0))
    point_in_camera = (head_positions + head_rotations @ POINT_M) @ true_pose[:, :3].T + true_pose[
        :, 3
    ]
    pixels = PINHOLE_LENS.project(torch.from_numpy(point_in_camera))[0].numpy()
    pixels += np.random.default_rng(0).normal(size=pixels.shape) * 4
    lags = None if lag_s is None else np.arange(-1, 1.01, 0.1)
    solution = camera_from_point(
        PINHOLE_LENS, pixels, times, head_pose_function, POINT_M, lags_s=lags
    )
    assert solution is not None and solution.is_certain
    centre = -solution.w2c[:, :3].T @ solution.w2c[:, 3]
    position_error = np.linalg.norm(centre - [2.0, 1.0, 2.0])
    rotation_error = Rotation.from_matrix(solution.w2c[:, :3] @ true_pose[:, :3].T).magnitude()
    assert position_error < 3 * solution.sd_m and np.degrees(rotation_error) < 3 * solution.sd_deg
    assert position_error < 0.12 and np.degrees(rotation_error) < 3
    assert solution.lag_s == pytest.approx(lag_s or 0.0, abs=0.03)


def world_of_path(w2c: np.ndarray, times_s: np.ndarray) -> World:
    """Build a metric world that knows the head camera's path alone."""
    return World(
        w2c=w2c,
        lens=None,
        scale=Scale(metres_per_unit=1.0, sd=0.01, up=np.eye(3)[2], how_found="drawn"),
        points=np.zeros((0, 3)),
        structure=None,
        world_from_structure=(1.0, np.eye(3), np.zeros(3)),
        frames=Frames.timed(times_s),
    )


@pytest.mark.parametrize("stated_offset_s", [0.5, 2.5])
def test_head_that_contradicts_a_stated_clock_blames_the_clock(stated_offset_s, tmp_path):
    """Check a fixed camera's finding if its clock is stated rightly, and 2 s off."""
    video, keypoints_file = tmp_path / "exo.mp4", tmp_path / "keypoints.json"
    write_film(video, np.zeros((320, 36, 64, 3), np.uint8), 20, None, "aac")
    exo_pose = look_at((2.0, 1.0, 2.0), (0.0, 0.0, 1.5), (0.0, 0.0, 1.0)).numpy()
    times_s, head_pose_function = head_path(400, 0.25)
    head_positions, head_rotations = head_pose_function(times_s[:320] + 0.5)
    ears = (head_positions + head_rotations @ point_between_ears()) @ exo_pose[:, :3].T
    lens = make_lens("gopro-linear", 640, 360)[0]
    ears_uv = lens.project(torch.from_numpy(ears + exo_pose[:, 3]))[0].numpy()
    points = len(OPENPOSE_POINTS[18])
    people = [[(uv.repeat(points).reshape(2, points).T, np.ones(points))] for uv in ears_uv]
    write_json(keypoints_file, openpose_content(people, (640, 360)))
    positions, rotations = head_pose_function(times_s)
    camera_from_world = rotations.transpose(0, 2, 1)
    w2c = np.concatenate((camera_from_world, -camera_from_world @ positions[..., None]), axis=2)
    world = world_of_path(w2c, times_s)
    exo_file = ExoFile(
        name="exo", video=video, info=probe_video(video), keypoints=keypoints_file, depth=None
    )
    solution = solve_exo(
        exo_file,
        video,
        world,
        Clocks(offset_s=stated_offset_s, drift=0.0, sd_s=0.02, how_found="as given"),
        "",
        {},
        CalibrateOptions(exo_lens="gopro-linear"),
    )
    if stated_offset_s == 0.5:
        assert solution.w2c is not None and "clock" not in solution.how_found
    else:
        assert solution.w2c is None
        assert "clock may be what is wrong: as given, the offset is 2.50 s" in solution.how_found
        assert "by the head's path 0.5" in solution.how_found


@pytest.mark.parametrize("hides_an_ear, seconds", [(True, 11), (False, 25)])
def test_hidden_ear_that_is_guessed_gives_no_camera(hides_an_ear, seconds, tmp_path):
    """Check key points of a drawn head of which one ear is hidden: guessed, and known to 0.3 px."""
    spec = RecordingSpec(seed=6304, seconds=seconds, late_frames=0, size=(320, 192, 192))
    layout = draw_layout(spec.spec())
    person, exo = project_person(layout), layout.scene.exo
    rng = np.random.default_rng([spec.seed, 77])
    uv, scores = network_points(person, exo.camera, rng)
    if not hides_an_ear:
        uv = person.uv + 0.3 * rng.normal(size=uv.shape)
    video, keypoints_file = tmp_path / "exo.mp4", tmp_path / "keypoints.json"
    write_film(video, np.zeros((len(uv), 48, 80, 3), np.uint8), spec.fps, None, "aac")
    people = [[person_points] for person_points in zip(uv, scores, strict=True)]
    write_json(keypoints_file, openpose_content(people, spec.size[:2]))
    write_json(tmp_path / "lens.json", exo.camera.to_json())
    world = world_of_path(layout.scene.ego.upright_w2c.numpy(), np.arange(len(uv)) / spec.fps)
    solution = solve_exo(
        ExoFile(
            name="exo", video=video, info=probe_video(video), keypoints=keypoints_file, depth=None
        ),
        video,
        world,
        Clocks(offset_s=0.0, drift=0.0, sd_s=0.02, how_found="as given"),
        "",
        {},
        CalibrateOptions(exo_lens=str(tmp_path / "lens.json")),
    )
    if hides_an_ear:
        assert solution.w2c is None and "the head tells it to" in solution.how_found
        return
    true_pose = exo.w2c[0].numpy()
    position_error = np.linalg.norm(
        solution.w2c[:, :3].T @ solution.w2c[:, 3] - true_pose[:, :3].T @ true_pose[:, 3]
    )
    assert position_error < 3 * solution.sd_m < 0.4
    assert solution.how_found.startswith("by the wearer's head")


def test_still_head_does_not_determine_the_camera():
    true_pose = look_at((2.0, 1.0, 2.0), (0.0, 0.0, 1.5), (0.0, 0.0, 1.0)).numpy()
    times, head_pose_function = head_path(400, 0.01)
    head_positions, head_rotations = head_pose_function(times)
    point_in_camera = (head_positions + head_rotations @ POINT_M) @ true_pose[:, :3].T + true_pose[
        :, 3
    ]
    pixels = PINHOLE_LENS.project(torch.from_numpy(point_in_camera))[0].numpy()
    pixels += np.random.default_rng(0).normal(size=pixels.shape) * 4
    solution = camera_from_point(PINHOLE_LENS, pixels, times, head_pose_function, POINT_M)
    assert solution is None or not solution.is_certain
    assert (
        camera_from_point(PINHOLE_LENS, pixels[:5], times[:5], head_pose_function, POINT_M) is None
    )


def draw_gripper_log(is_straight: bool, lag_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw the logged path of a robot gripper, and the pose of a camera that sees it."""
    pose = look_at((1.2, 0.3, 0.9), (0.0, 0.0, 0.2), (0.0, 0.0, 1.0)).numpy()
    times = np.arange(0, 20, 0.1)

    def positions_at(moments):
        waves = np.stack(
            [
                np.sin(0.9 * moments + phase) * np.cos(frequency * moments)
                for phase, frequency in WAVE_SETTINGS
            ],
            1,
        )
        return waves[:, :1] * [0.2, 0.3, 0.1] if is_straight else waves * [0.25, 0.3, 0.2]

    points_in_camera = positions_at(times + lag_s) @ pose[:, :3].T + pose[:, 3]
    uv = PINHOLE_LENS.project(torch.from_numpy(points_in_camera))[0].numpy()
    uv += np.random.default_rng(3).normal(size=uv.shape)
    uv[::7] = np.nan
    return np.c_[times, positions_at(times), uv], pose


WAVE_SETTINGS = ((0.0, 0.31), (1.0, 0.47), (2.0, 0.23))


def write_log(file, rows):
    lines = [",".join("" if np.isnan(x) else f"{x:.6f}" for x in row) for row in rows]
    file.write_text("\n".join(["time_s,x,y,z,u,v", *lines]), "utf-8")


def test_camera_is_solved_from_a_robots_log(tmp_path, capsys):
    """Check the camera pose and the clock lag that are solved from a gripper's log."""
    video, log_file, camera_file = (
        tmp_path / "exo.mp4",
        tmp_path / "gripper.csv",
        tmp_path / "camera.json",
    )
    write_film(
        video, np.zeros((8, PINHOLE_LENS.height, PINHOLE_LENS.width, 3), np.uint8), 8, None, "aac"
    )
    write_json(tmp_path / "lens.json", PINHOLE_LENS.to_json())
    rows, pose = draw_gripper_log(is_straight=False, lag_s=0.12)
    write_log(log_file, rows)
    camera_file.write_text("{}", "utf-8")  # of an earlier run
    command_words = ["calibrate", str(video), str(camera_file), "--point", str(log_file)]
    lens = ["--exo-lens", str(tmp_path / "lens.json")]
    assert train_egox.main(command_words + lens) == 0
    camera = read_json(camera_file)
    solved_pose = np.array(camera["camera_extrinsics"])
    position_error = -solved_pose[:, :3].T @ solved_pose[:, 3] - [1.2, 0.3, 0.9]
    rotation_error = Rotation.from_matrix(solved_pose[:, :3] @ pose[:, :3].T).magnitude()
    assert np.linalg.norm(position_error) < min(0.01, 3 * camera["sd_m"])
    assert np.degrees(rotation_error) < min(0.5, 3 * camera["sd_deg"])
    assert camera["log_late_s"] == pytest.approx(0.12, abs=0.01)
    assert "the log +12" in capsys.readouterr().out
    arguments = video, log_file, tmp_path / "none.json"
    with refuses("exo-lens: got free; expected a camera's name"):
        write_camera_from_log(*arguments, "free", None)
    write_log(log_file, draw_gripper_log(is_straight=True, lag_s=0.0)[0])
    with refuses("points gripper.csv: got .*; expected 12 or more, of a path"):
        write_camera_from_log(*arguments, lens[1], 0.0)
    for text, message_pattern in (
        ("time_s,x,y,z\n0,1,2,3", "got the columns time_s, x, y, z; expected a CSV table"),
        ("time_s,x,y,z,u,v\n0,1,2,a,4,5", "got z 'a' in line 2; expected a number"),
        ("time_s,x,y,z,u,v\n1,1,2,3,4,5\n0,1,2,3,4,5", "times that don't rise"),
    ):
        log_file.write_text(text, "utf-8")
        with refuses(message_pattern):
            write_camera_from_log(*arguments, lens[1], None)
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize("name", LENS_NAMES[1:])
def test_named_lenses_are_converted_to_colmap_and_back(name):
    lens, _ = make_lens(name, *((448, 448) if name == "aria" else (1920, 1080)))
    converted_lens = from_colmap(*to_colmap(lens), *lens.stored_size)
    rays = torch.nn.functional.normalize(torch.randn(200, 3).double() + torch.tensor([0, 0, 3.0]))
    assert torch.allclose(
        converted_lens.project(rays)[0], lens.upright().project(rays)[0], atol=1e-9
    )
    with refuses("lens: got 'gopro 5'; expected one of free, phone"):
        make_lens("gopro 5", 1920, 1080)


def test_arias_own_calibration_is_a_lens_that_is_held(tmp_path):
    manifest_file = tmp_path / "online_calibration.jsonl"
    manifest_file.write_text(json.dumps(calibration_entry()), "utf-8")
    lens, free_parameters = make_lens(str(manifest_file), 448, 448)
    assert free_parameters == "nothing" and lens.fx == pytest.approx(194.18512, abs=1e-5)
    with refuses("lens online_calibration.jsonl: got one of 1408x1408 px; expected the shape of"):
        make_lens(str(manifest_file), 640, 360)


def test_contradicted_calibrated_lens_is_remarked():
    structure = Structure(
        w2c={},
        cameras={},
        points=np.zeros((0, 3)),
        point_indices={},
        pixels={},
        error_px=0.3,
        partial_poses={},
        focal_changes={"ego": (0.0227, 0.002), "exo": (0.05, 0.03), "exo2": (0.004, 0.001)},
    )
    (note,) = lens_notes(structure, CalibrateOptions(ego_lens="aria.json", exo_lens="exo.json"))
    assert note.startswith("lens of ego: by the pictures its focal length is 2.3% longer (sd 0.2%)")


def draw_flat_scene():
    """Draw a wall that a head camera and a still camera see, reconstruct both from where the still
    one is mirrored, and return the reconstruction, its job and the still camera's true pose."""
    pycolmap = pytest.importorskip("pycolmap")
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.6, 0.6, (80, 3)) * [1, 0.05, 1]
    head_positions = [0, 2.2, 0] + 0.1 * rng.normal(size=(12, 3))
    poses = {
        f"ego/{i}.png": look_at(position, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)).numpy()
        for i, position in enumerate(head_positions)
    }
    true_pose = look_at((2.0, 4.0, 0.5), (0.3, 0.0, 0.0), (0.0, 0.0, 1.0)).numpy()
    poses["exo/still.png"] = mirror_pose(true_pose, points)
    lenses = {"ego": (100.0, "nothing"), "exo": (250.0, "focal length")}
    reconstruction = pycolmap.Reconstruction()
    for camera_id, (focal_px, _) in enumerate(lenses.values(), start=1):
        camera = pycolmap.Camera(
            camera_id=camera_id,
            model="SIMPLE_PINHOLE",
            width=320,
            height=240,
            params=[focal_px, 160, 120],
        )
        reconstruction.add_camera_with_trivial_rig(camera)
    for image_id, (name, pose) in enumerate(poses.items(), start=1):
        is_exo = name.startswith("exo")
        seen_pose = true_pose if is_exo else pose
        points_in_camera = points @ seen_pose[:, :3].T + seen_pose[:, 3]
        pixels = points_in_camera[:, :2] / points_in_camera[:, 2:] * (250 if is_exo else 100)
        image = pycolmap.Image(
            name=name,
            keypoints=pixels + [160, 120] + 0.2 * rng.normal(size=(80, 2)),
            camera_id=1 + is_exo,
            image_id=image_id,
        )
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    for row, point in enumerate(points):
        elements = [pycolmap.TrackElement(i, row) for i in range(1, len(poses) + 1)]
        reconstruction.add_point3D(point, pycolmap.Track(elements))
    job = {
        "pictures": {
            "ego": [name[4:] for name in poses if name[:3] == "ego"],
            "exo": ["still.png"],
        },
        "lenses": {
            name: ["SIMPLE_PINHOLE", [focal_px, 160, 120], free_parameters]
            for name, (focal_px, free_parameters) in lenses.items()
        },
        "moving": "ego",
    }
    adjust_bundle(reconstruction, [2], [1])
    return reconstruction, job, true_pose


def angle_deg(pose: np.ndarray, other_pose: np.ndarray) -> float:
    return np.degrees(Rotation.from_matrix(pose[:, :3] @ other_pose[:, :3].T).magnitude())


def still_pose(reconstruction) -> np.ndarray:
    image = reconstruction.find_image_with_name("exo/still.png")
    return np.asarray(image.cam_from_world().matrix())


def test_still_camera_before_a_flat_scene_is_found_on_its_own_side():
    """Check a camera whose refinement began at the mirrored place, from which a wall looks the
    same."""
    reconstruction, job, true_pose = draw_flat_scene()
    assert angle_deg(still_pose(reconstruction), true_pose) > 30
    names = [image.name for image in reconstruction.images.values()]
    partial_poses, _ = leave_out_parts(reconstruction, job, names)
    still_poses = partial_poses[names.index("exo/still.png")]
    assert max(angle_deg(pose, true_pose) for pose in still_poses) < 10, "in each part"
    w2c = {image.name: image.cam_from_world().matrix() for image in reconstruction.images.values()}
    known = SimpleNamespace(w2c=w2c, partial_poses=dict(zip(names, partial_poses, strict=True)))
    assert 0 < jackknife(known, "exo/still.png", "ego/")[0] < 1
    still_poses[2] = np.nan
    assert jackknife(known, "exo/still.png", "ego/") == (math.inf, math.inf), "a part fails"
    found = restart_still_cameras(reconstruction, job)
    assert angle_deg(still_pose(found), true_pose) < 1
    kept = restart_still_cameras(found, job)
    assert angle_deg(still_pose(kept), true_pose) < 1, "the right one stays"


def test_place_with_points_behind_the_camera_is_told():
    """Check a still camera that looks away from what it shows."""
    pycolmap = pytest.importorskip("pycolmap")
    reconstruction, _, true_pose = draw_flat_scene()
    assert points_are_in_front(reconstruction)
    frame = reconstruction.find_image_with_name("exo/still.png").frame_id
    looks_away = np.diag([-1.0, 1.0, -1.0]) @ true_pose
    reconstruction.frames[frame].rig_from_world = pycolmap.Rigid3d(looks_away)
    assert not points_are_in_front(reconstruction)


def test_search_goes_on_after_a_first_pair_that_few_pictures_fit(tmp_path):
    """Check pictures of which three match each other best and none of the others."""
    pycolmap = pytest.importorskip("pycolmap")
    pycolmap.set_random_seed(1)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        for picture_count, point_count in ((3, 400), (8, 100)):
            scene_options = pycolmap.SyntheticDatasetOptions()
            scene_options.num_rigs = 1
            scene_options.num_frames_per_rig = picture_count
            scene_options.num_points3D = point_count
            pycolmap.synthesize_dataset(scene_options, database)
        for image in database.read_all_images():
            image.name = f"{'few' if image.camera_id == 1 else 'ego'}/{image.image_id}"
            database.update_image(image)
        lenses = [
            (camera.model.name, list(camera.params)) for camera in database.read_all_cameras()
        ]
    job = {
        "pictures": {"few": ["1", "2", "3"], "ego": [str(i) for i in range(4, 12)]},
        "lenses": {
            name: [*lens, "nothing"] for name, lens in zip(("few", "ego"), lenses, strict=True)
        },
        "moving": "ego",
    }
    solved_pictures = reconstruct_pictures(tmp_path, job).images.values()
    assert {image.name.split("/")[0] for image in solved_pictures if image.has_pose} == {"ego"}
    assert sum(image.has_pose for image in solved_pictures) == 8


def test_turning_head_without_motion_gives_no_distances():
    points = np.random.default_rng(0).normal(size=(50, 3)) + [0, 0, 3]
    for motion_m, has_parallax in ((0.1, True), (1e-6, False)):
        camera_positions = motion_m * np.random.default_rng(1).normal(size=(20, 3))
        poses = {
            f"ego/{i}.png": np.c_[np.eye(3), -camera_position]
            for i, camera_position in enumerate(camera_positions)
        }
        structure = Structure(
            w2c=poses,
            cameras={},
            points=points,
            point_indices={},
            pixels={},
            error_px=0.3,
            partial_poses={},
            focal_changes={},
        )
        assert (parallax(structure, PINHOLE_LENS) > LEAST_PARALLAX) == has_parallax


def test_up_and_floor_height_are_found():
    rng = np.random.default_rng(0)
    world_rotation = Rotation.random(random_state=4).as_matrix()
    centres = np.array([0, 0, 1.6]) + 0.1 * rng.normal(size=(60, 3)) * [1, 1, 0.1]
    poses = [
        look_at(centre, centre + [np.sin(azimuth), np.cos(azimuth), -0.4], (0.0, 0.0, 1.0)).numpy()
        for centre, azimuth in zip(centres, np.linspace(-1, 1, 60), strict=True)
    ]
    axes = np.stack(poses)[:, :, :3] @ world_rotation.T
    floor_points = np.concatenate(
        [rng.uniform(-2, 2, (300, 2)), 0.01 * rng.normal(size=(300, 1))], 1
    )
    table_points = np.concatenate([rng.uniform(0, 1, (200, 2)), np.full((200, 1), 0.75)], 1)
    points = 0.2 * np.concatenate([floor_points, table_points]) @ world_rotation.T
    up_direction = find_head_up(axes[:, 0], axes[:, 1])
    solved_floor = floor_scale(points, 0.2 * centres @ world_rotation.T, up_direction, 1.6)
    assert solved_floor.metres_per_unit == pytest.approx(5.0, rel=0.03)
    assert np.degrees(np.arccos(solved_floor.up @ world_rotation[:, 2])) < 1
    scale, solved_rotation, solved_shift = similarity(
        points, 3 * points @ world_rotation.T + [1, 2, 3]
    )
    assert (
        scale == pytest.approx(3)
        and np.allclose(solved_rotation, world_rotation)
        and np.allclose(solved_shift, [1, 2, 3])
    )


def test_takes_of_earlier_runs_are_listed(tmp_path):
    """Check that takes that a new run didn't write again are listed until they are deleted."""
    assert list_earlier_takes(tmp_path, "walk", []) == ()
    for name in ("walk_exo", "walk_exo_1", "walk_exo_2", "run_exo"):
        (tmp_path / name).mkdir()
    report = {"takes": ["walk_exo", "walk_exo_1"], "earlier_takes": ["walk_exo_2", "deleted"]}
    write_json(report_file(tmp_path, "walk"), report)
    earlier_takes = list_earlier_takes(tmp_path, "walk", [tmp_path / "walk_exo"])
    assert earlier_takes == ("walk_exo_1", "walk_exo_2")
