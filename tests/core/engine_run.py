"""Runs items by one engine: item 2 kills its worker the first time, item 3 raises, item 5 kills whatever has it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from egox_core.errors import EgoXInputError
from egox_core.parallel import run_items


def work(job: tuple[int, str]) -> int:
    number, folder = job
    mark = Path(folder) / "died"
    if number == 2 and not mark.exists():
        mark.write_text("x", encoding="utf-8")
        os._exit(9)
    if number == 3:
        raise EgoXInputError("item", got="3", expected="another", fix="none")
    if number == 5:
        os._exit(9)
    return number * number


if __name__ == "__main__":
    engine, folder, count = sys.argv[1:]
    jobs = [(n, folder) for n in range(int(count))]
    found = {i: [r, e] for i, r, e in run_items(work, jobs, engine=engine, workers=2)}
    print("FOUND " + json.dumps(found, sort_keys=True))
