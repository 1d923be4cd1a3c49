"""The Python environment that the host, the tests and the benches run in: run.py's own, or the user's as it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .host import Host, fetch_host, find_host
from .installer import fetch_uv, install, pip_command
from .layout import Layout, SetupError

TORCH_PINS = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
"""The set that run.py was tested with, for its own environment only; the pack itself asks for no torch version."""

FRESH_BYTES = 10 * 10**9
"""Room that a fresh environment needs while it is made: 6.3 GB installed, and the downloads beside it until the end."""


@dataclass(frozen=True)
class Environment:
    """A host and the Python that it runs under."""

    host: Host | None
    """None only for modules that need no host, on a machine where there is none."""
    python: Path
    layout: Layout

    def variables(self) -> dict[str, str]:
        """Environment of the processes that run.py starts: modules of the repository importable, the host known."""
        path = os.pathsep.join(filter(None, [str(self.layout.repo), os.environ.get("PYTHONPATH")]))
        host = {} if self.host is None else {"EGOX_HOST_DIR": str(self.host.root)}
        # Threads that spin while they wait make small tensor operations many times slower on a busy machine.
        return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **host}

    def run(self, arguments: list[str], **more) -> int:
        """Run this Python with ``arguments`` in the repository; the exit code."""
        return subprocess.run([str(self.python), *arguments], cwd=self.layout.repo, env=self.variables(),
                              **more).returncode


def prepare(layout: Layout, say=print) -> Environment:
    """Host and environment, made ready as far as they are run.py's own.

    With EGOX_NO_SETUP=1 nothing is installed or fetched: what is there is used, or the lack of it is said.

    Raises:
        SetupError: no network, too little disk, a host too old, requirements missing in the user's own environment.
    """
    no_setup = os.environ.get("EGOX_NO_SETUP") == "1"
    host = find_host(layout)
    if host is None:
        if no_setup:
            raise SetupError("There is no ComfyUI here and EGOX_NO_SETUP=1 forbids fetching one. "
                             "Set COMFYUI_DIR to a ComfyUI folder.")
        say("No ComfyUI found: fetching one")
        check_disk(layout)
        host = fetch_host(layout, pip_command(make_venv(layout, say)), say)
    say(f"Host: ComfyUI {host.version_text} in {host.root} ({host.source})")
    if no_setup:
        return Environment(host, python_without_host(layout), layout)
    if host.owned:
        return Environment(host, _prepare_own(layout, host, say), layout)
    python = find_host_python(host)
    say(f"Python: {python} (the host's own; nothing in it is changed)")
    missing = missing_requirements(python, wanted_of_host(layout))
    if missing:
        raise SetupError("Your ComfyUI's Python lacks packages that EgoX needs. Install them with\n  "
                         + install_command(python, missing))
    return Environment(host, python, layout)


def this_environment(layout: Layout | None = None) -> Environment | None:
    """The host that is there under this very Python; None where there is none. Makes and fetches nothing.

    Raises:
        SetupError: a named folder is no ComfyUI, or the host is too old.
    """
    layout = layout or Layout()
    host = find_host(layout)
    return None if host is None else Environment(host, Path(sys.executable), layout)


def python_without_host(layout: Layout) -> Path:
    """A Python for modules that need no host: the made environment where there is one, else this one."""
    own = venv_python(layout.venv)
    return own if own.is_file() else Path(sys.executable)


def venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def check_disk(layout: Layout, needed: int = FRESH_BYTES) -> None:
    """Refuse to begin what the disk has no room for."""
    free = shutil.disk_usage(layout.repo).free
    if free < needed:
        raise SetupError(f"Too little disk space below {layout.repo}: {free / 1e9:.1f} GB free, about "
                         f"{needed / 1e9:.0f} GB needed for the Python environment. Free some, or set COMFYUI_DIR to "
                         "a ComfyUI that is installed already.")


def make_venv(layout: Layout, say=print) -> Path:
    """The Python of ``.venv``, made or made anew if an interrupted run left it unusable."""
    python = venv_python(layout.venv)
    if python.is_file() and _answers(python):
        return python
    check_disk(layout)
    say(f"Making a Python environment in {layout.venv}")
    run = subprocess.run([sys.executable, "-m", "venv", "--clear", str(layout.venv)], capture_output=True, text=True,
                         encoding="utf-8", errors="replace")
    if run.returncode != 0 or not _answers(python):
        raise SetupError(f"{sys.executable} could not make a virtual environment:\n{run.stdout}{run.stderr}\n"
                         "On Debian and Ubuntu install the package python3-venv.")
    return python


def _prepare_own(layout: Layout, host: Host, say) -> Path:
    python = make_venv(layout, say)
    stamp = layout.venv / ".egox_installed.json"
    wanted = _fingerprint(layout, host)
    have = read_json(stamp)
    if have == wanted:
        return python
    if not have:
        check_disk(layout, FRESH_BYTES if not _has_torch(layout.venv) else 10**9)
    torch_index = os.environ.get("EGOX_TORCH_INDEX", "")
    if os.name == "nt" and not torch_index and shutil.which("nvidia-smi"):
        say("There is an NVIDIA GPU here, but on Windows the package index carries torch for the CPU only.\n"
            "To use the GPU set EGOX_TORCH_INDEX to the index that pytorch.org's install page names for your CUDA\n"
            "version and run this again. Going on with the CPU.")
    stamp.unlink(missing_ok=True)
    log = layout.logs / "pip.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    say(f"Installing packages (6 GB, one to some minutes; details in {log})")
    fetch_uv(python)
    # An installed torch satisfies the pin whichever build it is, so another index must be forced.
    changed_index = have.get("torch_index", torch_index) != torch_index
    install(python, [*(["--force-reinstall"] if changed_index else []),
                      *(["--index-url", torch_index] if torch_index else []), *TORCH_PINS], log, say, "torch")
    # The pins go along with every call, so that no other requirement can pull in another torch.
    install(python, ["-r", str(host.root / "requirements.txt"), *TORCH_PINS], log, say, "the host's requirements")
    install(python, ["-r", str(layout.repo / "requirements.txt"), *dev_requirements(layout), *TORCH_PINS], log, say,
             "the pack's requirements")
    for package in extra_requirements(layout, "checks"):
        try:  # never built here: that would take a compiler and many minutes
            install(python, ["--only-binary", package.partition(">=")[0], package, *TORCH_PINS], log, say, package)
        except SetupError:
            say(f"  {package} has no build for this machine: what needs it will be skipped by name")
    part = stamp.with_suffix(".part")
    part.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    os.replace(part, stamp)
    return python


def dev_requirements(layout: Layout) -> list[str]:
    """What the tests can't do without."""
    return extra_requirements(layout, "dev")


