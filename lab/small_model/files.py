"""Where the training lies while it runs, and what of it ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.setup.at_work import cache_folder
from tools.setup.layout import REPO_ROOT

VAE_FILE, BASE_FILE, LORA_FILE = "egox_demo_vae.safetensors", "egox_demo_wan22_i2v.safetensors", \
    "egox_demo_lora.safetensors"


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
