"""The stages in their order; each goes on where it stopped."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from egox_core.frozen import frozen
from egox_core.safe_files import write_json
from egox_train.train.checkpoints import StopRequest

from .clips import make_clips
from .files import WorkFiles
from .latents import LatentMaker, make_latents
from .lotus import save_text_embedding
from .settings import DemoTraining, Schedule
from .transformer import base_values, lora_values, ship_base, ship_lora, train


@frozen
class StageContext:
    """Files, settings and machine of all stages."""

    files: WorkFiles
    training: DemoTraining
    device: str = "cpu"
    workers: int = 1
    tell: Callable[[str], None] = print


def base(context: StageContext) -> bool:
    """Trains all weights of the shipped base: image-to-video, and copying what is known."""
    values = base_values(WorkFiles().base, context.training)
    return _trained(context, "base", context.training.base, values, context.files.base, ship_base)


def lora(context: StageContext) -> bool:
    """Trains the EgoX LoRA, from the shipped one, on the base of the stage before."""
    values = lora_values(context.files.base, WorkFiles().lora, context.training)
    return _trained(context, "lora", context.training.lora, values, context.files.lora, ship_lora)


Stage = Callable[[StageContext], bool]
"""True where the stage is done, False where a signal stopped it."""
STAGES: Mapping[str, Stage] = {"base": base, "lora": lora}


def _trained(
    context: StageContext,
    name: str,
    schedule: Schedule,
    values: Mapping[str, Any],
    target: Path,
    ship: Callable[[Path, Path], None],
) -> bool:
    """True where the stage's weights and record are there, made where they are not."""
    files, record = context.files, context.files.records / f"{name}.json"
    if target.is_file() and record.is_file():
        return True
    cache = _latents(context, schedule.clips)
    done = cache and train(files.run(name), {**values, "cache": str(cache)})
    if done:
        ship(files.run(name), target)
        write_json(record, {"stage": name, **done})
    return bool(done)


def _latents(context: StageContext, clips: int) -> Path | None:
    """The cache of the first training clips, drawn and encoded where they aren't yet; None where a
    signal stopped it."""
    files, training = context.files, context.training
    if not files.text.is_file():
        save_text_embedding(files.text)
    with StopRequest() as stop:
        for split, count in (("validation", training.validation_clips), ("train", clips)):
            if not make_clips(
                files.clips,
                split,
                count,
                training.clips,
                workers=context.workers,
                wanted=lambda: not stop.requested,
                tell=lambda done, of, split=split: context.tell(
                    f"clips, {split}: {done}/{of} shards"
                ),
            ):
                return None
        done = make_latents(
            files.clips,
            files.cache,
            LatentMaker(files.vae, files.text, training.clips, context.device),
            clips=clips,
            variants=training.variants,
            wanted=lambda: not stop.requested,
            tell=lambda count, of: context.tell(f"latents: {count}/{of} shards"),
        )
    return files.cache if done else None
