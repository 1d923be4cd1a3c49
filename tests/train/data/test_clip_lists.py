"""Test ``prepare --clips``, which makes only the clips that a list names."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from egox_core.safe_files import read_json, write_json
from egox_train.data.clip_lists import read_clip_lists
from egox_train.data.dry_run import estimate_preparation
from egox_train.data.manifest import read_splits
from egox_train.options import TrainingSetOptions
from tests.refusals import refuses
from tests.train.prepared_takes import (
    EGO_POSE,
    EXO_POSE,
    SMALL_OPTIONS,
    prepare_and_read,
    reasons_by_item,
)

PLANE_OPTIONS = replace(SMALL_OPTIONS, depth="plane", draw_anyway=True)


def list_entry(source: Path, take: str, camera: str, first_frame: int, **changed_entries) -> dict:
    """Build one entry of a clip list in the authors' format."""
    file = source / "annotations/ego_pose/train/camera_pose" / f"uid-{take}.json"
    cameras = read_json(file)
    camera_fields = {
        key: cameras["cam01"][key] for key in ("camera_intrinsics", "camera_extrinsics")
    }
    return {
        "exo_path": f"./videos/{take}_{first_frame}_{first_frame + 4}/exo.mp4",
        "prompt": f"[Exo view] {take} {first_frame} [Ego view] b",
        "best_camera": camera,
        **camera_fields,
        "ego_intrinsics": cameras["aria01"]["camera_intrinsics"],
        "ego_extrinsics": [EGO_POSE] * 5,
        **changed_entries,
    }


@pytest.fixture
def source(take_writers, tmp_path) -> Path:
    """Write a raw take with two cameras, and a take without annotation."""
    camera_sizes = {"cam01": (112, 64), "cam02": (112, 64)}
    raw_folder = take_writers.write_egoexo4d(
        tmp_path / "raw", "lab_1_2", frames=20, cameras=camera_sizes
    )
    return take_writers.write_egoexo4d(raw_folder, "lab_9", frames=12)


def write_list(file: Path, key: str, entries: list[dict]) -> Path:
    file.write_text(json.dumps({key: entries}), "utf-8")
    return file


