"""One function over many items: in one process, a pool, on a Ray; no dead worker loses an item."""

import json
import os
import pickle
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import train_egox
from egox_core.errors import EgoXInputError
from egox_train.data.planned_run import _model_devices
from egox_train.data.prepare_options import PrepareOptions
from egox_train.parallel import (
    LostClusterError,
    RunPlaces,
    devices_of,
    ray_cluster,
    run_all,
    run_items,
)
from tests.paths import ROOT
from tests.refusals import refuses

RAY = RunPlaces(engine="ray", workers=2)
SCRIPT = Path(__file__).with_name("engine_run.py")


def environment() -> dict[str, str]:
    """Of a process that imports the core and the script beside this file."""
    folders = filter(None, [str(ROOT), str(SCRIPT.parent), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


def run_script(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )


def found_in(run: subprocess.CompletedProcess) -> dict[str, list]:
    """Number of item -> its result and error, as the script prints them."""
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.rpartition("FOUND ")[2].splitlines()[0])


def square(number: int) -> int:
    if number == 6:
        raise MemoryError("Unable to allocate 72.0 TiB")
    if number == 3:
        raise EgoXInputError("item", got="3", expected="another", fix="none")
    return number * number


def test_a_bad_item_stops_no_other_in_one_process():
    found = {i: (r, e) for i, r, e in run_items(square, range(8))}
    assert found[3][0] is None and "item" in found[3][1] and found[4] == (16, "")
    assert found[6] == (None, "MemoryError: Unable to allocate 72.0 TiB") and found[7] == (49, "")
    with refuses("engine"):
        list(run_items(square, [], RunPlaces(engine="slurm")))


def test_what_failed_is_named_and_progress_counts_what_was_there():
    seen = []
    failures, _ = run_all(
        square, range(5), "abcde", before=2, stage="squares", progress=lambda *a: seen.append(a)
    )
    assert list(failures) == ["d"] and failures["d"].startswith("EgoXInputError: ")
    assert seen == [(n, 7, "squares" if n < 6 else "squares, 1 failed") for n in range(3, 8)]


def test_devices_are_checked_and_handed_on(monkeypatch):
    assert devices_of("cpu, cpu:0") == ("cpu", "cpu:0") and devices_of("cuda:3,cuda:4", "ray") == (
        "cuda",
    )
    with refuses("'gpu'"):
        devices_of("gpu")
    with refuses("CUDA devices"):
        devices_of("cuda:99")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert devices_of("cuda") == ("cuda",)
    places = RunPlaces(devices=("cpu",))
    assert list(run_items(lambda item, device: (item, device), [7], places)) == [
        (0, (7, "cpu"), "")
    ]


class FakeRay(ModuleType):
    """Ray as far as :mod:`egox_train.parallel` calls it; ``asked`` is what init was given."""

    def __init__(self, **resources: float) -> None:
        super().__init__("ray")
        self.asked, self.resources = [], {"CPU": 8.0, "memory": 8.0 * 2**30, **resources}
        self.exceptions = SimpleNamespace(RayError=OSError, RayTaskError=LookupError)

    def init(self, address: str, **options) -> SimpleNamespace:
        if address == "auto":
            raise ConnectionError("Could not find any running Ray instance")
        self.asked.append((address, options))
        return SimpleNamespace(address_info={"address": address})

    def is_initialized(self) -> bool:
        return self.asked[-1:] not in ([], ["shutdown"])

    def shutdown(self) -> None:
        self.asked.append("shutdown")

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": self.resources}]

    def remote(self, **needs):
        return lambda function: SimpleNamespace(remote=lambda *given: (function, given))

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address=self.asked[-1][0])

    def wait(self, waiting: list, num_returns: int, timeout: float) -> tuple[list, list]:
        return waiting[:num_returns], waiting[num_returns:]

    def get(self, reference: tuple) -> object:
        function, given = reference
        return function(*given)


@pytest.fixture
def fake_ray(monkeypatch) -> FakeRay:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ray


