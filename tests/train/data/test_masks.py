"""Masks of what moves in prepared clips: mask files checked before anything is decoded, a segmentation
model, or nobody says."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.poses import camera_centre, transform
from egox_core.safe_files import read_json
from egox_core.video.reader import decode_frames
from egox_train.data import exo_pictures
from egox_train.data.clip_files import ClipWindow, read_clip
from egox_train.data.manifest import read_manifest
from egox_train.data.mask_model import moving_labels, moving_masks
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import MOVING_CLASSES
from egox_train.data.sources import list_takes
from egox_train.takes.mask_files import find_mask, read_mask
from tests.refusals import refuses
from tests.train.prepared_takes import (
    ALL_TRAIN,
    HALF_HELD_OUT,
    SMALL,
    TAKE,
    prepared,
    reasons,
    write_depth,
)

FRAMES, SIZE = 12, (112, 64)
OPTIONS = replace(SMALL, exo_size=SIZE, ego_size=SIZE[1], depth="plane")


def write_disc(
    root: Path,
    name: str,
    frames: int = FRAMES,
    size: tuple[int, int] = SIZE,
    middle: tuple[float, float] = (40, 30),
) -> None:
    """Write a disc that stands still, as a mask [T, H, W]."""
    root.mkdir(exist_ok=True)
    v, u = np.mgrid[: size[1], : size[0]]
    disc = (u - middle[0]) ** 2 + (v - middle[1]) ** 2 < 10**2
    np.savez_compressed(root / f"{name}.npz", mask=np.broadcast_to(disc, (frames, *disc.shape)))


def test_masks_go_into_the_clip_and_the_cloud(synthetic_takes, training_set, tmp_path):
    """A disc round the wearer's projected head: it is what the clip says moves, and the prior is
    another one."""
    take = next(list_takes(synthetic_takes, "auto", []))
    view, name = take.exos[0], f"{take.name}__exo"
    for other in list_takes(synthetic_takes, "auto", []):
        uv, _ = other.exos[0].exo.camera.project(
            transform(other.exos[0].exo.pose, camera_centre(other.ego.w2c[0])[None]),
        )
        write_disc(
            tmp_path / "masks",
            f"{other.name}__exo",
            len(other.ego.w2c),
            other.exos[0].exo.camera.stored_size,
            tuple(uv[0].tolist()),
        )
    masked = replace(SMALL, mask_root=tmp_path / "masks")
    records, report = prepared(synthetic_takes, tmp_path / "set", masked, validation=0.5)
    record = next(r for r in records if r.take == take.name)
    before = next(
        r for r in read_manifest(training_set / "manifest.jsonl") if r.clip == record.clip
    )
    assert (before.moving, record.moving) == ("depth file", "mask file")
    assert record.files["ego_prior.mp4"] != before.files["ego_prior.mp4"]
    window = ClipWindow(start=record.start, frames=5, step=1)
    maps = exo_pictures.exo_pictures(view, take.layout, masked).maps(window)
    mask = read_mask(find_mask(tmp_path / "masks", name), maps)
    clip_mask = read_clip(tmp_path / "set", record).take.depth.dynamic
    assert bool(mask.any()) and torch.equal(clip_mask, mask)
    assert report["moving"] == {"mask file": len(records)}
    assert prepare(synthetic_takes, tmp_path / "set", masked, HALF_HELD_OUT).new == 0
    write_disc(
        tmp_path / "masks", name, len(take.ego.w2c), view.exo.camera.stored_size
    )  # another one
    assert prepare(synthetic_takes, tmp_path / "set", masked, HALF_HELD_OUT).new >= 1


def test_nobody_says_what_moves_and_the_report_says_so(raw, tmp_path):
    outcome = prepare(raw, tmp_path, OPTIONS, ALL_TRAIN)
    records, report = read_manifest(outcome.manifest), read_json(tmp_path / "report.json")
    assert {r.moving for r in records} == {"derived"} and report["moving"] == {"derived": 4}
    assert any("4 of 4 clips" in w and "--mask-root" in w for w in outcome.warnings())
    # Once, of all of them.
    (derived,) = [note for note in report["notes"][TAKE] if "guessed from changes" in note]
    assert any(derived == f"{records[0].clip} and 3 more: {note}" for note in records[0].notes)


@pytest.mark.parametrize("root", ["mask_root", "depth_root"])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "nothing of that name"),
        ({"frames": 7}, "7 frames"),
        ({"size": (120, 64)}, "undistort"),
        ({"size": (64, 64)}, "64x64"),
    ],
)
def test_a_file_that_does_not_fit_is_told_before_a_frame_is_decoded(
    raw, tmp_path, monkeypatch, caplog, root, file, said
):
    folder, of_depth = tmp_path / "files", root == "depth_root"
    write = write_depth if of_depth else write_disc
    write(folder, f"{TAKE}__cam01")
    if file is not None:
        write(folder, f"{TAKE}__cam02", **file)
    decoded = []

    def decode(source, info, indices):
        if raw in source.parents and source.stem.startswith("cam"):
            decoded.append(list(caplog.records))
        return decode_frames(source, info, indices)

    monkeypatch.setattr("egox_core.video.reader.decode_frames", decode)
    options = replace(OPTIONS, depth="files" if of_depth else "plane", **{root: folder})
    if of_depth:
        options = replace(options, file_frames="source")
    with caplog.at_level(logging.WARNING):
        records, report = prepared(raw, tmp_path / "set", options)
    # Depth of seven frames is enough for one clip.
    assert len(records) == len(decoded) == 2 + (of_depth and said == "7 frames")
    assert all(
        "depth or mask can't be had" in log_records[0].getMessage() for log_records in decoded
    )
    assert all("cam02" in item and said in why for item, why in reasons(report).items())
    for mask_file in folder.iterdir():
        mask_file.unlink()
    with refuses("no clip.*nothing of that name"):
        prepare(raw, tmp_path / "none", options)


def test_a_mask_model_is_run(raw, mask_models, tmp_path):
    semantic, universal = mask_models
    options = replace(OPTIONS, mask_model=semantic, clips_per_camera=1)
    records, _ = prepared(raw, tmp_path / "set", options)
    assert {r.moving for r in records} == {"mask model"}
    for record in records:
        moving = read_clip(tmp_path / "set", record).take.depth.dynamic
        assert 0 < float(moving.double().mean()) < 1
    frames = (torch.rand(6, 32, 64, 3) * 255).byte()
    people, floors = (
        moving_masks(replace(options, mask_classes=(c,)), frames, None) for c in ("person", "floor")
    )
    assert people.shape == (6, 32, 64) and not bool((people & floors).any())
    assert torch.equal(
        people[4:], moving_masks(options, frames[4:], None)
    )  # batches change nothing
    other = replace(options, mask_model=universal)
    assert 0 < float(moving_masks(other, frames, None).double().mean()) < 1
    assert not moving_masks(replace(other, mask_classes=("floor",)), frames, None).any()
    (tmp_path / "empty").mkdir()
    for words, bad in (
        ("--mask-classes", {"mask_classes": ("cat",)}),
        ("architecture none", {"mask_model": tmp_path / "empty"}),
    ):
        with refuses(words):
            prepare(raw, tmp_path / "none", replace(options, **bad))
    with refuses("one of the two"):
        replace(options, mask_root=tmp_path)
    assert not (tmp_path / "none").exists()


def test_labels_of_several_data_sets_are_found():
    coco, ade = (
        {0: "person", 1: "sports ball", 2: "chair"},
        {
            0: "wall",
            12: "person, individual, someone, soul",
            126: "animal, animate being, beast",
            20: "car, auto",
        },
    )
    assert moving_labels(coco, MOVING_CLASSES) == {0, 1}
    assert moving_labels(ade, MOVING_CLASSES) == {12, 126, 20}
    assert moving_labels(coco, ("Chair",)) == {2}
