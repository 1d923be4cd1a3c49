"""One function over many items: in one process, a pool, a local Ray; none of them loses an item to a worker's death."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from egox_core.errors import EgoXInputError
from egox_core.parallel import devices_of, ray_needs, run_all, run_items

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = Path(__file__).with_name("engine_run.py")
ENGINES = ["local", pytest.param("ray", marks=pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (the cluster extra)"))]


def square(number: int) -> int:
    if number == 3:
        raise EgoXInputError("item", got="3", expected="another", fix="none")
    return number * number


def test_a_bad_item_stops_no_other_in_one_process():
    found = {i: (r, e) for i, r, e in run_items(square, range(5))}
    assert found[3][0] is None and "item" in found[3][1] and found[4] == (16, "")
    with pytest.raises(EgoXInputError, match="engine"):
        list(run_items(square, [], engine="slurm"))


def test_what_failed_is_named_and_progress_counts_what_was_there():
    seen = []
    failures = run_all(square, range(5), "abcde", before=2, stage="squares", progress=lambda *a: seen.append(a))
    assert len(failures) == 1 and failures[0].startswith("d: EgoXInputError: ")
    assert seen == [(n, 7, "squares") for n in range(3, 8)]


def test_devices_are_checked_and_handed_on():
    assert devices_of("cpu, cpu:0") == ("cpu", "cpu:0") and devices_of("cuda:3,cuda:4", "ray") == ("cuda",)
    with pytest.raises(EgoXInputError, match="'gpu'"):
        devices_of("gpu")
    with pytest.raises(EgoXInputError, match="CUDA devices"):
        devices_of("cuda:99")
    assert list(run_items(lambda item, device: (item, device), [7], devices=("cpu",))) == [(0, (7, "cpu"), "")]
    assert ray_needs(("cuda",)) == {"num_cpus": 1, "num_gpus": 1} and ray_needs(("cpu",))["num_gpus"] == 0


@pytest.mark.slow
def test_each_worker_keeps_to_its_device_and_its_share_of_threads():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(SCRIPT.parent)))}
    run = subprocess.run([sys.executable, str(SCRIPT), "devices"], env=environment, capture_output=True, text=True,
                         timeout=400)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(next(x for x in run.stdout.splitlines() if x.startswith("FOUND ")).removeprefix("FOUND "))
    assert sorted(number for number, *_ in found) == list(range(12))
    assert {device for _, device, *_ in found} == {"cpu", "cpu:0"}
    assert len({(device, process) for _, device, process, _ in found}) == 2
    assert {threads for *_, threads in found} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_dies_takes_no_item_with_it(engine, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
        filter(None, [str(ROOT), str(SCRIPT.parent), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, str(SCRIPT), engine, str(tmp_path), "6"], env=environment,
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(x for x in done.stdout.splitlines() if x.startswith("FOUND ")).removeprefix("FOUND "))
    assert (tmp_path / "died").exists()
    assert [found[str(i)][0] for i in (0, 1, 2, 4)] == [0, 1, 4, 16]
    assert "item" in found["3"][1] and "died" in found["5"][1]  # one that always kills is given up, not tried for ever