@pytest.fixture
def listening() -> Iterator[str]:
    """An address at which something answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_cluster_is_joined_where_it_is_named(fake_ray, listening, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", listening)
    found = sorted(run_items(square, range(3), RunPlaces(engine="ray", workers=2)))
    assert found == [(0, 0, ""), (1, 1, ""), (2, 4, "")]
    (address, options), end = fake_ray.asked
    assert address == listening and end == "shutdown"
    assert not {"num_cpus", "num_gpus"} & options.keys()


def test_a_private_ray_is_started_only_when_asked_for(fake_ray):
    with refuses("ray start --head.*--ray-address local"):
        list(run_items(square, range(3), RAY))
    with ray_cluster("local", 3) as where:
        assert where == "a private Ray on this machine: 8 CPUs, 0 GPUs"
    (address, options), _ = fake_ray.asked
    assert address == "local" and options["num_cpus"] == 3


def test_models_larger_than_any_node_are_refused(fake_ray, listening, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", listening)
    with refuses("8.0 GB of memory.*30.0 GB"):
        list(run_items(square, range(3), replace(RAY, model_bytes=28 * 2**30)))


def test_an_address_where_nothing_answers_is_refused_at_once(fake_ray, listening):
    dead = f"{listening.rpartition(':')[0]}:1"
    for address in (dead, f"ray://{dead}"):
        with refuses("none at '.*127.0.0.1:1'"), ray_cluster(address):
            pass
    assert not fake_ray.asked  # which would try for many minutes


def test_the_command_says_on_which_cluster_it_runs(fake_ray, listening, tmp_path, capsys):
    command = ["prepare", str(tmp_path / "none"), str(tmp_path), "--ray-address", listening]
    assert train_egox.main([*command, "--engine", "ray"]) == 2  # there is no such source
    assert f"runs on the Ray cluster at {listening}: 8 CPUs, 0 GPUs" in capsys.readouterr().out
    assert train_egox.main(command) == 2 and "--engine ray" in capsys.readouterr().err


def test_a_death_on_the_cluster_is_given_out_again_and_what_cannot_come_there_is_not(
    fake_ray, listening, monkeypatch
):
    asked = Counter()

    def get(reference: tuple) -> object:
        _, number = reference[1]
        asked[number] += 1
        if number == 1:
            raise LookupError("can't be unpickled\nModuleNotFoundError: no module")
        if (number == 2 and asked[2] < 3) or number == 4:
            raise OSError("the worker died")
        return reference[0](*reference[1])

    monkeypatch.setenv("RAY_ADDRESS", listening)
    monkeypatch.setattr(fake_ray, "get", get)
    found = {index: (result, error) for index, result, error in run_items(square, range(5), RAY)}
    assert found[0] == (0, "") and found[2] == (4, "") and "item" in found[3][1]
    assert found[1] == (None, "LookupError: ModuleNotFoundError: no module")
    assert found[4] == (None, "its worker process died (OSError)")
    assert asked == {0: 1, 1: 1, 2: 3, 3: 1, 4: 3}


def test_a_head_that_is_gone_is_told_and_not_waited_for(fake_ray, monkeypatch):
    monkeypatch.setattr("egox_train.parallel.cluster.LOOK_S", 0.01)
    monkeypatch.setattr("egox_train.parallel.cluster.LOST_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def wait(waiting: list, num_returns: int, timeout: float) -> tuple[list, list]:
            server.close()
            return [], waiting

        monkeypatch.setattr(fake_ray, "wait", wait)
        with (
            pytest.raises(LostClusterError, match=f"no answer from its head at {address} for"),
            ray_cluster(address),
        ):
            list(run_items(square, range(5), RAY))
    assert fake_ray.asked[-1] != "shutdown"  # which would wait


def test_an_error_says_the_same_in_another_process():
    error = EgoXInputError("size", got=3, expected="4", fix="take 4")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is EgoXInputError and str(again) == str(error) and again.got == 3
    assert (
        type(pickle.loads(pickle.dumps(LostClusterError("a", got=1, expected=2, fix="b"))))
        is LostClusterError
    )


@pytest.mark.parametrize(("gpus", "kind"), [(4.0, "cuda"), (0.0, "cpu")])
def test_the_clusters_gpus_count_not_the_drivers(fake_ray, listening, monkeypatch, gpus, kind):
    monkeypatch.setenv("RAY_ADDRESS", listening)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus == 0)
    fake_ray.resources["GPU"] = gpus
    options = PrepareOptions(depth="model", depth_model=Path("model"))
    assert _model_devices(options, "ray") == (kind,)


@pytest.mark.slow
def test_each_worker_keeps_to_its_device_and_its_share_of_threads():
    found = [result for result, _ in found_in(run_script("devices")).values()]
    assert sorted(number for number, *_ in found) == list(range(12))
    assert {device for _, device, *_ in found} == {"cpu", "cpu:0"}
    assert len({(device, process) for _, device, process, _ in found}) == 2
    assert {threads for *_, threads in found} == {2}


@pytest.mark.slow
def test_after_a_death_the_others_stay_side_by_side(tmp_path):
    """Of the later items each two wait for each other."""
    run = run_script("meet", tmp_path)
    assert [result for result, _ in found_in(run).values()] == [True] * 8 and (
        tmp_path / "died"
    ).exists()
    assert "item 3 of 8 died" in run.stderr


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_item_with_it(tmp_path):
    found = found_in(run_script("work", tmp_path))
    assert (tmp_path / "died").exists()
    assert [found[str(i)][0] for i in (0, 1, 2, 4)] == [0, 1, 4, 16]
    assert "item" in found["3"][1] and "MemoryError" in found["6"][1]
    assert "died" in found["5"][1]  # one that always kills is given up, not tried for ever
