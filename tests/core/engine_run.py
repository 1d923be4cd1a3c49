"""Runs items by one engine: item 2 kills its worker the first time, item 3 raises, item 5 kills whatever has it.

``devices`` instead: says which process had which item on which device, with how many threads.
``meet``: one process dies once, and of later items each two wait for each other; says which met.
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

PATIENCE_S = 100  # a process needs half a minute to start on a busy machine


def die_once(number: int, folder: str) -> None:
    mark = Path(folder) / "died"
    if number == 2 and not mark.exists():
        mark.write_text("x", encoding="utf-8")
        os._exit(9)


def work(job: tuple[int, str]) -> int:
    number, folder = job
    die_once(number, folder)
    if number == 3:
        raise EgoXInputError("item", got="3", expected="another", fix="none")
    if number == 5:
        os._exit(9)
    return number * number


def where(number: int, device: str) -> tuple[int, str, int, int]:
    time.sleep(0.2)
    return number, device, os.getpid(), torch.get_num_threads()


def meet(job: tuple[int, str]) -> bool:
    number, folder = job
    die_once(number, folder)
    (Path(folder) / f"begun{number}").touch()
    partner, until = Path(folder) / f"begun{number ^ 1}", time.monotonic() + PATIENCE_S
    while number >= 4 and not partner.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return number < 4 or partner.exists()


if __name__ == "__main__":
    if sys.argv[1] == "meet":
        jobs = [(number, sys.argv[2]) for number in range(8)]
        print("FOUND " + json.dumps([result for _, result, _ in run_items(meet, jobs, workers=2)]))
        sys.exit()
    if sys.argv[1] == "devices":
        torch.set_num_threads(4)
        answers = [result for _, result, _ in run_items(where, range(12), devices=("cpu", "cpu:0"))]
        print("FOUND " + json.dumps(answers))
        sys.exit()
    engine, folder, count = sys.argv[1:]
    jobs = [(n, folder) for n in range(int(count))]
    found = {i: [r, e] for i, r, e in run_items(work, jobs, engine=engine, workers=2)}
    print("FOUND " + json.dumps(found, sort_keys=True))
