"""``prepare``: the real raw take unchanged and altered, synthetic takes, resuming, and what is
skipped and why."""

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
from egox_core.video import reader
from egox_core.video.reader import probe_video
from egox_train.data.aria import read_aria_calibration
from egox_train.data.clip_files import read_clip
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.ground_plane import ground_plane, plane_depth
from egox_train.data.manifest import read_manifest, write_manifest
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import PrepareOptions
from egox_train.data.sources import list_takes
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.paths import contents
from tests.refusals import refuses
from tests.train.prepared_takes import ALL_TRAIN, DAMAGES, SMALL, prepared, reasons

REPORT = "report.json"  # whose times differ
RAW = PrepareOptions(
    frames=5, stride=30, step=3, clips_per_camera=2, exo_size=(112, 64), ego_size=64, depth="plane"
)


# --- the real raw take -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_dir) -> Path:
    return shared_dir / "data" / "egoexo4d_raw"


def test_the_raw_take_is_read_as_it_is(real):
    skipped: list = []
    (take,) = read_egoexo4d(real, skipped)
    assert not skipped and [e.name for e in take.exos] == ["cam01", "cam02", "cam03", "cam04"]
    assert len(take.ego.w2c) == 632 and bool(take.pose_known.all())
    # The cameras stand around the wearer, a metre or two away, at about the height of a tripod.
    wearer = camera_centre(take.ego.w2c).mean(dim=0)
    for exo in take.exos:
        assert (
            exo.exo.camera.stored_size == (3840, 2160) and exo.exo.camera.lens == "opencv_fisheye"
        )
        assert len(exo.exo.camera.distortion) == 4 and probe_video(exo.video).width == 796
        assert 0.8 < float((camera_centre(exo.exo.pose) - wearer).norm()) < 4


def test_the_wearers_lens_is_that_of_the_glasses(real, takes, tmp_path):
    """It comes from the take's own calibration. If that is missing or damaged it is the preset's,
    with a note."""
    (take,) = read_egoexo4d(real, [])
    calibration = Path("takes", take.name, "trajectory", "online_calibration.jsonl")
    calibrated, preset = (
        read_aria_calibration(real / calibration),
        CAMERA_PRESETS["aria_released"].camera,
    )
    assert take.ego.camera == calibrated != preset and not take.notes
    half = calibrated.rescale(448, 448)  # as projectaria_tools crops and scales it
    assert (half.fx, half.cx, half.cy) == pytest.approx((194.18512, 227.49608, 223.95663), abs=1e-5)
    source = takes.copy_raw(real, tmp_path / "raw", lambda content: None)
    (source / calibration).unlink(missing_ok=True)
    (source / calibration).parent.mkdir(exist_ok=True)
    for text, words in ((None, "no trajectory/"), ('{"CameraCalibrations": []}', "can't be used")):
        if text is not None:
            (source / calibration).write_text(text, "utf-8")
        (other,) = read_egoexo4d(source, [])
        assert other.ego.camera == preset and words in " ".join(map(str, other.notes))


def test_the_plane_is_the_floor(real):
    (take,) = read_egoexo4d(real, [])
    plane, pose = ground_plane(take, 1.6), take.exos[0].exo.pose
    assert plane.up.tolist() == [0, 0, 1]
    heights = camera_centre(take.ego.w2c) @ plane.up - plane.height
    assert 1.5 < float(heights.median()) < 1.7
    camera = CameraModel.pinhole(64, 48, 40)
    depth = plane_depth(plane, CameraPath.of_exo(camera, pose))
    rays, _ = camera.pixel_rays(dtype=torch.float64)
    world = (rays / rays[..., 2:] * depth.double()[..., None] - pose[:, 3]) @ pose[:, :3]
    known_mask = torch.isfinite(depth)
    assert 0.2 < float(known_mask.double().mean()) < 0.9
    assert float((world[known_mask] @ plane.up - plane.height).abs().max()) < 1e-4


def test_the_raw_take_is_prepared_with_all_its_cameras(real, tmp_path):
    records, report = prepared(real, tmp_path, RAW)
    assert len(records) == 8 and not report["skipped"]
    assert {r.depth for r in records} == {"stand-in depth"} == set(report["depth"])
    assert {r.rank for r in records} == {1, 2, 3, 4}
    best = min(records, key=lambda r: r.rank)
    assert best.predicted_coverage == max(r.predicted_coverage for r in records)
    assert all(0.02 < r.coverage < 0.9 and r.step == 3 for r in records)
    assert {r.start for r in records} == {150, 450}
    clip = read_clip(tmp_path, records[0])
    assert clip.exo.shape == (5, 64, 112, 3)
    assert clip.prior.shape == clip.ego.shape == (5, 64, 64, 3)
    assert cv2.imread(str(tmp_path / "contact_sheet.png")).shape[0] == 8 * (112 + 16)


