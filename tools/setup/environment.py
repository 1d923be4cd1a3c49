"""Prepare the Python environment that run.py uses."""

import ast
import hashlib
import http.client
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .host import PINNED, Host, fetch_host, find_host, run_for_error
from .layout import Layout, SetupError

TORCH_PINS = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
"""Versions with which run.py was tested. The pack itself requires no torch version."""

OPENCV = "opencv-python-headless>=4.8"
"""Requirement that requirements.txt leaves to install.py, because other packs may have brought one
of OpenCV's packages."""

CORE_MODULES = ("torch", "numpy", "scipy", "cv2", "av", "safetensors")
"""Modules of a Python that can run the commands which need no ComfyUI."""

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Index of torch's builds for the CPU, which have a fifth of the others' size."""

FRESH_BYTES = 10 * 10**9
"""Disk space for a fresh environment of 6.3 GB, with the downloads beside it until the end."""

UV_VARIABLES = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
"""Variables of uv for settings of pip."""
UV_FLAGS = {
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}
"""Options of uv for settings of pip, repeated before each value."""
PIP_ONLY_SETTINGS = set(
    "cache-dir config-file disable-pip-version-check no-cache-dir no-color no-input progress-bar "
    "no-python-version-warning no-warn-script-location quiet root-user-action verbose".split()
)
"""Settings of pip that don't change what is installed."""


@dataclass(frozen=True)
class Environment:
    """Store the folder of a ComfyUI and the path of the Python that runs it."""

    host: Host | None
    """None only for modules that need no host, on a machine where there is none."""
    python: Path
    layout: Layout

    def variables(self) -> dict[str, str]:
        """Build the environment variables of started processes.

        Python keeps compiled files below ``.egox``, never in a user's ComfyUI. Without them each
        start compiles the sources of torch and ComfyUI again, which is two thirds of its time.
        """
        import_paths = [
            str(self.layout.repo),
            *map(os.environ.get, ("EGOX_PACKAGES", "PYTHONPATH")),
        ]
        host_variables = {} if self.host is None else {"EGOX_HOST_DIR": str(self.host.root)}
        # Threads that spin while they wait slow small tensor operations down on a busy machine.
        defaults = {
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPYCACHEPREFIX": str(self.layout.state / "pycache"),
        }
        return {
            **defaults,
            **os.environ,
            **host_variables,
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPATH": os.pathsep.join(filter(None, import_paths)),
        }

    def run(self, arguments: list[str], folder: Path | None = None) -> int:
        """Run this Python with ``arguments``, and return its exit code.

        Args:
            folder: to run it in; None: the repository.
        """
        command = [str(self.python), *arguments]
        return subprocess.call(command, cwd=folder or self.layout.repo, env=self.variables())


def this_environment(layout: Layout | None = None) -> Environment | None:
    """Find the ComfyUI that this Python runs, or return None.

    Raises:
        SetupError: a named folder is no ComfyUI, or the host is too old.
    """
    layout = layout or Layout()
    host = find_host(layout)
    return None if host is None else Environment(host, Path(sys.executable), layout)


def venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(layout: Layout, say=print, small: bool = False, needs_host: bool = True) -> Environment:
    """Prepare ComfyUI and a Python environment for it.

    ``small`` is for commands that compute nothing, for which a new environment gets torch for
    the CPU. With EGOX_NO_SETUP=1 nothing is installed or fetched.

    Raises:
        SetupError: no network, too little disk, a host too old, no Python of the user's own host.
    """
    host = find_host(layout)
    own_python = venv_python(layout.venv)
    if os.environ.get("EGOX_NO_SETUP") == "1":
        return Environment(
            host, own_python if own_python.is_file() else Path(sys.executable), layout
        )
    if host is None and not needs_host:
        if not own_python.is_file() and all(map(importlib.util.find_spec, CORE_MODULES)):
            return Environment(None, Path(sys.executable), layout)
        _prepare_own_venv(layout, None, say, small)
        return Environment(None, own_python, layout)
    if host is None:
        make_venv(layout, say)
        say("No ComfyUI found: fetching one")
        host = fetch_host(PINNED, layout.host, own_python, say)
    say(f"Host: ComfyUI {host.version_text} in {host.root} ({host.source})")
    if host.owned:
        _prepare_own_venv(layout, host, say, small)
        return Environment(host, own_python, layout)
    python = find_host_python(host)
    say(f"Python: {python} (the host's own; nothing in it is changed)")
    return Environment(host, python, layout)


