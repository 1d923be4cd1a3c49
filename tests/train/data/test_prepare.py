"""Test ``prepare`` on a real take and on synthetic takes."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import train_egox
from egox_core.cameras.model import CameraModel
from egox_core.cameras.path import CameraPath
from egox_core.cameras.poses import camera_centre
from egox_core.cameras.presets import CAMERA_PRESETS
from egox_core.safe_files import read_json, write_json
from egox_core.stages import prior, scene
from egox_core.take import load_take
from egox_core.video import probe
from egox_train.data.aria import read_aria_calibration
from egox_train.data.clip_files import read_clip
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.ground_plane import ground_plane, plane_depth
from egox_train.data.manifest import read_manifest, write_manifest
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import PrepareOptions
from egox_train.data.sources import TRUTH_NAMES, list_takes
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.paths import read_folder_files
from tests.refusals import refuses
from tests.train.prepared_takes import (
    ALL_TRAIN,
    DAMAGES,
    IN_CM,
    SMALL_OPTIONS,
    prepare_and_read,
    reasons_by_item,
    write_in_cm,
    write_synthetic,
)

REPORT_NAME = "report.json"  # whose times differ
RAW_OPTIONS = PrepareOptions(
    frames=5, stride=30, step=3, clips_per_camera=2, exo_size=(112, 64), ego_size=64, depth="plane"
)


@pytest.mark.parametrize("is_in_meta", [True, False])
def test_declared_units_make_the_clips_of_the_take_in_metres(tmp_path, is_in_meta):
    right, in_cm = write_synthetic(tmp_path / "metres", 1), tmp_path / "cm"
    declared = {"declared": dict(fact.split("=") for fact in IN_CM)} if is_in_meta else {}
    write_in_cm(right / "synthetic_000", in_cm / "synthetic_000", **declared)
    (expected,), _ = prepare_and_read(right, tmp_path / "right")
    (record,), report = prepare_and_read(
        in_cm, tmp_path / "set", declare=() if is_in_meta else IN_CM
    )
    assert record.coverage == pytest.approx(expected.coverage, abs=0.02)
    depths = (tmp_path / "set" / record.folder, tmp_path / "right" / expected.folder)
    depth_m, right_m = (np.load(folder / "depth.npz")["depth_m"] for folder in depths)
    np.testing.assert_allclose(depth_m, right_m, rtol=2e-3)
    assert {line.split(" (by")[0] for line in report["facts"]} >= {
        f"all 1 takes: {fact.replace('=', ': ')}" for fact in IN_CM
    }
    with refuses("ego.time_offset_s"):
        prepare_and_read(right, tmp_path / "refused", declare=("ego.time_offset_s=1",))


# --- the real raw take
# -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw_data(shared_dir) -> Path:
    return shared_dir / "data" / "egoexo4d_raw"


def test_ego_lens_is_that_of_the_takes_calibration(raw_data, take_writers, tmp_path):
    """Check that the ego lens is read from the take's calibration file if that is valid."""
    (take,) = read_egoexo4d(raw_data, [])
    calibration_path = Path("takes", take.name, "trajectory", "online_calibration.jsonl")
    calibrated_lens = read_aria_calibration(raw_data / calibration_path)
    preset_lens = CAMERA_PRESETS["aria_released"].camera
    assert take.ego.camera == calibrated_lens != preset_lens and not take.notes
    small_camera = calibrated_lens.rescale(448, 448)  # as projectaria_tools crops and scales it
    assert (small_camera.fx, small_camera.cx, small_camera.cy) == pytest.approx(
        (194.18512, 227.49608, 223.95663), abs=1e-5
    )
    source_folder = take_writers.copy_raw(raw_data, tmp_path / "raw", lambda content: None)
    (source_folder / calibration_path).unlink(missing_ok=True)
    (source_folder / calibration_path).parent.mkdir(exist_ok=True)
    for calibration_text, expected_text in (
        (None, "no trajectory/"),
        ('{"CameraCalibrations": []}', "can't be used"),
    ):
        if calibration_text is not None:
            (source_folder / calibration_path).write_text(calibration_text, "utf-8")
        (other_take,) = read_egoexo4d(source_folder, [])
        assert other_take.ego.camera == preset_lens and expected_text in " ".join(
            map(str, other_take.notes)
        )


