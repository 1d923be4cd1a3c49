"""Frames are equal by value, compared by moments, kept and restored. Forms state their numbers."""

import copy
import pickle
from dataclasses import fields, replace

import pytest
import torch

from egox_core.frames import UNSAID, Frames, Numbering, entries_of
from egox_core.frames.frames import MAX_CLIP_FRAMES
from egox_core.hands import HandTrack
from egox_core.types import FrameSelection
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

CLIP = Frames.stated([4, 6, 8], [0.2, 0.3, 0.4], 20)


def test_frames_are_equal_where_all_values_are():
    assert replace(CLIP, times_s=CLIP.times_s + 1e-9) == CLIP
    assert CLIP.rate == pytest.approx(20) and len(CLIP) == 3 and CLIP.last == 8
    others = [
        replace(CLIP, indices=CLIP.indices + 1),
        replace(CLIP, times_s=CLIP.times_s + 0.01),
        replace(CLIP, rate=21.0),
        replace(CLIP, total=None),
        replace(CLIP, counted=True),
        CLIP.of(slice(2)),
        CLIP.from_zero(),
    ]
    assert all(other != CLIP for other in others)
    selection = frames_in_use([4, 6, 8], (8, 8), fps=20.0, total=20)
    assert selection.bare == CLIP and selection != CLIP
    assert replace(selection, size=(4, 4)) != selection


def test_what_nobody_said_is_the_values_own():
    count = Frames.of_count(2)
    assert UNSAID.or_those(CLIP) is CLIP and CLIP.or_those(count) is CLIP
    assert UNSAID.moments_of(CLIP) == CLIP == CLIP.moments_of(count)
    assert count.moments_of(CLIP) == CLIP.of(slice(2)) and count.or_those(CLIP) is count
    assert count.recounted(5) == Frames.of_count(5) and CLIP.recounted(5) is CLIP
    assert count.closed == replace(count, total=2) and CLIP.closed is CLIP
    one = Frames.of_count(1)  # of a camera that stands
    assert one.of(torch.tensor([4, 6])) is one and len(CLIP.of(slice(1)).of(slice(0))) == 0
    assert (CLIP.end, replace(CLIP, total=None).end) == (20, 9)
    assert CLIP.numbers is CLIP.indices and count.numbers is None
    assert len(Frames.stated(range(MAX_CLIP_FRAMES), range(MAX_CLIP_FRAMES))) == MAX_CLIP_FRAMES


def test_clips_are_in_step_to_half_a_frame_each_from_its_own_start():
    later = Frames.stated([0, 2, 4], [7.0, 7.1, 7.249], 9)
    assert CLIP.in_step(later) and not CLIP.in_step(replace(later, times_s=later.times_s * 1.3))
    assert not CLIP.in_step(Frames.stated([0, 2, 4], [7.0, 7.1, 7.251]))
    assert CLIP.in_step(Frames.of_count(3)) and Frames.of_count(3).in_step(CLIP)
    assert CLIP.of(slice(1)).in_step(later.of(slice(2, None)))
    assert CLIP.times_of(torch.tensor([2.0, 10.0])).tolist() == pytest.approx([0.1, 0.5])
    assert (CLIP.slack("index"), CLIP.slack("seconds")) == pytest.approx((1e-9, 0.025))


def test_videos_differ_by_their_files_sizes(tmp_path):
    first, copied, other, lost = (
        replace(CLIP, source=tmp_path / name) for name in ("a", "b", "c", "d")
    )
    for frames, content in ((first, "x"), (copied, "y"), (other, "long")):
        frames.source.write_text(content, "utf-8")
    differ = [first.of_other_video(each) for each in (first, copied, other, lost, CLIP)]
    assert differ == [False, False, True, False, False]


def test_one_more_in_memory_than_in_use_is_left_over():
    for total, count in ((60, 41), (None, 60)):
        frames = replace(Frames.of_count(40), total=total)
        entries = entries_of(frames, Numbering(what="x", count=count, in_memory=True))
        assert entries.at == slice(40) and "the first 40 are used" in str(entries.remark)


