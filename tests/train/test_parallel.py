"""Test that a function runs on many items in worker processes that may die."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egox_core.errors import EgoXInputError
from egox_train.parallel import (
    LostClusterError,
    WorkerPlan,
    parse_devices,
    run_all,
    run_items,
)
from tests.paths import ROOT
from tests.refusals import refuses

SCRIPT = Path(__file__).with_name("engine_run.py")


HOLD = """
import runpy, signal, sys
from pathlib import Path
_, script, folder = sys.argv
signal.signal(signal.SIGINT, signal.default_int_handler)
(Path(folder) / "begun").touch()
sys.argv = [script, "hold", folder]
try: runpy.run_path(script, run_name="__main__")
except KeyboardInterrupt: sys.exit(130)
"""


def environment() -> dict[str, str]:
    """Build the environment variables for a Python process of the test."""
    import_folders = filter(None, [str(ROOT), str(SCRIPT.parent), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(import_folders)}


def run_script(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )


def results_by_number(process: subprocess.CompletedProcess) -> dict[str, list]:
    """Read each item's result or error from a process's output."""
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.rpartition("FOUND ")[2].splitlines()[0])


def square(number: int) -> int:
    if number == 6:
        raise MemoryError("Unable to allocate 72.0 TiB")
    if number == 3:
        raise EgoXInputError("item", got="3", expected="another", fix="none")
    return number * number


def test_failed_item_stops_no_other_item():
    results = {i: (r, e) for i, r, e in run_items(square, range(8))}
    assert results[3][0] is None and "item" in results[3][1] and results[4] == (16, "")
    assert results[6] == (None, "MemoryError: Unable to allocate 72.0 TiB") and results[7] == (
        49,
        "",
    )
    with refuses("engine"):
        list(run_items(square, [], WorkerPlan(engine="slurm")))


def test_failures_are_named_and_progress_counts_finished_items():
    calls = []
    failures, _ = run_all(
        square, range(5), "abcde", finished_count=2, stage="x", progress=lambda *a: calls.append(a)
    )
    assert list(failures) == ["d"] and failures["d"].startswith("EgoXInputError: ")
    assert calls == [(n, 7, "x" if n < 6 else "x, 1 failed") for n in range(3, 8)]


def test_devices_are_checked_and_passed_to_workers(monkeypatch):
    assert parse_devices("cpu, cpu:0") == ("cpu", "cpu:0") and parse_devices(
        "cuda:3,cuda:4", "ray"
    ) == ("cuda",)
    with refuses("'gpu'"):
        parse_devices("gpu")
    with refuses("CUDA devices"):
        parse_devices("cuda:99")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert parse_devices("cuda") == ("cuda",)
    worker_plan = WorkerPlan(devices=("cpu",))
    assert list(run_items(lambda item, device: (item, device), [7], worker_plan)) == [
        (0, (7, "cpu"), "")
    ]


@pytest.mark.parametrize("kind", [EgoXInputError, LostClusterError])
def test_errors_keep_their_text_in_another_process(kind):
    error = kind("size", got=3, expected="4", fix="take 4")
    unpickled_error = pickle.loads(pickle.dumps(error))
    assert type(unpickled_error) is kind
    assert (str(unpickled_error), unpickled_error.got) == (str(error), 3)


@pytest.mark.slow
def test_workers_use_their_device_and_share_of_threads():
    results = [result for result, _ in results_by_number(run_script("devices")).values()]
    assert sorted(number for number, *_ in results) == list(range(12))
    assert {device for _, device, *_ in results} == {"cpu", "cpu:0"}
    assert len({(device, process) for _, device, process, _ in results}) == 2
    assert {threads for *_, threads in results} == {2}


@pytest.mark.slow
def test_workers_stay_parallel_after_a_death(tmp_path):
    """Check that items still run in parallel after a worker process has died."""
    completed = run_script("meet", tmp_path)
    assert [result for result, _ in results_by_number(completed).values()] == [True] * 8 and (
        tmp_path / "died"
    ).exists()
    assert "item 3 of 8 died" in completed.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_ctrl_c_ends_workers_without_a_word_and_what_they_had_begun(tmp_path):
    """Interrupt all processes, as a terminal does, while workers begin or are at an item."""
    for begun_count in range(3):
        folder = tmp_path / str(begun_count)
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(SCRIPT), str(folder)],
            env=environment(),
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        ) as process:
            while len(list(folder.glob("*"))) <= begun_count and process.poll() is None:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            _, written = process.communicate(timeout=60)
        assert (process.returncode, written) == (130, "")
        assert [path.name for path in folder.iterdir()] == ["begun"]


@pytest.mark.slow
def test_items_of_a_dead_worker_are_run_again(tmp_path):
    results = results_by_number(run_script("work", tmp_path))
    assert (tmp_path / "died").exists()
    assert [results[str(i)][0] for i in (0, 1, 2, 4)] == [0, 1, 4, 16]
    assert "item" in results["3"][1] and "MemoryError" in results["6"][1]
    assert "died" in results["5"][1]  # one that always kills is given up, not tried for ever
