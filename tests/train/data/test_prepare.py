"""``prepare``: the real raw take unchanged and altered, synthetic takes, resuming, and what is
skipped and why."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from egox_core.errors import EgoXInputError
from egox_core.safe_files import read_json, write_json
from egox_core.takes.take import load_take
from egox_core.trajectory.poses import camera_centre
from egox_core.video.reader import probe_video
from egox_train.data.clip_files import read_clip
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.ground_plane import ground_plane, plane_depth
from egox_train.data.manifest import read_manifest
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import PrepareOptions
from egox_train.data.sources import list_takes
from egox_train.video_writer import write_video
from tests.paths import ROOT
from tests.refusals import refuses

SMALL = PrepareOptions(frames=5, stride=5, exo_size=(64, 32), ego_size=32)
RAW = PrepareOptions(
    frames=5, stride=30, step=3, clips_per_camera=2, exo_size=(112, 64), ego_size=64, depth="plane"
)


def hashes(root: Path) -> dict[str, str]:
    """All files but the report, whose times differ."""
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.name != "report.json"
    }


def report(root: Path) -> dict:
    content = read_json(root / "report.json")
    del content["this_run"]
    return content


# --- the real raw take -------------------------------------------------------------------------------------------


def raw_folder(shared_dir: Path) -> Path:
    return shared_dir / "data" / "egoexo4d_raw"


def test_the_raw_take_is_read_as_it_is(shared_dir):
    skipped: list = []
    (take,) = read_egoexo4d(raw_folder(shared_dir), skipped)
    assert not skipped and [e.name for e in take.exos] == ["cam01", "cam02", "cam03", "cam04"]
    assert len(take.ego_w2c) == 632 and bool(take.pose_known.all())
    for exo in take.exos:
        assert exo.camera.stored_size == (3840, 2160) and exo.camera.lens == "opencv_fisheye"
        assert len(exo.camera.distortion) == 4 and probe_video(exo.video).width == 796
    # The cameras stand around the wearer, a metre or two away, at about the height of a tripod.
    wearer = camera_centre(take.ego_w2c).mean(dim=0)
    for exo in take.exos:
        assert 0.8 < float((camera_centre(exo.w2c) - wearer).norm()) < 4


def test_the_wearers_lens_is_that_of_the_glasses(shared_dir, takes, tmp_path):
    """From the take's own calibration; the preset's, with a note, where it is missing or
    damaged."""
    from egox_core.cameras.presets import CAMERA_PRESETS
    from egox_train.data.aria import read_aria_calibration

    (take,) = read_egoexo4d(raw_folder(shared_dir), [])
    own = read_aria_calibration(
        raw_folder(shared_dir) / "takes" / take.name / "trajectory/online_calibration.jsonl"
    )
    assert take.ego_camera == own != CAMERA_PRESETS["aria_released"].camera and not take.notes
    source = takes.copy_raw(raw_folder(shared_dir), tmp_path / "raw", lambda content: None)
    file = source / "takes" / take.name / "trajectory" / "online_calibration.jsonl"
    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    for text, said in ((None, "no trajectory/"), ('{"CameraCalibrations": []}', "can't be used")):
        if text is not None:
            file.write_text(text, encoding="utf-8")
        (other,) = read_egoexo4d(source, [])
        assert other.ego_camera == CAMERA_PRESETS["aria_released"].camera and said in " ".join(
            other.notes
        )


def test_the_plane_is_the_floor(shared_dir):
    (take,) = read_egoexo4d(raw_folder(shared_dir), [])
    plane = ground_plane(take)
    assert plane.up.tolist() == [0, 0, 1]
    heights = camera_centre(take.ego_w2c) @ plane.up - plane.height
    assert 1.5 < float(heights.median()) < 1.7
    from egox_core.cameras.model import CameraModel, pixel_rays

    camera = CameraModel(lens="pinhole", width=64, height=48, fx=40, fy=40, cx=31.5, cy=23.5)
    depth = plane_depth(plane, camera, take.exos[0].w2c)
    rays, _ = pixel_rays(camera, dtype=torch.float64)
    points = rays / rays[..., 2:] * depth.double()[..., None]
    pose = take.exos[0].w2c
    world = (points - pose[:, 3]) @ pose[:, :3]
    known = torch.isfinite(depth)
    assert 0.2 < float(known.double().mean()) < 0.9
    assert float((world[known] @ plane.up - plane.height).abs().max()) < 1e-4


def test_the_raw_take_is_prepared_with_all_its_cameras(shared_dir, tmp_path):
    outcome = prepare(raw_folder(shared_dir), tmp_path, RAW, fractions={})
    assert (outcome.clips, outcome.skipped) == (8, 0)
    records = read_manifest(outcome.manifest)
    assert {r.depth for r in records} == {"stand-in depth"} == set(report(tmp_path)["depth"])
    assert {r.exo_camera: r.rank for r in records} and {r.rank for r in records} == {1, 2, 3, 4}
    best = min(records, key=lambda r: r.rank)
    assert best.predicted_coverage == max(r.predicted_coverage for r in records)
    assert all(0.02 < r.coverage < 0.9 for r in records)
    assert {r.start for r in records} == {150, 450} and all(r.step == 3 for r in records)
    clip = read_clip(tmp_path, records[0])
    assert clip.exo.shape == (5, 64, 112, 3) and clip.prior.shape == clip.ego.shape == (
        5,
        64,
        64,
        3,
    )
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet is not None and sheet.shape[0] == 8 * (112 + 16)
    assert prepare(raw_folder(shared_dir), tmp_path, RAW, fractions={}).new == 0


def test_lost_poses_cost_their_clips_and_nothing_else(shared_dir, takes, tmp_path):
    def alter(content: dict) -> None:
        poses = content["aria01"]["camera_extrinsics"]
        poses["33"] = None  # null: in the clip from 30
        del poses["93"]  # missing: in the clip from 90
        poses["123"][0] = [2.0, 0.0, 0.0, 0.0]  # no rotation: in the clip from 120
        poses["151"] = None  # between the frames of the clip from 150: harmless
        content["cam02"]["camera_extrinsics"] = None
        content["cam03"]["camera_intrinsics"][0][0] = 0.0

    source = takes.copy_raw(raw_folder(shared_dir), tmp_path / "raw", alter)
    out = tmp_path / "set"
    prepare(source, out, replace(RAW, clips_per_camera=0, task_s=(0, 6.45)), fractions={})
    records = read_manifest(out / "manifest.jsonl")
    assert {r.exo_camera for r in records} == {"cam01", "cam04"}
    assert {r.start for r in records} == {0, 60, 150, 180}
    found = report(out)
    assert {what[-6:] for s in found["skipped"] for what in s["what"]} == {
        "000030",
        "000090",
        "000120",
    }
    notes = " ".join(found["notes"]["cmu_bike08_2"])
    assert "cam02" in notes and "cam03" in notes and "4 of 632 ego poses lost" in notes


@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (lambda c: c.pop("aria01"), "no wearer's camera"),
        (
            lambda c: c["aria01"].update(camera_extrinsics=dict.fromkeys("0123", None)),
            "not one usable ego pose",
        ),
        (lambda c: c["aria01"].update(camera_extrinsics=None), "no poses"),
        (lambda c: [c.pop(f"cam0{i}") for i in range(1, 5)], "no usable exo camera"),
        (lambda c: c["metadata"].update(take_name="../elsewhere"), "take name"),
        (lambda c: c["metadata"].update(take_name="not_downloaded"), "no frame-aligned videos"),
        (lambda c: c["aria01"]["camera_extrinsics"].update(last=[[1]]), "no frame number"),
    ],
)
def test_a_take_that_cannot_be_used_is_said_to_be(shared_dir, takes, tmp_path, alter, match):
    source = takes.copy_raw(raw_folder(shared_dir), tmp_path / "raw", alter)
    with refuses(match):
        prepare(source, tmp_path / "set", RAW)


# --- synthetic takes ---------------------------------------------------------------------------------------------


def test_takes_keep_frames_cameras_and_depth(training_set):
    records = read_manifest(training_set / "manifest.jsonl")
    assert (
        len(records) == 4
        and {r.depth for r in records} == {"file"}
        and all(r.caption == "source" for r in records)
    )
    clip = read_clip(training_set, records[0])
    assert (
        "[Exo view]" in clip.take.prompt
        and float(torch.isfinite(clip.take.depth.depth_m).double().mean()) > 0.9
    )
    assert clip.take.trajectory.w2c.shape == (5, 3, 4) and clip.take.depth.dynamic is not None
    lists = [
        (training_set / "splits" / f"{n}.txt").read_text("utf-8").split()
        for n in ("train", "validation", "test")
    ]
    assert sorted(sum(lists, [])) == [r.clip for r in records]


def test_a_part_of_a_longer_take(takes, tmp_path):
    source = takes.write_synthetic(tmp_path / "long", 1, frames=13)
    prepare(
        source,
        tmp_path / "set",
        PrepareOptions(frames=5, stride=4, step=2, exo_size=(64, 32), ego_size=32),
        fractions={},
    )
    records = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert [r.start for r in records] == [0, 4]
    whole = prepare(
        source,
        tmp_path / "whole",
        PrepareOptions(frames=13, stride=13, exo_size=(64, 32), ego_size=32),
        fractions={},
    )
    long = read_clip(tmp_path / "whole", read_manifest(whole.manifest)[0])
    part = read_clip(tmp_path / "set", records[1])
    frames = [4, 6, 8, 10, 12]
    torch.testing.assert_close(part.take.trajectory.w2c, long.take.trajectory.w2c[frames])
    torch.testing.assert_close(
        part.take.depth.depth_m, long.take.depth.depth_m[frames], equal_nan=True
    )
    assert (
        float((part.ego.float() - long.ego[frames].float()).abs().mean()) < 4
    )  # both went through a video encoder


def test_the_released_layout(synthetic_takes, tmp_path):
    """meta.json with a list, videos/<take>/exo.mp4 and ego_GT.mp4, depth_maps/<take>/*.npy."""
    import numpy as np

    source = tmp_path / "released"
    entries = []
    for take in sorted(synthetic_takes.iterdir())[:2]:
        videos, depths = source / "videos" / take.name, source / "depth_maps" / take.name
        videos.mkdir(parents=True)
        depths.mkdir(parents=True)
        (videos / "exo.mp4").write_bytes((take / "exo.mp4").read_bytes())
        (videos / "ego_GT.mp4").write_bytes((take / "ego_ground_truth.mp4").read_bytes())
        for number, frame in enumerate(np.load(take / "depth.npz")["depth_m"]):
            np.save(depths / f"frame_{number:03d}.npy", frame)
        meta = read_json(take / "meta.json")
        kept = {
            k: meta[k]
            for k in (
                "prompt",
                "camera_intrinsics",
                "camera_extrinsics",
                "ego_intrinsics",
                "ego_extrinsics",
            )
        }
        entries.append({**kept, "exo_path": f"./example/videos/{take.name}/exo.mp4"})
    entries += [{**entries[0], "exo_path": f"./example/videos/{n}/exo.mp4"} for n in ("lost", "..")]
    write_json(source / "meta.json", {"test_datasets": entries})
    outcome = prepare(source, tmp_path / "set", SMALL, fractions={})
    assert (outcome.clips, outcome.skipped) == (2, 2)
    assert {r.layout for r in read_manifest(outcome.manifest)} == {"released"}
    lost, outside = report(tmp_path / "set")["skipped"]  # by name, and by number
    assert lost["what"] == ["lost"] and "take name: got '..'" in outside["why"]


def test_bad_takes_are_named_and_the_others_prepared(synthetic_takes, tmp_path):
    source = tmp_path / "takes"
    shutil.copytree(synthetic_takes, source)
    names = sorted(p.name for p in source.iterdir())
    video = source / names[0] / "exo.mp4"
    video.write_bytes(video.read_bytes()[:400])
    (source / names[1] / "depth.npz").unlink()
    meta = read_json(source / names[2] / "meta.json")
    meta["ego_extrinsics"] = meta["ego_extrinsics"][:3]
    write_json(source / names[2] / "meta.json", meta)
    outcome = prepare(source, tmp_path / "set", SMALL, fractions={})
    assert outcome.clips == 1
    found = report(tmp_path / "set")
    reasons = {what.split("__")[0]: s["why"] for s in found["skipped"] for what in s["what"]}
    assert "exo.mp4" in reasons[names[0]] and "no depth" in reasons[names[1]]
    assert "longest run of known poses 3" in " ".join(found["notes"][names[2]])


def test_a_clip_with_a_cut_is_left_out(synthetic_takes, tmp_path):
    first, second = sorted(synthetic_takes.iterdir())[:2]
    source = tmp_path / "takes"
    shutil.copytree(first, source / "whole")
    shutil.copytree(first, source / "cut")
    pictures = [load_take(take, frame_count=5).read_exo() for take in (first, second)]
    write_video(source / "cut" / "exo.mp4", torch.cat((pictures[0][:3], pictures[1][3:])), 20.0)
    outcome = prepare(source, tmp_path / "set", SMALL, fractions={})
    assert (outcome.clips, outcome.skipped) == (1, 1)
    assert "a cut at frame 3 " in report(tmp_path / "set")["skipped"][0]["why"]


def test_malformed_annotations_are_named_and_the_others_prepared(takes, tmp_path):
    """One list in the place of an object once ended the command before any take was begun."""
    source = takes.write_egoexo4d(tmp_path / "raw", "good", frames=5)
    takes.write_damaged(source)
    outcome = prepare(source, tmp_path / "set", replace(SMALL, depth="plane"), fractions={})
    assert [r.take for r in read_manifest(outcome.manifest)] == ["good"]
    reasons = {what: s["why"] for s in report(tmp_path / "set")["skipped"] for what in s["what"]}
    assert reasons.keys() == {f"uid-{name}" for name in takes.DAMAGES}
    assert all("Fix: " in why for why in reasons.values())
    assert "got list; expected intrinsics" in reasons["uid-list_for_wearer"]


def test_a_number_too_large_costs_its_take_alone(synthetic_takes, tmp_path):
    source = tmp_path / "takes"
    shutil.copytree(synthetic_takes, source)
    first = min(source.iterdir())
    meta = read_json(first / "meta.json")
    meta["camera_intrinsics"] = 10**400
    write_json(first / "meta.json", meta)
    skipped = []
    assert len(list(list_takes(source, "take", skipped))) == 3 and skipped[0][0] == first.name


def test_captions_and_wrong_ones(synthetic_takes, tmp_path):
    file = tmp_path / "captions.json"
    name = sorted(p.name for p in synthetic_takes.iterdir())[0]
    write_json(file, {name: "[Exo view] mine [Ego view] too"})
    prepare(synthetic_takes, tmp_path / "set", SMALL, captions=file, fractions={})
    records = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert {r.take for r in records if r.caption == "file"} == {name}
    assert (
        "mine"
        in read_clip(tmp_path / "set", next(r for r in records if r.take == name)).take.prompt
    )
    write_json(file, {name: "no sections"})
    prepare(synthetic_takes, tmp_path / "set", SMALL, captions=file, fractions={})
    assert any("[Ego view]" in s["why"] for s in report(tmp_path / "set")["skipped"])


@pytest.mark.parametrize(
    "bad",
    [
        {"frames": 6},
        {"exo_size": (60, 32)},
        {"ego_size": 48},
        {"depth": "guess"},
        {"depth": "model"},
        {"stride": 0},
        {"prior": "pretty"},
        {"exo_fov_deg": 170},
    ],
)
def test_options_are_checked(bad):
    with pytest.raises(EgoXInputError):
        PrepareOptions(**{"exo_size": (64, 32), "ego_size": 32, **bad})


def test_sources_that_are_none(tmp_path):
    for folder, match in ((tmp_path / "none", "no folder"), (tmp_path, "meta.json")):
        with refuses(match):
            prepare(folder, tmp_path / "set", SMALL)


def test_a_changed_option_or_damaged_clip_is_made_again(synthetic_takes, tmp_path, caplog):
    assert prepare(synthetic_takes, tmp_path, SMALL, fractions={}).new == 4
    before = hashes(tmp_path)
    victim = next((tmp_path / "clips").glob("*/exo.mp4"))
    victim.unlink()
    assert prepare(synthetic_takes, tmp_path, SMALL, fractions={}).new == 1
    assert hashes(tmp_path) == before
    clips = sorted((tmp_path / "clips").iterdir())
    (clips[0] / "exo.mp4").write_bytes((clips[0] / "exo.mp4").read_bytes()[:100])
    (clips[1] / "clip.json").write_text("[]", encoding="utf-8")
    assert prepare(synthetic_takes, tmp_path, SMALL, fractions={}).new == 2
    assert hashes(tmp_path) == before
    said = [record.getMessage() for record in caplog.records]
    assert any(clips[0].name in line and "exo.mp4" in line for line in said)
    assert any(clips[1].name in line and "clip.json" in line for line in said)
    other = PrepareOptions(frames=5, stride=5, exo_size=(64, 32), ego_size=32, prior="clean")
    assert prepare(synthetic_takes, tmp_path, other, fractions={}).new == 4


