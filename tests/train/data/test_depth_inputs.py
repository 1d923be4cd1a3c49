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
    options = replace(PREPARE_OPTIONS, pictures=pictures)

    def count_new(folder: str = "exo", options: PrepareOptions = options, **run_options) -> int:
        return undistort_videos(raw_data_set, tmp_path / folder, options, **run_options).new

    assert count_new() == 2
    for camera in ("cam01", "cam02"):
        write_depth(tmp_path / "depth", f"{TAKE}__{camera}")
    records, _ = prepare_and_read(
        raw_data_set, tmp_path / "set", replace(options, depth_root=tmp_path / "depth")
    )
    for record in records:
        name = f"{record.take}__{record.exo_camera}"
        camera_file = read_json(tmp_path / "exo" / f"{name}.json")
        prepared_clip = read_clip(tmp_path / "set", record)
        assert (
            camera_file["exo_camera"] == prepared_clip.take.depth.exo.camera.to_json()
            and camera_file["frames"] == FRAMES
        )
        assert record.pictures == camera_file["pictures"] == pictures
        undistorted_pictures = read_pictures(tmp_path / "exo" / f"{name}.mp4")
        assert len(undistorted_pictures) == FRAMES
        prepared_pictures = read_pictures(tmp_path / "set" / record.folder / "exo.mp4")
        assert (
            np.abs(prepared_pictures - undistorted_pictures[record.start : record.start + 5]).mean()
            < 1
        )  # encoded in another order
    assert count_new() == 0
    (tmp_path / "exo" / f"{TAKE}__cam02.json").unlink()
    assert count_new() == 1
    (tmp_path / "shared").mkdir()
    with locked_by_other_process(tmp_path / "shared" / f"{TAKE}__cam01.mp4", 1) as progress:
        assert count_new("shared", progress=progress) == 2
    assert count_new(options=replace(options, exo_size=(64, 32), ego_size=32)) == 2
    assert [count_new("parts", run_options=RunOptions(part=(part, 2))) for part in range(2)] == [
        1,
        1,
    ]


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
    ((undistorted_record,), _), ((record,), report) = (
        prepare_and_read(raw_data_set, tmp_path / "set", replace(options, pictures=pictures))
        for pictures in ("undistorted", "as filmed")
    )
    # From which a cache's fingerprint follows.
    assert record.files["exo.mp4"] != undistorted_record.files["exo.mp4"]
    assert report["options"]["pictures"] == "as filmed"
    camera = read_clip(tmp_path / "set", record).take.depth.exo.camera
    annotation = read_json(next(raw_data_set.glob("annotations/ego_pose/*/camera_pose/*.json")))[
        record.exo_camera
    ]
    focal = annotation["camera_intrinsics"][0][0]
    assert camera.lens == "pinhole" and camera.fx == pytest.approx(focal * 112 / 3840, rel=0.02)
    source_pictures = read_pictures(
        next(raw_data_set.glob(f"takes/*/*/*/*/{record.exo_camera}.mp4"))
    )
    bright_shares = [
        (frames[0].min(axis=-1) > 160).mean()
        for frames in (source_pictures, read_pictures(tmp_path / "set" / record.folder / "exo.mp4"))
    ]
    assert bright_shares[1] == pytest.approx(bright_shares[0], rel=0.3)
    # Beside it: the picture stays, the lens is the true one.
    raw_lens_options = replace(options, pictures="as filmed", exo_lens="raw")
    (record,), _ = prepare_and_read(raw_data_set, tmp_path / "raw_lens", raw_lens_options)
    assert read_clip(tmp_path / "raw_lens", record).take.depth.exo.camera.lens == "opencv_fisheye"


def test_data_set_without_depth_is_refused(raw_data_set, tmp_path):
    with refuses("train_egox.py undistort"):
        prepare(raw_data_set, tmp_path / "set", PREPARE_OPTIONS)
    with refuses("no folder"):
        prepare(
            raw_data_set, tmp_path / "set", replace(PREPARE_OPTIONS, depth_root=tmp_path / "none")
        )
    assert not (tmp_path / "set").exists()


def test_relative_depth_model_is_aligned_to_a_metric_one(raw_data_set, depth_models):
    """Check that the aligned relative depth agrees with the metric model's depth."""
    metric_model, relative_model = depth_models
    metric_options = replace(PREPARE_OPTIONS, depth="model", depth_model=metric_model)
    aligned_options = replace(metric_options, relative_depth_model=relative_model)
    coarse_pictures = torch.rand(depth_model.BATCH_FRAMES + 3, 3, 5, 9)
    frames = (
        (interpolate(coarse_pictures, size=(64, 112), mode="bilinear") * 255).byte().movedim(1, -1)
    )
    camera = CameraModel.pinhole(112, 64, 60)
    metric_m, aligned_m = (
        model_depth(model_options, frames, camera, None, None)
        for model_options in (metric_options, aligned_options)
    )
    assert metric_m.shape == aligned_m.shape == frames.shape[:3]
    loaded_model = depth_model._load(metric_model, "cpu")
    torch.testing.assert_close(
        metric_m[-1:], run_model(loaded_model, frames[-1:]), rtol=1e-3, atol=1e-3
    )
    known_mask = torch.isfinite(aligned_m) & torch.isfinite(metric_m)
    assert float(known_mask.double().mean()) > 0.9
    assert float((aligned_m / metric_m)[known_mask].median()) == pytest.approx(1, abs=0.05)
    # What a mask marks is left out of the alignment.
    first_frames = frames[:2]
    block_mask = torch.zeros(first_frames.shape[:3], dtype=torch.bool)
    block_mask[:, 10:50, 30:90] = True
    first_frames[block_mask] = 255  # whatever the models say of it
    masked_depth, unmasked_depth = (
        model_depth(aligned_options, first_frames, camera, mask, None)
        for mask in (block_mask, None)
    )
    compared_mask = torch.isfinite(masked_depth) & torch.isfinite(unmasked_depth) & ~block_mask
    assert float((masked_depth / unmasked_depth - 1)[compared_mask].abs().median()) > 1e-3
    with refuses("a second metric depth"):
        prepare(
            raw_data_set,
            raw_data_set.parent / "set",
            replace(aligned_options, relative_depth_model=metric_model),
        )
    with refuses("relative depth"):
        prepare(
            raw_data_set,
            raw_data_set.parent / "set",
            replace(metric_options, depth_model=relative_model),
        )
    with refuses("config.json"):
        prepare(
            raw_data_set,
            raw_data_set.parent / "set",
            replace(metric_options, depth_model=raw_data_set),
        )
    with refuses("device"):
        prepare(
            raw_data_set, raw_data_set.parent / "set", replace(metric_options, device="cuda:99")
        )
    assert not (raw_data_set.parent / "set").exists()