def test_listed_clips_are_cut_and_others_skipped_with_reasons(source, tmp_path, caplog):
    take, scaled_pose = "lab_1_2", [[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    entries = [
        list_entry(source, take, "cam01", 3),
        list_entry(source, take, "cam02", 3),
        list_entry(source, take, "cam01", 8, ego_extrinsics=[EGO_POSE, None, *[EGO_POSE] * 3]),
        list_entry(source, take, "cam02", 13, ego_extrinsics=[*[EGO_POSE] * 4, scaled_pose]),
        list_entry(source, take, "cam05", 8),
        list_entry(source, take, "cam01", 17),
        list_entry(source, take, "cam01", 3, prompt="other"),
        list_entry(
            source, take, "cam02", 5, ego_extrinsics=[EGO_POSE, EGO_POSE, EXO_POSE, *[EGO_POSE] * 2]
        ),
        list_entry(source, take, "cam01", 12, camera_extrinsics=EGO_POSE),
    ]
    list_files = (
        write_list(tmp_path / "meta_seen.json", "val_datasets", entries),
        write_list(
            tmp_path / "meta_train.json",
            "train_datasets",
            [list_entry(source, "lab_9", "cam01", 5)],
        ),
        write_list(
            tmp_path / "meta_unseen.json",
            "test_datasets",
            [{**entries[0], "exo_path": "./videos/home_3_0_4/exo.mp4"}, {"exo_path": "no"}],
        ),
    )
    shutil.rmtree(source / "annotations")  # the lists know the cameras
    with caplog.at_level(logging.WARNING):
        records, report = prepare_and_read(
            source, tmp_path / "set", PLANE_OPTIONS, clip_lists=list_files
        )
    assert "2 of 6 listed clips can't be cut: 1 of 3 takes and 1 more exo videos" in caplog.text
    names = [record.clip for record in records]
    assert names == ["lab_1_2__cam01__000003", "lab_1_2__cam02__000003", "lab_9__cam01__000005"]
    splits = read_splits(tmp_path / "set" / "manifest.jsonl")
    assert [splits[name] for name in names] == ["validation", "validation", "train"]
    meta_content = read_json(tmp_path / "set" / records[0].folder / "meta.json")
    assert (
        meta_content["prompt"] == f"[Exo view] {take} 3 [Ego view] b"
        and records[0].caption == "file"
    )
    assert (
        meta_content["camera_extrinsics"] == EXO_POSE and len(meta_content["ego_extrinsics"]) == 5
    )
    assert "poses lost" not in json.dumps(report), "a list knows its clips' frames alone"
    skip_reasons = reasons_by_item(report)
    assert "frame 1: got null" in skip_reasons["meta_seen.json, lab_1_2_8_12"]
    assert "frame 4" in skip_reasons["meta_seen.json, lab_1_2_13_17"]
    assert skip_reasons["lab_1_2_8_12"] == "exo camera 'cam05' can't be used: cam05: no video"
    assert skip_reasons["lab_1_2__cam01__000017"] == "it ends after the take's 20 frames"
    assert skip_reasons["lab_1_2_5_9"].startswith(
        "its ego pose of frame 7 differs from that of an earlier"
    )
    assert "camera_extrinsics of cam01 differs" in skip_reasons["lab_1_2_12_16"]
    assert skip_reasons["lab_1_2_3_7"].endswith("prepared once, as first listed: prompt differ")
    assert "frame-aligned videos" in skip_reasons["home_3_0_4"]
    assert "no exo_path in a folder" in skip_reasons["meta_unseen.json, entry 1"]
    set_options = TrainingSetOptions(validation=0, test=0, clip_lists=list_files)
    assert estimate_preparation(source, PLANE_OPTIONS, set_options).clips == 3


def test_clips_are_listed_by_tables_and_json_files(source, tmp_path):
    csv_list = tmp_path / "dataset_info_unseen.csv"
    csv_text = 'split,frame_range,task_name\r\nunseen,2-6,"lab_1_2_2_6"\r\nunseen,12_16,lab_1_2\r\n'
    csv_list.write_text(csv_text + "unseen,3,lab_9\r\n", "utf-8-sig", newline="")
    json_list = tmp_path / "own.json"
    first_clip = {"take": "lab_9", "camera": "cam01", "first": 0, "last": 4, "split": "train"}
    clips = [
        first_clip,
        {**first_clip, "last": 9},
        {**first_clip, "split": "none"},
        {**first_clip, "take": "gone"},
        3,
    ]
    json_list.write_text(json.dumps({"clips": clips}), "utf-8")
    skipped: list[tuple[str, str]] = []
    listed_clips = read_clip_lists((csv_list, json_list), skipped)
    assert [(clip.name, clip.camera, clip.split) for clip in listed_clips] == [
        ("lab_1_2_2_6", "", "test"),
        ("lab_1_2_12_16", "", "test"),
        ("lab_9_0_4", "cam01", "train"),
        ("lab_9_0_9", "cam01", "train"),
        ("gone_0_4", "cam01", "train"),
    ]
    assert [item for item, _ in skipped] == [
        f"{csv_list.name}, line 4",
        "own.json, clip 2",
        "own.json, clip 4",
    ]
    take_entry = {"take_name": "lab_1_2", "best_exo": "cam02"}
    (source / "takes.json").write_text(json.dumps([take_entry]), "utf-8")
    records, report = prepare_and_read(
        source, tmp_path / "set", PLANE_OPTIONS, clip_lists=(csv_list, json_list)
    )
    names = [record.clip for record in records]
    assert names == ["lab_1_2__cam02__000002", "lab_1_2__cam02__000012", "lab_9__cam01__000000"]
    skip_reasons = reasons_by_item(report)
    assert skip_reasons["lab_9_0_9"] == "10 frames in the list, 5 of --frames, --step"
    assert "no usable annotation" in skip_reasons["gone_0_4"]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n", "utf-8")
    for name, message_pattern in (("bad.csv", "columns a, b"), ("set/report.json", "keys")):
        with refuses(message_pattern):
            read_clip_lists((tmp_path / name,), [])


def test_priors_that_cover_too_little_are_left_out(synthetic_takes, tmp_path):
    """Check that clips are left out if the ego camera sees little that the exo camera sees."""
    source = shutil.copytree(synthetic_takes, tmp_path / "takes")
    meta_file = sorted(source.iterdir())[0] / "meta.json"
    meta = read_json(meta_file)
    for pose in meta["ego_extrinsics"]:  # turned half round about the camera's own upright
        pose[0], pose[2] = ([-number for number in pose[row]] for row in (0, 2))
    write_json(meta_file, meta)
    options = replace(SMALL_OPTIONS, draw_anyway=True)
    records, report = prepare_and_read(source, tmp_path / "set", options)
    coverages = {record.clip: record.coverage for record in records}
    behind = [clip for clip in reasons_by_item(report) if clip.startswith(meta_file.parent.name)]
    assert report["dark"] == len(behind)
    limit = sorted(coverages.values())[1]
    strict_options = replace(options, least_coverage=limit)
    records, report = prepare_and_read(source, tmp_path / "set", strict_options)
    dark_clips = coverages.keys() - {record.clip for record in records}
    assert dark_clips and report["this_run"]["made"] == 0
    for clip in dark_clips:
        assert coverages[clip] < limit and "of the picture" in reasons_by_item(report)[clip]
    sheet_height = cv2.imread(str(tmp_path / "set" / "contact_sheet.png")).shape[0]
    assert sheet_height == (len(records) + report["dark"]) * (112 + 16)
    with refuses("least coverage"):
        replace(SMALL_OPTIONS, least_coverage=1.0)
