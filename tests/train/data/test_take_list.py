"""Test Ego-Exo4D's list of takes, and splits by data set or by room."""

from dataclasses import replace
from pathlib import Path

from egox_core.safe_files import read_json, write_json
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.manifest import SPLITS, read_manifest, split_lists
from egox_train.data.prepare import prepare
from egox_train.data.take_list import read_take_list, room_of_name
from tests.refusals import refuses
from tests.train.prepared_takes import ALL_TRAIN, SMALL_OPTIONS, TAKE, prepare_and_read
from train_egox import main

PREPARE_OPTIONS = replace(SMALL_OPTIONS, exo_size=(112, 64), ego_size=64, depth="plane")
FRAMES = 30  # a second


def write_list(root: Path, *take_facts: dict) -> None:
    """Write a list of takes in Ego-Exo4D's format (takes.json)."""
    take_entries = [
        {
            "root_dir": f"takes/{take['take_name']}",
            "participant_uid": 657,
            "is_dropped": False,
            "take_idx": 1,
            "duration_sec": FRAMES / 30,
            "task_name": "Remove a Wheel",
            "parent_task_name": "Bike Repair",
            "take_uid": f"uid-{take['take_name']}",
            "capture_uid": "d37b",
            "physical_setting_uid": 97,
            "task_start_sec": None,
            "task_end_sec": None,
            "best_exo": None,
            "university_name": "cmu",
            "validated": True,
        }
        | take
        for take in take_facts
    ]
    write_json(root / "takes.json", take_entries)


def split_by_take(root: Path) -> dict[str, str]:
    """Read the split of each take of a prepared set."""
    return {
        clip.split("__")[0]: name
        for name in SPLITS
        for clip in (root / "splits" / f"{name}.txt").read_text("utf-8").split()
    }


def take_notes(root: Path, take: str) -> str:
    return " ".join(read_json(root / "report.json")["notes"].get(take, []))


def test_clips_are_within_the_task_and_best_camera_is_first(take_writers, tmp_path):
    camera_sizes = dict.fromkeys(("cam01", "cam02"), (112, 64))
    raw_folder = take_writers.write_egoexo4d(
        tmp_path / "raw", TAKE, frames=FRAMES, cameras=camera_sizes
    )
    task_times = {"task_start_sec": 0.21, "task_end_sec": 0.6}
    write_list(raw_folder, {"take_name": TAKE, "best_exo": "cam02", **task_times})
    (take,) = read_egoexo4d(raw_folder, [])
    take_facts = (take.task_s, take.best_exo, take.room)
    assert take_facts == ((0.21, 0.6), "cam02", "physical_setting_uid 97")
    prepare_outcome = prepare(raw_folder, tmp_path / "set", PREPARE_OPTIONS)
    clip_records = read_manifest(prepare_outcome.manifest)
    assert {(record.room, record.task) for record in clip_records} == {
        ("physical_setting_uid 97", "Bike Repair")
    }
    assert {record.start for record in clip_records} == {7, 12}  # frames 7 to 18
    assert not any("QR code" in warning for warning in prepare_outcome.warnings())
    assert {record.rank for record in clip_records if record.exo_camera == "cam02"} == {1}
    assert "frames 7 to 18 of 30" in take_notes(tmp_path / "set", TAKE)
    # What is asked for wins.
    task_records, _ = prepare_and_read(
        raw_folder, tmp_path / "alone", replace(PREPARE_OPTIONS, task_s=(0.5, 9.0))
    )
    assert {record.start for record in task_records} == {15, 20, 25}


