"""Places of the training: its working folder, and the folder of what ships."""

from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
VAE_FILE = "egox_demo_vae.safetensors"
BASE_FILE = "egox_demo_wan22_i2v.safetensors"
LORA_FILE = "egox_demo_lora.safetensors"


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """Files below the working folder and below the folder of the weights."""

    work: Path = REPO_ROOT / "output" / "train_demo"
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
        """One JSON per finished stage."""
        return self.shipped / "stages"

    @property
    def cache(self) -> Path:
        """Latents of the clips."""
        return self.work / "latents"

    def run(self, name: str) -> Path:
        """Output folder of a training: ``base`` or ``lora``."""
        return self.work / "runs" / name
