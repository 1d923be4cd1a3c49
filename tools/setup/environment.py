"""The Python that run.py works in: its own, or that of the user's host. Standard library only."""

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

from .host import PINNED, Host, failure, fetch_host, find_host
from .layout import Layout, SetupError

TORCH_PINS = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
"""The set that run.py was tested with; the pack itself asks for no torch version."""

CPU = "https://download.pytorch.org/whl/cpu"
"""Index of torch's builds for the CPU, a fifth of the other's size."""

FRESH_BYTES = 10 * 10**9
"""Room that a fresh environment needs: 6.3 GB, and beside it the downloads until the end."""

VARIABLES = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
"""Settings of pip, and the variables of uv that say the same."""
FLAGS = {
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}
"""Settings of pip with values apart from each other, and uv's word before each value."""
OF_PIP_ALONE = set(
    "cache-dir config-file disable-pip-version-check no-cache-dir no-color no-input progress-bar "
    "no-python-version-warning no-warn-script-location quiet root-user-action verbose".split()
)
"""Settings of pip that change nothing of what is installed."""


@dataclass(frozen=True)
class Environment:
    """A host and the Python that it runs under."""

    host: Host | None
    """None only for modules that need no host, on a machine where there is none."""
    python: Path
    layout: Layout

    def variables(self) -> dict[str, str]:
        """Build the environment of the started processes, in which the repository can be imported
        and the host is known.

        Python keeps what it compiled below ``.egox``, never in a user's host: without it each start
        compiles torch's and the host's sources anew, two thirds of its time.
        """
        path = [str(self.layout.repo), *map(os.environ.get, ("EGOX_PACKAGES", "PYTHONPATH"))]
        host = {} if self.host is None else {"EGOX_HOST_DIR": str(self.host.root)}
        # Threads that spin while they wait slow small tensor operations down on a busy machine.
        defaults = {
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPYCACHEPREFIX": str(self.layout.state / "pycache"),
        }
        return {
            **defaults,
            **os.environ,
            **host,
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        }

    def run(self, arguments: list[str]) -> int:
        """Run this Python with ``arguments`` in the repository, and answer its exit code."""
        command = [str(self.python), *arguments]
        return subprocess.call(command, cwd=self.layout.repo, env=self.variables())


def this_environment(layout: Layout | None = None) -> Environment | None:
    """Find the host that is there under this very Python, or None, without making or fetching
    anything.

    Raises:
        SetupError: a named folder is no ComfyUI, or the host is too old.
    """
    layout = layout or Layout()
    host = find_host(layout)
    return None if host is None else Environment(host, Path(sys.executable), layout)


def venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(layout: Layout, say=print, small: bool = False) -> Environment:
    """Prepare host and environment as far as they are run.py's own.

    ``small``: for what computes nothing, so where there is none yet, torch for the CPU will do.
    With EGOX_NO_SETUP=1 nothing is installed or fetched: what is there is used, host or not.

    Raises:
        SetupError: no network, too little disk, a host too old, no Python of the user's own host.
    """
    host, own_python = find_host(layout), venv_python(layout.venv)
    if os.environ.get("EGOX_NO_SETUP") == "1":
        return Environment(
            host, own_python if own_python.is_file() else Path(sys.executable), layout
        )
    if host is None:
        make_venv(layout, say)
        say("No ComfyUI found: fetching one")
        host = fetch_host(PINNED, layout.host, own_python, say)
    say(f"Host: ComfyUI {host.version_text} in {host.root} ({host.source})")
    if host.owned:
        _prepare_own(layout, host, say, small)
        return Environment(host, own_python, layout)
    python = find_host_python(host)
    say(f"Python: {python} (the host's own; nothing in it is changed)")
    return Environment(host, python, layout)


def make_venv(layout: Layout, say=print) -> None:
    """Make ``.venv``, or make it anew if an interrupted run left it unusable."""
    has_pip = [venv_python(layout.venv), "-c", "import pip"]
    if not failure(has_pip):
        return
    free = shutil.disk_usage(layout.repo).free
    if free < FRESH_BYTES:
        raise SetupError(
            f"Too little disk space below {layout.repo}: {free / 1e9:.1f} GB free, "
            "10 needed. Free some, or set COMFYUI_DIR to a ComfyUI that is there."
        )
    say(f"Making a Python environment in {layout.venv}")
    problem = failure([sys.executable, "-m", "venv", "--clear", layout.venv]) or failure(has_pip)
    if problem:
        raise SetupError(
            f"{sys.executable} could not make a virtual environment:\n{problem}\n"
            "On Debian and Ubuntu install the package python3-venv."
        )


