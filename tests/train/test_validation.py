"""Validation never ends a run: not without clips, not when it fails, not when it is killed. It
scores clips of all takes."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_train.data.cache_store import read_index, write_index
from egox_train.train import loop
from egox_train.train.checkpoints import checkpoint_folders
from egox_train.train.loop import train
from egox_train.train.samples import CachedSamples, Item
from egox_train.train.validation import COLUMNS, HeldOut, spread_over_takes

EVERY_2 = {"validation": {"every": 2, "clips": 4}}


def put_splits(cache: Path, splits: list[str]) -> None:
    """Write a cache's index anew with other splits of its clips."""
    index = read_index(cache)
    entries = [replace(e, split=s) for e, s in zip(index.entries, splits, strict=True)]
    write_index(cache, replace(index, entries=tuple(entries)))


def test_a_set_without_validation_clips_is_told_at_the_start_and_trains(workplace, tiny, caplog):
    put_splits(workplace / "cache", ["train"] * 6)
    was_told = []

    def look(done: int, total: int, stage: str) -> None:
        was_told.append("no validation clip" in caplog.text)

    with caplog.at_level(logging.WARNING, logger="egox_train.train"):
        outcome = tiny.train(workplace, progress=look, **EVERY_2)
    assert outcome.finished and was_told == [True] * 6
    assert not any(COLUMNS[0] in line for line in tiny.curve(workplace / "run"))


@pytest.mark.parametrize("fails", ["load_share", "score"])
def test_a_validation_that_fails_is_noted_and_training_goes_on(
    workplace, tiny, monkeypatch, caplog, fails
):
    def out_of_memory(*_, **__):
        raise RuntimeError("out of memory")

    tiny.train(workplace, output=str(workplace / "plain"))
    monkeypatch.setattr(HeldOut, fails, out_of_memory)
    with caplog.at_level(logging.WARNING, logger="egox_train.train"):
        outcome = tiny.train(workplace, **EVERY_2)
    assert outcome.finished and caplog.text.count("out of memory") == 3
    notes = [line for line in tiny.curve(workplace / "run") if "note" in line]
    assert [line["step"] for line in notes] == [2, 4, 6] and "out of memory" in notes[0]["note"]
    plain, own = (load_file(workplace / name / "lora.safetensors") for name in ("plain", "run"))
    assert all(torch.equal(plain[k], own[k]) for k in plain)


def test_killed_between_save_and_validation_ends_like_never_killed(workplace, tiny, monkeypatch):
    class Killed(BaseException):
        """Exception that no handler of errors may swallow, as a signal."""

    def killed(*_, **__):
        raise Killed

    whole, broken = (
        tiny.config(workplace, output=str(workplace / name), **EVERY_2)
        for name in ("whole", "broken")
    )
    train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "score", killed)
        with pytest.raises(Killed):
            train(broken)
    assert [f.name for f in checkpoint_folders(workplace / "broken")] == [
        "step-00000002"
    ]  # it was saved first
    assert train(broken).finished
    assert tiny.curve(workplace / "broken") == tiny.curve(workplace / "whole")
    assert [line["step"] for line in tiny.curve(workplace / "whole") if COLUMNS[0] in line] == [
        2,
        4,
        6,
    ]
    a, b = (load_file(workplace / name / "lora.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_held_out_clips_come_from_all_takes(workplace, tiny):
    samples = CachedSamples(tiny.config(workplace), "train")
    names = [
        f"take{take}__{camera}__{start}"
        for take in "abc"
        for camera in ("cam1", "cam2")
        for start in range(5)
    ]
    items = [Item(clip=name) for name in names]
    samples.reader.take_of = lambda clip: clip.split("__")[0]
    assert [i.clip for i in spread_over_takes(samples, items, 4)] == [
        "takea__cam1__0",
        "takea__cam2__0",
        "takeb__cam1__0",
        "takec__cam1__0",
    ]
    assert {i.clip[:5] for i in spread_over_takes(samples, items, 2)} == {"takea", "takeb"}
    assert (
        spread_over_takes(samples, items, 99) == items
        and spread_over_takes(samples, items[:1], 4) == items[:1]
    )


@pytest.mark.parametrize("even", [False, True])
def test_processes_share_the_clips_and_score_what_one_would(workplace, tiny, even):
    config = tiny.config(workplace, **EVERY_2)
    put_splits(workplace / "cache", ["train"] * 3 + ["validation"] * 3)
    samples = CachedSamples(config, "train")
    held_out = HeldOut.of(config, samples.reader)
    trainable = loop.make_trainable(config, torch.device("cpu"))

    def rows(process: int, processes: int) -> torch.Tensor:
        share = held_out.load_share(process, processes, even=even)
        assert not even or len(share) == -(-3 // processes)
        return held_out.score(
            trainable.model,
            trainable.scope,
            share,
            2,
            None,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )

    one, shared = rows(0, 1), rows(0, 2) + rows(1, 2)
    assert torch.equal(one, shared) and held_out.values(shared) == held_out.values(one)
    assert set(held_out.values(one)) == set(COLUMNS[:2]) and held_out.values(rows(1, 2)) is None
    assert trainable.model.training
