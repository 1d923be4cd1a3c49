"""Test where a path's times and names are in the video: found, declared, or asked for.

A tracker moves by 1 m in each second of the video, so that its place in a frame is the time at
which it was taken."""

import itertools

import numpy as np
import pytest
import torch

from egox_core.errors import EgoXInputError
from egox_core.exchange import CameraFile
from egox_core.facts import Declared, StatedPoses
from egox_core.frames import Frames
from egox_core.stages import path
from tests.core.facts.pose_doors import euroc, write_json
from tests.core.facts.test_table import write_transforms, write_tum
from tests.refusals import refuses

EVEN_TIMES = np.arange(60) / 30
UNEVEN_TIMES = np.r_[np.arange(30) / 30, 1 + np.arange(30) / 10]  # its last frame is at 3.9 s
SHORT_TIMES = np.arange(60) / 60  # ends at .983 s
ASKS = "ego.time_offset_s"


def frames_of(times) -> Frames:
    """Put every second frame of a video in use."""
    rate = (len(times) - 1) / times[-1]
    return Frames(
        indices=torch.arange(0, len(times), 2),
        times_s=torch.from_numpy(times[::2].copy()),
        rate=rate,
        total=len(times),
        end_s=float(times[-1]),
    )


def matrices_at(places) -> np.ndarray:  # [N, 4, 4] c2w
    matrices = np.tile(np.eye(4), (len(places), 1, 1))
    matrices[:, 0, 3] = places
    return matrices


# name: (times of the video, those of the poses, seconds of the video at the poses, and for a file
# that says nothing, with declarations: None if the path is right, else what its refusal names)
CLOCKS = {
    "of the video": (EVEN_TIMES, EVEN_TIMES, EVEN_TIMES, {"": None}),
    "uneven video": (UNEVEN_TIMES, UNEVEN_TIMES, UNEVEN_TIMES, {"": None}),
    "20 ms past an uneven end": (
        UNEVEN_TIMES,
        np.r_[UNEVEN_TIMES, 3.92],
        np.r_[UNEVEN_TIMES, 3.92],
        {"": None},
    ),
    "runs on longer": (
        EVEN_TIMES,
        np.arange(270) / 100,
        np.arange(270) / 100,
        {"": ASKS, "ego.time_offset_s=0": None},
    ),
    "begins earlier": (
        EVEN_TIMES,
        np.arange(360) / 100 - 0.8,
        np.arange(360) / 100 - 0.8,
        {"": ASKS, "ego.time_offset_s=-0.8": None},
    ),
    "of a clock of its own": (
        EVEN_TIMES,
        1.7e9 + np.arange(270) / 100,
        np.arange(270) / 100 - 0.5,
        {"": ASKS, "ego.time_offset_s=-0.5": None},
    ),
    "in nanoseconds": (
        EVEN_TIMES,
        np.round(4e9 + 1e7 * np.arange(270)),
        np.arange(270) / 100 - 0.5,
        {"": ASKS, "ego.time_offset_s=-0.5, ego.time_factor=1e-9": None},
    ),
    "one second beside 0.98": (
        SHORT_TIMES,
        np.arange(201) / 200,
        np.arange(201) / 200,
        {"": ASKS, "ego.time_offset_s=0": None},
    ),
}


@pytest.mark.parametrize("write", [write_tum, write_transforms])
@pytest.mark.parametrize("name", CLOCKS)
def test_times_are_those_of_the_video_or_asked_for(tmp_path, write, name):
    video_times, times, places, answers = CLOCKS[name]
    frames = frames_of(video_times)
    file = write(tmp_path, matrices_at(places), times, "")
    for declared, refusal in answers.items():
        if refusal is not None:
            with refuses(refusal):
                path(file, frames=frames, declared=declared)
            continue
        trajectory, _ = path(file, frames=frames, declared=declared)
        found_places = -trajectory.ego.w2c[:, 0, 3]
        # Times since 1970 keep a microsecond in float64.
        assert torch.allclose(found_places, frames.times_s, atol=2e-6)


