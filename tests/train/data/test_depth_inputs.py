"""Test depth inputs of ``prepare``: undistorted videos, depth files and depth models."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from egox_core.cameras.model import CameraModel
from egox_core.safe_files import read_json, write_json
from egox_core.video import decode_frames, probe_video
from egox_train.data import depth_model
from egox_train.data.clip_files import read_clip
from egox_train.data.depth_model import model_depth, run_model
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import PrepareOptions
from egox_train.data.undistort_videos import undistort_videos
from egox_train.options import RunOptions
from tests.refusals import refuses
from tests.train.held_item import locked_by_other_process
from tests.train.prepared_takes import SMALL_OPTIONS, TAKE, prepare_and_read, write_depth

FRAMES, SIZE = 12, (112, 64)
PREPARE_OPTIONS = replace(SMALL_OPTIONS, exo_size=SIZE, ego_size=SIZE[1])


def read_pictures(video: Path) -> np.ndarray:  # [T, H, W, 3]
    video_info = probe_video(video)
    return np.stack(
        [p for _, p in decode_frames(video, video_info, list(range(video_info.frame_count)))]
    ).astype(int)


@pytest.mark.parametrize("pictures", ["undistorted", "as filmed"])
def test_undistorted_videos_equal_the_prepared_clips(raw_data_set, tmp_path, pictures):
    """Check that ``undistort`` and ``prepare`` write the same pictures."""
    options, exo_folder = replace(PREPARE_OPTIONS, pictures=pictures), tmp_path / "exo"

    def count_new(folder: str = "exo", options: PrepareOptions = options, **run_options) -> int:
        return undistort_videos(raw_data_set, tmp_path / folder, options, **run_options).new

    assert count_new() == 2
    for camera in ("cam01", "cam02"):
        write_depth(tmp_path / "depth", f"{TAKE}__{camera}")
    depth_options = replace(options, depth_root=tmp_path / "depth")
    records, _ = prepare_and_read(raw_data_set, tmp_path / "set", depth_options)
    for record in records:
        file = exo_folder / f"{record.take}__{record.exo_camera}.json"
        stated, clip = read_json(file), read_clip(tmp_path / "set", record)
        assert stated["exo_camera"] == clip.take.depth.exo.camera.to_json()
        assert stated["frames"] == FRAMES and record.pictures == stated["pictures"] == pictures
        undistorted_pictures = read_pictures(file.with_suffix(".mp4"))
        assert len(undistorted_pictures) == FRAMES
        difference = clip.exo.numpy() - undistorted_pictures[record.start : record.start + 5]
        assert np.abs(difference).mean() < 1  # encoded in another order
    assert count_new() == 0
    (exo_folder / f"{TAKE}__cam02.json").unlink()
    assert count_new() == 1
    (tmp_path / "shared").mkdir()
    with locked_by_other_process(tmp_path / "shared" / f"{TAKE}__cam01.mp4", 1) as progress:
        assert count_new("shared", progress=progress) == 2
    assert count_new(options=replace(options, exo_size=(64, 32), ego_size=32)) == 2
    parts = [count_new("parts", run_options=RunOptions(part=(part, 2))) for part in range(2)]
    assert parts == [1, 1]


def test_camera_names_of_annotations_cannot_leave_the_folder(raw_data_set, tmp_path):
    """Check that names such as "../take" write no files outside the folder."""
    source = tmp_path / "raw"
    shutil.copytree(raw_data_set, source)
    (annotation,) = source.glob("annotations/ego_pose/*/camera_pose/*.json")
    annotation_content = read_json(annotation)
    outside_path = "../../../../outside"
    annotation_content[outside_path] = annotation_content["cam02"]
    write_json(annotation, annotation_content)
    annotation_content["metadata"]["take_name"] = ".."
    write_json(annotation.with_stem("other"), annotation_content)
    videos = source / "takes" / TAKE / "frame_aligned_videos" / "downscaled" / "448"
    shutil.copy(videos / "cam02.mp4", videos / f"{outside_path}.mp4")
    out = tmp_path / "a" / "b" / "out"
    undistort_outcome = undistort_videos(source, out, PREPARE_OPTIONS)
    assert sorted(
        file.stem for file in tmp_path.rglob("*.mp4") if not file.is_relative_to(source)
    ) == [
        f"{TAKE}__cam01",
        f"{TAKE}__cam02",
    ]
    ((name, skip_reason),) = undistort_outcome.skipped
    assert name == "other" and "take name" in skip_reason


def test_pictures_as_filmed_are_cropped_like_the_authors(raw_data_set, tmp_path):
    """Check that pictures as filmed are the middle of the source video."""
    options = replace(PREPARE_OPTIONS, depth="plane", clips_per_camera=1, cameras=1)

    def prepare_one(name: str, **changes):
        (record,), report = prepare_and_read(
            raw_data_set, tmp_path / name, replace(options, **changes)
        )
        return record, report, read_clip(tmp_path / name, record)

    undistorted_record, *_ = prepare_one("undistorted")
    record, report, clip = prepare_one("filmed", pictures="as filmed")
    # From which a cache's fingerprint follows.
    assert record.files["exo.mp4"] != undistorted_record.files["exo.mp4"]
    assert report["options"]["pictures"] == "as filmed"
    annotation = read_json(next(raw_data_set.glob("annotations/ego_pose/*/camera_pose/*.json")))
    focal_px = annotation[record.exo_camera]["camera_intrinsics"][0][0] * 112 / 3840
    camera = clip.take.depth.exo.camera
    assert camera.lens == "pinhole" and camera.fx == pytest.approx(focal_px, rel=0.02)
    video = next(raw_data_set.glob(f"takes/*/*/*/*/{record.exo_camera}.mp4"))
    bright_shares = [
        (frames[0].min(-1) > 160).mean() for frames in (read_pictures(video), clip.exo.numpy())
    ]
    assert bright_shares[1] == pytest.approx(bright_shares[0], rel=0.3)
    # Beside it: the picture stays, the lens is the true one.
    _, _, raw_clip = prepare_one("raw_lens", pictures="as filmed", exo_lens="raw")
    assert raw_clip.take.depth.exo.camera.lens == "opencv_fisheye"


def test_data_set_without_depth_is_refused(raw_data_set, tmp_path):
    with refuses("train_egox.py undistort"):
        prepare(raw_data_set, tmp_path / "set", PREPARE_OPTIONS)
    with refuses("no folder"):
        prepare(
            raw_data_set, tmp_path / "set", replace(PREPARE_OPTIONS, depth_root=tmp_path / "none")
        )
    assert not (tmp_path / "set").exists()


def test_relative_depth_model_is_aligned_to_a_metric_one(raw_data_set, depth_models, tmp_path):
    """Check that the aligned relative depth agrees with the metric model's depth."""
    metric_model, relative_model = depth_models
    metric_options = replace(PREPARE_OPTIONS, depth="model", depth_model=metric_model)
    aligned_options = replace(metric_options, relative_depth_model=relative_model)
    coarse_pictures = torch.rand(depth_model.BATCH_FRAMES + 3, 3, 5, 9)
    pictures = interpolate(coarse_pictures, size=(64, 112), mode="bilinear") * 255
    frames, camera = pictures.byte().movedim(1, -1), CameraModel.pinhole(112, 64, 60)
    metric_m, aligned_m = (
        model_depth(options, frames, camera, None, None)
        for options in (metric_options, aligned_options)
    )
    assert metric_m.shape == aligned_m.shape == frames.shape[:3]
    alone_m = run_model(depth_model._load(metric_model, "cpu"), frames[-1:])
    torch.testing.assert_close(metric_m[-1:], alone_m, rtol=1e-3, atol=1e-3)
    known_mask = torch.isfinite(aligned_m) & torch.isfinite(metric_m)
    assert float(known_mask.double().mean()) > 0.9
    assert float((aligned_m / metric_m)[known_mask].median()) == pytest.approx(1, abs=0.05)
    # What a mask marks is left out of the alignment.
    block_mask = torch.zeros(2, 64, 112, dtype=torch.bool)
    block_mask[:, 10:50, 30:90] = True
    frames[:2][block_mask] = 255  # whatever the models say of it
    masked_m, unmasked_m = (
        model_depth(aligned_options, frames[:2], camera, mask, None) for mask in (block_mask, None)
    )
    change = (masked_m / unmasked_m - 1)[~block_mask].abs()
    assert float(change.nanmedian()) > 1e-3
    for options, message in (
        (replace(aligned_options, relative_depth_model=metric_model), "a second metric depth"),
        (replace(metric_options, depth_model=relative_model), "relative depth"),
        (replace(metric_options, depth_model=raw_data_set), "config.json"),
        (replace(metric_options, device="cuda:99"), "device"),
    ):
        with refuses(message):
            prepare(raw_data_set, tmp_path / "set", options)
    assert not (tmp_path / "set").exists()
