"""The model card, written from the stages' own records."""

from __future__ import annotations

import json

from egox_core.safe_files import write_whole

from .files import WorkFiles
from .settings import FIRST_SEED, DemoTraining

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
        "seconds. It knows nothing of real footage: for that, use the 14B weights (README of the repository). How far "
        "its training has come stands under each stage; what comes out is measured by `run.py bench small_model`.",
        "",
        f"- `{files.vae.name}`: Wan VAE, {training.vae.dim} channels",
        f"- `{files.base.name}`: Wan 2.2 image-to-video class, 36 channels in, dim {form.heads * form.head_dim}, "
        f"{form.layers} layers, {form.heads} heads, ffn {form.ffn}; no text is read (LotusConditioning's constant)",
        f"- `{files.lora.name}`: rank {form.lora_rounds[-1].rank} on attention and feed-forward",
        "",
        f"Clips: {clips.frames} frames at {clips.fps:g} frames/s, exo {clips.exo_width}x{clips.size}, ego "
        f"{clips.size}x{clips.size}; prior preset `{form.preset}`, rays `{clips.rays}`, λ_g {form.lambda_g:g}; sampled "
        f"at flow shift {form.sample_shift:g}, where the first step settles nearly everything. Seeds of training, "
        f"validation and test scenes run on from {FIRST_SEED['train']}, {FIRST_SEED['validation']} and "
        f"{FIRST_SEED['test']}: none is shared.",
        "",
        "## Stages",
        "",
    ]
    for stage, text in STAGE_TEXT.items():
        lines.append("- " + text.format(dim=training.vae.dim))
        record = files.records / f"{stage}.json"
        if record.is_file():
            held = json.loads(record.read_text(encoding="utf-8"))
            for part in held.get("rounds", [held]):
                lines.append("  " + "; ".join(f"{k} {v}" for k, v in part.items() if k not in ("stage", "settings")))
        else:
            lines.append("  Not finished yet.")
    lines += ["", f"Settings: `{json.dumps(training.as_dict(), ensure_ascii=False)}`", "",
              "## Licence", "", "As the repository's (see LICENSE). No real video, pose, prompt or weight was used."]
    with write_whole(files.card) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
