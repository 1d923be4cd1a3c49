"""Test validation during training."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_train.data.cache_store import read_index, write_index
from egox_train.train.checkpoints import checkpoint_folders
from egox_train.train.loop import train
from egox_train.train.samples import CachedSamples, TrainingItem
from egox_train.train.validation import RESULT_NAMES, HeldOutClips, spread_over_takes

VALIDATE_EVERY_2 = {"validation": {"every": 2, "clips": 4}}


def put_splits(cache: Path, splits: list[str]) -> None:
    """Change the splits of a cache's clips."""
    index = read_index(cache)
    entries = [
        replace(index_entry, split=new_split)
        for index_entry, new_split in zip(index.entries, splits, strict=True)
    ]
    write_index(cache, replace(index, entries=tuple(entries)))


def test_missing_validation_clips_are_warned_of_at_the_start(
    training_folder, tiny_training, caplog
):
    put_splits(training_folder / "cache", ["train"] * 6)
    warning_counts = []

    def record_warning(done: int, total: int, stage: str) -> None:
        warning_counts.append("no validation clip" in caplog.text)

    with caplog.at_level(logging.WARNING, logger="egox_train.train"):
        train_outcome = tiny_training.train(
            training_folder, progress=record_warning, **VALIDATE_EVERY_2
        )
    assert train_outcome.finished and warning_counts == [True] * 6
    assert not any(
        RESULT_NAMES[0] in line for line in tiny_training.read_log(training_folder / "run")
    )


@pytest.mark.parametrize("failing_method", ["load_share", "score"])
def test_failed_validation_is_noted_and_training_continues(
    training_folder, tiny_training, monkeypatch, caplog, failing_method
):
    def out_of_memory(*_, **__):
        raise RuntimeError("out of memory")

    tiny_training.train(training_folder, output=str(training_folder / "plain"))
    monkeypatch.setattr(HeldOutClips, failing_method, out_of_memory)
    with caplog.at_level(logging.WARNING, logger="egox_train.train"):
        train_outcome = tiny_training.train(training_folder, **VALIDATE_EVERY_2)
    assert train_outcome.finished and caplog.text.count("out of memory") == 3
    notes = [line for line in tiny_training.read_log(training_folder / "run") if "note" in line]
    assert [line["step"] for line in notes] == [2, 4, 6] and "out of memory" in notes[0]["note"]
    plain_lora, validated_lora = (
        load_file(training_folder / name / "lora.safetensors") for name in ("plain", "run")
    )
    assert all(torch.equal(plain_lora[key], validated_lora[key]) for key in plain_lora)


def test_run_killed_before_validation_resumes_equally(training_folder, tiny_training, monkeypatch):
    def raise_killed(*_, **__):
        raise KeyboardInterrupt

    whole_config, broken_config = (
        tiny_training.make_config(
            training_folder, output=str(training_folder / name), **VALIDATE_EVERY_2
        )
        for name in ("whole", "broken")
    )
    train(whole_config)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(HeldOutClips, "score", raise_killed)
        train(broken_config)
    saved = [folder.name for folder in checkpoint_folders(training_folder / "broken")]
    assert saved == ["step-00000002"], "it was saved first"
    assert train(broken_config).finished
    whole_log, broken_log = (
        tiny_training.read_log(training_folder / name) for name in ("whole", "broken")
    )
    assert whole_log == broken_log
    assert [line["step"] for line in whole_log if RESULT_NAMES[0] in line] == [2, 4, 6]
    whole_lora, broken_lora = (
        load_file(training_folder / name / "lora.safetensors") for name in ("whole", "broken")
    )
    assert all(torch.equal(whole_lora[k], broken_lora[k]) for k in whole_lora)


def test_validation_clips_are_spread_over_all_takes(training_folder, tiny_training):
    cached_samples = CachedSamples(tiny_training.make_config(training_folder), "train")
    clip_names = [
        f"take{take}__{camera}__{start}"
        for take in "abc"
        for camera in ("cam1", "cam2")
        for start in range(5)
    ]
    items = [TrainingItem(clip=name) for name in clip_names]
    cached_samples.reader.take_of = lambda clip: clip.split("__")[0]
    assert [clip_item.clip for clip_item in spread_over_takes(cached_samples, items, 4)] == [
        "takea__cam1__0",
        "takea__cam2__0",
        "takeb__cam1__0",
        "takec__cam1__0",
    ]
    assert {clip_item.clip[:5] for clip_item in spread_over_takes(cached_samples, items, 2)} == {
        "takea",
        "takeb",
    }
    assert (
        spread_over_takes(cached_samples, items, 99) == items
        and spread_over_takes(cached_samples, items[:1], 4) == items[:1]
    )
