"""Run a launcher such as torchrun, and make its training processes save a checkpoint on stop
signals."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from egox_core.errors import EgoXInputError
from egox_core.safe_files import require_there

from ..train.stop_request import STOP_FILE_VARIABLE, STOP_SIGNALS, stop_with_parent

PROGRAM = "train_egox.py"
SIGNAL_EXIT_BASE = 128  # plus the signal: the exit code that shells give


def launch(command: Sequence[str]) -> int:
    """Run a launcher's ``command``, pass stop signals to its training processes, and return the
    exit code.

    The launchers answer a signal by ending what they started: accelerate at once, torchrun after
    half a minute, both with a code that isn't 0. So they get none: the processes look for a file
    instead, after each step. A second Ctrl-C ends the launcher.

    Raises:
        OSError: a command that can't be run.
    """
    with tempfile.TemporaryDirectory(prefix="egox-") as folder:
        stop_file = Path(folder) / "stop"
        posix_options: dict[str, Any] = (
            {"preexec_fn": stop_with_parent} if os.name == "posix" else {}
        )
        process = subprocess.Popen(
            command,
            env={**os.environ, STOP_FILE_VARIABLE: str(stop_file)},
            start_new_session=True,
            **posix_options,
        )

        def request_stop(signal_number: int, frame: FrameType | None) -> None:
            if signal_number == signal.SIGINT and stop_file.exists():
                process.terminate()
            stop_file.touch()

        old_handlers = {number: signal.signal(number, request_stop) for number in STOP_SIGNALS}
        try:
            exit_code = process.wait()
        finally:
            for number, old_handler in old_handlers.items():
                signal.signal(number, old_handler)
    return exit_code if exit_code >= 0 else SIGNAL_EXIT_BASE - exit_code


def check_launcher(command: Sequence[str]) -> None:
    """Refuse a launcher that isn't there, before it takes its time to say so of what it launches.

    Raises:
        EgoXInputError: no command, or a launcher or its configuration that isn't there.
    """
    example = (
        "as in: train_egox.py launch accelerate launch --config_file "
        "configs/accelerate_ddp.yaml train_egox.py train --config FILE"
    )
    if not command or shutil.which(command[0]) is None:
        raise EgoXInputError(
            "launch",
            got=f"{command[0]!r}, which isn't there" if command else "no command",
            expected="a launcher with its arguments",
            fix=example,
        )
    for word, value in pairwise(command):
        if word == "--config_file":
            require_there(Path(value), word)


def launched_words(command: Sequence[str]) -> list[str] | None:
    """Return what follows ``train_egox.py`` in a launcher's command, None without it."""
    for index, word in enumerate(command):
        if Path(word).name == PROGRAM:
            require_there(Path(word), PROGRAM)
            return list(command[index + 1 :])
    return None
