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

    def windows(mask, count, **options) -> tuple[list, list]:
        found, skipped = clip_windows(mask, count, **options)
        return [window.start for window in found], skipped

    whole_grid = list(range(0, 92, 9))
    assert windows(known_mask, 100, frames=9, stride=9) == (whole_grid, [])
    known_mask[20] = False
    with_gap = [start for start in whole_grid if start != 18]
    assert windows(known_mask, 100, frames=9, stride=9) == (with_gap, [18])
    assert longest_pose_run(known_mask) == 79
    # The shortest video, a step, poses lost between the frames in use.
    found, skipped = clip_windows(known_mask, 33, frames=5, stride=10, step=3)
    assert [window.indices.tolist() for window in found][1] == [10, 13, 16, 19, 22]
    assert [window.start for window in found] == [0, 10] and skipped == [20]
    assert windows(known_mask, 4, frames=5, stride=5) == ([], [])


def test_takes_keep_their_split_with_all_clips():
    fractions = {"validation": 0.2, "test": 0.2}
    take_names = [f"take{i}" for i in range(300)]
    clips = {name: [f"{name}__a", f"{name}__b"] for name in take_names}
    clips_by_split = split_lists(clips, fractions)
    assert sum(map(len, clips_by_split.values())) == 600
    for name in take_names[:100]:
        assert {*clips[name]} <= set(clips_by_split[split_of(name, fractions)])
    assert all(60 <= len(clips_by_split[name]) <= 180 for name in fractions)
    assert split_lists(clips, fractions, seed=1) != clips_by_split
    for bad_fractions in ({"validation": 0.5, "test": 0.5}, {"train": 0.1}, {"test": -0.1}):
        with refuses():
            check_fractions(bad_fractions)


@pytest.mark.parametrize(
    ("take_count", "expected_splits"),
    [
        (1, ["train"]),
        (2, ["train", "validation"]),
        (3, ["train", "validation", "test"]),
        (10, ["train", "validation", "test"]),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_requested_splits_are_not_empty_with_enough_takes(take_count, expected_splits, seed):
    clips = {f"take{i}": [f"take{i}__a", f"take{i}__b"] for i in range(take_count)}
    clips_by_split = split_lists(clips, {"validation": 0.05, "test": 0.05}, seed)
    assert [name for name, listed in clips_by_split.items() if listed] == expected_splits
    assert sorted(sum(clips_by_split.values(), [])) == sorted(sum(clips.values(), []))
    assert all(len(listed) % 2 == 0 for listed in clips_by_split.values()), "a take's on one side"
    assert not split_lists(clips, {}, seed)["validation"]


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
    lines = manifest_file.read_text("utf-8").splitlines()
    write_manifest(manifest_file, [clip_record("a", folder="../elsewhere")])
    outside_line = manifest_file.read_text("utf-8")
    (tmp_path / "clips" / "b" / "exo.mp4").unlink()
    for text, message in (
        ("\n".join(lines), "clips/b/exo.mp4"),
        ("\n".join([lines[0], lines[0]]), "line 2"),
        (lines[0].replace('"frames"', '"framez"'), "line 1"),
        (outside_line, "elsewhere"),
        ("", "no clip"),
    ):
        manifest_file.write_text(text, "utf-8")
        with refuses(message):
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
