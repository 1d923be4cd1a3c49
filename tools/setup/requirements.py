"""Check and install the requirements of pack and tests."""

import os
import re
from importlib.metadata import PackageNotFoundError, version

from .environment import OPENCV, TORCH_PINS, Environment, install
from .layout import Layout, SetupError

USER_COMMANDS = frozenset({"demo", "ui", "prior", "texts"})
"""Commands that need the pack's requirements only."""
OPENCV_PACKAGES = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


def check_requirements(environment: Environment, command: str) -> None:
    """Install the packages that a command needs.

    Raises:
        SetupError: something is missing in an environment of the user's, or may not be installed.
    """
    layout = environment.layout
    owned = environment.host.owned
    needed_lines = requirement_lines((layout.repo / "requirements.txt").read_text("utf-8"))
    needed_lines.append(OPENCV)
    if command == "test" or owned and command not in USER_COMMANDS:
        needed_lines += extra_requirements(layout, "dev")
    try:
        missing = [line for line in needed_lines if not is_met(line)]
    except ModuleNotFoundError:  # an environment of uv's has neither pip nor packaging
        missing = ["packaging", *needed_lines]
    if not missing:
        return
    if not owned or os.environ.get("EGOX_NO_SETUP") == "1":
        packages = " ".join(f'"{line.partition(";")[0]}"' for line in missing)
        raise SetupError(
            "Packages are missing here. Install them with\n"
            f'  "{environment.python}" -m pip install {packages}'
        )
    # The pins go along, so that no other requirement can pull in another torch.
    install(layout, environment.python, "what tests and benches need", [*needed_lines, *TORCH_PINS])
    for package in extra_requirements(layout, "checks"):
        try:  # never built here: that would take a compiler and many minutes
            # cd-fvd is plain Python, but only its source is published.
            pip_options = ["--only-binary", ":all:", "--no-binary", "cd-fvd"]
            pip_options += [package, *TORCH_PINS]
            install(layout, environment.python, package, pip_options)
        except SetupError:
            print(f"  {package} has no build for this machine: what needs it will be skipped")


def is_met(line: str) -> bool:
    """Check whether a requirement such as "name>=version" is installed."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    if requirement.marker and not requirement.marker.evaluate():
        return True
    for name in (
        requirement.name,
        *(OPENCV_PACKAGES if requirement.name == "opencv-python-headless" else ()),
    ):
        try:
            if requirement.specifier.contains(version(name), prereleases=True):
                return True
        except PackageNotFoundError:
            pass
    return False


def requirement_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def extra_requirements(layout: Layout, name: str) -> list[str]:
    """Read a list of optional requirements from pyproject.toml."""
    pyproject_text = (layout.repo / "pyproject.toml").read_text("utf-8")
    extra_match = re.search(rf"^{re.escape(name)}\s*=\s*\[(.*?)\]\s*$", pyproject_text, re.S | re.M)
    return re.findall(r"\"([^\"]+)\"", extra_match.group(1)) if extra_match else []
