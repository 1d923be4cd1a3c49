"""Another release of ComfyUI, or another frontend package, for the tests: each in an environment of its own.

An environment of this kind is a layer: a virtual environment that sees the packages of the one below it (torch above
all, which is most of the 6 GB) and installs only those that differ. Nothing below it is changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from .environment import TORCH_PINS, Environment, install, pip_command, read_json, venv_python
from .host import OLDEST, PINNED, Host, Release, fetch_release, read_version
from .layout import SetupError

RELEASES = {".".join(map(str, release.version)): release for release in (OLDEST, PINNED)}
FRONTEND = "comfyui-frontend-package"
_PACKAGES = ("import json, sys; print(json.dumps([place for place in sys.path"
             " if place.endswith(('site-packages', 'dist-packages'))]))")


def prepare_other(base: Environment, version: str | None = None, frontend: str | None = None,
                  say=print) -> Environment:
    """The host of release ``version`` (None: the base's own) with the frontend package ``frontend`` (None: its own).

    Made once below ``.egox/hosts``; with EGOX_NO_SETUP=1 only what is there already is used.

    Raises:
        SetupError: no such release, no network, nothing there and making it forbidden.
    """
    if version is not None and version not in RELEASES:
        raise SetupError(f"--host {version}: the releases that can be fetched are {' and '.join(RELEASES)}. For "
                         "another one set COMFYUI_DIR to a folder that holds it.")
    if frontend is not None and not re.fullmatch(r"\d+(\.\d+)+", frontend):
        raise SetupError(f"--frontend {frontend}: give the version of a {FRONTEND} on PyPI, such as 1.47.12.")
    layout = base.layout
    host = base.host if version is None else _host(RELEASES[version], base, say)
    say(f"Host: ComfyUI {host.version_text} in {host.root} ({host.source})")
    name = "venv" if frontend is None else f"venv_frontend_{frontend}"
    venv = layout.hosts / host.version_text / name
    wanted = {"requirements": hashlib.sha256((host.root / "requirements.txt").read_bytes()).hexdigest(),
              "frontend": frontend or "", "base": str(base.python)}
    stamp = venv / ".egox_installed.json"
    if read_json(stamp) != wanted:
        _refuse_without_setup(venv)
        _make_layer(base, venv, say)
        log = layout.logs / f"pip_{host.version_text}_{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")
        # An own torch is held where it is; a user's is whatever satisfies the host.
        pins = TORCH_PINS if base.host.owned else ()
        install(venv_python(venv), ["-r", str(host.root / "requirements.txt"), *pins], log, say,
                "the host's requirements, as far as they differ")
        if frontend is not None:
            install(venv_python(venv), ["--no-deps", f"{FRONTEND}=={frontend}"], log, say, f"{FRONTEND} {frontend}")
        part = stamp.with_suffix(".part")
        part.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        os.replace(part, stamp)
    return Environment(host, venv_python(venv), layout)


def _host(release: Release, base: Environment, say) -> Host:
    root = base.layout.hosts / ".".join(map(str, release.version)) / "ComfyUI"
    note = root / ".egox_source"  # written last, so a folder without it is not whole
    if note.is_file():
        return Host(root, read_version(root), note.read_text(encoding="utf-8").strip(), owned=True)
    _refuse_without_setup(root)
    return fetch_release(release, root, pip_command(base.python), say)


def _make_layer(base: Environment, venv: Path, say) -> None:
    say(f"Making a layer on {base.python} in {venv}")
    shutil.rmtree(venv, ignore_errors=True)
    run = subprocess.run([str(base.python), "-m", "venv", str(venv)], capture_output=True, text=True,
                         encoding="utf-8", errors="replace")
    if run.returncode != 0:
        raise SetupError(f"{base.python} could not make a virtual environment:\n{run.stdout}{run.stderr}")
    below, own = _packages(base.python), _packages(venv_python(venv))
    # A line of code rather than a bare path: repr keeps it ASCII, whatever encoding site.py reads the file in.
    lines = [f"import site; site.addsitedir({ascii(folder)})\n" for folder in below if folder not in own]
    (Path(own[0]) / "egox_base.pth").write_text("".join(lines), encoding="ascii")


def _packages(python: Path) -> list[str]:
    """Folders in which a Python finds its packages."""
    run = subprocess.run([str(python), "-c", _PACKAGES], capture_output=True, text=True, encoding="utf-8",
                         errors="replace", env={**os.environ, "PYTHONUTF8": "1"})
    if run.returncode != 0:
        raise SetupError(f"{python} does not run:\n{run.stderr}")
    return json.loads(run.stdout)


def _refuse_without_setup(place: Path) -> None:
    if os.environ.get("EGOX_NO_SETUP") == "1":
        raise SetupError(f"{place} is not there (or not whole) and EGOX_NO_SETUP=1 forbids making it.")
