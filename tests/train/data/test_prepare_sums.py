"""``prepare`` at a lab's scale: what it would cost, which clips are drawn, parts, and a run that
ends early."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from egox_core.safe_files import read_json, write_json
from egox_train.data import prepare as preparing
from egox_train.data.dry_run import dry_run
from egox_train.data.manifest import read_manifest
from egox_train.data.plan import drawn
from egox_train.data.prepare import join, prepare
from egox_train.options import RunOptions
from tests.paths import read_folder_files
from tests.refusals import refuses
from tests.train.prepared_takes import HALF_HELD_OUT, SMALL, prepared
from train_egox import main

COMMAND = "--frames 5 --stride 5 --size 64x32 --validation 0.5 --test 0".split()


@pytest.fixture(scope="module")
def long_takes(takes, tmp_path_factory) -> Path:
    """Write three takes of 29 frames, which make five clips each."""
    return takes.write_synthetic(tmp_path_factory.mktemp("long"), 3, frames=29)


@pytest.fixture(scope="module")
def long_set(long_takes, tmp_path_factory) -> Path:
    """Prepare the set by the command. Tests only read it."""
    root = tmp_path_factory.mktemp("long_set")
    assert main(["prepare", str(long_takes), str(root), *COMMAND]) == 0
    return root


def starts(manifest: Path) -> dict[str, list[int]]:
    starts_by_take: dict[str, list[int]] = {}
    for record in read_manifest(manifest):
        starts_by_take.setdefault(record.take, []).append(record.start)
    return starts_by_take


def files_of(root: Path) -> dict[str, bytes]:
    return read_folder_files(root, "report.json", "0-of-2.json", "1-of-2.json")


def test_a_dry_run_says_what_a_run_then_leaves(long_takes, long_set, tmp_path, capsys):
    out = tmp_path / "set"
    assert main(["prepare", str(long_takes), str(out), *COMMAND, "--dry-run"]) == 0
    clips, files, gigabytes, hours, measured = re.fullmatch(
        r"(\d+) clips of 3 takes \(0 skipped\), (\d+) files, (\S+) GB, (\S+) hours with 1 at once "
        r"\((\d+) clips were made to measure\)",
        capsys.readouterr().out.splitlines()[-1],
    ).groups()
    assert not out.exists() and int(measured) == 4 and float(hours) > 0
    assert len(read_manifest(long_set / "manifest.jsonl")) == int(clips) == 15
    files_made = [p for p in long_set.rglob("*") if p.is_file()]
    assert len(files_made) == int(files)
    size = sum(p.stat().st_size for p in (long_set / "clips").rglob("*") if p.is_file())
    assert float(gigabytes) * 1e9 == pytest.approx(size, rel=0.2)
    limited = dry_run(long_takes, replace(SMALL, most_clips=4))
    assert (limited.clips, limited.takes) == (4, 3)
    one = replace(SMALL, most_clips=1)
    assert dry_run(long_takes, one, how=RunOptions(part=(0, 2))).clips == 1
    with refuses("no clip"):  # the other part gives none
        dry_run(long_takes, one, how=RunOptions(part=(1, 2)))


def test_clips_are_drawn_over_the_whole_take(long_takes, tmp_path):
    def chosen(**more) -> dict[str, list[int]]:
        prepared(long_takes, tmp_path, replace(SMALL, **more))
        return starts(tmp_path / "manifest.jsonl")

    assert list(chosen(clips_per_take=2).values()) == [[5, 15]] * 3  # of 0, 5, 10, 15, 20
    assert sorted(map(len, chosen(most_clips=4).values())) == [1, 1, 2]
    one, again, other = (
        chosen(clips_per_take=2, draw="random", draw_seed=seed) for seed in (0, 0, 1)
    )
    assert one == again != other
    assert drawn(range(10), 3, SMALL, "") == [1, 5, 8] and drawn(range(3), 0, SMALL, "") == [
        0,
        1,
        2,
    ]


def test_parts_make_the_set_of_one_run(long_takes, long_set, tmp_path, capsys):
    one_run, parts = long_set, tmp_path / "joined"
    for index in (1, 0):
        assert main(["join", str(parts)]) == 2
        assert not (parts / "manifest.jsonl").exists()
        assert (
            main(["prepare", str(long_takes), str(parts), *COMMAND, "--shard", f"{index}/2"]) == 0
        )
    assert main(["join", str(parts)]) == 0
    assert "15 clips (15 made now), 0 skipped" in capsys.readouterr().out
    assert files_of(parts) == files_of(one_run)
    reports = [read_json(root / "report.json") for root in (one_run, parts)]
    for report in reports:
        del report["this_run"]
    assert reports[0] == reports[1]
    first = parts / "parts" / "0-of-2.json"
    content = read_json(first)
    clips = dict.fromkeys(content["clips"], "of other options")
    for change, match in (
        ({"finished": False}, "none finished of 0/2"),
        ({"settings": {**content["settings"], "split_seed": 7}}, "other split_seed"),
        ({"records": [{}]}, "different content"),
        ({"clips": clips}, "10 clips of 0/2 that are gone or were made anew"),
    ):
        write_json(first, {**content, **change})
        with refuses(match):
            join(parts)
    assert main(["prepare", str(long_takes), str(parts), *COMMAND, "--shard", "2/2"]) == 2


def test_a_part_of_1_1_joins(long_takes, long_set, tmp_path):
    """It holds whole records. One whose clip was made anew since isn't taken."""
    for index in range(2):
        prepare(long_takes, tmp_path, SMALL, HALF_HELD_OUT, RunOptions(part=(index, 2)))
    first = tmp_path / "parts" / "0-of-2.json"
    content = read_json(first)
    records = [
        read_json(tmp_path / "clips" / clip / "clip.json")["record"]
        for clip in content.pop("clips")
    ]
    write_json(first, {**content, "finished": True, "records": records})
    join(tmp_path)
    assert files_of(tmp_path) == files_of(long_set)
    write_json(first, {**content, "finished": True, "records": [{**records[0], "coverage": 0.0}]})
    with refuses("1 clips of 0/2 that are gone or were made anew"):
        join(tmp_path)