def extra_requirements(layout: Layout, name: str) -> list[str]:
    """An extra of pyproject.toml. Read by a pattern, since Python 3.10 has no TOML reader."""
    text = (layout.repo / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(name)}\s*=\s*\[(.*?)\]\s*$", text, re.S | re.M)
    return re.findall(r"\"([^\"]+)\"", match.group(1)) if match else []


def wanted_of_host(layout: Layout) -> list[str]:
    """What the pack needs beside the host's own requirements."""
    lines = (layout.repo / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def find_host_python(host: Host) -> Path:
    """The Python that a user's own host runs under.

    Raises:
        SetupError: none of the usual places has one, and this Python has no torch.
    """
    for folder in (host.root / "venv", host.root / ".venv", host.root.parent / "venv", host.root.parent / ".venv"):
        if venv_python(folder).is_file():
            return venv_python(folder)
    for folder in (host.root.parent / "python_embeded", host.root / "python_embeded"):
        if (folder / "python.exe").is_file():
            return folder / "python.exe"
    if not missing_requirements(Path(sys.executable), ["torch"]):
        return Path(sys.executable)
    raise SetupError(f"No Python environment was found for the ComfyUI in {host.root} (venv, .venv and python_embeded "
                     "were looked for). Run this with the Python that starts your ComfyUI, for instance\n"
                     "  /path/to/its/python run.py demo")


_MISSING = """
import json, re, sys
from importlib.metadata import PackageNotFoundError, version
def numbers(text):
    return tuple(int(n) for n in re.findall(r"\\d+", text.split("+")[0])[:3])
missing = []
for line in json.loads(sys.argv[1]):
    name, _, least = re.sub(r"\\[.*?\\]", "", line).partition(">=")
    alike = {"opencv-python-headless": ["opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"]}
    for candidate in [name.strip(), *alike.get(name.strip(), [])]:
        try:
            have = version(candidate)
            if not least or numbers(have) >= numbers(least):
                break
        except PackageNotFoundError:
            pass
    else:
        missing.append(line)
print(json.dumps(missing))
"""


def missing_requirements(python: Path, wanted: list[str]) -> list[str]:
    """Those of ``wanted`` ("name" or "name>=version") that ``python`` has not. Installs nothing."""
    run = subprocess.run([str(python), "-c", _MISSING, json.dumps(wanted)], capture_output=True, text=True,
                         encoding="utf-8", errors="replace")
    if run.returncode != 0:
        raise SetupError(f"{python} does not run:\n{run.stderr}")
    return json.loads(run.stdout)


def install_command(python: Path, packages: list[str]) -> str:
    """The command for the user to type, quoted for a shell."""
    return " ".join([f'"{python}"', "-m", "pip", "install", *(f'"{package}"' for package in packages)])


def _answers(python: Path) -> bool:
    try:
        run = subprocess.run([str(python), "-c", "import pip"], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return run.returncode == 0


def _has_torch(venv: Path) -> bool:
    return any(venv.glob("lib/python*/site-packages/torch/version.py")) or (
        venv / "Lib/site-packages/torch/version.py").is_file()


def _fingerprint(layout: Layout, host: Host) -> dict:
    """What the environment was made from; a change of any of it installs again."""
    digest = hashlib.sha256()
    for path in (host.root / "requirements.txt", layout.repo / "requirements.txt"):
        digest.update(path.read_bytes())
    extras = [*dev_requirements(layout), *extra_requirements(layout, "checks")]
    digest.update("\n".join([*TORCH_PINS, *extras]).encode())
    return {"requirements": digest.hexdigest(), "torch_index": os.environ.get("EGOX_TORCH_INDEX", ""),
            "python": "{}.{}".format(*sys.version_info)}


def read_json(path: Path) -> dict:
    """A stamp; empty where there is none or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
