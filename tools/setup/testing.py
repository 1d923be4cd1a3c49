"""Run linter, type checker and tests for ``run.py test``."""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .base_dir import link_folder
from .browser import install_advice, prepare_browser
from .environment import Environment, install
from .host import MINIMUM_VERSION, PINNED, Host, Release, fetch_host, read_version
from .layout import SetupError
from .requirements import is_met, requirement_lines

OLDEST = Release(
    MINIMUM_VERSION,
    "2.4.5",
    tree="5200d7ddd272423852556bf063d67ba8bd04e6ca",
    sha256="3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba",
)
RELEASES = {release.tag[1:]: release for release in (OLDEST, PINNED)}
FRONTEND = "comfyui-frontend-package"

HOST_TESTS = ["tests/host", "tests/nodes"]
"""Tests that another release of ComfyUI can break."""

TYPED_FOLDERS = ("egox_core", "egox_train", "nodes")
"""Folders whose types are checked, with exceptions in pyproject.toml."""

PARALLEL_OPTIONS = ["-n", "3", "--no-loadscope-reorder"]
"""Options of pytest for the whole suite, also on two processors, since a third of it waits for a
server or a browser."""

MEMORY_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
"""Variables of glibc by which freed tensors are reused, since the system clears new pages."""


def run_tests(environment: Environment, pytest_arguments: list[str]) -> int:
    """Run linter, type checker and tests as the options say.

    With --gates no pytest, with --browser only the tests in a browser. With --device no ruff and
    ty, and only those tests of tests/core that can run on the device. Without further arguments
    the page is the newest on PyPI, which users have. --all also runs the tests in a browser with
    ComfyUI's own page. --host and --frontend run what another ComfyUI or page can break."""
    parser = argparse.ArgumentParser(prog="run.py test", add_help=False, allow_abbrev=False)
    parser.add_argument("--host")
    parser.add_argument("--frontend")
    parser.add_argument("--device")
    for name in ("--all", "--browser", "--gates"):
        parser.add_argument(name, action="store_true")
    options, pytest_arguments = parser.parse_known_args(pytest_arguments)
    if options.gates:
        return check_gates(environment)
    if options.device:
        device_tests = pytest_arguments or ["tests/core"]
        return environment.run(["-m", "pytest", *device_tests, "--device", options.device])
    if options.all:
        os.environ["EGOX_TEST_ALL"] = "1"
    os.environ.update({**MEMORY_VARIABLES, **os.environ})
    is_other_host = options.host is not None or options.frontend is not None
    if is_other_host:
        environment = prepare_other_host(environment, options.host, options.frontend)
    runs_in_browser = options.browser or (options.frontend is not None and options.host is None)
    if runs_in_browser:
        pytest_arguments = (
            pytest_arguments
            if any("tests/browser" in argument for argument in pytest_arguments)
            else [*pytest_arguments, "tests/browser"]
        )
    browser = prepare_browser(environment.layout.logs / "apt.log")
    if browser is None and runs_in_browser:
        raise SetupError(f"The tests in a browser need one: {install_advice()}.")
    if is_other_host:
        return _test_other_host(
            environment, pytest_arguments, in_browser=runs_in_browser, browser=browser is not None
        )
    if exit_code := check_gates(environment):
        return exit_code
    if pytest_arguments and pytest_arguments != ["tests/browser"]:
        print("pytest", flush=True)
        return environment.run(["-m", "pytest", *pytest_arguments])
    newest_version = None if browser is None else find_newest_frontend(environment)
    if newest_version is not None:
        environment = prepare_other_host(environment, None, newest_version)
    print(f"pytest, page {newest_version or 'of the host'}", flush=True)
    exit_code = environment.run(["-m", "pytest", *(pytest_arguments or PARALLEL_OPTIONS)])
    if newest_version is None or not options.all:
        return exit_code
    print("pytest tests/browser, page of the host", flush=True)
    del os.environ["EGOX_PACKAGES"]
    return environment.run(["-m", "pytest", "tests/browser"]) or exit_code