@pytest.mark.parametrize(("write", "shares"), [(write_tum, False), (write_transforms, True)])
def test_shares_of_the_video_are_times_of_transforms_json_alone(tmp_path, write, shares):
    frames = frames_of(UNEVEN_TIMES)
    times = UNEVEN_TIMES / UNEVEN_TIMES[-1]
    file = write(tmp_path, matrices_at(UNEVEN_TIMES), times, "")
    if not shares:
        with refuses("poses for times 0 to 1 s"):
            path(file, frames=frames)
        return
    for declared in ("", "ego.time_offset_s=0, ego.time_factor=3.9"):
        trajectory, _ = path(file, frames=frames, declared=declared)
        assert torch.allclose(-trajectory.ego.w2c[:, 0, 3], frames.times_s, atol=1e-9)
    # As seconds they would reach over these frames, too.
    with refuses(ASKS):
        path(file, frames=frames.select(slice(10)))


UNIT_NAMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
TRACKERS = (3, 10), (3, 200), (10, 30), (60, 100), (200, 10)
GRID = [*itertools.product(UNIT_NAMES, TRACKERS, (1.6, 120), (0.0, -0.7), (True, False))]


@pytest.mark.parametrize(("unit", "tracker", "clip_s", "offset_s", "is_stated"), GRID)
def test_no_clock_is_wrong_without_a_word(unit, tracker, clip_s, offset_s, is_stated):
    """Check that a tracker is right, or refused with facts that make it right once declared."""
    length_s, rate = tracker
    factor = UNIT_NAMES[unit]
    seconds = np.arange(length_s * rate + 1) / rate
    places = seconds + offset_s
    stated = StatedPoses(
        name="tracker",
        poses=torch.from_numpy(matrices_at(places)[:, :3]),
        camera_to_world=True,
        moments={"times_s": torch.from_numpy(seconds / factor + 5 / factor)}
        | ({"time_unit_s": factor} if is_stated else {}),
    )
    total = round(30 * clip_s)
    used = torch.arange(min(49, total))
    times_s = torch.arange(total) / 30
    frames = Frames(indices=used, times_s=times_s[used], rate=30.0, total=total)
    offset = f"ego.time_offset_s={offset_s}"
    for declared in ("", offset, f"{offset}, ego.time_factor={factor}"):
        try:
            camera_file = CameraFile.of_stated(stated).settled(Declared.of(declared))
            track, _ = camera_file.track(frames)
            found_places = -track.of_frames(frames)[:, 0, 3]
        except EgoXInputError as error:
            assert declared in ("", offset) and offset not in str(error)
            # An offset is enough at all these rates.
            assert declared == "" and ASKS in str(error)
            continue
        is_right = torch.allclose(found_places, frames.times_s, atol=1e-5)
        assert is_right or (declared == "" and camera_file.clock_rows(track))


@pytest.mark.parametrize("rate", [1, 2, 1000])
def test_times_that_may_be_of_two_units_ask_for_one(tmp_path, rate):
    frames = frames_of(EVEN_TIMES)
    places = np.arange(3 * rate + 1) / rate
    file = write_tum(tmp_path, matrices_at(places), 1000 * places, "")
    with refuses("ego.time_factor"):
        path(file, frames=frames, declared="ego.time_offset_s=0")
    trajectory, _ = path(file, frames=frames, declared="ego.time_offset_s=0, ego.time_factor=0.001")
    assert torch.allclose(-trajectory.ego.w2c[:, 0, 3], frames.times_s, atol=1e-9)


