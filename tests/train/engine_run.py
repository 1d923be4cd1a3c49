"""Run items in two worker processes, where some items fail, kill their worker or exhaust memory.

``models``: on a cluster, says which process had an item, and which one its model and how many
GPUs.
``devices``: says which process had which item on which device, with how many threads.
``hold``: items make a file and wait; what breaks them off has the time to remove it.
``meet``: one process dies once, and of later items each two wait for each other; says which met.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from egox_core.errors import EgoXInputError
from egox_train.parallel import (
    RemoteModels,
    WorkerPlan,
    on_device,
    ray_cluster,
    remote_models,
    run_items,
)

PATIENCE_S = 100  # a process needs half a minute to start on a busy machine


def die_once(number: int, folder: str) -> None:
    death_mark = Path(folder) / "died"
    if number == 2 and not death_mark.exists():
        death_mark.write_text("x", "utf-8")
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


def worker_place(number: int, device: str) -> tuple[int, str, int, int]:
    time.sleep(0.2)
    return number, device, os.getpid(), torch.get_num_threads()


def wait_for_partner(job: tuple[int, str]) -> bool:
    number, folder = job
    die_once(number, folder)
    (Path(folder) / f"begun{number}").touch()
    partner_mark, deadline = Path(folder) / f"begun{number ^ 1}", time.monotonic() + PATIENCE_S
    while number >= 4 and not partner_mark.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return number < 4 or partner_mark.exists()


def hold_file(job: tuple[int, str]) -> None:
    number, folder = job
    half_made = Path(folder) / f"half{number}"
    try:
        half_made.touch()
        time.sleep(PATIENCE_S)
    finally:
        time.sleep(0.5)
        half_made.unlink()


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


if __name__ == "__main__":
    name, *folder = sys.argv[1:]
    if name == "models":
        with ray_cluster(), remote_models("ray", ("cuda",)) as models:
            run = run_items(
                partial(with_model, models=models), [2, 4, 6, 8], WorkerPlan(engine="ray")
            )
            print("FOUND " + json.dumps([result for _, result, _ in run]))
        sys.exit()
    if name == "devices":
        torch.set_num_threads(4)
        run = run_items(worker_place, range(12), WorkerPlan(devices=("cpu", "cpu:0")))
    else:
        function, count = {
            "hold": (hold_file, 3),
            "meet": (wait_for_partner, 8),
            "work": (work, 7),
        }[name]
        run = run_items(function, [(n, *folder) for n in range(count)], WorkerPlan(workers=2))
    found = {index: [result, error] for index, result, error in run}
    print("FOUND " + json.dumps(found, sort_keys=True))
