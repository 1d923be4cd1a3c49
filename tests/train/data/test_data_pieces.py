"""Test clip windows, captions, splits and manifests without videos."""

import pytest
import torch

from egox_train.data.captions import (
    NO_CAPTION,
    caption_for,
    check_caption,
    read_captions,
    unused_captions,
)
from egox_train.data.clip_files import clip_windows, longest_pose_run
from egox_train.data.manifest import (
    check_fractions,
    read_manifest,
    split_lists,
    split_of,
    write_manifest,
)
from tests.refusals import refuses
from tests.train.clip_record import clip_record


def test_windows_skip_lost_poses_and_keep_the_grid():
    known_mask = torch.ones(100, dtype=torch.bool)
    all_windows, skipped = clip_windows(known_mask, 100, frames=9, stride=9)
    assert [w.start for w in all_windows] == list(range(0, 92, 9)) and not skipped
    known_mask[20] = False
    windows_with_gap, skipped = clip_windows(known_mask, 100, frames=9, stride=9)
    assert skipped == [18] and [w.start for w in windows_with_gap] == [
        s for s in range(0, 92, 9) if s != 18
    ]
    assert longest_pose_run(known_mask) == 79


def test_windows_respect_the_shortest_video_step_and_limit():
    known_mask = torch.ones(50, dtype=torch.bool)
    windows, _ = clip_windows(known_mask, 33, frames=5, stride=10, step=3)
    assert [w.start for w in windows] == [0, 10, 20] and windows[1].indices.tolist() == [
        10,
        13,
        16,
        19,
        22,
    ]
    assert clip_windows(known_mask, 4, frames=5, stride=5) == ([], [])


def test_lost_poses_between_used_frames_are_ignored():
    known_mask = torch.ones(20, dtype=torch.bool)
    known_mask[1] = False
    windows, skipped = clip_windows(known_mask, 20, frames=5, stride=20, step=2)
    assert [w.start for w in windows] == [0] and not skipped


def test_takes_keep_their_split_with_all_clips():
    fractions = {"validation": 0.2, "test": 0.2}
    take_names = [f"take{i}" for i in range(300)]
    earlier_splits = {n: split_of(n, fractions) for n in take_names[:100]}
    clips_by_split = split_lists({n: [f"{n}__a", f"{n}__b"] for n in take_names}, fractions)
    assert sum(map(len, clips_by_split.values())) == 600
    for name, split in earlier_splits.items():
        assert {f"{name}__a", f"{name}__b"} <= set(clips_by_split[split])
    assert (
        60 <= len(clips_by_split["validation"]) <= 180 and 60 <= len(clips_by_split["test"]) <= 180
    )
    assert split_lists({n: [n] for n in take_names}, fractions, seed=1) != split_lists(
        {n: [n] for n in take_names}, fractions
    )
    for bad_fractions in ({"validation": 0.5, "test": 0.5}, {"train": 0.1}, {"test": -0.1}):
        with refuses():
            check_fractions(bad_fractions)