def _prepare_own(layout: Layout, host: Host, say, small: bool) -> None:
    """Install into ``.venv`` what is not there yet, or was there from other requirements."""
    python, stamp = venv_python(layout.venv), layout.venv / ".egox_installed.json"
    files = [host.root / "requirements.txt", layout.repo / "requirements.txt"]
    request = repr([TORCH_PINS, sys.version_info[:2], *(path.read_bytes() for path in files)])
    index = os.environ.get("EGOX_TORCH_INDEX", "")
    have = json.loads(stamp.read_text("utf-8")) if stamp.is_file() and python.is_file() else {}
    if small and not index and have.get("torch_index", CPU) == CPU:
        index = CPU
    target_state = {
        "requirements": hashlib.sha256(request.encode()).hexdigest(),
        "torch_index": index,
    }
    if have == target_state or small and have.get("requirements") == target_state["requirements"]:
        return
    make_venv(layout, say)
    if os.name == "nt" and not index and shutil.which("nvidia-smi"):
        say(
            "The package index has torch for the CPU only. To use the GPU, set EGOX_TORCH_INDEX\n"
            "to the index that pytorch.org names for your CUDA version, and run this again."
        )
    stamp.write_text(json.dumps({"torch_index": index}), "utf-8")
    size = "2 GB" if index == CPU else "6 GB"
    say(f"Installing packages ({size}, one to some minutes; details in {layout.logs / 'pip.log'})")
    # An installed torch satisfies the pin whichever build it is, so another index must be forced.
    force = ["--force-reinstall"] if have.get("torch_index", index) != index else []
    if index == CPU:
        force += ["--extra-index-url", CPU] if _answers(f"{CPU}/torch/") else []
    elif index:
        force += ["--index-url", index]
    install(layout, python, "torch", [*force, *TORCH_PINS], say)
    # The pins go along with every call, so that no other requirement can pull in another torch.
    listed = [word for path in files for word in ("-r", str(path))]
    install(layout, python, "the requirements of host and pack", [*listed, *TORCH_PINS], say)
    stamp.write_text(json.dumps(target_state), "utf-8")


def find_host_python(host: Host) -> Path:
    """Find the Python that a user's own host runs under.

    Raises:
        SetupError: none of the usual places has one, and this Python has no torch.
    """
    around = (host.root, host.root.parent)
    places = [venv_python(folder / name) for folder in around for name in ("venv", ".venv")]
    places += [folder / "python_embeded" / "python.exe" for folder in around]
    pythons = [place for place in places if place.is_file()]
    if not pythons and importlib.util.find_spec("torch") is None:
        raise SetupError(
            f"No Python was found for the ComfyUI in {host.root} (venv, .venv, "
            "python_embeded). Run this with its own: /path/to/its/python run.py demo"
        )
    return pythons[0] if pythons else Path(sys.executable)


def install(layout: Layout, python: Path, what: str, arguments: list[str], say=print) -> None:
    """Install ``arguments``, written as for pip, by uv or by pip.

    Both write to logs/pip.log.

    uv takes a third of pip's time. It is used where each setting of pip has a counterpart, and
    is put below ``.egox``, with what it keeps, never into ``python``.

    Raises:
        SetupError: both failed; the message has the end of what they said.
    """
    say(f"  {what}")
    log, temporary = layout.logs / "pip.log", layout.state / "tmp"
    pip = [str(python), "-m", "pip"]
    uv = layout.state / "uv" / "bin" / ("uv.exe" if os.name == "nt" else "uv")
    # Unpacked on the disk whose room was checked: a system's temporary folder is often small.
    for folder in (temporary, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "UV_CACHE_DIR"), str(temporary))
    ways = [([*pip, "install", "--progress-bar", "off", "--no-compile"], {})]
    utf8 = {"env": {**os.environ, "PYTHONUTF8": "1"}, "encoding": "utf-8"}
    output = subprocess.run([*pip, "config", "list"], capture_output=True, **utf8).stdout
    settings = uv_settings(output)
    fetch = [*pip, "install", "--upgrade", "--target", uv.parent.parent, "uv"]
    if settings and (uv.is_file() or not failure(fetch)):
        variables, words = settings
        ways.insert(0, ([uv, "pip", "install", "--python", python, *words], variables))
    with open(log, "w", encoding="utf-8") as sink:
        failed = all(
            subprocess.call(
                [*way, *arguments],
                env={**os.environ, **places, **variables},
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
            )
            for way, variables in ways
        )
    shutil.rmtree(temporary, ignore_errors=True)
    if failed:
        output = log.read_text("utf-8", errors="replace").strip().splitlines()[-6:]
        raise SetupError(
            f"Installing {what} failed. Is there a network (a COMFYUI_DIR of your own needs none), "
            "and room on the disk? Then run this again: it continues where it stopped.\n"
            f"The end of {log}:\n" + "\n".join("  " + line for line in output)
        )


def uv_settings(listed: str) -> tuple[dict[str, str], list[str]] | None:
    """Translate what ``pip config list`` lists to uv's variables and words.

    None where it can't all be said.
    """
    lines = re.findall(r"^(global|install|:env:)\.([\w-]+)=(.+)$", listed, re.M)
    lines.sort(key=lambda line: ("global", "install", ":env:").index(line[0]))
    settings = {name: value for _, name, text in lines if (value := ast.literal_eval(text))}
    # pip takes the newest of all its indexes.
    variables, words = {"UV_INDEX_STRATEGY": "unsafe-best-match"}, []
    for name, value in settings.items():
        if name in VARIABLES:
            variables[VARIABLES[name]] = " ".join(value.split())
        elif name in FLAGS:
            words += [word for each in value.split() for word in (FLAGS[name], each)]
        elif name == "proxy":
            variables |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), value)
        elif name == "no-index":
            words += ["--no-index"] if value.lower() in ("1", "y", "yes", "t", "true", "on") else []
        elif name not in OF_PIP_ALONE:
            return None
    return variables, words


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, http.client.HTTPException):
        return False
