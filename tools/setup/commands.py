"""The sub-commands of run.py."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .at_work import at_work
from .base_dir import make_base_dir, share_models
from .browser import install_advice, prepare_browser
from .demo import DemoOptions, run_demo, wait_for_ctrl_c
from .demo_head import HEADS
from .environment import (
    Environment,
    dev_requirements,
    install_command,
    missing_requirements,
    prepare,
    python_without_host,
)
from .layout import Layout, SetupError
from .other_host import prepare_other
from .server import Server

MODULES = {"prior": ("egox_core.cli.prior", "render the ego prior of a take, without a graph"),
           "fidelity": ("benchmarks.fidelity", "compare our numbers with those of the released code"),
           "train-demo": ("lab.small_model", "train the small model that ships, in slices of any length")}
"""Sub-commands that are modules run inside the environment."""

MAKERS = {"workflows": "tools.workflows.make", "texts": "tools.texts",
          "sample": "tools.sample", "standins": "tools.rigs.standins"}
"""What ``run.py make`` makes anew: the shipped workflows, the texts from the nodes' schemas (English locale and help
pages), the sample takes, the stand-in weights."""

OF_THE_HOST = ["tests/host", "tests/nodes"]
"""What another release of the host can break."""

SIDE_BY_SIDE = ["-n", "3", "--no-loadscope-reorder"]
"""The whole suite, on two processors too: a third of it waits for a server or a browser, while other tests run."""

VARIABLES = """environment variables:
  COMFYUI_DIR       a ComfyUI folder to use instead of fetching one; its own Python is used, nothing in it is changed
  EGOX_TORCH_INDEX  package index for another build of torch than the default one (its URL, as pytorch.org names it)
  EGOX_BROWSER      the Chromium, Chrome or Edge for the tests in a browser (default: the one that is found)
  EGOX_NO_SETUP=1   install and fetch nothing: use what is there, or say what is missing
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command; the exit code. Errors that the user can act on are shown without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # An interrupted run must still end its server: a polite kill or a closed terminal unwinds like Ctrl-C does.
    before = {number: signal.signal(number, _unwind) for name in ("SIGTERM", "SIGHUP")
              if (number := getattr(signal, name, None)) is not None}
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="replace")
    try:
        return _dispatch(words)
    except SetupError as error:
        print(f"\nrun.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unwind(*_: object) -> None:
    raise KeyboardInterrupt


def _dispatch(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py", description="EgoX for ComfyUI: demo, tests, server, benches.",
                                     epilog=VARIABLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="make an ego video through the real ComfyUI with stand-in weights")
    demo.add_argument("--take", type=Path, metavar="FOLDER", help="a take (exo.mp4, depth.npz, meta.json) instead of "
                      "the sample; 49 frames at 448 px unless said otherwise")
    demo.add_argument("--frames", type=int, metavar="N", help="frames, 4n+1")
    demo.add_argument("--size", type=int, metavar="PX", help="height of the exo and side of the ego picture")
    demo.add_argument("--steps", type=int, metavar="N", help="sampling steps")
    demo.add_argument("--keep-server", action="store_true", help="leave the server running until Ctrl-C")
    demo.add_argument("--port", type=int, help="port of the server (default: a free one)")
    demo.add_argument("--head", choices=HEADS, default="true", help="the ego camera's path: the take's own, or that of "
                      "Estimate Head Pose from keypoints of the wearer")
    demo.add_argument("--keypoints", type=Path, metavar="FILE", help="what a detector saw in the take's video, in "
                      "OpenPose's form (default: head_keypoints.json beside it)")
    demo.add_argument("--stand-in", action="store_true", help="random weights, as a take of your own always gets them")
    ui = commands.add_parser("ui", help="start the server and print its address")
    ui.add_argument("--port", type=int, help="port of the server (default: a free one)")
    commands.add_parser("test", help="ruff and pytest (further arguments go to pytest; --all: the slow ones "
                        "too; --browser: only those in a browser; --screenshots: these remake docs/img; "
                        "--host VERSION, --frontend VERSION: what another ComfyUI or another of its pages can break)",
                        add_help=False)
    commands.add_parser("bench", help="run one of benchmarks/", add_help=False)
    commands.add_parser("make", help=f"make what ships anew: {', '.join(MAKERS)}", add_help=False)
    for name, (_, what) in MODULES.items():
        commands.add_parser(name, help=what, add_help=False)
    args, rest = parser.parse_known_args(words)
    if rest and args.command in ("demo", "ui"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    layout = Layout()
    if args.command == "demo":
        take = args.take.absolute() if args.take else None
        options = DemoOptions(take, args.frames, args.size, args.steps, args.keep_server, args.port,
                              args.stand_in, args.head, args.keypoints)
        return run_demo(prepare(layout), options)
    if args.command == "ui":
        return run_ui(layout, args.port)
    # Everything after the sub-command belongs to it, in its own order.
    rest = words[words.index(args.command) + 1:]
    if args.command in ("test", "bench"):
        with at_work():
            return (run_tests if args.command == "test" else run_bench)(layout, rest)
    if args.command == "make":
        return run_maker(layout, rest)
    return module_environment(layout).run(["-m", MODULES[args.command][0], *rest])


def run_ui(layout: Layout, port: int | None) -> int:
    """Start the server and leave it running until Ctrl-C."""
    environment = prepare(layout)
    base = make_base_dir(layout.base, layout)
    arguments = share_models(environment.host, base)
    with Server(environment, base, layout.logs / "ui_server.log", port=port, arguments=arguments) as server:
        also = f" (and the models of {environment.host.root})" if arguments else ""
        print(f"ComfyUI {server.client.version()} with EgoX: {server.address}\nIts models, input and output folders "
              f"are in {base.root}{also}; its log is {server.log}\nCtrl-C ends it.")
        wait_for_ctrl_c(server)
    return 0


def run_tests(layout: Layout, rest: list[str]) -> int:
    """ruff, then pytest; with --browser only the tests in a browser, with --screenshots these also remake docs/img.

    --host and --frontend run the tests that a host or its page can break, on another one than the pinned.
    """
    parser = argparse.ArgumentParser(prog="run.py test", add_help=False, allow_abbrev=False)
    parser.add_argument("--host")
    parser.add_argument("--frontend")
    for name in ("--all", "--browser", "--screenshots"):
        parser.add_argument(name, action="store_true")
    ours, rest = parser.parse_known_args(rest)
    environment = prepare(layout)
    _need_dev(environment)
    if ours.all:
        os.environ["EGOX_TEST_ALL"] = "1"
    if ours.screenshots:
        os.environ["EGOX_SCREENSHOTS"] = "1"
    other = ours.host is not None or ours.frontend is not None
    if other:
        environment = prepare_other(environment, ours.host, ours.frontend)
    in_browser = ours.browser or (ours.frontend is not None and ours.host is None)
    if in_browser:
        rest = rest if any("tests/browser" in argument for argument in rest) else [*rest, "tests/browser"]
    browser = prepare_browser(layout.logs / "apt.log")
    if browser is None and in_browser:
        raise SetupError(f"The tests in a browser need one: {install_advice()}.")
    if other:
        return _test_other(environment, rest, in_browser=in_browser, browser=browser is not None)
    print("ruff check", flush=True)
    code = environment.run(["-m", "ruff", "check", "."])
    if code:
        return code
    print("pytest", flush=True)
    if not rest:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # a processor each
    return environment.run(["-m", "pytest", *(rest or SIDE_BY_SIDE)])


def _test_other(environment: Environment, rest: list[str], *, in_browser: bool, browser: bool) -> int:
    """The host's and the nodes' tests, which count; then those in a browser, whose failures may be that page's own."""
    named = [argument for argument in rest if (environment.layout.repo / argument.partition("::")[0]).exists()]
    print("pytest", flush=True)
    code = environment.run(["-m", "pytest", *rest, *([] if named else OF_THE_HOST)])
    if named or in_browser:
        return code
    if not browser:
        print("The tests in a browser were not run: there is none.")
        return code
    print("pytest tests/browser (reported only)", flush=True)
    page = environment.run(["-m", "pytest", *rest, "tests/browser"])
    print(f"On ComfyUI {environment.host.version_text}: host and nodes {_passed(code)}, the page {_passed(page)} "
          "(which does not count).")
    return code


def _passed(code: int) -> str:
    return "passed" if code == 0 else "failed"


def _need_dev(environment: Environment) -> None:
    missing = missing_requirements(environment.python, dev_requirements(environment.layout))
    if missing:
        raise SetupError("The tests need packages that are missing here. Install them with\n  "
                         + install_command(environment.python, missing))


def run_bench(layout: Layout, rest: list[str]) -> int:
    """One module of benchmarks/, by its name."""
    names = sorted(path.stem for path in (layout.repo / "benchmarks").glob("*.py") if not path.stem.startswith("_"))
    if not rest or rest[0] not in names or not re.fullmatch(r"[a-z0-9_]+", rest[0]):
        raise SetupError(f"run.py bench NAME; the names are: {', '.join(names) or '(none yet)'}")
    return module_environment(layout).run(["-m", f"benchmarks.{rest[0]}", *rest[1:]])


def run_maker(layout: Layout, rest: list[str]) -> int:
    """One of ``MAKERS``, by its name; further arguments are its own."""
    if not rest or rest[0] not in MAKERS:
        raise SetupError(f"run.py make NAME; the names are: {', '.join(MAKERS)}")
    return module_environment(layout).run(["-m", MAKERS[rest[0]], *rest[1:]])


def module_environment(layout: Layout, make: Callable[[Layout], Environment] = prepare) -> Environment:
    """The environment for a module; with EGOX_NO_SETUP=1 this very Python where there is no other, host or not."""
    if os.environ.get("EGOX_NO_SETUP") != "1":
        return make(layout)
    try:
        return make(layout)
    except SetupError:
        return Environment(None, python_without_host(layout), layout)
