"""Test ``prepare`` on many clips: cost estimates, chosen clips, parts and interruptions."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from egox_core.safe_files import read_json, write_json
from egox_train.data import plan, prepare as preparing
from egox_train.data.dry_run import estimate_preparation
from egox_train.data.manifest import read_manifest
from egox_train.data.prepare import join, prepare
from egox_train.options import RunOptions
from tests.paths import read_folder_files
from tests.refusals import refuses
from tests.train.prepared_takes import HALF_HELD_OUT, SMALL_OPTIONS, prepare_and_read
from train_egox import main

PREPARE_ARGUMENTS = "--frames 5 --stride 5 --size 64x32 --validation 0.5 --test 0".split()


@pytest.fixture(scope="module")
def long_takes(take_writers, tmp_path_factory) -> Path:
    """Write three takes of 19 frames, which have three clips each."""
    return take_writers.write_synthetic(tmp_path_factory.mktemp("long"), 3, frames=19)


@pytest.fixture(scope="module")
def long_set(long_takes, tmp_path_factory) -> Path:
    """Prepare a training set from the long takes, which tests only read."""
    root = tmp_path_factory.mktemp("long_set")
    assert main(["prepare", str(long_takes), str(root), *PREPARE_ARGUMENTS]) == 0
    return root


def starts_by_take(manifest: Path) -> dict[str, list[int]]:
    take_starts: dict[str, list[int]] = {}
    for record in read_manifest(manifest):
        take_starts.setdefault(record.take, []).append(record.start)
    return take_starts


def set_files(root: Path) -> dict[str, bytes]:
    return read_folder_files(root, "report.json", "0-of-2.json", "1-of-2.json")


def test_dry_run_estimates_the_set_of_a_run(long_takes, long_set, tmp_path, capsys):
    out = tmp_path / "set"
    assert main(["prepare", str(long_takes), str(out), *PREPARE_ARGUMENTS, "--dry-run"]) == 0
    clips, files, gigabytes, hours, measured_clips = re.fullmatch(
        r"(\d+) clips of 3 takes \(0 skipped\), (\d+) files, (\S+) GB, (\S+) hours with 1 at once "
        r"\((\d+) clips were made to measure\)",
        capsys.readouterr().out.splitlines()[-1],
    ).groups()
    assert not out.exists() and int(measured_clips) == 2 and float(hours) > 0
    assert len(read_manifest(long_set / "manifest.jsonl")) == int(clips) == 9
    sizes = {file: file.stat().st_size for file in long_set.rglob("*") if file.is_file()}
    assert len(sizes) == int(files)
    clip_bytes = sum(size for file, size in sizes.items() if long_set / "clips" in file.parents)
    assert float(gigabytes) * 1e9 == pytest.approx(clip_bytes, rel=0.2)

    def estimate(most_clips: int, **options) -> tuple[int, int]:
        small = replace(SMALL_OPTIONS, most_clips=most_clips)
        found = estimate_preparation(long_takes, small, **options)
        return found.clips, found.takes

    assert estimate(4) == (4, 3)
    assert estimate(1, run_options=RunOptions(part=(0, 2)))[0] == 1
    with refuses("no clip"):  # the other part gives none
        estimate(1, run_options=RunOptions(part=(1, 2)))


def test_clips_are_chosen_over_the_whole_take(long_takes, tmp_path):
    def choose_clips(**changed_options) -> dict[str, list[int]]:
        options = replace(SMALL_OPTIONS, stride=3, **changed_options)
        prepare_and_read(long_takes, tmp_path, options)
        return starts_by_take(tmp_path / "manifest.jsonl")

    assert list(choose_clips(clips_per_take=2).values()) == [[3, 9]] * 3  # of 0, 3, 6, 9, 12
    assert sorted(map(len, choose_clips(most_clips=4).values())) == [1, 1, 2]
    first_choice, repeated_choice, other_seed_choice = (
        choose_clips(clips_per_take=2, draw="random", draw_seed=seed) for seed in (0, 0, 1)
    )
    assert first_choice == repeated_choice != other_seed_choice
    assert plan.choose_clips(range(10), 3, SMALL_OPTIONS, "") == [1, 5, 8] and plan.choose_clips(
        range(3), 0, SMALL_OPTIONS, ""
    ) == [
        0,
        1,
        2,
    ]


def test_joined_parts_equal_the_set_of_one_run(long_takes, long_set, tmp_path, capsys):
    one_run, parts = long_set, tmp_path / "joined"
    for index in (1, 0):
        assert main(["join", str(parts)]) == 2
        assert not (parts / "manifest.jsonl").exists()
        assert (
            main(
                [
                    "prepare",
                    str(long_takes),
                    str(parts),
                    *PREPARE_ARGUMENTS,
                    "--shard",
                    f"{index}/2",
                ]
            )
            == 0
        )
    assert main(["join", str(parts)]) == 0
    assert "9 clips (9 made now), 0 skipped" in capsys.readouterr().out
    assert set_files(parts) == set_files(one_run)
    reports = [read_json(root / "report.json") for root in (one_run, parts)]
    for report in reports:
        del report["this_run"]
    assert reports[0] == reports[1]
    first_part = parts / "parts" / "0-of-2.json"
    part_content = read_json(first_part)
    clips = dict.fromkeys(part_content["clips"], "of other options")
    for changed_entries, message_pattern in (
        ({"finished": False}, "none finished of 0/2"),
        ({"settings": {**part_content["settings"], "split_seed": 7}}, "other split_seed"),
        ({"records": [{}]}, "different content"),
        ({"clips": clips}, "6 clips of 0/2 that are gone or were made anew"),
    ):
        write_json(first_part, {**part_content, **changed_entries})
        with refuses(message_pattern):
            join(parts)
    assert main(["prepare", str(long_takes), str(parts), *PREPARE_ARGUMENTS, "--shard", "2/2"]) == 2


def test_parts_of_version_1_1_are_joined(long_takes, long_set, tmp_path):
    """Check that parts of a training set which version 1.1 wrote can be joined."""
    for index in range(2):
        prepare(long_takes, tmp_path, SMALL_OPTIONS, HALF_HELD_OUT, RunOptions(part=(index, 2)))
    first_part = tmp_path / "parts" / "0-of-2.json"
    part_content = read_json(first_part)
    records = [
        read_json(tmp_path / "clips" / clip / "clip.json")["record"]
        for clip in part_content.pop("clips")
    ]
    write_json(first_part, {**part_content, "finished": True, "records": records})
    join(tmp_path)
    assert set_files(tmp_path) == set_files(long_set)
    write_json(
        first_part, {**part_content, "finished": True, "records": [{**records[0], "coverage": 0.0}]}
    )
    with refuses("1 clips of 0/2 that are gone or were made anew"):
        join(tmp_path)


def test_interrupted_run_keeps_finished_clips(long_takes, long_set, tmp_path, monkeypatch):
    """Check that a resumed run keeps finished clips and gives the result of an uninterrupted
    run."""
    original_make = preparing.make_clips

    def prepare_and_interrupt(options=SMALL_OPTIONS) -> None:
        made_jobs = []

        def make_or_interrupt(*arguments, **more):
            if made_jobs:
                raise KeyboardInterrupt
            made_jobs.append(arguments[0])
            return original_make(*arguments, **more)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(preparing, "make_clips", make_or_interrupt)
            prepare(long_takes, tmp_path, options, HALF_HELD_OUT)

    manifest = tmp_path / "manifest.jsonl"
    for _ in range(2):
        prepare_and_interrupt()
        assert len(starts_by_take(manifest)) == 1
    prepare(long_takes, tmp_path, SMALL_OPTIONS, HALF_HELD_OUT)
    assert set_files(tmp_path) == set_files(long_set)
    manifest_before = manifest.read_bytes()
    prepare_and_interrupt()
    assert manifest.read_bytes() == manifest_before
    prepare_and_interrupt(replace(SMALL_OPTIONS, prior="clean"))
    assert len(starts_by_take(manifest)) == 1, "clips of other options stay out"