def test_lost_poses_cost_their_clips_and_nothing_else(real, takes, tmp_path):
    def alter(content: dict) -> None:
        poses = content["aria01"]["camera_extrinsics"]
        poses["33"] = None  # null: in the clip from 30
        del poses["93"]  # missing: in the clip from 90
        poses["123"][0] = [2.0, 0.0, 0.0, 0.0]  # no rotation: in the clip from 120
        poses["151"] = None  # between the frames of the clip from 150: harmless
        content["cam02"]["camera_extrinsics"] = None
        content["cam03"]["camera_intrinsics"][0][0] = 0.0

    source = takes.copy_raw(real, tmp_path / "raw", alter)
    options = replace(RAW, clips_per_camera=0, task_s=(0, 6.45))
    records, report = prepared(source, tmp_path / "set", options)
    assert {r.exo_camera for r in records} == {"cam01", "cam04"}
    assert {r.start for r in records} == {0, 60, 150, 180}
    assert {clip[-6:] for clip in reasons(report)} == {"000030", "000090", "000120"}
    notes = " ".join(report["notes"][takes.TAKE])
    assert "cam02" in notes and "cam03" in notes and "4 of 632 ego poses lost" in notes


def test_a_take_that_cannot_be_used_is_said_to_be(takes, tmp_path):
    rows = {
        "no wearer's camera": lambda c: c.pop("aria01"),
        "not one usable ego pose": lambda c: c["aria01"].update(
            camera_extrinsics=dict.fromkeys("0123", None)
        ),
        "no poses": lambda c: c["aria01"].update(camera_extrinsics=None),
        "no usable exo camera": lambda c: c.pop("cam01"),
        "take name": lambda c: c["metadata"].update(take_name="../elsewhere"),
        "no frame-aligned videos": lambda c: c["metadata"].update(take_name="not_downloaded"),
        "no frame number": lambda c: c["aria01"]["camera_extrinsics"].update(last=[[1]]),
    }
    source = takes.write_egoexo4d(tmp_path / "raw", "one", frames=5)
    (annotation,) = source.glob("annotations/ego_pose/*/camera_pose/*.json")
    for words, alter in rows.items():
        content = read_json(annotation)
        alter(content)
        altered = takes.copy_raw(source, tmp_path / words.replace(" ", "_"), lambda c: None)
        write_json(altered / annotation.relative_to(source), content)
        with refuses(words):
            prepare(altered, tmp_path / "set", RAW)


# --- synthetic takes ---------------------------------------------------------------------------------------------


def test_a_part_of_a_longer_take(takes, tmp_path, monkeypatch):
    """And each source video is probed once."""
    probed, probe = [], reader._probe
    monkeypatch.setattr(reader, "_probe", lambda *of: probed.append(of[0]) or probe(*of))
    source = takes.write_synthetic(tmp_path / "long", 1, frames=13)
    records, _ = prepared(source, tmp_path / "set", replace(SMALL, stride=4, step=2))
    of_source = [file for file in probed if source in file.parents]
    assert [r.start for r in records] == [0, 4] and len(of_source) == len(set(of_source)) == 2
    (long_record,), _ = prepared(source, tmp_path / "whole", replace(SMALL, frames=13, stride=13))
    long, part = read_clip(tmp_path / "whole", long_record), read_clip(tmp_path / "set", records[1])
    frames = [4, 6, 8, 10, 12]
    torch.testing.assert_close(part.take.trajectory.ego.w2c, long.take.trajectory.ego.w2c[frames])
    torch.testing.assert_close(
        part.take.depth.depth_m, long.take.depth.depth_m[frames], equal_nan=True
    )
    # both went through a video encoder
    assert float((part.ego.float() - long.ego[frames].float()).abs().mean()) < 4


def test_an_exo_camera_in_the_hand(tmp_path):
    way = {"exo_path": "dolly", "exo_motion": 0.4, "texture": "soft", "edge_samples": 1}
    size = {"exo_width": 224, "exo_height": 128, "ego_size": 128, "frames": 9, "fps": 5.0}
    source = tmp_path / "takes" / "hand"
    write_take(make_take(SyntheticSpec(seed=5, **way, **size)), source)
    meta = read_json(source / "meta.json")
    meta["camera_extrinsics"] = meta["camera_extrinsics"][0]  # as of a camera that stands
    write_json(source / "meta.json", meta)
    options = {"frames": 9, "stride": 9, "exo_size": (224, 128), "ego_size": 128}
    prepare(source.parent, tmp_path / "set", PrepareOptions(**options, exo_motion="auto"))
    (record,) = read_manifest(tmp_path / "set" / "manifest.jsonl")
    take = read_clip(tmp_path / "set", record).take
    drawn, _ = prior(scene(take.read_exo(), take.depth)[0], take.trajectory, device="cpu")
    with np.load(take.folder / "coverage.npz") as arrays:
        assert np.array_equal(drawn.coverage, arrays["coverage"]), "as drawn from the clip's files"
    assert record.exo_motion["motion"] == "moves" and not any("pose" in n for n in record.notes)
    written = read_json(tmp_path / "set" / record.folder / "meta.json")
    assert len(written["camera_extrinsics"]) == 9
    with refuses("exo motion: got 'auto' with stand-in depth"):
        PrepareOptions(**options, exo_motion="auto", depth="plane")