def make_venv(layout: Layout, say=print) -> None:
    """Create the virtual environment, also in place of an unusable one."""
    has_pip = [venv_python(layout.venv), "-c", "import pip"]
    if not run_for_error(has_pip):
        return
    free_bytes = shutil.disk_usage(layout.repo).free
    if free_bytes < FRESH_BYTES:
        raise SetupError(
            f"Too little disk space below {layout.repo}: {free_bytes / 1e9:.1f} GB free, "
            f"{FRESH_BYTES / 1e9:.0f} needed. Free some, or set COMFYUI_DIR to a ComfyUI that is "
            "there."
        )
    say(f"Making a Python environment in {layout.venv}")
    problem = run_for_error(
        [sys.executable, "-m", "venv", "--clear", layout.venv]
    ) or run_for_error(has_pip)
    if problem:
        raise SetupError(
            f"{sys.executable} could not make a virtual environment:\n{problem}\n"
            "On Debian and Ubuntu install the package python3-venv."
        )


def _prepare_own_venv(layout: Layout, host: Host | None, say, small: bool) -> None:
    """Install missing or outdated packages into the virtual environment."""
    python = venv_python(layout.venv)
    stamp_file = layout.venv / ".egox_installed.json"
    requirement_files = [layout.repo / "requirements.txt"]
    if host is not None:
        requirement_files.insert(0, host.root / "requirements.txt")
    requirement_text = repr(
        [TORCH_PINS, sys.version_info[:2], *(path.read_bytes() for path in requirement_files)]
    )
    torch_index = os.environ.get("EGOX_TORCH_INDEX", "")
    installed_state = (
        json.loads(stamp_file.read_text("utf-8"))
        if stamp_file.is_file() and python.is_file()
        else {}
    )
    if small and not torch_index and installed_state.get("torch_index", CPU_INDEX) == CPU_INDEX:
        torch_index = CPU_INDEX
    target_state = {
        "requirements": hashlib.sha256(requirement_text.encode()).hexdigest(),
        "torch_index": torch_index,
    }
    if (
        installed_state == target_state
        or small
        and installed_state.get("requirements") == target_state["requirements"]
    ):
        return
    make_venv(layout, say)
    if os.name == "nt" and not torch_index and shutil.which("nvidia-smi"):
        say(
            "The package index has torch for the CPU only. To use the GPU, set EGOX_TORCH_INDEX\n"
            "to the index that pytorch.org names for your CUDA version, and run this again."
        )
    stamp_file.write_text(json.dumps({"torch_index": torch_index}), "utf-8")
    download_size = "2 GB" if torch_index == CPU_INDEX else "6 GB"
    say(
        f"Installing packages ({download_size}, one to some minutes; details in "
        f"{layout.logs / 'pip.log'})"
    )
    # An installed torch satisfies the pin whichever build it is, so another index must be forced.
    torch_options = (
        ["--force-reinstall"]
        if installed_state.get("torch_index", torch_index) != torch_index
        else []
    )
    if torch_index == CPU_INDEX:
        torch_options += (
            ["--extra-index-url", CPU_INDEX] if _is_reachable(f"{CPU_INDEX}/torch/") else []
        )
    elif torch_index:
        torch_options += ["--index-url", torch_index]
    install(layout, python, "torch", [*torch_options, *TORCH_PINS], say)
    # The pins go along with every call, so that no other requirement can pull in another torch.
    requirement_options = [word for path in requirement_files for word in ("-r", str(path))]
    requirement_options.append(OPENCV)
    install(
        layout,
        python,
        "the requirements of host and pack",
        [*requirement_options, *TORCH_PINS],
        say,
    )
    stamp_file.write_text(json.dumps(target_state), "utf-8")


