"""Folders and files that tests of many rooms name."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
STANDIN_VAE = ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors"


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    """Read the bytes of all files below a folder by their paths in it, without files of some names."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
