"""Define folders and files that many tests use."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
STANDIN_VAE = ROOT / "models" / "vae" / "egox_standin_wan_vae.safetensors"


def read_folder_files(folder: Path, *excluded_names: str) -> dict[str, bytes]:
    """Read all files in a folder, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name not in excluded_names
    }
