"""Test frames of a video: equality, moments, numbering, storage, and entries of files."""

import copy
import pickle
from dataclasses import fields, replace

import pytest
import torch

from egox_core.frames import Frames, Numbering, covered_part, entries_of, settle_frames
from egox_core.frames.frames import MAX_CLIP_FRAMES
from egox_core.hands import HandTrack
from egox_core.types import FrameSelection
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

CLIP_FRAMES = Frames.stated([4, 6, 8], [0.2, 0.3, 0.4], 20)


def test_frames_are_equal_if_all_values_are():
    assert replace(CLIP_FRAMES, times_s=CLIP_FRAMES.times_s + 1e-9) == CLIP_FRAMES
    assert CLIP_FRAMES.rate == pytest.approx(20)
    assert len(CLIP_FRAMES) == 3
    assert CLIP_FRAMES.last == 8
    changed_frames = [
        replace(CLIP_FRAMES, indices=CLIP_FRAMES.indices + 1),
        replace(CLIP_FRAMES, times_s=CLIP_FRAMES.times_s + 0.01),
        replace(CLIP_FRAMES, rate=21.0),
        replace(CLIP_FRAMES, total=None),
        replace(CLIP_FRAMES, counted=True),
        CLIP_FRAMES.select(slice(2)),
        CLIP_FRAMES.from_zero(),
    ]
    assert all(frames_changed != CLIP_FRAMES for frames_changed in changed_frames)
    selection = frames_in_use([4, 6, 8], (8, 8), fps=20.0, total=20)
    assert selection.without_sizes == CLIP_FRAMES
    assert selection != CLIP_FRAMES
    assert replace(selection, size=(4, 4)) != selection


def test_unstated_frames_take_the_stated_ones():
    counted_frames = Frames.of_count(2)
    assert settle_frames(None, CLIP_FRAMES) is CLIP_FRAMES
    assert settle_frames(Frames.of_count(0), CLIP_FRAMES) is CLIP_FRAMES
    assert settle_frames(CLIP_FRAMES, counted_frames) is CLIP_FRAMES
    assert settle_frames(counted_frames, CLIP_FRAMES) == CLIP_FRAMES.select(slice(2))
    assert settle_frames(counted_frames, Frames.of_count(1)) is counted_frames
    still_frame = Frames.of_count(1)  # of a camera that stands
    assert (
        still_frame.select(torch.tensor([4, 6])) is still_frame
        and len(CLIP_FRAMES.select(slice(1)).select(slice(0))) == 0
    )
    assert (CLIP_FRAMES.end, replace(CLIP_FRAMES, total=None).end) == (20, 9)
    assert CLIP_FRAMES.numbers is CLIP_FRAMES.indices
    assert counted_frames.numbers is None
    assert len(Frames.stated(range(MAX_CLIP_FRAMES), range(MAX_CLIP_FRAMES))) == MAX_CLIP_FRAMES


def test_clips_are_in_step_within_half_a_frame():
    later_frames = Frames.stated([0, 2, 4], [7.0, 7.1, 7.249], 9)
    assert CLIP_FRAMES.in_step(later_frames) and not CLIP_FRAMES.in_step(
        replace(later_frames, times_s=later_frames.times_s * 1.3)
    )
    assert not CLIP_FRAMES.in_step(Frames.stated([0, 2, 4], [7.0, 7.1, 7.251]))
    assert CLIP_FRAMES.in_step(Frames.of_count(3))
    assert Frames.of_count(3).in_step(CLIP_FRAMES)
    assert CLIP_FRAMES.select(slice(1)).in_step(later_frames.select(slice(2, None)))
    assert CLIP_FRAMES.times_of(torch.tensor([2.0, 10.0])).tolist() == pytest.approx([0.1, 0.5])
    assert (
        CLIP_FRAMES.end_tolerance("index"),
        CLIP_FRAMES.end_tolerance("seconds"),
    ) == pytest.approx((1e-9, 0.025))


def test_videos_are_told_apart_by_file_size(tmp_path):
    first_frames, copied_frames, other_frames, missing_file_frames = (
        replace(CLIP_FRAMES, source=tmp_path / name) for name in ("a", "b", "c", "d")
    )
    for frames, content in ((first_frames, "x"), (copied_frames, "y"), (other_frames, "long")):
        frames.source.write_text(content, "utf-8")
    is_other_video = [
        first_frames.of_other_video(compared_frames)
        for compared_frames in (
            first_frames,
            copied_frames,
            other_frames,
            missing_file_frames,
            CLIP_FRAMES,
        )
    ]
    assert is_other_video == [False, False, True, False, False]