@pytest.mark.parametrize(
    ("take_count", "expected_splits"),
    [
        (1, ["train"]),
        (2, ["train", "validation"]),
        (3, ["train", "validation", "test"]),
        (4, ["train", "validation", "test"]),
        (10, ["train", "validation", "test"]),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_requested_splits_are_not_empty_with_enough_takes(take_count, expected_splits, seed):
    take_names = [f"take{i}" for i in range(take_count)]
    clips_by_split = split_lists(
        {n: [f"{n}__a", f"{n}__b"] for n in take_names}, {"validation": 0.05, "test": 0.05}, seed
    )
    assert [name for name, clips in clips_by_split.items() if clips] == expected_splits
    assert sorted(sum(clips_by_split.values(), [])) == [
        f"{n}__{c}" for n in take_names for c in "ab"
    ]
    assert all(
        len(clips) % 2 == 0 for clips in clips_by_split.values()
    )  # both clips of a take on one side
    assert not split_lists({n: [n] for n in take_names}, {}, seed)["validation"]


def test_captions_have_both_sections_or_no_marks():
    for valid_caption in (NO_CAPTION, "a person cuts bread"):
        assert check_caption(valid_caption, "x") == valid_caption
    for invalid_caption in (
        "",
        " ",
        "[Exo view] a",
        "[Ego view] b [Exo view] a",
        "[Exo view][Ego view] b",
        "[Exo view] a [Ego view] ",
    ):
        with refuses("Exo view"):
            check_caption(invalid_caption, "caption")
    by_take = {"t": "[Exo view] a [Ego view] b"}
    assert caption_for("t__c", "t", by_take, "") == (by_take["t"], "file")
    assert caption_for("u__c", "u", by_take, "")[1] == "none"


def test_manifest_is_read_back_and_errors_are_refused(tmp_path):
    manifest_file = tmp_path / "manifest.jsonl"
    for name in ("b", "a"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        (tmp_path / "clips" / name / "exo.mp4").write_bytes(b"x")
    write_manifest(manifest_file, [clip_record("b"), clip_record("a")])
    assert [r.clip for r in read_manifest(manifest_file)] == ["a", "b"]
    (tmp_path / "clips" / "b" / "exo.mp4").unlink()
    with refuses("clips/b/exo.mp4"):
        read_manifest(manifest_file)
    lines = manifest_file.read_text("utf-8").splitlines()
    manifest_file.write_text("\n".join([lines[0], lines[0]]), "utf-8")
    with refuses("line 2"):
        read_manifest(manifest_file)
    manifest_file.write_text(lines[0].replace('"frames"', '"framez"'), "utf-8")
    with refuses("line 1"):
        read_manifest(manifest_file)
    write_manifest(manifest_file, [clip_record("a", folder="../elsewhere")])
    with refuses("elsewhere"):
        read_manifest(manifest_file)
    manifest_file.write_text("", "utf-8")
    with refuses("no clip"):
        read_manifest(manifest_file)
    with refuses("not there"):
        read_manifest(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("c.json", '{"t.MP4": "a man"}'),
        ("c.json", '[{"file_name": "t", "prompt": "a man"}]'),
        ("c.jsonl", '{"file_name": "t.mp4", "prompt": "a man"}\n\n{"video": "u", "text": "b"}\n'),
        ("c.csv", "\ufeffname, caption\nt.mp4,a man\nu,b\n"),
        ("c.csv", "video,prompt\nt,a man\n"),
    ],
)
def test_captions_are_read_in_the_forms_that_people_have(tmp_path, file_name, text):
    """Check the forms of captions that people reported (names of videos, .jsonl, .csv, a list)."""
    captions_file = tmp_path / file_name
    captions_file.write_text(text, "utf-8")
    captions = read_captions(captions_file)
    assert caption_for("t__c__000000", "t", captions, "") == ("a man", "file")
    assert unused_captions(captions, ["t"]) == (["u"] if "b" in captions.values() else [])


def test_exact_caption_wins_and_unreadable_ones_are_refused(tmp_path):
    captions_file = tmp_path / "captions.jsonl"
    captions = {"t.mp4": "a file's", "t": "a take's", "u.mp4": "another's"}
    assert caption_for("t__c", "t", captions, "")[0] == "a take's"
    assert unused_captions(captions, ["t", "t__c"]) == ["t.mp4", "u.mp4"]
    for line, expected in (
        ('{"name": "t"}', "row 1 without a name or a caption.*expected .*name,caption"),
        ('{"name": "t", "caption": "a"}\n{"name": "t", "caption": "b"}', "two captions of t"),
        ('{"name": "t", "caption": 3}', "no text"),
    ):
        captions_file.write_text(line, "utf-8")
        with refuses(expected):
            read_captions(captions_file)
