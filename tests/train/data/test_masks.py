"""Masks of what moves in prepared clips: mask files checked before anything is decoded, a segmentation
model, or nobody says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.cameras.model import CameraModel, project
from egox_core.trajectory.poses import camera_centre, transform
from egox_core.video.reader import decode_frames
from egox_train.data import exo_pictures
from egox_train.data.clip_files import ClipWindow, read_clip
from egox_train.data.depth_model import model_depth
from egox_train.data.manifest import read_manifest
from egox_train.data.mask_model import moving_labels, moving_masks
from egox_train.data.prepare import prepare
from egox_train.data.prepare_options import MOVING_CLASSES, PrepareOptions
from egox_train.data.sources import list_takes
from egox_train.takes.mask_files import find_mask, read_mask
from tests.refusals import refuses

FRAMES, SIZE, TAKE = 10, (112, 64), "cmu_bike08_2"
OPTIONS = PrepareOptions(
    frames=5, stride=5, exo_size=SIZE, ego_size=SIZE[1], depth="plane", device="cpu"
)
SYNTHETIC = PrepareOptions(frames=5, stride=5, exo_size=(64, 32), ego_size=32, device="cpu")


@pytest.fixture(scope="module")
def raw(takes, tmp_path_factory) -> Path:
    """One take of ten frames, two cameras, in Ego-Exo4D's own layout."""
    return takes.write_egoexo4d(
        tmp_path_factory.mktemp("raw") / "raw",
        TAKE,
        frames=FRAMES,
        cameras={"cam01": (224, 126), "cam02": (224, 126)},
    )


def write_disc(
    root: Path,
    name: str,
    frames: int = FRAMES,
    size: tuple[int, int] = SIZE,
    middle: tuple[float, float] = (40, 30),
) -> None:
    """A disc that stands still, as a mask [T, H, W]."""
    root.mkdir(exist_ok=True)
    v, u = np.mgrid[: size[1], : size[0]]
    disc = (u - middle[0]) ** 2 + (v - middle[1]) ** 2 < 10**2
    np.savez_compressed(root / f"{name}.npz", mask=np.broadcast_to(disc, (frames, *disc.shape)))


def records(root: Path) -> list:
    return read_manifest(root / "manifest.jsonl")


def report(root: Path) -> dict:
    return json.loads((root / "report.json").read_text(encoding="utf-8"))


def test_masks_go_into_the_clip_and_the_cloud(synthetic_takes, training_set, tmp_path):
    """A disc round the wearer's projected head: it is what the clip says moves, and the prior is
    another one."""
    take = next(list_takes(synthetic_takes, "auto", []))
    view, name = take.exos[0], f"{take.name}__exo"
    for other in list_takes(synthetic_takes, "auto", []):
        uv, _ = project(
            other.exos[0].camera,
            transform(other.exos[0].w2c, camera_centre(other.ego_w2c[0])[None]),
        )
        write_disc(
            tmp_path / "masks",
            f"{other.name}__exo",
            len(other.ego_w2c),
            other.exos[0].camera.stored_size,
            tuple(uv[0].tolist()),
        )
    masked = replace(SYNTHETIC, mask_root=tmp_path / "masks")
    prepare(synthetic_takes, tmp_path / "set", masked, fractions={"validation": 0.5})
    record = next(r for r in records(tmp_path / "set") if r.take == take.name)
    before = next(r for r in records(training_set) if r.clip == record.clip)
    assert (before.moving, record.moving) == ("depth file", "mask file")
    assert record.files["ego_prior.mp4"] != before.files["ego_prior.mp4"]
    mask = read_mask(
        find_mask(tmp_path / "masks", name),
        exo_pictures.exo_pictures(view, take.layout, masked).maps(
            ClipWindow(start=record.start, frames=5, step=1)
        ),
    )
    assert bool(mask.any()) and torch.equal(
        read_clip(tmp_path / "set", record).take.depth.dynamic, mask
    )
    assert report(tmp_path / "set")["moving"] == {"mask file": len(records(tmp_path / "set"))}
    assert (
        prepare(synthetic_takes, tmp_path / "set", masked, fractions={"validation": 0.5}).new == 0
    )
    write_disc(
        tmp_path / "masks", name, len(take.ego_w2c), view.camera.stored_size
    )  # another mask: made anew
    assert (
        prepare(synthetic_takes, tmp_path / "set", masked, fractions={"validation": 0.5}).new >= 1
    )


