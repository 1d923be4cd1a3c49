"""Test the upload's JavaScript modules in Node."""

import pytest

from egox_core.video.selection import VideoInfo, select_frames
from egox_core.wan.chunks import plan_chunks
from tests.refusals import refuses


def test_the_upload_modules_tests_pass(run_node_tests):
    assert run_node_tests("uploads.test.mjs") >= 4


def test_the_page_counts_chunks_as_the_plan_does():
    """Check that JavaScript and Python count the same number of chunks."""
    frames = (49, 53, 93, 97, 193)
    assert [len(plan_chunks(count, 49, 5)) for count in frames] == [1, 2, 2, 3, 5]
    assert len(plan_chunks(33, 17, 1)) == 2


UNEVEN_TIMES_S = tuple(t / 30 if t < 20 else 20 / 30 + (t - 20) / 10 for t in range(40))
"""Times of frames in seconds: 30 frames per second at first, later 10."""


def describe_clip(fps: float, times_s: tuple[float, ...] = ()) -> VideoInfo:
    """Describe a video clip with the given frame times."""
    times_s = times_s or tuple(frame / fps for frame in range(200))
    empty_fields = dict.fromkeys(("name", "pts", "keyframes"), ()) | {"width": 64, "height": 64}
    clip_fields = {"frame_count": len(times_s), "has_audio": False, "start_s": 0.0}
    return VideoInfo(**empty_fields, **clip_fields, fps=fps, times_s=times_s)


@pytest.mark.parametrize(
    ("info", "max_count"),
    [
        (describe_clip(25.0), 76),
        (describe_clip(60.0), 32),
        (describe_clip(15.0, UNEVEN_TIMES_S), 23),
    ],
)
def test_the_page_counts_frames_as_the_loader_does(info, max_count):
    """Check that JavaScript and Python count the same number of frames."""
    valid_count = max_count - (max_count - 1) % 4
    selected_frames = select_frames(info, start_frame=10, frame_count=valid_count, target_fps=10.0)
    assert len(selected_frames.indices) == valid_count
    with refuses(f"got {max_count} frames"):
        select_frames(info, start_frame=10, frame_count=valid_count + 4, target_fps=10.0)


def test_the_page_gets_frame_times_only_if_they_are_uneven():
    assert describe_clip(15.0, UNEVEN_TIMES_S).uneven_times == [round(t, 4) for t in UNEVEN_TIMES_S]
    assert describe_clip(30000 / 1001).uneven_times is None