def test_stand_in_plane_is_the_floor(raw_data):
    (take,) = read_egoexo4d(raw_data, [])
    plane, pose = ground_plane(take, 1.6), take.exos[0].exo.pose
    assert plane.up.tolist() == [0, 0, 1]
    heights = camera_centre(take.ego.w2c) @ plane.up - plane.height
    assert 1.5 < float(heights.median()) < 1.7
    camera = CameraModel.pinhole(64, 48, 40)
    depth = plane_depth(plane, CameraPath.of_exo(camera, pose)).double()
    rays, _ = camera.pixel_rays(dtype=torch.float64)
    world_points = (rays / rays[..., 2:] * depth[..., None] - pose[:, 3]) @ pose[:, :3]
    known_mask = torch.isfinite(depth)
    assert 0.2 < float(known_mask.double().mean()) < 0.9
    assert float((world_points[known_mask] @ plane.up - plane.height).abs().max()) < 1e-4


def test_raw_take_is_prepared_with_all_cameras(raw_data, tmp_path):
    # Of 21 s: frames that lie late in a video are decoded slowly.
    options = replace(RAW_OPTIONS, task_s=(0, 2.45))
    records, report = prepare_and_read(raw_data, tmp_path, options)
    assert len(records) == 8 and not report["skipped"]
    assert {record.depth for record in records} == {"stand-in depth"} == set(report["depth"])
    assert {(record.rank, record.start) for record in records} == {
        (rank, start) for rank in (1, 2, 3, 4) for start in (0, 60)
    }
    coverages = {record.rank: record.predicted_coverage for record in records}
    assert coverages[1] == max(coverages.values())
    assert all(0.02 < record.coverage < 0.9 and record.step == 3 for record in records)
    clip = read_clip(tmp_path, records[0])
    assert clip.exo.shape == (5, 64, 112, 3)
    assert clip.prior.shape == clip.ego.shape == (5, 64, 64, 3)
    assert cv2.imread(str(tmp_path / "contact_sheet.png")).shape[0] == 8 * (112 + 16)


def test_only_clips_with_lost_poses_are_skipped(raw_data, take_writers, tmp_path):
    def damage_annotation(content: dict) -> None:
        poses = content["aria01"]["camera_extrinsics"]
        poses["18"] = None  # null: in the clip from 15
        del poses["48"]  # missing: in the clip from 45
        poses["63"][0] = [2.0, 0.0, 0.0, 0.0]  # no rotation: in the clip from 60
        poses["76"] = None  # between the frames of the clip from 75: harmless
        content["cam02"]["camera_extrinsics"] = None
        content["cam03"]["camera_intrinsics"][0][0] = 0.0

    source_folder = take_writers.copy_raw(raw_data, tmp_path / "raw", damage_annotation)
    options = replace(RAW_OPTIONS, stride=15, clips_per_camera=0, task_s=(0, 3.45))
    records, report = prepare_and_read(source_folder, tmp_path / "set", options)
    assert {record.exo_camera for record in records} == {"cam01", "cam04"}
    assert {record.start for record in records} == {0, 30, 75, 90}
    assert {clip[-6:] for clip in reasons_by_item(report)} == {"000015", "000045", "000060"}
    notes = " ".join(report["notes"][take_writers.TAKE])
    assert "cam02" in notes and "cam03" in notes and "4 of 632 ego poses lost" in notes


