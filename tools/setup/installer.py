"""Packages into a Python: by uv where it can be had, which takes a third of pip's time, else by pip."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from .layout import SetupError

UV_KNOWS = {"index-url": "--default-index", "extra-index-url": "--index", "trusted-host": "--allow-insecure-host"}
"""Settings of pip by uv's options for the same: uv reads none of pip's own files and variables."""
NEEDLESS = {"cert", "default-timeout", "disable-pip-version-check", "find-links", "timeout"}
"""Settings of pip that uv can do without. With any other (a proxy, constraints) pip itself is called."""


def pip_command(python: Path) -> list[str]:
    """How to call the pip of ``python``."""
    return [str(python), "-m", "pip"]


def install(python: Path, arguments: list[str], log: Path, say, what: str) -> None:
    """Install ``arguments``, written as for pip, for ``python``; what the installer says is added to ``log``.

    ``python``'s own uv does it where `fetch_uv` put one. Whatever uv can't do is pip's to do or to refuse.

    Raises:
        SetupError: pip failed; the message says what that means.
    """
    say(f"  {what}")
    # Downloads are unpacked on the disk whose room was checked: a system's temporary folder is often small.
    temporary = log.parent.parent / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with open(log, "a", encoding="utf-8") as sink:
        sink.write(f"== {what}: {' '.join(arguments)}\n")
        sink.flush()
        other_words = {"--index-url", "--force-reinstall"} & set(arguments)  # uv's differ, and they are rare
        uv = None if other_words else uv_command(python)
        done = uv is not None and _run([*uv, "--cache-dir", str(temporary / "uv"), *arguments], sink, temporary)
        # Locally preferred wheels (find-links) may hold a newer torch that no torchvision fits. Python compiles what is
        # imported: all that these packages hold would take a minute.
        done = done or _run([*pip_command(python), "install", "--disable-pip-version-check", "--progress-bar", "off",
                             "--no-compile", *arguments], sink, temporary)
    shutil.rmtree(temporary, ignore_errors=True)
    if not done:
        raise SetupError(explain_pip_failure(what, log.read_text(encoding="utf-8", errors="replace"), log))


def fetch_uv(python: Path) -> None:
    """Put uv beside the pip of ``python``; without a network or a build for this machine there is just none."""
    if not _uv(python).is_file():
        subprocess.run([*pip_command(python), "install", "--disable-pip-version-check", "--only-binary", "uv", "uv"],
                       env={**os.environ, "PIP_FIND_LINKS": ""}, capture_output=True, stdin=subprocess.DEVNULL)


def uv_command(python: Path) -> list[str] | None:
    """How to call the uv of ``python`` so that it finds what pip would; None without one, or where only pip can."""
    if not _uv(python).is_file():
        return None
    settings = _pip_settings(python)
    options = None if settings is None else _uv_options(settings)
    return None if options is None else [
        str(_uv(python)), "pip", "install", "--python", str(python), "--no-progress", "--no-config",
        "--index-strategy", "unsafe-best-match", *options]


@cache
def _pip_settings(python: Path) -> str | None:
    """What `pip config list` says, asked once for all packages of a set-up; None of a pip that can't say it."""
    listed = subprocess.run([*pip_command(python), "config", "list"], capture_output=True, text=True, encoding="utf-8",
                            errors="replace")
    return listed.stdout if listed.returncode == 0 else None


def _uv_options(settings: str) -> list[str] | None:
    """uv's options for what `pip config list` says; None with a setting that uv has no option for."""
    options = []
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in UV_KNOWS:
            options += [part for url in ast.literal_eval(value).split() for part in (UV_KNOWS[key], url)]
        elif key not in NEEDLESS:
            return None
    return options


def _uv(python: Path) -> Path:
    return python.with_name("uv.exe" if os.name == "nt" else "uv")


def _run(command: list[str], sink, temporary: Path) -> bool:
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    return subprocess.run(command, env={**os.environ, **places, "PIP_FIND_LINKS": ""}, stdout=sink,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode == 0


def explain_pip_failure(what: str, text: str, log: Path) -> str:
    """What pip's output means for the user."""
    tail = "\n".join("  " + line for line in text.strip().splitlines()[-6:])
    if re.search(r"No space left on device|Errno 28|WinError 112", text):
        cause = "The disk is full. Free about 10 GB and run this again."
    elif re.search(r"NewConnectionError|Failed to resolve|Temporary failure in name resolution|getaddrinfo failed|"
                   r"ConnectTimeoutError|Network is unreachable|ProxyError", text):
        cause = ("The package index can't be reached: there seems to be no network. Connect and run this again; what "
                 "was installed so far is kept. With a ComfyUI of your own, COMFYUI_DIR needs no network.")
    elif "No matching distribution found" in text:
        cause = (f"The package index has no fitting build for Python {sys.version_info[0]}.{sys.version_info[1]} "
                 "on this machine (3.10 to 3.13 are known to work), or it can't be reached.")
    else:
        cause = "Run this again to go on from where it stopped."
    return f"Installing {what} failed. {cause}\nThe end of {log}:\n{tail}"
