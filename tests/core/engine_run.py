"""Runs items by one engine: item 2 kills its worker the first time, item 3 raises, item 5 kills
whatever has it, item 6 asks for more memory than there is.

``devices`` instead: says which process had which item on which device, with how many threads.
``models``: on a cluster, says which process had an item, and which one its model and how many GPUs.
``timed``: the seconds that slow items take, in a folder ``broken`` with one death.
``meet``: one process dies once, and of later items each two wait for each other; says which met.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from egox_core.errors import EgoXInputError
from egox_core.parallel import RemoteModels, on_device, ray_cluster, remote_models, run_items

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
    if number == 6:
        return int(np.zeros(9 * 2**43, np.float64).sum())
    return number * number


def where(number: int, device: str) -> tuple[int, str, int, int]:
    time.sleep(0.2)
    return number, device, os.getpid(), torch.get_num_threads()


def ask_model(number: int, device: str) -> tuple[int, int]:
    import ray

    if number == 1:
        raise EgoXInputError("item", got="1", expected="another", fix="none")
    return os.getpid(), len(ray.get_gpu_ids())


def with_model(number: int, models: RemoteModels) -> tuple[int, int, int, str]:
    try:
        on_device(models, ask_model, 1)
    except EgoXInputError as error:
        return os.getpid(), *on_device(models, ask_model, number), str(error).split(";")[0]


def slow(job: tuple[int, str]) -> int:
    """Longer than a process takes to start, all together."""
    number, folder = job
    if Path(folder).name == "broken":
        die_once(number, folder)
    time.sleep(4.0)
    return number


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
    if sys.argv[1] == "timed":
        folder = Path(sys.argv[2])
        folder.mkdir()
        began = time.monotonic()
        jobs = [(number, str(folder)) for number in range(int(sys.argv[3]))]
        done = [result for _, result, _ in run_items(slow, jobs, workers=2)]
        print(
            "FOUND "
            + json.dumps(
                time.monotonic() - began if sorted(done) == list(range(len(done))) else -1.0
            )
        )
        sys.exit()
    if sys.argv[1] == "models":
        with ray_cluster(), remote_models("ray", ("cuda",)) as models:
            run = run_items(partial(with_model, models=models), [2, 4, 6, 8], engine="ray")
            print("FOUND " + json.dumps([result for _, result, _ in run]))
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