def test_missing_task_times_are_warned_of_and_set_by_option(
    take_writers, tmp_path, capsys, are_remarks_blank
):
    source_folder = take_writers.write_egoexo4d(tmp_path / "raw", TAKE, frames=FRAMES)
    take_writers.write_egoexo4d(source_folder, "cmu_bike08_3", frames=FRAMES)
    command = (
        f"prepare {source_folder} {tmp_path / 'set'} --frames 5 --stride 5 --size 112x64 --depth "
        "plane"
    )
    command = command.split()
    assert main([*command, "--clips-per-camera", "1"]) == 0
    expected_text = "" if are_remarks_blank else "2 of 2 takes"
    assert f"warning: {expected_text}" in capsys.readouterr().out
    assert ("QR code" in take_notes(tmp_path / "set", "cmu_bike08_3")) != are_remarks_blank
    write_list(
        source_folder,
        {"take_name": TAKE, "task_start_sec": 0.5, "task_end_sec": 0.8},
        {"take_name": "cmu_bike08_3"},
    )
    assert main([*command, "--task", "0", "0.4"]) == 0
    assert "QR code" not in capsys.readouterr().out
    starts = {
        (record.take, record.start) for record in read_manifest(tmp_path / "set" / "manifest.jsonl")
    }
    assert starts == {
        (TAKE, 15),
        (TAKE, 20),
        ("cmu_bike08_3", 0),
        ("cmu_bike08_3", 5),
    }
    assert main([*command, "--task", "4", "2"]) == 2


def test_invalid_take_list_is_refused(take_writers, tmp_path):
    source_folder = take_writers.write_egoexo4d(tmp_path / "raw", TAKE, frames=5)
    (source_folder / "takes.json").write_text('{"takes": []}', "utf-8")
    with refuses("takes.json"):
        prepare(source_folder, tmp_path / "set", PREPARE_OPTIONS)
    write_list(
        source_folder,
        {"take_name": "a", "task_start_sec": "x"},
        {"take_name": "b", "task_start_sec": 3, "task_end_sec": 2, "physical_setting_uid": None},
    )
    listed_takes = read_take_list(source_folder)
    assert (
        listed_takes["a"]["task_s"] is None is listed_takes["uid-b"]["task_s"]
        and listed_takes["b"]["room"] == "capture_uid d37b"
    )


def test_splits_of_the_data_set_are_used_and_train_is_never_empty(take_writers, tmp_path):
    source = tmp_path / "raw"
    for name, split in (
        (TAKE, "train"),
        ("cmu_bike08_3", "test"),
        ("cmu_bike09_1", "val"),
    ):
        take_writers.write_egoexo4d(source, name, frames=5, split=split)
    prepare(source, tmp_path / "set", PREPARE_OPTIONS, ALL_TRAIN)
    assert split_by_take(tmp_path / "set") == {
        TAKE: "train",
        "cmu_bike08_3": "test",
        "cmu_bike09_1": "validation",
    }
    prepare(source, tmp_path / "set", PREPARE_OPTIONS, replace(ALL_TRAIN, splits="rooms"))
    assert set(split_by_take(tmp_path / "set").values()) == {"train"}
    single_take = take_writers.write_egoexo4d(tmp_path / "alone", TAKE, frames=5, split="test")
    prepare(single_take, tmp_path / "one", PREPARE_OPTIONS)
    assert split_by_take(tmp_path / "one") == {TAKE: "train"}
    assert "its dataset has it in test" in take_notes(tmp_path / "one", TAKE)


def test_no_room_is_in_two_splits():
    assert [room_of_name(n) for n in (TAKE, "sfu_covid_009_4", "kitchen", "_3")] == [
        "cmu_bike08",
        "sfu_covid_009",
        "kitchen",
        "_3",
    ]
    assert room_of_name("cmu_soccer06_6_877_925", 3) == "cmu_soccer06"
    assert room_of_name("joker", 3) == "joker"
    names = [f"lab{n // 4}_{n % 4}" for n in range(40)]
    rooms, fractions = {n: room_of_name(n) for n in names}, {"validation": 0.1, "test": 0.1}
    for seed in range(5):
        clips_by_split = split_lists({n: [n] for n in names}, fractions, seed, rooms=rooms)
        split_rooms = [{rooms[clip] for clip in clips} for clips in clips_by_split.values()]
        assert all(split_rooms) and sum(map(len, split_rooms)) == 10
        assert sum(map(len, clips_by_split.values())) == 40