def test_unusable_takes_are_refused_with_the_reason(take_writers, tmp_path):
    damage_by_message = {
        "no wearer's camera": lambda content_changed: content_changed.pop("aria01"),
        "not one usable ego pose": lambda content_changed: content_changed["aria01"].update(
            camera_extrinsics=dict.fromkeys("0123", None)
        ),
        "no poses": lambda content_changed: content_changed["aria01"].update(
            camera_extrinsics=None
        ),
        "no usable exo camera": lambda content_changed: content_changed.pop("cam01"),
        "take name": lambda content_changed: content_changed["metadata"].update(
            take_name="../elsewhere"
        ),
        "no frame-aligned videos": lambda content_changed: content_changed["metadata"].update(
            take_name="not_downloaded"
        ),
        "no frame number": lambda content_changed: content_changed["aria01"][
            "camera_extrinsics"
        ].update(last=[[1]]),
    }
    source_folder = take_writers.write_egoexo4d(tmp_path / "raw", "one", frames=5)
    (annotation,) = source_folder.glob("annotations/ego_pose/*/camera_pose/*.json")
    for message_pattern, damage_annotation in damage_by_message.items():
        annotation_content = read_json(annotation)
        damage_annotation(annotation_content)
        altered_source = take_writers.copy_raw(
            source_folder,
            tmp_path / message_pattern.replace(" ", "_"),
            lambda content_changed: None,
        )
        write_json(altered_source / annotation.relative_to(source_folder), annotation_content)
        with refuses(message_pattern):
            prepare(altered_source, tmp_path / "set", RAW_OPTIONS)


# --- synthetic takes
# ---------------------------------------------------------------------------------------------


def test_clips_of_a_longer_take_equal_its_frames(take_writers, tmp_path, monkeypatch):
    """Check that clips contain the right frames of a longer take, whose files are probed once."""
    probed_files, original_probe = [], probe._probe
    monkeypatch.setattr(
        probe, "_probe", lambda *args: probed_files.append(args[0]) or original_probe(*args)
    )
    source = take_writers.write_synthetic(tmp_path / "long", 1, frames=13)
    records, _ = prepare_and_read(
        source, tmp_path / "set", replace(SMALL_OPTIONS, stride=4, step=2)
    )
    source_files = [file for file in probed_files if source in file.parents]
    assert len(source_files) == len(set(source_files)) == 2
    assert [record.start for record in records] == [0, 4]
    whole_options = replace(SMALL_OPTIONS, frames=13, stride=13)
    (whole_record,), _ = prepare_and_read(source, tmp_path / "whole", whole_options)
    whole, short = (
        read_clip(tmp_path / "whole", whole_record),
        read_clip(tmp_path / "set", records[1]),
    )
    frames = [4, 6, 8, 10, 12]
    for part, expected in (
        (short.take.trajectory.ego.w2c, whole.take.trajectory.ego.w2c),
        (short.take.depth.depth_m, whole.take.depth.depth_m),
    ):
        torch.testing.assert_close(part, expected[frames], equal_nan=True)
    # both went through a video encoder
    assert float((short.ego.float() - whole.ego[frames].float()).abs().mean()) < 4


def test_motion_of_a_carried_exo_camera_is_estimated(tmp_path):
    motion = {"exo_path": "dolly", "exo_motion": 0.4, "texture": "soft", "edge_samples": 1}
    sizes = {"exo_width": 224, "exo_height": 128, "ego_size": 128, "frames": 9, "fps": 5.0}
    source = tmp_path / "takes" / "hand"
    write_take(make_take(SyntheticSpec(seed=5, **motion, **sizes)), source)
    meta = read_json(source / "meta.json")
    standing_pose = meta["camera_extrinsics"][0]
    write_json(source / "meta.json", {**meta, "camera_extrinsics": standing_pose})
    options = {"frames": 9, "stride": 9, "exo_size": (224, 128), "ego_size": 128}
    (record,), _ = prepare_and_read(
        source.parent, tmp_path / "set", PrepareOptions(**options, exo_motion="auto")
    )
    take = read_clip(tmp_path / "set", record).take
    drawn_prior, _ = prior(scene(take.read_exo(), take.depth)[0], take.trajectory, device="cpu")
    coverage = np.load(take.folder / "coverage.npz")["coverage"]
    assert np.array_equal(drawn_prior.coverage, coverage), "as drawn from the clip's files"
    assert record.exo_motion["motion"] == "moves"
    assert len(read_json(take.folder / "meta.json")["camera_extrinsics"]) == 9
    with refuses("--exo-motion: got 'auto' with stand-in depth"):
        PrepareOptions(**options, exo_motion="auto", depth="plane")


