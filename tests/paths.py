"""Folders and files that tests of many rooms name."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
STANDIN_VAE = ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors"
