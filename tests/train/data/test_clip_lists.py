"""``prepare --clips`` cuts the clips of lists from raw Ego-Exo4D. Priors that cover too little are
tested, too."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from egox_core.safe_files import read_json
from egox_train.data.clip_lists import read_clip_lists
from egox_train.data.dry_run import dry_run
from egox_train.data.manifest import read_splits
from egox_train.options import TrainingSetOptions
from tests.refusals import refuses
from tests.train.prepared_takes import EGO_POSE, EXO_POSE, SMALL, prepared, reasons

PLANE = replace(SMALL, depth="plane", draw_anyway=True)


def entry(source: Path, take: str, camera: str, first: int, **more) -> dict:
    """Build an entry as the authors have it, with the cameras of the take's annotation."""
    file = source / "annotations/ego_pose/train/camera_pose" / f"uid-{take}.json"
    cameras = read_json(file)
    camera_fields = {
        key: cameras["cam01"][key] for key in ("camera_intrinsics", "camera_extrinsics")
    }
    return {
        "exo_path": f"./videos/{take}_{first}_{first + 4}/exo.mp4",
        "prompt": f"[Exo view] {take} {first} [Ego view] b",
        "best_camera": camera,
        **camera_fields,
        "ego_intrinsics": cameras["aria01"]["camera_intrinsics"],
        "ego_extrinsics": [EGO_POSE] * 5,
        **more,
    }


@pytest.fixture
def source(takes, tmp_path) -> Path:
    """Write a take of 20 frames and two cameras, and one that was downloaded without annotation."""
    cameras = {"cam01": (112, 64), "cam02": (112, 64)}
    root = takes.write_egoexo4d(tmp_path / "raw", "lab_1_2", frames=20, cameras=cameras)
    return takes.write_egoexo4d(root, "lab_9", frames=12)


def write_list(file: Path, key: str, entries: list[dict]) -> Path:
    file.write_text(json.dumps({key: entries}), "utf-8")
    return file


