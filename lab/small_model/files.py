"""Define the paths of the small model's files."""

from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
VAE_FILE = "egox_demo_vae.safetensors"
BASE_FILE = "egox_demo_wan22_i2v.safetensors"
LORA_FILE = "egox_demo_lora.safetensors"


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """Paths of the small model's files in a folder of weights."""

    shipped: Path = REPO_ROOT / "models" / "demo"

    @property
    def vae(self) -> Path:
        """Path of the VAE, which is always the one that ships."""
        return REPO_ROOT / "models" / "demo" / "vae" / VAE_FILE

    @property
    def base(self) -> Path:
        return self.shipped / "diffusion_models" / BASE_FILE

    @property
    def lora(self) -> Path:
        return self.shipped / "loras" / LORA_FILE

    @property
    def records(self) -> Path:
        """Folder with the results of training and of the demo."""
        return self.shipped / "stages"
