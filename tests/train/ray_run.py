"""Runs items over a local two-worker Ray; item 2 kills its worker the first time, item 3 raises."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from egox_core.data.engine import run_items
from egox_core.errors import EgoXInputError


def work(job: tuple[int, str]) -> int:
    number, folder = job
    mark = Path(folder) / "died"
    if number == 2 and not mark.exists():
        mark.write_text("x", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        raise EgoXInputError("item", got="3", expected="another", fix="none")
    return number * number


if __name__ == "__main__":
    jobs = [(n, sys.argv[1]) for n in range(6)]
    found = {i: [r, e] for i, r, e in run_items(work, jobs, engine="ray", workers=2)}
    print("FOUND " + json.dumps(found, sort_keys=True))