def test_the_released_layout(synthetic_takes, tmp_path):
    """meta.json with a list, videos/<take>/exo.mp4 and ego_GT.mp4, depth_maps/<take>/*.npy."""
    source, entries = tmp_path / "released", []
    for take in sorted(synthetic_takes.iterdir())[:2]:
        videos, depths = source / "videos" / take.name, source / "depth_maps" / take.name
        videos.mkdir(parents=True)
        depths.mkdir(parents=True)
        shutil.copy(take / "exo.mp4", videos)
        shutil.copy(take / "ego_ground_truth.mp4", videos / "ego_GT.mp4")
        for number, frame in enumerate(np.load(take / "depth.npz")["depth_m"]):
            np.save(depths / f"frame_{number:03d}.npy", frame)
        meta = read_json(take / "meta.json")
        for name in ("exo_camera", "ego_camera", "fps", "source"):
            del meta[name]
        entries.append({**meta, "exo_path": f"./example/videos/{take.name}/exo.mp4"})
    entries += [{**entries[0], "exo_path": f"./example/videos/{n}/exo.mp4"} for n in ("lost", "..")]
    null = {**entries[0], "exo_path": "./videos/null/exo.mp4", "ego_extrinsics": [None]}
    write_json(source / "meta.json", {"test_datasets": entries})
    write_json(source / "meta_train.json", {"train_datasets": [null]})
    records, report = prepared(source, tmp_path / "set")
    assert [r.layout for r in records] == ["released"] * 2
    why = reasons(report)
    assert "take name: got '..'" in why[".."] and "exo.mp4" in why["lost"]
    assert "frame 0: got null" in why["null"]


def test_bad_takes_are_named_and_the_others_prepared(synthetic_takes, tmp_path):
    source = shutil.copytree(synthetic_takes, tmp_path / "takes")
    cut, bare, short, good_take = sorted(source.iterdir())
    (cut / "exo.mp4").write_bytes((cut / "exo.mp4").read_bytes()[:400])
    (bare / "depth.npz").unlink()
    meta = read_json(short / "meta.json")
    meta["ego_extrinsics"] = meta["ego_extrinsics"][:3]
    write_json(short / "meta.json", meta)
    pictures = [
        load_take(synthetic_takes / t.name, frame_count=5).read_exo() for t in (good_take, cut)
    ]
    other = shutil.copytree(good_take, source / "two_shots")
    write_video(other / "exo.mp4", torch.cat((pictures[0][:3], pictures[1][3:])), 20.0)
    huge = shutil.copytree(good_take, source / "huge")
    write_json(huge / "meta.json", {**meta, "camera_intrinsics": 10**400})
    records, report = prepared(source, tmp_path / "set")
    assert [r.take for r in records] == [good_take.name]
    why = {item.split("__")[0]: reason for item, reason in reasons(report).items()}
    assert "exo.mp4" in why[cut.name] and "no depth" in why[bare.name] and huge.name in why
    assert "a cut at frame 3 " in why[other.name]
    assert "got 3 frames for a video of 5 frames" in why[short.name]
    records, _ = prepared(source, tmp_path / "one shot", replace(SMALL, one_shot=True))
    assert [r.take for r in records] == [good_take.name, other.name]
    read_clip(tmp_path / "one shot", records[1])


def test_malformed_annotations_are_named_and_the_others_prepared(takes, tmp_path):
    """One list in the place of an object once ended the command before any take was begun."""
    source = takes.write_egoexo4d(tmp_path / "raw", "good", frames=5)
    takes.write_damaged(source)
    records, report = prepared(source, tmp_path / "set", replace(SMALL, depth="plane"))
    assert [r.take for r in records] == ["good"]
    why = reasons(report)
    assert why.keys() == {f"uid-{name}" for name in DAMAGES}
    assert all("Fix: " in reason for reason in why.values())
    assert "got list; expected intrinsics" in why["uid-list_for_wearer"]