def test_pickled_frames_are_restored_and_older_ones_refused():
    selection = frames_in_use(range(4), (8, 8), total=9)
    for value in (CLIP_FRAMES, selection):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    old_selection = object.__new__(FrameSelection)
    with refuses("kept FrameSelection: got one that EgoX 1.2"):
        old_selection.__setstate__([torch.arange(4), torch.arange(4) / 20, 20.0, 20.0])
    track = HandTrack.unknown(3)
    older_track = object.__new__(HandTrack)
    older_track.__setstate__([getattr(track, value.name) for value in fields(track)][:4])
    assert older_track.frames == track.frames == pickle.loads(pickle.dumps(track)).frames


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
def test_frames_that_do_not_rise_are_refused(indices, times_s):
    with refuses("moments"):
        Frames.stated(indices, times_s)


def test_different_moments_are_refused_beyond_half_a_frame():
    CLIP_FRAMES.check_same(replace(CLIP_FRAMES, times_s=CLIP_FRAMES.times_s + 0.049), "a and b")
    late_frames = replace(CLIP_FRAMES, times_s=CLIP_FRAMES.times_s + 0.051)
    with refuses("moments of a and b: got times from 0.2 s and from 0.251 s"):
        CLIP_FRAMES.check_same(late_frames, "a and b")
    unstated_frames = Frames.of_count(3)
    unstated_frames.check_same(late_frames, "a and b")
    CLIP_FRAMES.check_same(unstated_frames, "a and b", still=True)
    CLIP_FRAMES.from_zero().select(slice(0, 1)).check_same(CLIP_FRAMES, "a and b")
    with refuses("moments"):
        CLIP_FRAMES.check_same(unstated_frames, "a and b")
    with refuses("moments"):
        CLIP_FRAMES.check_same(late_frames, "a and b", still=True)
    replace(CLIP_FRAMES, times_s=CLIP_FRAMES.times_s - 0.2).check_same(unstated_frames, "a and b")
    single_frame = CLIP_FRAMES.select(slice(1))
    single_frame.check_same(replace(single_frame, times_s=single_frame.times_s + 0.016), "a and b")
    with refuses("moments"):
        single_frame.check_same(
            replace(single_frame, times_s=single_frame.times_s + 0.018), "a and b"
        )


def numbered_entries(*numbers: int, **more_fields) -> Numbering:
    return Numbering(what="x", count=len(numbers), numbers=torch.tensor(numbers), **more_fields)


@pytest.mark.parametrize(
    ("numbers", "expected_entries"),
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
def test_entries_are_chosen_by_stated_numbers(numbers, expected_entries):
    """Check that file entries are matched to video frames by the frame numbers in the file, where
    possible."""
    if expected_entries is None:
        with refuses("x: got .* numbered"):
            entries_of(CLIP_FRAMES, numbered_entries(*numbers))
    else:
        entry_indices = entries_of(CLIP_FRAMES, numbered_entries(*numbers)).at
        assert torch.arange(len(numbers))[entry_indices].tolist() == expected_entries


def test_sparse_detections_have_no_entry_for_missing_frames():
    assert entries_of(CLIP_FRAMES, numbered_entries(4, 5, 8, sparse=True)).at.tolist() == [0, -1, 2]
    exact_entries = entries_of(
        CLIP_FRAMES.select(torch.tensor([0, 0, 2])), numbered_entries(4, 4, 8)
    )
    assert exact_entries.at == slice(3)
    with refuses("file_frames: got 'all'"):
        entries_of(CLIP_FRAMES, Numbering(what="x", count=3, file_frames="all"))  # ty: ignore


OF_VIDEO = {"times_of_video": True}


@pytest.mark.parametrize(
    ("in_use", "stated", "part"),
    [
        (range(10), {"count": 10}, (0, 10)),
        (range(10), {"count": 9}, (0, 9)),  # as programs lose one
        (range(10), {"count": 8}, (0, 10)),  # refused by entries_of
        (range(2, 10), {"count": 9}, (0, 7)),
        (range(2, 10), {"count": 7, "file_frames": "in use"}, (0, 7)),
        (range(10), {"count": 5, "numbers": torch.arange(3, 8)}, (3, 8)),
        (range(10), {"count": 1, "standing": True}, (0, 10)),
        (range(10), {"count": 2, "times_s": torch.tensor([0.34, 0.74]), **OF_VIDEO}, (3, 8)),
        (range(10), {"count": 2, "times_s": torch.tensor([0.36, 0.76]), **OF_VIDEO}, (4, 9)),
    ],
)
def test_a_whole_clip_is_cut_to_the_frames_that_have_entries(in_use, stated, part):
    frames = Frames.stated(in_use, torch.tensor(in_use) / 10, 10)
    covered = covered_part(frames, Numbering(what="a", **stated))
    assert (covered.start, covered.stop) == part