def find_host_python(host: Host) -> Path:
    """Find the Python that belongs to a user's own ComfyUI.

    Raises:
        SetupError: none of the usual places has one, and this Python has no torch.
    """
    parent_folders = (host.root, host.root.parent)
    python_candidates = [
        venv_python(folder / name) for folder in parent_folders for name in ("venv", ".venv")
    ]
    python_candidates += [folder / "python_embeded" / "python.exe" for folder in parent_folders]
    found_pythons = [place for place in python_candidates if place.is_file()]
    if not found_pythons and importlib.util.find_spec("torch") is None:
        raise SetupError(
            f"No Python was found for the ComfyUI in {host.root} (venv, .venv, "
            "python_embeded). Run this with its own: /path/to/its/python run.py demo"
        )
    return found_pythons[0] if found_pythons else Path(sys.executable)


def install(layout: Layout, python: Path, purpose: str, arguments: list[str], say=print) -> None:
    """Install packages by uv or pip, with output to logs/pip.log.

    uv takes a third of pip's time. It is used if each setting of pip has a counterpart, and is
    installed below ``.egox`` with its files, never into ``python``.

    Raises:
        SetupError: both failed; the message has the end of what they said.
    """
    say(f"  {purpose}")
    log_file, temporary_folder = layout.logs / "pip.log", layout.state / "tmp"
    pip_command = [str(python), "-m", "pip"]
    uv_file = layout.state / "uv" / "bin" / ("uv.exe" if os.name == "nt" else "uv")
    # Unpacked on the disk whose room was checked: a system's temporary folder is often small.
    for folder in (temporary_folder, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    temp_variables = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "UV_CACHE_DIR"), str(temporary_folder))
    install_commands = [([*pip_command, "install", "--progress-bar", "off", "--no-compile"], {})]
    utf8_options = {"env": {**os.environ, "PYTHONUTF8": "1"}, "encoding": "utf-8"}
    output = subprocess.run(
        [*pip_command, "config", "list"], capture_output=True, **utf8_options
    ).stdout
    settings = uv_settings(output)
    fetch_uv = [*pip_command, "install", "--upgrade", "--target", uv_file.parent.parent, "uv"]
    if settings and (uv_file.is_file() or not run_for_error(fetch_uv)):
        variables, uv_options = settings
        install_commands.insert(
            0, ([uv_file, "pip", "install", "--python", python, *uv_options], variables)
        )
    with open(log_file, "w", encoding="utf-8") as sink:
        failed = all(
            subprocess.call(
                [*install_command, *arguments],
                env={**os.environ, **temp_variables, **variables},
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
            )
            for install_command, variables in install_commands
        )
    shutil.rmtree(temporary_folder, ignore_errors=True)
    if failed:
        output = log_file.read_text("utf-8", errors="replace").strip().splitlines()[-6:]
        raise SetupError(
            f"Installing {purpose} failed. Is there a network (a COMFYUI_DIR of your own needs "
            "none), and room on the disk? Then run this again: it continues where it stopped.\n"
            f"The end of {log_file}:\n" + "\n".join("  " + line for line in output)
        )


def uv_settings(config_text: str) -> tuple[dict[str, str], list[str]] | None:
    """Translate pip's settings to uv's, or return None if one has no counterpart."""
    config_lines = re.findall(r"^(global|install|:env:)\.([\w-]+)=(.+)$", config_text, re.M)
    config_lines.sort(key=lambda line: ("global", "install", ":env:").index(line[0]))
    pip_settings = {
        name: value for _, name, text in config_lines if (value := ast.literal_eval(text))
    }
    # pip takes the newest of all its indexes.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    options = []
    for name, value in pip_settings.items():
        if name in UV_VARIABLES:
            variables[UV_VARIABLES[name]] = " ".join(value.split())
        elif name in UV_FLAGS:
            options += [word for each in value.split() for word in (UV_FLAGS[name], each)]
        elif name == "proxy":
            variables |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), value)
        elif name == "no-index":
            options += (
                ["--no-index"] if value.lower() in ("1", "y", "yes", "t", "true", "on") else []
            )
        elif name not in PIP_ONLY_SETTINGS:
            return None
    return variables, options


def _is_reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, http.client.HTTPException):
        return False