def test_a_set_with_another_lens_of_the_wearer_is_continued_only_if_that_is_wanted(
    synthetic_takes, tmp_path, caplog
):
    """As of versions up to 1.2, which read Aria's too short."""
    source, out = shutil.copytree(synthetic_takes, tmp_path / "takes"), tmp_path / "set"
    records, _ = prepared(source, out)
    meta = read_json(source / records[0].take / "meta.json")
    camera = CameraModel.from_json(meta["ego_camera"])
    assert records[0].ego_lens == f"{camera.lens}, focal length {camera.fx:.3f} px"
    meta["ego_camera"]["fx"] = meta["ego_camera"]["fy"] = camera.fx * 1.0227
    write_json(source / records[0].take / "meta.json", meta)
    with refuses("clips of 1 takes with another one.* --new-lens"):
        prepare(source, out, SMALL, ALL_TRAIN)
    assert prepare(source, out, SMALL, replace(ALL_TRAIN, new_lens=True)).new == 1
    (again,) = (r for r in read_manifest(out / "manifest.jsonl") if r.take == records[0].take)
    assert again.ego_lens.endswith(f"{camera.fx * 1.0227:.3f} px")
    older = [r.model_copy(update={"layout": "egoexo4d", "ego_lens": ""}) for r in records]
    write_manifest(out / "manifest.jsonl", older)
    read_manifest(out / "manifest.jsonl")
    assert "4 clips of Ego-Exo4D" in caplog.text and "too short" in caplog.text


def test_captions_and_wrong_ones(synthetic_takes, tmp_path):
    file, name = tmp_path / "captions.json", min(synthetic_takes.iterdir()).name
    for text, count in (("[Exo view] mine [Ego view] too", 4), ("[Ego view] one section", 3)):
        write_json(file, {name: text})
        records, report = prepared(synthetic_takes, tmp_path / "set", captions=file)
        assert len(records) == count
        captioned = [r for r in records if r.caption == "file"]
        assert {r.take for r in captioned} == {name} if count == 4 else not captioned
    assert "[Ego view]" in report["skipped"][0]["why"]


def test_the_wearers_poses_are_those_of_a_file(synthetic_takes, tmp_path):
    """Equal to those of meta.json, which has none any more."""
    records, _ = prepared(synthetic_takes, tmp_path / "set")
    source = Path(shutil.copytree(synthetic_takes, tmp_path / "source"))
    for meta in sorted(source.glob("*/meta.json")):
        content = read_json(meta, "meta")
        write_json(meta.with_name("poses.json"), content)
        content.pop("ego_extrinsics")
        write_json(meta, content)
    with refuses("--ego-path"):
        prepared(source, tmp_path / "none")
    again, _ = prepared(source, tmp_path / "again", ego_path=Path("poses.json"))
    for one, other in zip(records, again, strict=True):
        assert one.files == other.files
    with refuses("the wearer's poses once"):
        prepared(synthetic_takes, tmp_path / "twice", ego_path=Path("poses.json"))


def test_warnings_are_printed(synthetic_takes, tmp_path, capsys):
    source = Path(shutil.copytree(synthetic_takes, tmp_path / "source"))
    meta = min(source.glob("*/meta.json"))
    content = {**read_json(meta, "meta"), "prompt": "a person cuts bread"}
    content.pop("ego_camera", None)
    content["ego_intrinsics"] = [[20.0, 0.0, 15.5], [0.0, 20.0, 15.5], [0.0, 0.0, 1.0]]
    write_json(meta, content)
    how = ["--frames", "5", "--size", "64x32"]
    assert train_egox.main(["prepare", str(source), str(tmp_path / "set"), *how]) == 0
    words = capsys.readouterr().out
    assert "it is used as written" in words and "are of another camera" in words


@pytest.mark.parametrize(
    "bad",
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
def test_options_are_checked(bad):
    with refuses():
        replace(SMALL, **bad)


def test_sources_that_are_none(tmp_path):
    for folder, match in ((tmp_path / "none", "no folder"), (tmp_path, "meta.json")):
        with refuses(match):
            list(list_takes(folder, "auto", []))


def test_a_changed_option_or_damaged_clip_is_made_again(synthetic_takes, tmp_path, caplog):
    def made(options: PrepareOptions = SMALL) -> int:
        return prepare(synthetic_takes, tmp_path, options, ALL_TRAIN).new

    assert made() == 4
    before, clips = contents(tmp_path, REPORT), sorted((tmp_path / "clips").iterdir())
    (clips[0] / "exo.mp4").write_bytes((clips[0] / "exo.mp4").read_bytes()[:100])
    (clips[1] / "clip.json").write_text("[]", "utf-8")
    (clips[2] / "exo.mp4").unlink()
    assert made() == 3 and contents(tmp_path, REPORT) == before
    messages = [record.getMessage() for record in caplog.records]
    for clip, file in ((0, "exo.mp4"), (1, "clip.json")):
        assert any(clips[clip].name in line and file in line for line in messages)
    assert made(replace(SMALL, prior="clean")) == 4