def test_frames_come_back_and_those_of_older_versions_are_told():
    selection = frames_in_use(range(4), (8, 8), total=9)
    for each in (CLIP, selection):
        assert pickle.loads(pickle.dumps(each)) == copy.deepcopy(each) == each
    old = object.__new__(FrameSelection)
    with refuses("kept FrameSelection: got one that EgoX 1.2"):
        old.__setstate__([torch.arange(4), torch.arange(4) / 20, 20.0, 20.0])
    track = HandTrack.unknown(3)
    older = object.__new__(HandTrack)
    older.__setstate__([getattr(track, each.name) for each in fields(track)][:4])
    assert older.frames == track.frames == pickle.loads(pickle.dumps(track)).frames


@pytest.mark.parametrize(
    ("indices", "times_s"),
    [
        ([], []),
        ([0, 1], [0]),
        ([1, 0], [0, 1]),
        ("x", [0]),
        ([0], [float("nan")]),
        ([-1], [0]),
        ([10**12], [0]),
    ],
)
def test_a_caller_states_rising_frames(indices, times_s):
    with refuses("moments"):
        Frames.stated(indices, times_s)


def test_moments_are_those_of_both_to_half_a_frame():
    CLIP.check_same(replace(CLIP, times_s=CLIP.times_s + 0.049), "a and b")
    late = replace(CLIP, times_s=CLIP.times_s + 0.051)
    with refuses("moments of a and b: got times from 0.2 s and from 0.251 s"):
        CLIP.check_same(late, "a and b")
    unsaid = Frames.of_count(3)
    unsaid.check_same(late, "a and b")
    CLIP.check_same(unsaid, "a and b", still=True)
    CLIP.from_zero().of(slice(0, 1)).check_same(CLIP, "a and b")
    with refuses("moments"):
        CLIP.check_same(unsaid, "a and b")
    with refuses("moments"):
        CLIP.check_same(late, "a and b", still=True)
    replace(CLIP, times_s=CLIP.times_s - 0.2).check_same(unsaid, "a and b")
    one = CLIP.of(slice(1))
    one.check_same(replace(one, times_s=one.times_s + 0.016), "a and b")
    with refuses("moments"):
        one.check_same(replace(one, times_s=one.times_s + 0.018), "a and b")


def numbered(*numbers: int, **more) -> Numbering:
    return Numbering(what="x", count=len(numbers), numbers=torch.tensor(numbers), **more)


@pytest.mark.parametrize(
    ("numbers", "at"),
    [
        ((8, 6, 4), [2, 1, 0]),
        ((4, 5, 6, 7, 8, 19), [0, 2, 4]),
        ((4, 6), None),
        ((4, 6, 8, 20), None),
        ((4, 6, 6, 8), None),
        (range(1, 21), [4, 6, 8]),
        (range(20), [4, 6, 8]),
        (range(2, 23), [4, 6, 8]),
        (range(3, 22), [4, 6, 8]),
        (range(2, 24), None),
    ],
)
def test_stated_numbers(numbers, at):
    """Stated numbers choose the entries. A run of numbers as long as the source, without a gap and
    beyond its end, is taken in order."""
    if at is None:
        with refuses("x: got .* numbered"):
            entries_of(CLIP, numbered(*numbers))
    else:
        entries = entries_of(CLIP, numbered(*numbers)).at
        assert torch.arange(len(numbers))[entries].tolist() == at


def test_where_nobody_was_seen_a_detector_has_no_entry():
    assert entries_of(CLIP, numbered(4, 5, 8, sparse=True)).at.tolist() == [0, -1, 2]
    exact = entries_of(CLIP.of(torch.tensor([0, 0, 2])), numbered(4, 4, 8))
    assert exact.at == slice(3)
    with refuses("file_frames: got 'all'"):
        entries_of(CLIP, Numbering(what="x", count=3, file_frames="all"))  # ty: ignore