def test_released_folder_layout_is_prepared(synthetic_takes, tmp_path):
    """Check that takes in the layout of the authors' release can be prepared."""
    source, entries = tmp_path / "released", []
    for take in sorted(synthetic_takes.iterdir())[:2]:
        videos, depths = source / "videos" / take.name, source / "depth_maps" / take.name
        videos.mkdir(parents=True)
        depths.mkdir(parents=True)
        shutil.copy(take / "exo.mp4", videos)
        shutil.copy(take / "ego_ground_truth.mp4", videos / "ego_GT.mp4")
        for number, frame in enumerate(np.load(take / "depth.npz")["depth_m"]):
            np.save(depths / f"frame_{number:03d}.npy", frame)
        meta_content = read_json(take / "meta.json")
        for name in ("exo_camera", "ego_camera", "fps", "source"):
            del meta_content[name]
        entries.append({**meta_content, "exo_path": f"./example/videos/{take.name}/exo.mp4"})
    entries += [{**entries[0], "exo_path": f"./example/videos/{n}/exo.mp4"} for n in ("lost", "..")]
    null_entry = {**entries[0], "exo_path": "./videos/null/exo.mp4", "ego_extrinsics": [None]}
    write_json(source / "meta.json", {"test_datasets": entries})
    write_json(source / "meta_train.json", {"train_datasets": [null_entry]})
    records, report = prepare_and_read(source, tmp_path / "set")
    assert [record.layout for record in records] == ["released"] * 2
    skip_reasons = reasons_by_item(report)
    assert "take name: got '..'" in skip_reasons[".."] and "exo.mp4" in skip_reasons["lost"]
    assert "frame 0: got null" in skip_reasons["null"]


def test_damaged_takes_are_skipped_and_the_others_prepared(synthetic_takes, tmp_path):
    source = shutil.copytree(synthetic_takes, tmp_path / "takes")
    truncated, without_depth, few_poses, good = sorted(source.iterdir())
    pictures = [load_take(take, frame_count=5).read_exo() for take in (good, truncated)]
    (truncated / "exo.mp4").write_bytes((truncated / "exo.mp4").read_bytes()[:400])
    (without_depth / "depth.npz").unlink()
    meta = read_json(few_poses / "meta.json")
    write_json(few_poses / "meta.json", {**meta, "ego_extrinsics": meta["ego_extrinsics"][:3]})
    huge, two_shots, fast = (
        shutil.copytree(good, source / name) for name in ("huge", "two_shots", "fast")
    )
    write_json(huge / "meta.json", {**meta, "camera_intrinsics": 10**400})
    write_video(two_shots / "exo.mp4", torch.cat((pictures[0][:3], pictures[1][3:])), 20.0)
    write_video(fast / "ego_ground_truth.mp4", pictures[0], 60.0)
    records, report = prepare_and_read(source, tmp_path / "set")
    assert {record.take for record in records} == {good.name, "fast"}
    assert "the ego video has 60 frames a second, exo 20" in str(report["notes"])
    reasons = {item.split("__")[0]: reason for item, reason in reasons_by_item(report).items()}
    for take, words in (
        (truncated, "exo.mp4"),
        (without_depth, "no depth"),
        (few_poses, "got 3 frames for a video of 5 frames"),
        (huge, ""),
        (two_shots, "a cut at frame 3 "),
    ):
        assert words in reasons[take.name]
    one_shot = replace(SMALL_OPTIONS, one_shot=True)
    records, _ = prepare_and_read(source, tmp_path / "one shot", one_shot)
    (record,) = (record for record in records if record.take == "two_shots")
    read_clip(tmp_path / "one shot", record)


