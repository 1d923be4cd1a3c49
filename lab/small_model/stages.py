"""The stages in their order. Each goes on where it stopped, and is done when its record lies beside the weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from egox_core.file_names import TRUTH
from egox_core.safe_files import read_json, write_json
from egox_core.train.checkpoints import StopRequest
from egox_core.wan.weights import weights_hash
from tools.setup.environment import Environment
from tools.setup.layout import Layout, SetupError

from .clips import make_clips
from .files import WorkFiles
from .latents import LatentMaker, LatentSettings, make_latents
from .lotus import save_text_embedding
from .settings import VIEWS_GATES, DemoTraining, LoraRound
from .transformer import (
    ABLATIONS,
    VIEW_ARMS,
    base_values,
    lora_values,
    ship_base,
    ship_lora,
    train,
    untrained,
    views_values,
)
from .vae_train import train_vae

ARM_LORA = "egox_lora.safetensors"  # of an experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """What every stage works with."""

    files: WorkFiles
    training: DemoTraining
    environment: Environment | None  # the host, for the text embedding alone
    device: str = "cpu"
    workers: int = 1
    tell: Callable[[str], None] = print


Stage = Callable[[StageContext], bool]
"""True where the stage is done, False where a signal stopped it."""


def clips(context: StageContext) -> bool:
    """Draws all clips; the VAE may begin when the first are there."""
    training, files = context.training, context.files
    counts = {split: training.clips_of(split) for split in ("validation", "train", "test")}
    with StopRequest() as stop:
        return all(make_clips(files.clips, split, count, training.clips, workers=context.workers,
                              wanted=lambda: not stop.requested,
                              tell=lambda done, of, split=split: context.tell(f"clips, {split}: {done}/{of} shards"))
                   for split, count in counts.items())


def vae(context: StageContext) -> bool:
    """Trains the VAE."""
    files = context.files
    if files.vae.is_file() and read_record(files, "vae"):
        return True
    record = train_vae(files.work / "vae", files.clips, context.training.vae, files.vae, context.device, context.tell)
    return _done(files, "vae", record)


def base(context: StageContext) -> bool:
    """Trains the base on single views, in rounds like the LoRA's."""
    files, training = context.files, context.training
    form = training.transformer

    def values(number: int) -> dict[str, Any]:
        start = files.base if number else files.work / "untrained.safetensors"
        if not number:
            untrained(start, form)
        return base_values(files, training, start, form.base_rounds[number], form.seed + number)

    views = LatentSettings(views=True, clips=(0, training.base_clips))
    return _train_rounds(context, "base", files.base, len(form.base_rounds), values, ship_base,
                         lambda _: _latents(context, "base", views))


def lora(context: StageContext) -> bool:
    """Trains the EgoX LoRA that ships, in rounds: each starts from the weights of the one before, with a fresh
    optimizer and a short warm-up, so that training can go on wherever the weights are."""
    files, training = context.files, context.training
    form = training.transformer

    def values(number: int) -> dict[str, Any]:
        part = form.lora_rounds[number]
        asked = lora_values(files, training, {}, part, files.cache(_of_part(part)), form.seed + number)
        return {**asked, "init_lora": str(files.lora)} if number else asked

    return _train_rounds(context, "lora", files.lora, len(form.lora_rounds), values,
                         lambda run, target, record: ship_lora(run, target),
                         lambda number: _lora_latents(context, form.lora_rounds[number]))


def ablations(context: StageContext) -> bool:
    """Trains the LoRAs of the paper's Table 2: same base, same steps. They do not ship."""
    files, training = context.files, context.training
    part = training.transformer.ablation
    if not _lora_latents(context, part):
        return False
    return _train_arms(files, "ablation", training.ablations, lambda name, seed: lora_values(
        files, training, ABLATIONS[name], part, files.cache(_of_part(part)), seed))


def ablation_lora(files: WorkFiles, name: str, seed: int) -> Path:
    """Where the LoRA of this row of ``ABLATIONS`` lies; seeds count from 1."""
    return files.run(_arm_run("ablation", name, seed)) / ARM_LORA


def views_gate(context: StageContext, stage: str) -> bool:
    """Trains the arms that tell whether rays of the cameras are read at all; ``run.py bench views --gate`` judges. They
    do not ship."""
    files, training, gate = context.files, context.training, VIEWS_GATES[stage]
    if not _lora_latents(context, gate.part):
        return False
    return _train_arms(files, stage, gate.runs, lambda name, seed: views_values(
        files, training, gate, VIEW_ARMS[name], files.cache(_of_part(gate.part)), seed))


