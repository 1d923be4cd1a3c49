"""List the files that ComfyUI's registry packs into the archive."""

import subprocess
from pathlib import Path

import pytest


def git(folder: Path, *arguments: str) -> list[str]:
    """Run git in a folder and return its lines, or skip the test where there is no checkout."""
    completed = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    if completed.returncode != 0:
        pytest.skip(f"needs a git checkout: {completed.stderr.strip()}")
    return completed.stdout.split("\0")[:-1] if "-z" in arguments else completed.stdout.splitlines()


def list_shipped_files(repo: Path) -> list[str]:
    """List the tracked files that the archive contains."""
    tracked_names = git(repo, "ls-files", "-z")
    ignored_names = set(git(repo, "ls-files", "-z", "-c", "-i", "--exclude-from=.comfyignore"))
    return [name for name in tracked_names if name not in ignored_names and (repo / name).is_file()]
