"""The model card: what the small model does (a note by hand), what it is, and what its stages say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egox_core.safe_files import read_json, write_whole

from .files import WorkFiles
from .settings import FIRST_SEED, DemoTraining

NOTE = Path(__file__).with_name("card_note.md")
STAGE_TEXT = {
    "vae": "**VAE**: Wan 2.1's class, {dim} channels wide; its linear skeleton first, then all of it, on pieces of "
           "ego, exo and prior pictures; then given Wan's latent statistics.",
    "base": "**Base**: plain image-to-video on single views (exo alone, ego alone), all weights.",
    "lora": "**LoRA**: EgoX, by `train_egox.py`: exo clean, loss on the ego half, geometry-guided attention on.",
}


def write_card(files: WorkFiles, training: DemoTraining) -> None:
    """``models/demo/README.md``."""
    clips, form = training.clips, training.transformer
    lines = [
        "# The small EgoX",
        "",
        "A complete EgoX of a few megabytes: the architecture of the real one, trained from nothing on synthetic rooms "
        "by `python3 run.py train-demo`, to turn the exo video of such a room into the ego video, on a laptop, in "
        "seconds. It knows nothing of real footage: for that, use the 14B weights (README of the repository).",
        "",
        f"- `{files.vae.name}`: Wan VAE, {training.vae.dim} channels",
        f"- `{files.base.name}`: Wan 2.2 image-to-video class, 36 channels in, dim {form.heads * form.head_dim}, "
        f"{form.layers} layers, {form.heads} heads, ffn {form.ffn}; no text is read (LotusConditioning's constant)",
        f"- `{files.lora.name}`: rank {form.lora_rounds[-1].rank} on attention and feed-forward",
        "",
        f"Clips: {clips.frames} frames at {clips.fps:g} frames/s, exo {clips.exo_width}x{clips.size}, ego "
        f"{clips.size}x{clips.size}; prior preset `{form.preset}`, rays `{clips.rays}`, λ_g {form.lambda_g:g}; sampled "
        f"with {form.sample_steps} steps at flow shift {form.sample_shift:g}. Seeds of training, validation and test "
        f"scenes run on from "
        f"{FIRST_SEED['train']}, {FIRST_SEED['validation']} and {FIRST_SEED['test']}: none is shared.",
        "",
        NOTE.read_text(encoding="utf-8").strip(),
        "",
        "## Stages",
        "",
        "Core-hours are seconds times threads of torch; the processor's are what it really gave. The reference step is "
        "the same small piece of work in every stage: it tells how busy the machine was.",
    ]
    for stage, text in STAGE_TEXT.items():
        lines += ["", text.format(dim=training.vae.dim), ""]
        record = files.records / f"{stage}.json"
        lines += _stage(read_json(record)) if record.is_file() else ["Not finished yet."]
    lines += ["", "Every setting stands in `lab/small_model/settings.py`.", "",
              "## Licence", "", "As the repository's (see LICENSE). No real video, pose, prompt or weight was used."]
    with write_whole(files.card) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


COLUMNS: Mapping[str, str] = {
    "steps": "steps", "batch": "batch", "loss, last tenth": "loss, last tenth", "core_hours": "core-hours",
    "processor_hours": "processor-hours", "reference_step_seconds": "reference step, s",
}


def _stage(record: Mapping[str, Any]) -> list[str]:
    """A row for each of its rounds, then what was measured on pictures that it was not trained on."""
    rounds = record.get("rounds", [record])
    shown = [name for name in COLUMNS if any(name in part for part in rounds)]
    validated = any(part.get("validation") for part in rounds)
    heads = ["round", *(COLUMNS[name] for name in shown), *(["validation"] if validated else [])]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for number, part in enumerate(rounds, start=1):
        cells = [str(number), *(str(part.get(name, "–")) for name in shown)]
        if validated:
            last = (part.get("validation") or [{}])[-1]
            cells.append(f"{last['validation/loss']:.4f}" if "validation/loss" in last else "–")
        lines.append(f"| {' | '.join(cells)} |")
    if hours := sum(part.get("core_hours", 0) for part in rounds):
        lines += ["", f"{hours:.2f} core-hours in all."]
    for name, figures in record.get("held out, latents settled", {}).items():
        lines += ["", f"Held out, {name}: {', '.join(f'{key} {value:g}' for key, value in figures.items())}."]
    return lines