def test_listed_clips_are_cut_and_the_others_named(source, tmp_path, caplog):
    take, bent = "lab_1_2", [[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    entries = [
        entry(source, take, "cam01", 3),
        entry(source, take, "cam02", 3),
        entry(source, take, "cam01", 8, ego_extrinsics=[EGO_POSE, None, *[EGO_POSE] * 3]),
        entry(source, take, "cam02", 13, ego_extrinsics=[*[EGO_POSE] * 4, bent]),
        entry(source, take, "cam05", 8),
        entry(source, take, "cam01", 17),
        entry(source, take, "cam01", 3, prompt="other"),
        entry(
            source, take, "cam02", 5, ego_extrinsics=[EGO_POSE, EGO_POSE, EXO_POSE, *[EGO_POSE] * 2]
        ),
        entry(source, take, "cam01", 12, camera_extrinsics=EGO_POSE),
    ]
    lists = (
        write_list(tmp_path / "meta_seen.json", "val_datasets", entries),
        write_list(
            tmp_path / "meta_train.json", "train_datasets", [entry(source, "lab_9", "cam01", 5)]
        ),
        write_list(
            tmp_path / "meta_unseen.json",
            "test_datasets",
            [{**entries[0], "exo_path": "./videos/home_3_0_4/exo.mp4"}, {"exo_path": "no"}],
        ),
    )
    shutil.rmtree(source / "annotations")  # the lists know the cameras
    with caplog.at_level(logging.WARNING):
        records, report = prepared(source, tmp_path / "set", PLANE, clip_lists=lists)
    assert "2 of 6 listed clips can't be cut: 1 of 3 takes and 1 more exo videos" in caplog.text
    names = [r.clip for r in records]
    assert names == ["lab_1_2__cam01__000003", "lab_1_2__cam02__000003", "lab_9__cam01__000005"]
    splits = read_splits(tmp_path / "set" / "manifest.jsonl")
    assert [splits[name] for name in names] == ["validation", "validation", "train"]
    meta = read_json(tmp_path / "set" / records[0].folder / "meta.json")
    assert meta["prompt"] == f"[Exo view] {take} 3 [Ego view] b" and records[0].caption == "file"
    assert meta["camera_extrinsics"] == EXO_POSE and len(meta["ego_extrinsics"]) == 5
    assert "poses lost" not in json.dumps(report), "a list knows its clips' frames alone"
    why = reasons(report)
    assert "frame 1: got null" in why["meta_seen.json, lab_1_2_8_12"]
    assert "frame 4" in why["meta_seen.json, lab_1_2_13_17"]
    assert why["lab_1_2_8_12"] == "exo camera 'cam05' can't be used: cam05: no video"
    assert why["lab_1_2__cam01__000017"] == "it ends after the take's 20 frames"
    assert why["lab_1_2_5_9"].startswith("its ego pose of frame 7 differs from that of an earlier")
    assert "camera_extrinsics of cam01 differs" in why["lab_1_2_12_16"]
    assert why["lab_1_2_3_7"].endswith("prepared once, as first listed: prompt differ")
    assert "frame-aligned videos" in why["home_3_0_4"]
    assert "no exo_path in a folder" in why["meta_unseen.json, entry 1"]
    set_options = TrainingSetOptions(validation=0, test=0, clip_lists=lists)
    assert dry_run(source, PLANE, set_options).clips == 3


def test_tables_and_own_lists_name_clips_of_the_annotations(source, tmp_path):
    table = tmp_path / "dataset_info_unseen.csv"
    rows = 'split,frame_range,task_name\r\nunseen,2-6,"lab_1_2_2_6"\r\nunseen,12_16,lab_1_2\r\n'
    table.write_text(rows + "unseen,3,lab_9\r\n", "utf-8-sig", newline="")
    json_list = tmp_path / "own.json"
    one = {"take": "lab_9", "camera": "cam01", "first": 0, "last": 4, "split": "train"}
    clips = [one, {**one, "last": 9}, {**one, "split": "none"}, {**one, "take": "gone"}, 3]
    json_list.write_text(json.dumps({"clips": clips}), "utf-8")
    skipped: list[tuple[str, str]] = []
    listed = read_clip_lists((table, json_list), skipped)
    assert [(c.name, c.camera, c.split) for c in listed] == [
        ("lab_1_2_2_6", "", "test"),
        ("lab_1_2_12_16", "", "test"),
        ("lab_9_0_4", "cam01", "train"),
        ("lab_9_0_9", "cam01", "train"),
        ("gone_0_4", "cam01", "train"),
    ]
    assert [item for item, _ in skipped] == [
        f"{table.name}, line 4",
        "own.json, clip 2",
        "own.json, clip 4",
    ]
    takes = {"take_name": "lab_1_2", "best_exo": "cam02"}
    (source / "takes.json").write_text(json.dumps([takes]), "utf-8")
    records, report = prepared(source, tmp_path / "set", PLANE, clip_lists=(table, json_list))
    names = [r.clip for r in records]
    assert names == ["lab_1_2__cam02__000002", "lab_1_2__cam02__000012", "lab_9__cam01__000000"]
    why = reasons(report)
    assert why["lab_9_0_9"] == "10 frames in the list, 5 of --frames, --step"
    assert "no usable annotation" in why["gone_0_4"]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n", "utf-8")
    for name, words in (("bad.csv", "columns a, b"), ("set/report.json", "keys")):
        with refuses(words):
            read_clip_lists((tmp_path / name,), [])


def test_dark_priors_are_left_out_counted_and_shown(synthetic_takes, tmp_path):
    """A wearer that looks away from all that exo saw has a prior that covers nothing."""
    source = shutil.copytree(synthetic_takes, tmp_path / "takes")
    first = sorted(source.iterdir())[0]
    meta = read_json(first / "meta.json")
    for pose in meta["ego_extrinsics"]:  # turned half round about the camera's own upright
        for row in (0, 2):
            pose[row] = [-number for number in pose[row]]
    (first / "meta.json").write_text(json.dumps(meta), "utf-8")
    records, report = prepared(source, tmp_path / "set", replace(SMALL, draw_anyway=True))
    covers = {r.clip: r.coverage for r in records}
    assert report["dark"] == sum(clip.startswith(first.name) for clip in reasons(report))
    least = sorted(covers.values())[1]
    strict_options = replace(SMALL, draw_anyway=True, least_coverage=least)
    fewer, report = prepared(source, tmp_path / "set", strict_options)
    gone = covers.keys() - {r.clip for r in fewer}
    assert gone and all(covers[clip] < least for clip in gone)
    assert report["dark"] >= len(gone) and report["this_run"]["made"] == 0
    assert all("of the picture" in reasons(report)[clip] for clip in gone)
    rows = cv2.imread(str(tmp_path / "set" / "contact_sheet.png")).shape[0]
    assert rows == (len(fewer) + report["dark"]) * (112 + 16)
    with refuses("least coverage"):
        replace(SMALL, least_coverage=1.0)
