"""The uploads' modules that need no page, run by Node."""

import pytest

from egox_core.video.selection import VideoInfo, select_frames
from egox_core.wan.chunks import plan_chunks
from tests.refusals import refuses


def test_the_modules_own_tests(run_node_tests):
    assert run_node_tests("uploads.test.mjs") >= 4


def test_the_pages_count_of_chunks_is_that_of_the_plan():
    """The table of ``uploads.test.mjs``, where 49 frames, which fit, are told nothing of chunks."""
    frames = (49, 53, 93, 97, 193)
    assert [len(plan_chunks(count, 49, 5)) for count in frames] == [1, 2, 2, 3, 5]
    assert len(plan_chunks(33, 17, 1)) == 2


UNEVEN = tuple(t / 30 if t < 20 else 20 / 30 + (t - 20) / 10 for t in range(40))
"""Seconds of frames at 30 a second, later at 10."""


def clip(fps: float, times_s: tuple[float, ...] = ()) -> VideoInfo:
    """Describe a clip of 200 frames, or of those at the given times."""
    times_s = times_s or tuple(t / fps for t in range(200))
    plain = dict.fromkeys(("name", "pts", "keyframes"), ()) | {"width": 64, "height": 64}
    shown = {"frame_count": len(times_s), "has_audio": False, "start_s": 0.0}
    return VideoInfo(**plain, **shown, fps=fps, times_s=times_s)


@pytest.mark.parametrize(
    ("info", "most"), [(clip(25.0), 76), (clip(60.0), 32), (clip(15.0, UNEVEN), 23)]
)
def test_the_pages_count_of_frames_is_the_loaders(info, most):
    """The table of ``uploads.test.mjs``: frames from the tenth on at 10 a second."""
    fits = most - (most - 1) % 4
    chosen = select_frames(info, start_frame=10, frame_count=fits, target_fps=10.0)
    assert len(chosen.indices) == fits
    with refuses(f"got {most} frames"):
        select_frames(info, start_frame=10, frame_count=fits + 4, target_fps=10.0)


def test_the_page_is_told_uneven_times_alone():
    assert clip(15.0, UNEVEN).uneven_times == [round(t, 4) for t in UNEVEN]
    assert clip(30000 / 1001).uneven_times is None