def test_malformed_annotations_are_skipped_with_reasons(take_writers, tmp_path):
    """Check that takes with malformed annotations are skipped with a reason."""
    source_folder = take_writers.write_egoexo4d(tmp_path / "raw", "good", frames=5)
    take_writers.write_damaged(source_folder)
    records, report = prepare_and_read(
        source_folder, tmp_path / "set", replace(SMALL_OPTIONS, depth="plane")
    )
    assert [r.take for r in records] == ["good"]
    skip_reasons = reasons_by_item(report)
    assert skip_reasons.keys() == {f"uid-{name}" for name in DAMAGES}
    assert all("Fix: " in reason for reason in skip_reasons.values())
    assert "got list; expected intrinsics" in skip_reasons["uid-list_for_wearer"]


def test_set_with_another_ego_lens_is_continued_only_on_request(synthetic_takes, tmp_path, caplog):
    """Check that ``prepare`` continues a set with another ego lens only with --new-lens."""
    source, set_folder = shutil.copytree(synthetic_takes, tmp_path / "takes"), tmp_path / "set"
    manifest, (first, *_) = set_folder / "manifest.jsonl", sorted(source.iterdir())
    records, _ = prepare_and_read(source, set_folder)
    meta = read_json(first / "meta.json")
    lens, focal_px = meta["ego_camera"]["lens"], meta["ego_camera"]["fx"]
    assert records[0].ego_lens == f"{lens}, focal length {focal_px:.3f} px"
    meta["ego_camera"]["fx"] = meta["ego_camera"]["fy"] = focal_px * 1.0227
    write_json(first / "meta.json", meta)
    with refuses("clips of 1 takes with another one.* --new-lens"):
        prepare(source, set_folder, SMALL_OPTIONS, ALL_TRAIN)
    assert prepare(source, set_folder, SMALL_OPTIONS, replace(ALL_TRAIN, new_lens=True)).new == 1
    (new_record,) = (r for r in read_manifest(manifest) if r.take == first.name)
    assert new_record.ego_lens.endswith(f"{focal_px * 1.0227:.3f} px")
    older_records = [r.model_copy(update={"layout": "egoexo4d", "ego_lens": ""}) for r in records]
    write_manifest(manifest, older_records)
    read_manifest(manifest)
    assert "4 clips of Ego-Exo4D" in caplog.text and "too short" in caplog.text


def test_captions_are_read_from_a_file_and_wrong_ones_refused(synthetic_takes, tmp_path, caplog):
    file, name = tmp_path / "captions.json", min(synthetic_takes.iterdir()).name
    for text, count in (("[Exo view] mine [Ego view] too", 4), ("[Ego view] one section", 3)):
        write_json(file, {f"{name}.mp4": text, "another": text})
        records, report = prepare_and_read(synthetic_takes, tmp_path / "set", captions=file)
        assert len(records) == count
        captioned = [record for record in records if record.caption == "file"]
        assert {record.take for record in captioned} == {name} if count == 4 else not captioned
    assert "[Ego view]" in report["skipped"][0]["why"]
    assert "1 of 2 captions match no clip or take, first another; the first clip" in caplog.text


def test_ego_poses_are_read_from_a_file(synthetic_takes, tmp_path):
    """Check that ego poses from a separate file give the same clips as those in meta.json."""
    records, _ = prepare_and_read(synthetic_takes, tmp_path / "set")
    source = Path(shutil.copytree(synthetic_takes, tmp_path / "source"))
    for meta_file in sorted(source.glob("*/meta.json")):
        meta = read_json(meta_file, "meta")
        write_json(meta_file.with_name("poses.json"), meta)
        write_json(meta_file, {k: meta[k] for k in meta if k != "ego_extrinsics"})
    with refuses("--ego-path"):
        prepare_and_read(source, tmp_path / "none")
    for folder in (source, synthetic_takes):
        out = tmp_path / f"again_{folder.name}"
        again, report = prepare_and_read(folder, out, ego_path=Path("poses.json"))
        assert [record.files for record in again] == [record.files for record in records]
    assert all("poses.json was not read" in " ".join(n) for n in report["notes"].values())


