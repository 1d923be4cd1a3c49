"""Test where a path's times are in the video: found, declared, or asked for, at each door.

A tracker moves by 1 m in each second of the video, so that its place in a frame is the time at
which it was taken."""

import numpy as np
import pytest
import torch

from egox_core.frames import Frames
from egox_core.stages import path
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
