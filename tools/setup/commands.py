"""Run the sub-commands of run.py.

At import it needs the standard library only. Functions import what the environment contains.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from .environment import Environment, prepare, this_environment
from .layout import Layout, SetupError

MODULES = {
    "prior": ("egox_train.cli.prior", "render the ego prior of a take, without a graph"),
    "preview": ("egox_train.cli.preview", "make a first-person video of a take without a model"),
    "facts": ("egox_train.cli.facts", "list what is taken of a take, and by whom"),
    "fidelity": ("benchmarks.fidelity", "compare our numbers with those of the released code"),
    "train-demo": ("lab.small_model", "draw rooms and train the small model on them, by the clock"),
}
"""Sub-commands that are modules. With EGOX_NO_SETUP=1 they run without ComfyUI, too."""

HOSTLESS_COMMANDS = (["prior"], ["preview"], ["facts"])
"""First words of command lines for which no ComfyUI is fetched."""

MAKERS = {
    "workflows": "tools.api_forms",
    "texts": "tools.texts",
    "sample": "lab.sample",
    "standins": "tools.rigs.standins",
    "pictures": "tools.pictures",
    "first_screen": "lab.first_screen",
    "api": "tools.api_page",
}
"""Modules of the targets of ``run.py make``: the API form of the shipped workflows, the English
locale, the sample takes, the stand-in weights, the λ_g strip, README's first picture, the core's
API page."""
TEXTS = ["make", "texts"]
"""Command that reads the nodes' schemas. It needs ComfyUI and the pack, but no GPU and no packages
of the tests."""

VARIABLES = """environment variables:
  COMFYUI_DIR       a ComfyUI folder to use instead of fetching one; its own Python is used,
                    nothing in it is changed
  EGOX_TORCH_INDEX  package index for another build of torch than the default one (its URL, as
                    pytorch.org names it)
  EGOX_BROWSER      the Chromium, Chrome or Edge for the tests in a browser (default: the one
                    that is found)
  EGOX_NO_SETUP=1   install and fetch nothing: use what is there, or say what is missing
"""


INSIDE = "EGOX_INSIDE"
"""Environment variable of processes inside the environment."""


def main(words: list[str] | None = None) -> int:
    """Run one sub-command, and return its exit code.

    Errors that the user can fix are printed without a traceback. A polite kill or a closed
    terminal acts like Ctrl-C, so that a server is ended.
    """
    words = sys.argv[1:] if words is None else words
    old_handlers = {
        number: signal.signal(number, _raise_interrupt)
        for name in ("SIGTERM", "SIGHUP")
        if (number := getattr(signal, name, None)) is not None
    }
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="replace")
    try:
        args = parse(words)
        return run(args) if INSIDE in os.environ else start_inside(words)
    except SetupError as error:
        print(f"\nrun.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted", file=sys.stderr)
        return 130
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def start_inside(words: list[str]) -> int:
    """Prepare the Python environment and start run.py again inside it."""
    environment = prepare(
        Layout(), small=words[:2] == TEXTS, needs_host=words[:1] not in HOSTLESS_COMMANDS
    )
    command = [str(environment.python), str(environment.layout.repo / "run.py"), *words]
    variables = {**environment.variables(), INSIDE: "1"}
    if os.name != "nt":
        os.execve(command[0], command, variables)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child hears Ctrl-C, too, and ends its server
    return subprocess.call(command, env=variables)


def parse(words: list[str]) -> argparse.Namespace:
    """Parse run.py's command line."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="EgoX for ComfyUI: demo, tests, server, benches.",
        epilog=VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo_parser = commands.add_parser(
        "demo", help="make an ego video through ComfyUI with the small model"
    )
    demo_parser.add_argument(
        "--take",
        type=Path,
        metavar="FOLDER",
        help="a take (exo.mp4, depth.npz, meta.json) instead of the sample, previewed without a "
        "model; 49 frames at 448 px unless said otherwise",
    )
    demo_parser.add_argument("--frames", type=int, metavar="N", help="frames, 4n+1")
    demo_parser.add_argument(
        "--size", type=int, metavar="PX", help="height of exo, side of the ego picture"
    )
    demo_parser.add_argument("--steps", type=int, metavar="N", help="sampling steps")
    demo_parser.add_argument(
        "--keep-server", action="store_true", help="leave it running until Ctrl-C"
    )
    demo_parser.add_argument(
        "--stand-in",
        action="store_true",
        help="random weights: the whole graph, and a video of noise",
    )
    ui_parser = commands.add_parser("ui", help="start the server and print its address")
    for command in (demo_parser, ui_parser):
        command.add_argument("--port", type=int, help="port of the server (default: a free one)")
    own_commands = {
        "test": (
            "ruff, ty and pytest (further arguments go to pytest; --gates: no pytest; --all: the "
            "slow ones too; --browser: only those in a browser; --device cuda: those of a card; "
            "--host VERSION, --frontend VERSION: what another ComfyUI or another of its pages can "
            "break)"
        ),
        "bench": "run one of benchmarks/",
        "make": f"make what ships anew: {', '.join(MAKERS)}",
        **{name: help_text for name, (_, help_text) in MODULES.items()},
    }
    for name, help_text in own_commands.items():
        commands.add_parser(name, help=help_text, add_help=False)
    args, rest = parser.parse_known_args(words)
    if rest and args.command not in own_commands:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    args.rest = words[words.index(args.command) + 1 :]  # in its own order
    return args


