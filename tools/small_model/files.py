"""Where the training lies while it runs, what of it ships, and the model card, written from the stages' own records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from egox_core.safe_files import write_whole
from tools.setup.at_work import cache_folder
from tools.setup.layout import REPO_ROOT

from .settings import FIRST_SEED, DemoTraining

VAE_FILE, BASE_FILE, LORA_FILE = "egox_demo_vae.safetensors", "egox_demo_wan22_i2v.safetensors", \
    "egox_demo_lora.safetensors"
STAGE_TEXT = {
    "vae": "**VAE**: Wan 2.1's class, {dim} channels wide; its linear skeleton first, then all of it, on pieces of "
           "ego, exo and prior pictures; then given Wan's latent statistics.",
    "base": "**Base**: plain image-to-video on single views (exo alone, ego alone), all weights.",
    "lora": "**LoRA**: EgoX, by `train_egox.py`: exo clean, loss on the ego half, geometry-guided attention on.",
}


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """Everything below the working folder; finished stages are what ``shipped`` holds."""

    work: Path = cache_folder() / "train_demo"
    shipped: Path = REPO_ROOT / "models" / "demo"

    @property
    def clips(self) -> Path:
        return self.work / "clips"

    @property
    def text(self) -> Path:
        """The embedding that the demo's graph gives as text."""
        return self.work / "text.safetensors"

    @property
    def vae(self) -> Path:
        return self.shipped / "vae" / VAE_FILE

    @property
    def base(self) -> Path:
        return self.shipped / "diffusion_models" / BASE_FILE

    @property
    def lora(self) -> Path:
        return self.shipped / "loras" / LORA_FILE

    @property
    def card(self) -> Path:
        return self.shipped / "README.md"

    @property
    def records(self) -> Path:
        """One JSON a finished stage."""
        return self.shipped / "stages"

    def cache(self, name: str) -> Path:
        """Latents: ``base``, or of the LoRA by clips and variants."""
        return self.work / f"latents_{name}"

    def run(self, name: str) -> Path:
        """Output folder of a training: ``base``, ``lora`` or an ablation's name."""
        return self.work / "runs" / name


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
        f"at flow shift {form.sample_shift:g}. Seeds of training, validation and test scenes run on from "
        f"{FIRST_SEED['train']}, {FIRST_SEED['validation']} and {FIRST_SEED['test']}: none is shared.",
        "",
        "## Stages",
        "",
    ]
    for stage, text in STAGE_TEXT.items():
        lines.append("- " + text.format(dim=training.vae.dim))
        record = files.records / f"{stage}.json"
        if record.is_file():
            record_values = json.loads(record.read_text(encoding="utf-8"))
            for part in record_values.get("rounds", [record_values]):
                lines.append("  " + "; ".join(f"{k} {v}" for k, v in part.items() if k not in ("stage", "settings")))
        else:
            lines.append("  Not finished yet.")
    lines += ["", f"Settings: `{json.dumps(training.as_dict(), ensure_ascii=False)}`", "",
              "## Licence", "", "As the repository's (see LICENSE). No real video, pose, prompt or weight was used."]
    with write_whole(files.card) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