def test_a_clip_that_another_process_is_at_stays(synthetic_takes, tmp_path):
    """Half-made clips of a killed process go; what another one holds is left to it until it is
    through."""
    from egox_core.safe_files import clear_leftovers, file_lock

    clips = tmp_path / "clips"
    for name in ("killed", "theirs"):
        (clips / f".{name}.0123abcd").mkdir(parents=True)
    for name in (".killed.lock", ".killed.0123abcd.mp4", ".theirs.0123abcd.mp4", ".mine.mp4"):
        (clips / name).touch()
    (clips / ".git").mkdir()
    with file_lock(clips / "theirs"):
        clear_leftovers(clips)
        assert sorted(p.name for p in clips.iterdir()) == [
            ".git",
            ".mine.mp4",
            ".theirs.0123abcd",
            ".theirs.0123abcd.mp4",
            ".theirs.lock",
        ]
    clear_leftovers(clips)
    assert sorted(p.name for p in clips.iterdir()) == [".git", ".mine.mp4"]


@pytest.mark.slow  # in short: test_prepare_sums.py, a run that ends
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_killed_in_the_middle_ends_like_never_stopped(synthetic_takes, training_set, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "train_egox.py"),
        "prepare",
        str(synthetic_takes),
        str(tmp_path / "set"),
        "--frames",
        "5",
        "--stride",
        "5",
        "--size",
        "64x32",
        "--validation",
        "0.5",
        "--test",
        "0",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    clips = tmp_path / "set" / "clips"
    while (
        time.monotonic() < deadline
        and process.poll() is None
        and not (
            clips.is_dir() and sum(1 for p in clips.iterdir() if not p.name.startswith(".")) >= 1
        )
    ):
        time.sleep(0.005)
    assert process.poll() is None, f"it ended before it could be killed:\n{process.stdout.read()}"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert not (tmp_path / "set" / "manifest.jsonl").exists()
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert hashes(tmp_path / "set") == hashes(training_set)
    assert report(tmp_path / "set") == report(training_set)
    assert not list(clips.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit of POSIX")
def test_a_full_disk_is_named_and_loses_nothing(synthetic_takes, training_set, tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4000, hard)
    )  # the kernel itself refuses larger files
    try:
        with refuses("File too large|Errno 27"):
            prepare(synthetic_takes, tmp_path, SMALL, fractions={"validation": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    prepare(synthetic_takes, tmp_path, SMALL, fractions={"validation": 0.5})
    assert hashes(tmp_path) == hashes(training_set)


def test_the_encoder_gives_the_same_bytes_whatever_lies_in_memory(tmp_path):
    """Hashes of clips are compared after a kill; x264's default settings gave several results for
    one clip."""
    from egox_train.video_writer import write_video

    generator = torch.Generator().manual_seed(0)
    frames = torch.nn.functional.interpolate(
        torch.rand(5, 3, 7, 7, generator=generator), size=(96, 96), mode="bicubic"
    )
    frames = frames.clamp(0, 1).permute(0, 2, 3, 1)
    seen = set()
    for number in range(25):
        junk = [os.urandom(1000 + 4999 * number) for _ in range(40)]
        del junk
        write_video(tmp_path / "a.mp4", frames, 20, quality=12, threads=1)
        seen.add(hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest())
    assert len(seen) == 1


def test_a_depth_model_is_run_and_a_relative_one_refused(synthetic_takes, depth_models, tmp_path):
    metric, relative = depth_models
    outcome = prepare(
        synthetic_takes,
        tmp_path / "set",
        replace(SMALL, depth="model", depth_model=metric),
        fractions={},
    )
    records = read_manifest(outcome.manifest)
    assert outcome.clips == 4 and {r.depth for r in records} == {"model"}
    depth = read_clip(tmp_path / "set", records[0]).take.depth.depth_m
    assert (
        bool((depth[torch.isfinite(depth)] > 0).all())
        and float(torch.isfinite(depth).double().mean()) > 0.05
    )
    with refuses("relative depth"):
        prepare(
            synthetic_takes, tmp_path / "none", replace(SMALL, depth="model", depth_model=relative)
        )
    with refuses("config.json"):
        prepare(
            synthetic_takes, tmp_path / "none", replace(SMALL, depth="model", depth_model=tmp_path)
        )