def test_a_run_that_ends_leaves_what_is_finished(long_takes, long_set, tmp_path, monkeypatch):
    """The lists are there, too, and keep clips of an earlier run that weren't looked at again.
    Continued, the run ends like one that was never stopped."""
    jobs = []

    def interrupted(*given, **more):
        if len(jobs) == 1:
            raise KeyboardInterrupt
        jobs.append(given[0])
        return make(*given, **more)

    make = preparing.make_clips
    monkeypatch.setattr(preparing, "make_clips", interrupted)
    for expected in (1, 1):
        jobs.clear()
        with pytest.raises(KeyboardInterrupt):
            prepare(long_takes, tmp_path, SMALL, HALF_HELD_OUT)
        assert len(starts(tmp_path / "manifest.jsonl")) == expected
    monkeypatch.setattr(preparing, "make_clips", make)
    prepare(long_takes, tmp_path, SMALL, HALF_HELD_OUT)
    assert files_of(tmp_path) == files_of(long_set)
    before = (tmp_path / "manifest.jsonl").read_bytes()
    monkeypatch.setattr(preparing, "make_clips", interrupted)
    jobs.clear()
    with pytest.raises(KeyboardInterrupt):
        prepare(long_takes, tmp_path, SMALL, HALF_HELD_OUT)
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    jobs.clear()
    with pytest.raises(KeyboardInterrupt):
        prepare(long_takes, tmp_path, replace(SMALL, prior="clean"), HALF_HELD_OUT)
    assert len(starts(tmp_path / "manifest.jsonl")) == 1, "clips of other options stay out"


def test_twenty_failures_of_the_disk_are_enough(takes, tmp_path, monkeypatch):
    """There are 25 cameras, of which the first is made. The line of progress counts them."""
    (one,) = takes.write_synthetic(tmp_path / "takes", 1).iterdir()
    for number in range(24):
        shutil.copytree(one, one.with_name(f"copy_{number:02d}"))
    tried, progress_calls = [], []

    def full(clip, *given):
        tried.append(clip.name)
        if len(tried) > 1:
            raise OSError(28, "No space left on device", f"/somewhere/{clip.name}")
        return make(clip, *given)

    make = preparing.make_clip
    monkeypatch.setattr(preparing, "make_clip", full)
    with refuses("20 cameras that could not be written, of 25.*No space left"):
        prepare(
            one.parent, tmp_path / "set", SMALL, progress=lambda *now: progress_calls.append(now)
        )
    assert len(tried) == 21 and progress_calls[-1] == (20, 25, "cameras prepared, 19 failed")
    assert len(read_manifest(tmp_path / "set" / "manifest.jsonl")) == 1