def find_newest_frontend(environment: Environment) -> str | None:
    """Look up the newest version of ComfyUI's browser page on PyPI.

    Without a network it is the newest that was installed before, None if none was.
    """
    if os.environ.get("EGOX_NO_SETUP") != "1":
        pip_output = subprocess.run(
            [str(environment.python), "-m", "pip", "index", "versions", FRONTEND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        ).stdout
        if match := re.match(rf"{FRONTEND} \(([\d.]+)\)", pip_output):
            return match[1]
    folder = environment.layout.state / "hosts" / environment.host.version_text
    versions = [path.name.removeprefix("packages_") for path in folder.glob("packages_[0-9]*[0-9]")]
    return max(
        versions, key=lambda version: [int(part) for part in version.split(".")], default=None
    )


def check_gates(environment: Environment) -> int:
    """Run the checks that every commit must pass: lints, format and types."""
    for gate in (["check", "."], ["format", "--check", "."]):
        print("ruff", *gate[:-1], flush=True)
        if code := environment.run(["-m", "ruff", *gate]):
            return code
    print("ty check", flush=True)
    return check_types(environment)


def check_types(environment: Environment) -> int:
    """Check the types of core, trainer and nodes, and return the exit code.

    Nodes import the core as a neighbour in one package (``..egox_core``), so ty reads the
    repository through a link whose name can be a package's.
    """
    with tempfile.TemporaryDirectory(prefix="egox_") as folder:
        package_link = Path(folder) / "egox_pack"
        link_folder(environment.layout.repo, package_link)
        ty_command = [environment.python, "-m", "ty", "check", "--output-format", "concise"]
        ty_command += ["--project", package_link, "--python", environment.python]
        for search_path in (folder, environment.host.root):
            ty_command += ["--extra-search-path", search_path]
        process = subprocess.run(
            [*map(str, ty_command), *(str(package_link / name) for name in TYPED_FOLDERS)],
            cwd=environment.layout.repo,
            # ty would take PYTHONPATH for further places of the same files.
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        print(process.stdout.replace(f"{package_link}{os.sep}", ""), end="", flush=True)
    return process.returncode


def _test_other_host(
    environment: Environment, rest: list[str], *, in_browser: bool, browser: bool
) -> int:
    """Run all tests on another ComfyUI release."""
    named_tests = [
        argument
        for argument in rest
        if (environment.layout.repo / argument.partition("::")[0]).exists()
    ]
    print("pytest", flush=True)
    exit_code = environment.run(["-m", "pytest", *rest, *([] if named_tests else HOST_TESTS)])
    if named_tests or in_browser:
        return exit_code
    if not browser:
        print("The tests in a browser were not run: there is none.")
        return exit_code
    print("pytest tests/browser (reported only)", flush=True)
    page_code = environment.run(["-m", "pytest", *rest, "tests/browser"])
    verdicts = ["failed" if failed else "passed" for failed in (exit_code, page_code)]
    print(
        f"On ComfyUI {environment.host.version_text}: host and nodes {verdicts[0]}, the page "
        f"{verdicts[1]} (which is only reported)."
    )
    return exit_code


def prepare_other_host(
    environment: Environment, version: str | None, frontend: str | None
) -> Environment:
    """Prepare another ComfyUI release or version of its browser page.

    Packages that differ are installed in a folder that is searched before the environment's own.

    Raises:
        SetupError: no such release, no network, nothing there and making it forbidden.
    """
    if version is not None and version not in RELEASES:
        raise SetupError(
            f"--host {version}: the releases that can be fetched are {' and '.join(RELEASES)}. "
            "For another one set COMFYUI_DIR to a folder that holds it."
        )
    if frontend is not None and not re.fullmatch(r"\d+(\.\d+)+", frontend):
        raise SetupError(
            f"--frontend {frontend}: give a version of {FRONTEND} on PyPI, such as 1.47.12."
        )
    layout, host = environment.layout, environment.host
    folder = layout.state / "hosts" / (version or host.version_text)
    root = folder / "ComfyUI"
    packages_folder = folder / f"packages_{frontend or 'own'}"
    is_setup_forbidden = os.environ.get("EGOX_NO_SETUP") == "1"
    if version is not None:
        if not (root / ".egox_source").is_file():
            if is_setup_forbidden:
                raise SetupError(f"{root} is not there and EGOX_NO_SETUP=1 forbids fetching it.")
            fetch_host(RELEASES[version], root, environment.python)
        host = Host(root, read_version(root), "--host", owned=True)
    if not packages_folder.is_dir():
        if is_setup_forbidden:
            raise SetupError(
                f"{packages_folder} is not there and EGOX_NO_SETUP=1 forbids making it."
            )
        partial_folder = packages_folder.with_suffix(".part")
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(parents=True)
        lines = requirement_lines((host.root / "requirements.txt").read_text("utf-8"))
        if frontend is not None:
            lines = [line for line in lines if not line.startswith(FRONTEND)]
            lines.append(f"{FRONTEND}=={frontend}")
        if missing := [line for line in lines if not is_met(line)]:
            install(
                layout,
                environment.python,
                f"packages of ComfyUI {host.version_text}",
                ["--no-deps", "--target", str(partial_folder), *missing],
            )
        partial_folder.rename(packages_folder)
    os.environ["EGOX_PACKAGES"] = str(packages_folder)
    return Environment(host, environment.python, layout)
