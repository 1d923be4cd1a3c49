"""The stages in their order; each goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egox_core.safe_files import read_json, write_json
from egox_core.wan.weights import weights_hash
from egox_train.train.checkpoints import StopRequest
from tools.setup.environment import this_environment

from .clips import make_clips
from .files import WorkFiles
from .latents import LatentMaker, make_latents
from .lotus import save_text_embedding
from .settings import DemoTraining, Schedule
from .transformer import ARMS, base_values, lora_values, ship_base, ship_lora, train, untrained


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """Files, settings and machine of all stages."""

    files: WorkFiles
    training: DemoTraining
    device: str = "cpu"
    workers: int = 1
    tell: Callable[[str], None] = print


Stage = Callable[[StageContext], bool]
"""True where the stage is done, False where a signal stopped it."""


def clips(context: StageContext) -> bool:
    """Draws all clips."""
    training, files = context.training, context.files
    with StopRequest() as stop:
        return all(
            make_clips(
                files.clips,
                split,
                training.clips_of(split),
                training.clips,
                workers=context.workers,
                wanted=lambda: not stop.requested,
                tell=lambda done, of, split=split: context.tell(
                    f"clips, {split}: {done}/{of} shards"
                ),
            )
            for split in ("validation", "train", "test")
        )


def base(context: StageContext) -> bool:
    """Trains the base on single views."""
    files, form = context.files, context.training.transformer

    def trained() -> dict[str, Any] | None:
        start = files.work / "untrained.safetensors"
        untrained(start, form)
        cache = _latents(context, form.base, views=True)
        record = cache and train(files.run("base"), base_values(start, form, cache))
        if record:
            ship_base(files.run("base"), files.base, record)
        return record

    return _done(files, "base", files.base, trained)


def lora(context: StageContext) -> bool:
    """Trains the EgoX LoRA that ships."""
    files, form = context.files, context.training.transformer
    return _done(
        files,
        "lora",
        files.lora,
        lambda: _lora(context, "lora", files.lora, form.lora, {}, form.seed),
    )


def arms(context: StageContext) -> bool:
    """Trains the LoRAs of the ablation; they do not ship."""
    files, form = context.files, context.training.transformer
    return all(
        files.arm(name, seed).is_file()
        or _lora(
            context, f"arm/{name}@{seed}", files.arm(name, seed), form.arm, ARMS[name], seed - 1
        )
        is not None
        for name, seed in context.training.arms
    )


STAGES: Mapping[str, Stage] = {"clips": clips, "base": base, "lora": lora, "arms": arms}


def _lora(
    context: StageContext,
    name: str,
    target: Path,
    schedule: Schedule,
    changes: Mapping[str, Any],
    seed: int,
) -> dict[str, Any] | None:
    """The record of a trained LoRA, shipped to ``target``; None where a signal stopped it."""
    files = context.files
    cache = _latents(context, schedule, views=False)
    record = cache and train(
        files.run(name), lora_values(files.base, context.training, schedule, cache, changes, seed)
    )
    if record:
        ship_lora(files.run(name), target)
    return record


def _done(
    files: WorkFiles, stage: str, weights: Path, make: Callable[[], Mapping[str, Any] | None]
) -> bool:
    """True where the stage's weights and record are there, made where they are not."""
    file = files.records / f"{stage}.json"
    if weights.is_file() and file.is_file():
        return True
    record = make()
    if record:
        write_json(file, {"stage": stage, **record})
    return bool(record)


def _latents(context: StageContext, schedule: Schedule, *, views: bool) -> Path | None:
    """The cache that the schedule is trained on; None where a signal stopped its making."""
    files = context.files
    folder = files.cache(f"{'views' if views else 'egox'}_{schedule.clips}x{schedule.variants}")
    index = folder / "index.json"
    if index.is_file() and read_json(index, "index of the latents")["models"][
        "vae"
    ] == weights_hash(files.vae, "VAE"):
        return folder
    if not files.text.is_file():
        save_text_embedding(this_environment(), files.text)
    maker = LatentMaker(files.vae, files.text, context.training.clips, context.device)
    with StopRequest() as stop:
        done = make_latents(
            files.clips,
            folder,
            maker,
            clips=schedule.clips,
            variants=schedule.variants,
            views=views,
            wanted=lambda: not stop.requested,
            tell=lambda count, of: context.tell(f"latents: {count}/{of} shards"),
        )
    return folder if done else None
