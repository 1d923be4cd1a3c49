"""Places of the small model's files below the folder of the weights."""

from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
VAE_FILE = "egox_demo_vae.safetensors"
BASE_FILE = "egox_demo_wan22_i2v.safetensors"
LORA_FILE = "egox_demo_lora.safetensors"


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """Files below a folder of weights, by default the one that ships."""

    shipped: Path = REPO_ROOT / "models" / "demo"

    @property
    def vae(self) -> Path:
        """The one that ships, for every training."""
        return REPO_ROOT / "models" / "demo" / "vae" / VAE_FILE

    @property
    def base(self) -> Path:
        return self.shipped / "diffusion_models" / BASE_FILE

    @property
    def lora(self) -> Path:
        return self.shipped / "loras" / LORA_FILE

    @property
    def records(self) -> Path:
        """One JSON per training, and ``demo.json``: the figure of ``run.py demo``."""
        return self.shipped / "stages"
