"""Test masks of moving pixels in prepared clips."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.poses import camera_centre, transform
from egox_core.video.reader import decode_frames
from egox_train.data import exo_pictures
from egox_train.data.clip_files import ClipWindow, read_clip
from egox_train.data.manifest import read_manifest
from egox_train.data.mask_model import moving_masks
from egox_train.data.prepare import prepare
from egox_train.data.sources import list_takes
from egox_train.takes.mask_files import find_mask, read_mask
from tests.refusals import refuses
from tests.train.prepared_takes import (
    HALF_HELD_OUT,
    SMALL_OPTIONS,
    TAKE,
    prepare_and_read,
    reasons_by_item,
    write_depth,
)

FRAMES, SIZE = 12, (112, 64)
PREPARE_OPTIONS = replace(SMALL_OPTIONS, exo_size=SIZE, ego_size=SIZE[1], depth="plane")


def write_disc(
    root: Path,
    name: str,
    frames: int = FRAMES,
    size: tuple[int, int] = SIZE,
    centre: tuple[float, float] = (40, 30),
) -> None:
    """Write a mask file [T, H, W] that shows a still disc."""
    root.mkdir(exist_ok=True)
    v, u = np.mgrid[: size[1], : size[0]]
    disc_mask = (u - centre[0]) ** 2 + (v - centre[1]) ** 2 < 10**2
    np.savez_compressed(
        root / f"{name}.npz", mask=np.broadcast_to(disc_mask, (frames, *disc_mask.shape))
    )


def test_mask_files_change_the_clip_and_its_prior(synthetic_takes, training_set, tmp_path):
    """Check that a mask file changes the clip's mask and its ego prior."""
    takes = list(list_takes(synthetic_takes, "auto", []))
    for take in takes:
        exo = take.exos[0].exo
        uv, _ = exo.camera.project(transform(exo.pose, camera_centre(take.ego.w2c[0])[None]))
        disc = (len(take.ego.w2c), exo.camera.stored_size, tuple(uv[0].tolist()))
        write_disc(tmp_path / "masks", f"{take.name}__exo", *disc)
    options = replace(SMALL_OPTIONS, mask_root=tmp_path / "masks")
    records, report = prepare_and_read(synthetic_takes, tmp_path / "set", options, validation=0.5)
    record, unmasked_record = (
        next(each for each in listed if each.take == takes[0].name)
        for listed in (records, read_manifest(training_set / "manifest.jsonl"))
    )
    assert (unmasked_record.moving, record.moving) == ("depth file", "mask file")
    assert record.files["ego_prior.mp4"] != unmasked_record.files["ego_prior.mp4"]
    window = ClipWindow(start=record.start, frames=5, step=1)
    pictures = exo_pictures.exo_pictures(takes[0].exos[0], takes[0].layout, options)
    mask_file = find_mask(tmp_path / "masks", f"{takes[0].name}__exo")
    mask = read_mask(mask_file, pictures.select_map_frames(window))
    clip_mask = read_clip(tmp_path / "set", record).take.depth.dynamic
    assert bool(mask.any()) and torch.equal(clip_mask, mask)
    assert report["moving"] == {"mask file": len(records)}
    assert prepare(synthetic_takes, tmp_path / "set", options, HALF_HELD_OUT).new == 0
    write_disc(tmp_path / "masks", f"{takes[0].name}__exo", *disc[:2])  # another one
    assert prepare(synthetic_takes, tmp_path / "set", options, HALF_HELD_OUT).new >= 1


@pytest.mark.parametrize(
    ("root", "file_options", "expected_text"),
    [
        ("mask_root", None, "nothing of that name"),
        ("mask_root", {"size": (120, 64)}, "undistort"),
        ("depth_root", {"frames": 7}, "7 frames"),
        ("depth_root", {"size": (120, 64)}, "undistort"),
        ("depth_root", {"size": (64, 64)}, "64x64"),
    ],
)
def test_unfitting_files_are_reported_before_decoding(
    raw_data_set, tmp_path, monkeypatch, caplog, root, file_options, expected_text
):
    folder, is_depth = tmp_path / "files", root == "depth_root"
    write_file = write_depth if is_depth else write_disc
    write_file(folder, f"{TAKE}__cam01")
    if file_options is not None:
        write_file(folder, f"{TAKE}__cam02", **file_options)
    messages_at_decoding = []

    def record_decoding(source, info, indices):
        if raw_data_set in source.parents and source.stem.startswith("cam"):
            messages_at_decoding.append(caplog.messages[0])
        return decode_frames(source, info, indices)

    monkeypatch.setattr("egox_core.video.reader.decode_frames", record_decoding)
    how = {"depth": "files", "file_frames": "source"} if is_depth else {}
    options = replace(PREPARE_OPTIONS, **{root: folder}, **how)
    records, report = prepare_and_read(raw_data_set, tmp_path / "set", options)
    # Depth of seven frames is enough for one clip.
    clip_count = 2 + (is_depth and expected_text == "7 frames")
    assert len(records) == len(messages_at_decoding) == clip_count
    assert all("depth or mask can't be had" in message for message in messages_at_decoding)
    for item, reason in reasons_by_item(report).items():
        assert "cam02" in item and expected_text in reason
    for file in folder.iterdir():
        file.unlink()
    with refuses("no clip.*nothing of that name"):
        prepare(raw_data_set, tmp_path / "none", options)


def test_mask_models_find_moving_pixels(raw_data_set, mask_models, tmp_path):
    semantic, universal = mask_models
    options = replace(PREPARE_OPTIONS, mask_model=semantic, clips_per_camera=1)
    records, _ = prepare_and_read(raw_data_set, tmp_path / "set", options)
    assert {record_entry.moving for record_entry in records} == {"mask model"}
    for record in records:
        moving = read_clip(tmp_path / "set", record).take.depth.dynamic
        assert 0 < float(moving.double().mean()) < 1
    frames = (torch.rand(6, 32, 64, 3) * 255).byte()
    people_mask, floor_mask = (
        moving_masks(replace(options, mask_classes=(class_name,)), frames, None)
        for class_name in ("person", "floor")
    )
    assert people_mask.shape == (6, 32, 64) and not bool((people_mask & floor_mask).any())
    assert torch.equal(
        people_mask[4:], moving_masks(options, frames[4:], None)
    )  # batches change nothing
    universal_options = replace(options, mask_model=universal)
    assert 0 < float(moving_masks(universal_options, frames, None).double().mean()) < 1
    assert not moving_masks(replace(universal_options, mask_classes=("floor",)), frames, None).any()
    (tmp_path / "empty").mkdir()
    for message_pattern, changed_options in (
        ("--mask-classes", {"mask_classes": ("cat",)}),
        ("architecture none", {"mask_model": tmp_path / "empty"}),
    ):
        with refuses(message_pattern):
            prepare(raw_data_set, tmp_path / "none", replace(options, **changed_options))
    with refuses("one of the two"):
        replace(options, mask_root=tmp_path)
    assert not (tmp_path / "none").exists()
