"""Clocks by sound, a camera from a moving point, lenses there and back, up and the floor."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import train_egox
from egox_core.cameras import CameraModel, look_at
from egox_core.safe_files import read_json, write_json
from egox_train.calibrate.lenses import NAMES, from_colmap, lens_of, to_colmap
from egox_train.calibrate.logged_point import write_camera_from_log
from egox_train.calibrate.moving_point import camera_from_point
from egox_train.calibrate.pictures import lens_notes
from egox_train.calibrate.scale import floor_scale, similarity, upwards
from egox_train.calibrate.sound import RATE, clocks_by_sound, read_mono
from egox_train.calibrate.structure import Structure
from egox_train.calibrate.world import LEAST_PARALLAX, parallax
from egox_train.options import CalibrateOptions
from tests.refusals import refuses
from tests.train.drawn_recordings import SOUNDS, write_film


def heard(seed: int, seconds: float) -> np.ndarray:
    """Draw a sound with pauses."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=round(seconds * RATE))
    loud = np.interp(
        np.arange(len(noise)),
        np.arange(0, len(noise), RATE // 4),
        rng.random(-(-len(noise) // (RATE // 4))) ** 4,
    )
    return (noise * loud).astype(np.float32)


@pytest.mark.parametrize("offset_s, ppm", [(3.21, 50), (-2.87, -40)])
def test_offset_and_drift_by_sound(offset_s, ppm):
    rng, seconds = np.random.default_rng(5), 45
    world = heard(1, seconds + 10)
    times = np.arange(round(seconds * RATE)) / RATE
    exo = np.interp(times + 5, np.arange(len(world)) / RATE, world)
    ego = np.interp((times - offset_s) / (1 + 1e-6 * ppm) + 5, np.arange(len(world)) / RATE, world)
    exo, ego = (x + 0.1 * rng.normal(size=len(x)) for x in (exo, ego))
    clocks = clocks_by_sound(exo.astype(np.float32), ego.astype(np.float32))
    assert clocks is not None and "by sound" in clocks.how
    assert clocks.offset_s == pytest.approx(offset_s, abs=2e-3)
    assert clocks.ego_s(np.array([40.0]))[0] == pytest.approx(
        40 * (1 + 1e-6 * ppm) + offset_s, abs=1e-3
    )
    assert clocks.drift == pytest.approx(1e-6 * ppm, abs=15e-6)


def test_silence_and_strangers_have_no_common_clock():
    silent = 1e-4 * np.random.default_rng(0).normal(size=(2, 20 * RATE)).astype(np.float32)
    assert clocks_by_sound(*silent) is None
    assert clocks_by_sound(heard(1, 20), heard(2, 20)) is None


@pytest.mark.parametrize("codec", SOUNDS)
def test_sound_begins_with_the_first_picture_in_each_codec(codec, tmp_path):
    """Priming samples and edit lists are no delay."""
    sound = np.interp(np.arange(12 * 48000) / 3, np.arange(12 * RATE), 0.1 * heard(3, 12))
    file = tmp_path / f"film{SOUNDS[codec]}"
    write_film(file, np.zeros((96, 16, 16, 3), np.uint8), 8, sound, codec)
    read = read_mono(file)
    clocks = clocks_by_sound(0.1 * heard(3, 12), read)
    assert clocks is not None and abs(clocks.offset_s) < 2e-3
    silent = tmp_path / "silent.mp4"
    write_film(silent, np.zeros((96, 16, 16, 3), np.uint8), 8, None, codec)
    assert read_mono(silent) is None


LENS = CameraModel.pinhole(640, 360, 500.0)
POINT = np.array([0.05, 0.03, -0.08])


def head_path(count: int, spread: float):
    rng = np.random.default_rng(2)
    times = np.arange(count) / 20
    waves = sum(
        rng.normal(size=3) * np.sin(times[:, None] * rng.uniform(0.5, 2) + rng.uniform(0, 6, 3))
        for _ in range(4)
    )
    places = spread * waves + [0, 0, 1.6]
    turns = Rotation.from_rotvec(np.sin(times)[:, None] * [0, 0, 1.0]).as_matrix()

    def carrier(moments):
        at = np.stack([np.interp(moments, times, places[:, i]) for i in range(3)], axis=1)
        near = np.clip(np.round(moments * 20).astype(int), 0, count - 1)
        return at, turns[near]

    return times, carrier


@pytest.mark.parametrize("late_s", [None, 0.25])
def test_a_camera_that_sees_a_moving_point(late_s):
    """With known clocks, and by a scan of lags."""
    pose = look_at((2.0, 1.0, 2.0), (0.0, 0.0, 1.5), (0.0, 0.0, 1.0)).numpy()
    times, carrier = head_path(400, 0.25)
    place, turn = carrier(times + (late_s or 0.0))
    local = (place + turn @ POINT) @ pose[:, :3].T + pose[:, 3]
    uv = LENS.project(torch.from_numpy(local))[0].numpy()
    uv += np.random.default_rng(0).normal(size=uv.shape) * 4
    lags = None if late_s is None else np.arange(-1, 1.01, 0.1)
    found = camera_from_point(LENS, uv, times, carrier, POINT, lags_s=lags)
    assert found is not None and found.solved
    centre = -found.w2c[:, :3].T @ found.w2c[:, 3]
    off = np.linalg.norm(centre - [2.0, 1.0, 2.0])
    turned = Rotation.from_matrix(found.w2c[:, :3] @ pose[:, :3].T).magnitude()
    assert off < 3 * found.sd_m and np.degrees(turned) < 3 * found.sd_deg
    assert off < 0.12 and np.degrees(turned) < 3
    assert found.lag_s == pytest.approx(late_s or 0.0, abs=0.03)


def test_a_head_that_stands_still_is_no_target():
    pose = look_at((2.0, 1.0, 2.0), (0.0, 0.0, 1.5), (0.0, 0.0, 1.0)).numpy()
    times, carrier = head_path(400, 0.01)
    place, turn = carrier(times)
    local = (place + turn @ POINT) @ pose[:, :3].T + pose[:, 3]
    uv = LENS.project(torch.from_numpy(local))[0].numpy()
    uv += np.random.default_rng(0).normal(size=uv.shape) * 4
    found = camera_from_point(LENS, uv, times, carrier, POINT)
    assert found is None or not found.solved
    assert camera_from_point(LENS, uv[:5], times[:5], carrier, POINT) is None


def logged(line: bool, late_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Make a gripper's log [N, 6] with pixels of a camera, and that camera's pose."""
    pose = look_at((1.2, 0.3, 0.9), (0.0, 0.0, 0.2), (0.0, 0.0, 1.0)).numpy()
    times = np.arange(0, 20, 0.1)

    def places(moments):
        waves = np.stack([np.sin(0.9 * moments + p) * np.cos(k * moments) for p, k in WAVES], 1)
        return waves[:, :1] * [0.2, 0.3, 0.1] if line else waves * [0.25, 0.3, 0.2]

    local = places(times + late_s) @ pose[:, :3].T + pose[:, 3]
    uv = LENS.project(torch.from_numpy(local))[0].numpy()
    uv += np.random.default_rng(3).normal(size=uv.shape)
    uv[::7] = np.nan
    return np.c_[times, places(times), uv], pose


WAVES = ((0.0, 0.31), (1.0, 0.47), (2.0, 0.23))


def write_log(file, rows):
    lines = [",".join("" if np.isnan(x) else f"{x:.6f}" for x in row) for row in rows]
    file.write_text("\n".join(["time_s,x,y,z,u,v", *lines]), "utf-8")


def test_a_camera_by_a_robots_gripper(tmp_path, capsys):
    """The command finds the pose in the robot's world and how late its log is, and names what can't
    be told."""
    video, table, out = tmp_path / "exo.mp4", tmp_path / "gripper.csv", tmp_path / "camera.json"
    write_film(video, np.zeros((8, LENS.height, LENS.width, 3), np.uint8), 8, None, "aac")
    write_json(tmp_path / "lens.json", LENS.to_json())
    rows, pose = logged(line=False, late_s=0.12)
    write_log(table, rows)
    command = ["calibrate", str(video), str(out), "--point", str(table)]
    lens = ["--exo-lens", str(tmp_path / "lens.json")]
    assert train_egox.main(command + lens) == 0
    camera = read_json(out)
    solved = np.array(camera["camera_extrinsics"])
    off = -solved[:, :3].T @ solved[:, 3] - [1.2, 0.3, 0.9]
    turned = Rotation.from_matrix(solved[:, :3] @ pose[:, :3].T).magnitude()
    assert np.linalg.norm(off) < min(0.01, 3 * camera["sd_m"])
    assert np.degrees(turned) < min(0.5, 3 * camera["sd_deg"])
    assert camera["log_late_s"] == pytest.approx(0.12, abs=0.01)
    assert "the log +12" in capsys.readouterr().out
    arguments = video, table, tmp_path / "none.json"
    with refuses("exo-lens: got free; expected a camera's name"):
        write_camera_from_log(*arguments, "free", None)
    write_log(table, logged(line=True, late_s=0.0)[0])
    with refuses("points gripper.csv: got .*; expected 12 or more, of a path"):
        write_camera_from_log(*arguments, lens[1], 0.0)
    for text, words in (
        ("time_s,x,y,z\n0,1,2,3", "got the columns time_s, x, y, z; expected a CSV table"),
        ("time_s,x,y,z,u,v\n0,1,2,a,4,5", "got z 'a' in line 2; expected a number"),
        ("time_s,x,y,z,u,v\n1,1,2,3,4,5\n0,1,2,3,4,5", "times that don't rise"),
    ):
        table.write_text(text, "utf-8")
        with refuses(words):
            write_camera_from_log(*arguments, lens[1], None)
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize("name", NAMES[1:])
def test_named_lenses_come_back_from_colmap(name):
    lens, _ = lens_of(name, *((448, 448) if name == "aria" else (1920, 1080)))
    again = from_colmap(*to_colmap(lens), *lens.stored_size)
    rays = torch.nn.functional.normalize(torch.randn(200, 3).double() + torch.tensor([0, 0, 3.0]))
    assert torch.allclose(again.project(rays)[0], lens.upright().project(rays)[0], atol=1e-9)
    with refuses("lens: got 'gopro 5'; expected one of free, phone"):
        lens_of("gopro 5", 1920, 1080)


def test_a_calibrated_lens_that_pictures_contradict_is_told():
    solved = Structure(
        w2c={},
        cameras={},
        points=np.zeros((0, 3)),
        rows={},
        pixels={},
        error_px=0.3,
        without={},
        longer={"ego": (0.0227, 0.002), "exo": (0.05, 0.03), "exo2": (0.004, 0.001)},
    )
    (note,) = lens_notes(solved, CalibrateOptions(ego_lens="aria.json", exo_lens="exo.json"))
    assert note.startswith("lens of ego: by the pictures its focal length is 2.3% longer (sd 0.2%)")


def test_a_head_that_turns_without_moving_tells_no_distances():
    points = np.random.default_rng(0).normal(size=(50, 3)) + [0, 0, 3]
    for way_m, told in ((0.1, True), (1e-6, False)):
        places = way_m * np.random.default_rng(1).normal(size=(20, 3))
        poses = {f"ego/{i}.png": np.c_[np.eye(3), -place] for i, place in enumerate(places)}
        still = Structure(
            w2c=poses,
            cameras={},
            points=points,
            rows={},
            pixels={},
            error_px=0.3,
            without={},
            longer={},
        )
        assert (parallax(still) > LEAST_PARALLAX) == told


def test_up_and_the_floor():
    rng = np.random.default_rng(0)
    turn = Rotation.random(random_state=4).as_matrix()
    centres = np.array([0, 0, 1.6]) + 0.1 * rng.normal(size=(60, 3)) * [1, 1, 0.1]
    poses = [
        look_at(c, c + [np.sin(a), np.cos(a), -0.4], (0.0, 0.0, 1.0)).numpy()
        for c, a in zip(centres, np.linspace(-1, 1, 60), strict=True)
    ]
    axes = np.stack(poses)[:, :, :3] @ turn.T
    floor = np.concatenate([rng.uniform(-2, 2, (300, 2)), 0.01 * rng.normal(size=(300, 1))], 1)
    table = np.concatenate([rng.uniform(0, 1, (200, 2)), np.full((200, 1), 0.75)], 1)
    points = 0.2 * np.concatenate([floor, table]) @ turn.T
    up = upwards(axes[:, 0], axes[:, 1])
    found = floor_scale(points, 0.2 * centres @ turn.T, up, 1.6)
    assert found.metres == pytest.approx(5.0, rel=0.03)
    assert np.degrees(np.arccos(found.up @ turn[:, 2])) < 1
    scale, back, shift = similarity(points, 3 * points @ turn.T + [1, 2, 3])
    assert scale == pytest.approx(3) and np.allclose(back, turn) and np.allclose(shift, [1, 2, 3])