def view_loras(files: WorkFiles, stage: str) -> dict[str, Path]:
    """The LoRAs that a gate has trained, by arm and seed."""
    loras = {f"{arm}@{seed}": files.run(_arm_run(stage, arm, seed)) / ARM_LORA for arm, seed in VIEWS_GATES[stage].runs}
    return {name: file for name, file in loras.items() if file.is_file()}


def demo(context: StageContext) -> bool:
    """Runs the demo's graph with what was trained, and keeps its figure: a test holds later versions to it."""
    files, layout = context.files, Layout()
    environment = context.environment
    if environment is None:
        raise SetupError("The demo needs a ComfyUI, and there is none here.")
    if environment.run(["run.py", "demo"]):
        raise SetupError("The demo failed; its figure stays as it was.")
    from tools.setup.side_by_side import psnr, read_frames

    truth = read_frames(layout.repo / "sample" / "calm_room" / TRUTH)
    decibels = psnr(read_frames(layout.output / "egox_demo" / "ego.mp4"), truth)
    write_json(files.records / "demo.json", {"take": "sample/calm_room", "psnr": round(decibels, 2)})
    context.tell(f"PSNR {decibels:.2f} dB")
    return True


STAGES: Mapping[str, Stage] = {"clips": clips, "vae": vae, "base": base, "lora": lora, "demo": demo,
                               "ablations": ablations}
"""What a call without names goes through."""
EXPERIMENTS: Mapping[str, Stage] = {stage: partial(views_gate, stage=stage) for stage in VIEWS_GATES}
"""What is trained only where it is named."""


def read_record(files: WorkFiles, stage: str) -> dict[str, Any] | None:
    """What a finished stage wrote down."""
    file = files.records / f"{stage}.json"
    return read_json(file, "stage record") if file.is_file() else None


def _train_arms(files: WorkFiles, experiment: str, arms: Sequence[tuple[str, int]],
                values: Callable[[str, int], Mapping[str, Any]]) -> bool:
    """LoRAs of an experiment that aren't there yet; ``arms`` by name and number, ``values`` of a name and a seed, which
    is one less than the number."""
    for name, number in arms:
        run = _arm_run(experiment, name, number)
        target = files.run(run) / ARM_LORA
        if target.is_file():
            continue
        record = train(files, run, values(name, number - 1))
        if record is None:
            return False
        write_json(files.run(run) / "record.json", record)
        ship_lora(files.run(run), target)
    return True


def _arm_run(experiment: str, name: str, seed: int) -> str:
    return f"{experiment}/{name}@{seed}"


def _train_rounds(context: StageContext, stage: str, weights: Path, count: int,
                  values: Callable[[int], Mapping[str, Any]],
                  ship: Callable[[Path, Path, Mapping[str, Any]], None], latents: Callable[[int], bool]) -> bool:
    """The rounds that aren't done yet; ``values`` of a round is asked for when the weights before it are there."""
    files, record_before = context.files, read_record(context.files, stage)
    rounds = list(record_before["rounds"]) if record_before is not None and weights.is_file() else []
    for number in range(len(rounds), count):
        if not latents(number):
            return False
        name = f"{stage}-{number + 1}"
        record = train(files, name, values(number))
        if record is None:
            return False
        ship(files.run(name), weights, record)
        rounds.append(record)
        _done(files, stage, {"stage": stage, "rounds": rounds})
    return True


def _fits(files: WorkFiles, name: str) -> bool:
    """Whether the latents are there, and those of this VAE."""
    index = files.cache(name) / "index.json"
    if not index.is_file():
        return False
    return read_json(index, "index of the latents")["models"]["vae"] == weights_hash(files.vae, "VAE")


def _lora_latents(context: StageContext, part: LoraRound) -> bool:
    return _latents(context, _of_part(part), LatentSettings(views=False, clips=part.clips, variants=part.variants))


def _of_part(part: LoraRound) -> str:
    """The latents that it is trained on: rounds of the same clips and variants share them."""
    return f"lora_{part.clips[0]}-{part.clips[1]}x{part.variants}"


def _latents(context: StageContext, name: str, settings: LatentSettings) -> bool:
    files, training = context.files, context.training
    if _fits(files, name):
        return True
    if not files.text.is_file():
        save_text_embedding(context.environment, files.text)
    maker = LatentMaker(files.vae, files.text, training.clips, context.device)
    with StopRequest() as stop:
        return make_latents(files.clips, files.cache(name), maker, settings, wanted=lambda: not stop.requested,
                            tell=lambda count, of: context.tell(f"latents: {count}/{of} shards"))


def _done(files: WorkFiles, stage: str, record: Mapping[str, Any] | None) -> bool:
    if record is None:
        return False
    write_json(files.records / f"{stage}.json", json.loads(json.dumps(dict(record), default=str)))
    return True
