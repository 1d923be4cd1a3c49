"""Runs items by one engine: item 2 kills its worker the first time, item 3 raises, item 5 kills whatever has it.

``devices`` instead: says which process had which item on which device, with how many threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

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


def where(number: int, device: str) -> tuple[int, str, int, int]:
    time.sleep(0.2)
    return number, device, os.getpid(), torch.get_num_threads()


if __name__ == "__main__":
    if sys.argv[1] == "devices":
        torch.set_num_threads(4)
        answers = [result for _, result, _ in run_items(where, range(12), devices=("cpu", "cpu:0"))]
        print("FOUND " + json.dumps(answers))
        sys.exit()
    engine, folder, count = sys.argv[1:]
    jobs = [(n, folder) for n in range(int(count))]
    found = {i: [r, e] for i, r, e in run_items(work, jobs, engine=engine, workers=2)}
    print("FOUND " + json.dumps(found, sort_keys=True))