@pytest.mark.parametrize("title", ["time[ns]", "timestamp_ns", "stamp (ns)", "t_nsec", "time[µs]"])
def test_a_header_s_unit_of_time_is_read(tmp_path, title):
    """Check a unit that a header states, of a rate from which none is told."""
    frames = frames_of(EVEN_TIMES)
    places = np.arange(4) * 1.0
    factor = 1e-6 if "µ" in title else 1e-9
    file = write_tum(tmp_path, matrices_at(places), 1e9 + places / factor, "")
    text = file.read_text("utf-8")
    for separator in (" ", ","):
        header = separator.join([title, *"tx ty tz qx qy qz qw".split()])
        file.write_text(f"# {header}\n{text.replace(' ', separator)}", "utf-8")
        for more in ("", f", ego.time_factor={factor}", ", ego.time_factor=1"):
            trajectory, _ = path(file, frames=frames, declared=f"ego.time_offset_s=0{more}")
            assert torch.allclose(-trajectory.ego.w2c[:, 0, 3], frames.times_s, atol=2e-6)
            (row,) = (row for row in trajectory.facts if row.fact == "ego.time_factor")
            assert ("header" in row.by) == (more == "")


def test_the_unit_of_euroc_is_its_header_s(tmp_path):
    frames = frames_of(EVEN_TIMES)
    file = euroc(tmp_path, matrices_at(np.arange(-1, 5)), np.arange(6.0))  # one pose a second
    text = file.read_text("utf-8")
    declared = "ego.time_offset_s=-1, ego.camera_from_tracker=0 0 0"
    with refuses("ego.time_factor"):
        path(file, frames=frames, declared=declared)
    file.write_text(text.replace("#timestamp", "#timestamp [ns]"), "utf-8")
    trajectory, _ = path(file, frames=frames, declared=declared)
    assert torch.allclose(-trajectory.ego.w2c[:, 0, 3], frames.times_s, atol=2e-6)


# names of pictures; frames of the video; the refusal; settings that it names, and the frames that
# they ask for (None: all) with the frame of the last pose
STRIDES = {
    "every 4th, half registered": (
        range(1, 26, 4),
        49,
        r"end at frame 24: set every_nth 1 and 25 frames \(.*\), or set every_nth 2 \(.* 48\)",
        {1: (25, 24), 2: (None, 48)},
    ),
    "every 4th from 0": (range(0, 25, 4), 46, "every_nth 1 and 25 frames", {1: (25, 24)}),
    "every 3rd of Nuke": (range(1001, 1026, 3), 41, "every_nth 1 and 25 frames", {1: (25, 24)}),
    "a part": (range(1, 21), 49, "every_nth 1 and 17 frames", {1: (17, 19)}),
    "a part from 0": (range(20), 49, "every_nth 1 and 17 frames", {1: (17, 19)}),
    "every 2nd but the last": (
        range(1, 50),
        98,
        "every_nth 1 and 49 frames .*, or set every_nth 2 and 97 frames",
        {1: (49, 48), 2: (97, 96)},
    ),
    "every 2nd, a part": (range(1, 13), 30, "every_nth 1 and 9 frames", {1: (9, 11)}),
}


@pytest.mark.parametrize("name", STRIDES)
def test_names_that_end_before_the_video_say_both_ways(tmp_path, name):
    names, total, refusal, ways = STRIDES[name]
    count = len(names)
    times = np.arange(total) / 30
    frames = Frames(indices=torch.arange(total), times_s=torch.from_numpy(times), total=total)
    for every_nth, (used_count, last_frame) in ways.items():
        places = np.linspace(0, last_frame, count)
        entries = [
            {"file_path": f"frame_{number:05d}.png", "transform_matrix": matrix.tolist()}
            for number, matrix in zip(names, matrices_at(places), strict=True)
        ]
        content = {"w": 32, "h": 32, "fl_x": 20.0, "frames": entries}
        file = write_json(tmp_path / "transforms.json", content)
        with refuses(refusal):
            path(file, frames=frames)
        used_frames = frames.select(slice(used_count))
        for more in ({"every_nth": every_nth}, {"declared": f"ego.every_nth={every_nth}"}):
            trajectory, _ = path(file, frames=used_frames, **more)
            found_places = -trajectory.ego.w2c[:, 0, 3]
            assert torch.allclose(found_places, used_frames.indices.double(), atol=1e-9)
