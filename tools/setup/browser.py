"""Find or install the browser for tests of the page.

Only the standard library is imported, because run.py calls this before anything is installed.
Playwright drives the system's browser: its own download comes from another host than the package
index, and is not needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "EGOX_BROWSER"
"""Environment variable with the executable of a Chromium (or Chrome, or Edge)."""

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
)
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)

# WebGL on the software renderer, so that the editor's view is drawn where there is no GPU; the page
# itself is drawn without it, which takes a third of the time. The sandbox is off because it can't
# be had in a container; what is opened is only the test's own server, and no other name is looked
# up: a page that asks for one is told that it isn't there.
ARGUMENTS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
    "--disable-accelerated-2d-canvas",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


def find_browser() -> Path | None:
    """Find the browser's executable."""
    named_browser = os.environ.get(VARIABLE)
    if named_browser:
        return Path(named_browser) if Path(named_browser).is_file() else None
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return Path(path)
    return next((Path(candidate) for candidate in PLACES if Path(candidate).is_file()), None)


def install_advice() -> str:
    """Describe how to install a browser."""
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} names {os.environ[VARIABLE]}, which is no file"
    if sys.platform.startswith("linux"):
        return (
            "install one (Debian, Ubuntu: sudo apt-get install chromium), or name one in "
            f"{VARIABLE}"
        )
    return f"install Chrome, Chromium or Edge, or name its executable in {VARIABLE}"


def can_install_by_apt() -> bool:
    """Check whether apt can install a browser without asking, which needs root."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return root and shutil.which("apt-get") is not None and os.environ.get("EGOX_NO_SETUP") != "1"


def prepare_browser(log: Path) -> Path | None:
    """Find or install a browser, or explain why the browser tests are skipped."""
    browser = find_browser()
    if browser is None and not os.environ.get(VARIABLE) and can_install_by_apt():
        print(f"Installing chromium by apt (details in {log})")
        log.parent.mkdir(parents=True, exist_ok=True)
        quiet_environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with open(log, "w", encoding="utf-8") as log_stream:
            for command in (
                ["apt-get", "update"],
                [
                    "apt-get",
                    "install",
                    "-y",
                    "--no-install-recommends",
                    "chromium",
                    "fonts-dejavu-core",
                ],
            ):
                subprocess.run(
                    command,
                    env=quiet_environment,
                    stdout=log_stream,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )  # what counts is whether there is a browser afterwards
        browser = find_browser()
    if browser is None:
        print(
            f"No browser: the tests in tests/browser are skipped. To run them, {install_advice()}."
        )
    return browser