def test_nobody_says_what_moves_and_the_report_says_so(raw, tmp_path):
    outcome = prepare(raw, tmp_path / "set", OPTIONS, fractions={})
    assert {r.moving for r in records(tmp_path / "set")} == {"derived"}
    assert report(tmp_path / "set")["moving"] == {"derived": outcome.clips}
    assert any(
        "4 of 4 clips" in warning and "--mask-root" in warning for warning in outcome.warnings
    )
    notes = report(tmp_path / "set")["notes"].get(TAKE, [])
    (derived,) = [note for note in notes if "derived from change" in note]  # once, of all of them
    first = records(tmp_path / "set")[0]
    assert any(
        derived == f"{first.clip} and {outcome.clips - 1} more: {note}" for note in first.notes
    )


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (None, "nothing of that name"),
        ({"frames": 7}, "7 frames"),
        ({"size": (120, 64)}, "undistort"),
        ({"size": (64, 64)}, "64x64"),
    ],
)
def test_a_mask_that_does_not_fit_is_told_before_a_frame_is_decoded(
    raw, tmp_path, monkeypatch, mask, said
):
    write_disc(tmp_path / "masks", f"{TAKE}__cam01")
    if mask is not None:
        write_disc(tmp_path / "masks", f"{TAKE}__cam02", **mask)
    decoded = []

    def decode(source, info, indices):
        decoded.append(Path(source).stem)
        return decode_frames(source, info, indices)

    monkeypatch.setattr(exo_pictures, "decode_frames", decode)
    outcome = prepare(
        raw, tmp_path / "set", replace(OPTIONS, mask_root=tmp_path / "masks"), fractions={}
    )
    assert outcome.clips == len(decoded) == 2 and set(decoded) == {"cam01"}
    assert [(s["what"], said in s["why"]) for s in report(tmp_path / "set")["skipped"]] == [
        ([f"{TAKE}__cam02"], True)
    ]
    (tmp_path / "masks" / f"{TAKE}__cam01.npz").unlink()
    decoded.clear()
    (tmp_path / "masks" / f"{TAKE}__cam02.npz").unlink(missing_ok=True)
    with refuses("no clip.*nothing of that name"):
        prepare(
            raw, tmp_path / "none", replace(OPTIONS, mask_root=tmp_path / "masks"), fractions={}
        )
    assert not decoded


def test_a_mask_changes_the_fit(depth_models):
    """Two depth models on a clip: what the mask marks is left out of their alignment."""
    metric, relative = depth_models
    options = replace(OPTIONS, depth="model", depth_model=metric, relative_depth_model=relative)
    coarse = torch.rand(2, 3, 5, 9, generator=torch.Generator().manual_seed(1))
    frames = (
        (torch.nn.functional.interpolate(coarse, size=SIZE[::-1], mode="bilinear") * 255)
        .byte()
        .movedim(1, -1)
    )
    frames[:, 10:50, 30:90] = 255  # whatever the models say of it
    block = torch.zeros(2, SIZE[1], SIZE[0], dtype=torch.bool)
    block[:, 10:50, 30:90] = True
    camera = CameraModel(
        lens="pinhole", width=SIZE[0], height=SIZE[1], fx=60, fy=60, cx=55.5, cy=31.5
    )
    with_mask, without = (
        model_depth(options, frames, camera, mask, None) for mask in (block, None)
    )
    still = torch.isfinite(with_mask) & torch.isfinite(without) & ~block
    assert float((with_mask / without - 1)[still].abs().median()) > 1e-3


def test_a_mask_model_is_run(raw, mask_models, tmp_path):
    semantic, universal = mask_models
    options = replace(OPTIONS, mask_model=semantic, clips_per_camera=1)
    prepare(raw, tmp_path / "set", options, fractions={})
    assert {r.moving for r in records(tmp_path / "set")} == {"mask model"}
    clips = [read_clip(tmp_path / "set", r) for r in records(tmp_path / "set")]
    assert all(0 < float(clip.take.depth.dynamic.double().mean()) < 1 for clip in clips)
    frames = (torch.rand(6, 32, 64, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    people, floors = (
        moving_masks(replace(options, mask_classes=(c,)), frames, None) for c in ("person", "floor")
    )
    assert people.shape == (6, 32, 64) and not bool((people & floors).any())
    assert torch.equal(
        people[4:], moving_masks(options, frames[4:], None)
    )  # batches change nothing
    assert (
        0
        < float(moving_masks(replace(options, mask_model=universal), frames, None).double().mean())
        < 1
    )
    assert not bool(
        moving_masks(
            replace(options, mask_model=universal, mask_classes=("floor",)), frames, None
        ).any()
    )
    with refuses("--mask-classes"):
        prepare(raw, tmp_path / "none", replace(options, mask_classes=("cat",)))
    (tmp_path / "empty").mkdir()
    with refuses("architecture none"):
        prepare(raw, tmp_path / "none", replace(options, mask_model=tmp_path / "empty"))
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
