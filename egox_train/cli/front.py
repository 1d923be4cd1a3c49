"""Dispatch ``train_egox.py`` to its subcommands, and turn exceptions into exit codes."""

import argparse
import io
import os
import sys
from pathlib import Path

from egox_core.errors import EgoXInputError, this_python
from egox_core.safe_files import require_there, require_writable

from ..parallel import LostClusterError
from .advice import given_paths, in_flags
from .data import ray_connection
from .info_log import print_info_log
from .launch import PROGRAM, check_launcher, launched_words
from .progress_line import ProgressLine
from .train import COMMANDS

# Read when torch is imported: threads that spin while they wait take a busy machine's time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
PROGRAM_DESCRIPTION = (
    "Train an EgoX LoRA without ComfyUI: see docs/training.md. "
    "Each subcommand explains itself with --help."
)


class DefaultsInHelp(argparse.HelpFormatter):
    """Add an option's default to its help, where the text doesn't tell it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        help_text = action.help or ""
        default_value = action.default
        if default_value in ("", (), argparse.SUPPRESS) or "default" in help_text:
            return help_text
        if isinstance(default_value, tuple):
            separator = "/" if "/" in str(action.metavar) else "x"
            default_value = separator.join(map(str, default_value))
        if isinstance(default_value, bool) or not isinstance(default_value, str | float | int):
            return help_text
        return f"{help_text} (default: {default_value})"


def check_paths(args: argparse.Namespace) -> None:
    """Refuse files and folders that a command reads and that aren't there.

    Raises:
        EgoXInputError: names the first of them.
    """
    for name, value in vars(args).items():
        if name not in COMMANDS[args.command].not_there:
            for path in given_paths(name, value):
                require_there(path, name)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse a command line, or end with its usage."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=PROGRAM_DESCRIPTION)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            subparsers.add_parser(
                name,
                help=command.help,
                description=command.help,
                formatter_class=DefaultsInHelp,
            )
        )
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what a command can't begin with, before torch and its friends are imported.

    Raises:
        EgoXInputError: files that aren't there, a folder that can't be written to; of ``launch``
            also what it launches.
    """
    check_paths(args)
    is_read_only = getattr(args, "dry_run", False) or getattr(args, "check", False)
    if isinstance(getattr(args, "out", None), Path) and not is_read_only:
        is_file = getattr(args, "point", None) is not None  # calibrate writes one camera's JSON
        require_writable(args.out.parent if is_file else args.out, "output folder")
    if args.command == "launch":
        check_launcher(args.launcher)
        words = launched_words(args.launcher)
        if words is not None:
            check_arguments(parse(words))


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand of ``train_egox.py``, and return its exit code."""
    args = parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may have letters that the console lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    print_info_log()
    try:
        check_arguments(args)
        with ray_connection(args):
            return COMMANDS[args.command].run(args, ProgressLine())
    except LostClusterError as error:
        print(f"error: {in_flags(error, args)}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)  # Ray's own end of the process is a crash then
    except EgoXInputError as error:
        print(f"error: {in_flags(error, args)}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder without rights: whatever was finished is whole
        print(
            f"error: {error}. Finished clips are kept: mend this, then run the same command again.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues from here", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"error: the package {error.name} is not installed. Install the train extra: "
            f'{this_python()} -m pip install -e "{ROOT}[train]"',
            file=sys.stderr,
        )
        return 2
