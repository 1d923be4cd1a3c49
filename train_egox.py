#!/usr/bin/env python3
"""Train an EgoX LoRA without ComfyUI: see docs/training.md. Each subcommand explains itself with
--help."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

# diffusers and transformers import both wherever they are installed, and each then warns of what
# it lacks; where one is used (base_dtype, optimizer), we say so ourselves.
for _name in ("bitsandbytes.backends.cpu.ops", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
ROOT = Path(__file__).resolve().parent
if not (ROOT / "egox_train").is_dir():
    sys.exit(
        "This copy of the pack holds the nodes alone. To train, prepare data or measure, clone the "
        'repository and run there: pip install -e ".[train]"'
    )

from egox_core.errors import EgoXInputError  # noqa: E402
from egox_train.cli.data import engine_of  # noqa: E402
from egox_train.cli.progress_line import ProgressLine  # noqa: E402
from egox_train.cli.train import COMMANDS  # noqa: E402
from egox_train.parallel import LostClusterError  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Runs one subcommand; 0, 2 for input that was refused, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="train_egox.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(name, help=command.help, description=command.help)
        )
    args = parser.parse_args(arguments)
    try:
        with engine_of(args):
            return COMMANDS[args.command].run(args, ProgressLine())
    except LostClusterError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)  # Ray's own end of the process is a crash then
    except EgoXInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder without rights: whatever was finished is whole
        print(
            f"error: {error}. What was finished before stays; mend this and start the same command again.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"error: the package {error.name} is not installed. Install the train extra: "
            f'pip install -e "{ROOT}[train]"',
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":  # workers of `prepare` and `cache` import this file anew
    sys.exit(main())