def test_declared_frames_of_ego_poses_count(synthetic_takes, tmp_path):
    folder = shutil.copytree(min(synthetic_takes.iterdir()), tmp_path / "take")
    meta_content = read_json(folder / "meta.json")
    meta_content["ego_extrinsics"] *= 2  # the video ends first
    for declared, expected_count in (({}, 0), ({"ego.frames": "source"}, 1)):
        write_json(folder / "meta.json", {**meta_content, "declared": declared})
        takes = list(list_takes(folder, "take", []))
        assert len(takes) == expected_count
    assert [row.value for row in takes[0].facts if row.fact == "ego.frames"] == ["source"]


def test_warnings_are_printed(synthetic_takes, tmp_path, capsys):
    source = Path(shutil.copytree(synthetic_takes, tmp_path / "source"))
    meta_file = min(source.glob("*/meta.json"))
    meta = {**read_json(meta_file, "meta"), "prompt": "a person cuts bread"}
    meta.pop("ego_camera", None)
    meta["ego_intrinsics"] = [[20.0, 0.0, 15.5], [0.0, 20.0, 15.5], [0.0, 0.0, 1.0]]
    write_json(meta_file, meta)
    for name in TRUTH_NAMES:
        (meta_file.parent / name).unlink(missing_ok=True)
    words = ["prepare", str(source), str(tmp_path / "set"), "--frames", "5", "--size", "64x32"]
    assert train_egox.main(words) == 0
    output = capsys.readouterr().out
    assert "it is used as written" in output and "are of another camera" in output
    assert f"warning: 1 of 4 takes have no ego video, first {meta_file.parent.name}: " in output


@pytest.mark.parametrize(
    "changed_options",
    [
        {"frames": 6},
        {"exo_size": (60, 32)},
        {"ego_size": 48},
        {"depth": "guess"},
        {"depth": "model"},
        {"stride": 0},
        {"most_clips": -1},
        {"prior": "pretty"},
        {"exo_fov_deg": 170},
    ],
)
def test_invalid_prepare_options_are_refused(changed_options):
    with refuses():
        replace(SMALL_OPTIONS, **changed_options)


def test_missing_and_empty_sources_are_refused(tmp_path):
    for folder, message in ((tmp_path / "none", "no folder"), (tmp_path, "meta.json")):
        with refuses(message):
            list(list_takes(folder, "auto", []))


def test_clips_are_made_again_if_changed_or_damaged(synthetic_takes, tmp_path, caplog):
    def count_made_clips(options: PrepareOptions = SMALL_OPTIONS) -> int:
        return prepare(synthetic_takes, tmp_path, options, ALL_TRAIN).new

    assert count_made_clips() == 4
    files_before = read_folder_files(tmp_path, REPORT_NAME)
    clips = sorted((tmp_path / "clips").iterdir())
    (clips[0] / "exo.mp4").write_bytes((clips[0] / "exo.mp4").read_bytes()[:100])
    (clips[1] / "clip.json").write_text("[]", "utf-8")
    (clips[2] / "exo.mp4").unlink()
    assert count_made_clips() == 3 and read_folder_files(tmp_path, REPORT_NAME) == files_before
    for clip, file in ((0, "exo.mp4"), (1, "clip.json")):
        lines = [line for line in caplog.messages if clips[clip].name in line]
        assert any(file in line for line in lines)
    assert count_made_clips(replace(SMALL_OPTIONS, prior="clean")) == 4