def run(args: argparse.Namespace) -> int:
    """Execute a sub-command of run.py inside the environment."""
    layout = Layout()
    environment = this_environment(layout)
    if environment is None:
        if args.command in ("demo", "ui", "test"):
            raise SetupError(
                "There is no ComfyUI here and EGOX_NO_SETUP=1 forbids fetching one. "
                "Set COMFYUI_DIR to a ComfyUI folder."
            )
        environment = Environment(None, Path(sys.executable), layout)
    elif args.command == "test" or os.environ.get("EGOX_NO_SETUP") != "1":
        from .requirements import check_requirements

        is_texts = [args.command, *args.rest[:1]] == TEXTS
        check_requirements(environment, "texts" if is_texts else args.command)
    if args.command == "demo":
        from .demo import DemoOptions, run_demo

        del args.command, args.rest
        return run_demo(environment, DemoOptions(**vars(args)))
    if args.command == "ui":
        return run_ui(environment, args.port)
    if args.command == "test":
        from .testing import run_tests

        return run_tests(environment, args.rest)
    if args.command in MODULES:
        # Where the user typed it, since its paths may be relative.
        module_words = [MODULES[args.command][0], *args.rest]
        return environment.run(["-m", "tools.setup.module_run", *module_words], Path.cwd())
    bench_files = sorted((layout.repo / "benchmarks").glob("[!_]*.py"))
    bench_modules = {path.stem: f"benchmarks.{path.stem}" for path in bench_files}
    module_names = bench_modules if args.command == "bench" else MAKERS
    if not args.rest or args.rest[0] not in module_names:
        raise SetupError(f"run.py {args.command} NAME; the names are: {', '.join(module_names)}")
    return environment.run(["-m", module_names[args.rest[0]], *args.rest[1:]], Path.cwd())


def run_ui(environment: Environment, port: int | None) -> int:
    """Start the server and keep it running until Ctrl-C."""
    from .base_dir import make_base_dir, user_model_arguments
    from .server import Server

    layout = environment.layout
    base = make_base_dir(layout.base, layout)
    arguments = user_model_arguments(environment.host, base)
    with Server(
        environment, base, layout.logs / "ui_server.log", port=port, arguments=arguments
    ) as server:
        models_text = f" (and the models of {environment.host.root})" if arguments else ""
        print(
            f"ComfyUI {server.client.version()} with EgoX: {server.address}\nIts models, input and "
            f"output folders are in {base.root}{models_text}; its log is {server.log}\nCtrl-C ends "
            "it."
        )
        server.wait_for_ctrl_c()
    return 0
