"""Test the ``masks`` command, which tracks objects through videos."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from egox_core.progress import Progress, no_progress
from egox_train.data.manifest import write_manifest
from egox_train.data.object_masks import read_masks
from egox_train.metrics import track_masks as tracking
from egox_train.metrics.track_masks import SamTracker, track_masks
from egox_train.options import MaskOptions
from egox_train.video_writer import write_video
from tests.refusals import refuses
from tests.train.clip_record import clip_record
from tests.train.held_item import locked_by_other_process
from train_egox import main

SIZE, FRAMES = 64, 3


@pytest.fixture(scope="module")
def sam_folder(network_writers, tmp_path_factory) -> Path:
    """Write a SAM 2 video model with random weights."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "Sam2VideoModel"):
        pytest.skip("transformers is too old for SAM 2")
    return network_writers.write_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture
def clips_folder(tmp_path) -> Path:
    """Write two clips, of which one has an object mask for its first frame."""
    records = []
    for name in ("a", "b"):
        true_video = torch.rand(
            1, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(ord(name))
        )
        for file in (f"clips/{name}/ego_ground_truth.mp4", f"generated/{name}.mp4"):
            write_video(tmp_path / file, true_video.expand(FRAMES, -1, -1, -1), 20.0, threads=1)
        records.append(clip_record(name, frames=FRAMES, ego_size=(SIZE, SIZE)))
    write_manifest(tmp_path / "manifest.jsonl", records)
    (tmp_path / "first").mkdir()
    label_picture = np.zeros((SIZE, SIZE), np.uint8)
    label_picture[10:40, 5:30], label_picture[45:60, 40:60] = 3, 7
    cv2.imwrite(str(tmp_path / "first" / "a.png"), label_picture)
    return tmp_path


def test_both_videos_are_tracked_from_one_first_mask(sam_folder, clips_folder, capsys):
    files = [str(clips_folder / name) for name in ("manifest.jsonl", "generated", "masks")]
    model_options = [
        "--model",
        str(sam_folder),
        "--first",
        str(clips_folder / "first"),
        "--clips",
        "1",
    ]
    assert main(["masks", *files, *model_options]) == 0
    masks = read_masks(clips_folder / "masks" / "a.npz", "a")
    assert masks.ids == ("3", "7") and masks.truth.shape == (2, FRAMES, SIZE, SIZE)
    drawn_labels = cv2.imread(str(clips_folder / "first" / "a.png"), cv2.IMREAD_UNCHANGED)
    for number, mask in zip((3, 7), masks.truth, strict=True):
        assert (mask[0] & (drawn_labels == number)).sum() > 0.9 * (
            mask[0] | (drawn_labels == number)
        ).sum()
    assert np.array_equal(masks.truth, masks.generated)  # the two videos are the same
    assert "masks of 1 clips" in capsys.readouterr().out


def test_a_grid_finds_each_outline_once(sam_folder):
    tracker, calls = SamTracker(sam_folder, "cpu"), []
    square_mask, repeated_mask, dot_mask = (np.zeros((SIZE, SIZE), bool) for _ in range(3))
    square_mask[8:40, 8:40] = repeated_mask[8:40, 8:41] = True
    dot_mask[0, 0] = True
    found_masks = [
        square_mask,
        repeated_mask,
        dot_mask,
        np.ones_like(dot_mask),
        ~square_mask & ~repeated_mask & np.tri(SIZE, dtype=bool),
    ]
    tracker.model = lambda **given: calls.append(given) or SimpleNamespace(pred_masks=None)
    tracker._masks = lambda logits, video: np.stack(found_masks)
    objects = tracker.find_objects(torch.zeros(FRAMES, SIZE, SIZE, 3))
    assert (
        list(objects) == ["1", "2"]
        and np.array_equal(objects["2"], repeated_mask)
        and len(calls) == 1
    )
    assert len(calls[0]["inference_session"].obj_ids) == tracking.GRID**2


def test_clips_without_masks_are_named_and_the_others_kept(sam_folder, clips_folder, monkeypatch):
    options = MaskOptions(model=sam_folder, first=clips_folder / "first")

    def track(generated: str = "generated", progress: Progress = no_progress) -> dict:
        files = (clips_folder / "manifest.jsonl", clips_folder / generated, clips_folder / "masks")
        return track_masks(*files, options, progress=progress)

    monkeypatch.setattr(SamTracker, "find_objects", lambda self, video: {})
    with locked_by_other_process(clips_folder / "masks" / "a.npz", 1) as progress:
        failures = track(progress=progress)
    assert failures.keys() == {"b"} and "--first" in failures["b"]
    first_file, second_file = (clips_folder / "masks" / f"{clip}.npz" for clip in "ab")
    time_before = first_file.stat().st_mtime_ns
    monkeypatch.setattr(
        SamTracker, "find_objects", lambda self, video: {"1": np.eye(SIZE, dtype=bool)}
    )
    assert not track()
    assert first_file.stat().st_mtime_ns == time_before and second_file.is_file()
    with refuses("generated videos"):
        track("none")
