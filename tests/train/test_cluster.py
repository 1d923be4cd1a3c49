"""``--engine ray`` on a real cluster of two nodes: equal to one process, whatever of it dies."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from egox_core.safe_files import read_json
from egox_train.data.manifest import read_manifest
from tests.paths import STANDIN_VAE
from tests.train.test_parallel import found_in, run_script
from train_egox import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("engine_run.py")
GENERATE = "import counted_generate, sys, train_egox; sys.exit(train_egox.main())"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them"),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed (the cluster extra)"
    ),
]
HEAD_LIMIT_S = 240


@pytest.fixture
def cluster(monkeypatch, clusters, tmp_path) -> Iterator:
    folders = filter(None, [str(ROOT), str(SCRIPT.parent), os.environ.get("PYTHONPATH")])
    for name, value in (
        ("RAY_AUTH_MODE", "disabled"),
        ("EGOX_GPU_DEVICE", "cpu"),
        ("EGOX_TEST_LOADS", str(tmp_path / "loads")),
        ("PYTHONPATH", os.pathsep.join(folders)),
    ):
        monkeypatch.setenv(name, value)
    with clusters.two_nodes() as nodes:
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes


def options(source: Path, out: Path) -> list[str]:
    words = "--depth plane --frames 5 --stride 5 --size 112x64 --validation 0.3 --test 0"
    return ["prepare", str(source), str(out), *words.split()]


def start(source: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_egox.py"), *options(source, out), "--engine", "ray"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def recordings(takes, tmp_path) -> Path:
    """Write four takes of two cameras with five clips each, and one for each kind of malformed
    annotation."""
    source = tmp_path / "raw"
    cameras = {"cam01": (112, 64), "cam02": (112, 64)}
    for number in range(4):
        takes.write_egoexo4d(source, f"take_{number}", frames=25, cameras=cameras)
    takes.write_damaged(source)
    return source


def test_a_cluster_whose_workers_die_makes_the_set_of_one_process(
    cluster, recordings, takes, tmp_path
):
    run = start(recordings, tmp_path / "cluster")
    for _ in range(2):
        cluster.kill_worker()
        time.sleep(2)
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == 0, output[-3000:]
    assert "runs on the Ray cluster at" in output and "died" in output and "2 CPUs" in output
    assert main(options(recordings, tmp_path / "one")) == 0
    ours, alone = ((tmp_path / name / "manifest.jsonl").read_bytes() for name in ("cluster", "one"))
    assert ours == alone and len(ours.splitlines()) == 40
    skipped = read_json(tmp_path / "cluster" / "report.json")["skipped"]
    assert {item for row in skipped for item in row["what"]} == {
        f"uid-{name}" for name in takes.DAMAGES
    }


def test_a_lost_head_ends_the_command_with_what_is_finished(cluster, recordings, tmp_path):
    run = start(recordings, tmp_path / "set")
    clips = tmp_path / "set" / "clips"
    deadline = time.monotonic() + 600
    while not (clips.is_dir() and sum(not p.name.startswith(".") for p in clips.iterdir()) > 8):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    cluster.kill_head()
    began = time.monotonic()
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 2 and time.monotonic() - began < HEAD_LIMIT_S, output[-3000:]
    assert (
        "error: Ray cluster: got no answer from its head" in output
        and "what is finished is kept" in output
    )
    finished = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert 0 < len(finished) < 40
    listed = [
        (tmp_path / "set" / "splits" / f"{name}.txt").read_text("utf-8").split()
        for name in ("train", "validation")
    ]
    assert sorted(sum(listed, [])) == [record.clip for record in finished]


def test_models_hold_the_gpus_and_nothing_else_does(cluster, tmp_path):
    """The model is a function that tells where it ran."""
    results = found_in(run_script("models", tmp_path))
    assert len({model for _, model, _, _ in results}) <= 2  # one process for each GPU
    assert not {worker for worker, *_ in results} & {model for _, model, _, _ in results}
    assert {gpus for *_, gpus, _ in results} == {1} and {error for *_, error in results} == {
        "item: got 1"
    }


def test_each_gpu_loads_the_model_once_and_again_only_after_a_death(cluster, tiny, tmp_path):
    """There are 40 clips on two GPUs, twice. In the second run a process is killed."""
    cache, loads = tiny.make_cache(tmp_path / "cache", 60), tmp_path / "loads"
    base = tiny.make_base(tmp_path / "base.safetensors")

    def start(name: str, *more: str) -> subprocess.Popen:
        loads.unlink(missing_ok=True)
        arguments = [cache, tmp_path / name, "--base", base, "--vae", STANDIN_VAE, *more]
        steps = ["--split", "train", "--steps", "1", "--dtype", "float32"]
        return subprocess.Popen(
            [sys.executable, "-c", GENERATE, "generate", *map(str, arguments), *steps],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def counted() -> int:
        return len(loads.read_text("utf-8").split()) if loads.exists() else 0

    def videos(run: subprocess.Popen, name: str) -> dict[str, bytes]:
        output = run.communicate(timeout=600)[0]
        assert run.returncode == 0 and "40 clips (" in output, output[-3000:]
        return {file.name: file.read_bytes() for file in (tmp_path / name).glob("[!.]*.mp4")}

    alone = videos(start("alone"), "alone")
    assert counted() == 1
    on_gpus = ("--engine", "ray", "--device", "cuda")
    assert videos(start("whole", *on_gpus), "whole") == alone and counted() == 2
    hold = tmp_path / "loads.hold"
    hold.touch()  # or the other GPU had done all before a new process is there
    run = start("killed", *on_gpus)
    for loaded in (2, 3):
        while counted() < loaded:
            assert run.poll() is None
            time.sleep(0.1)
        if loaded == 2:
            cluster.kill_worker()
    hold.unlink()
    assert videos(run, "killed") == alone and counted() == 3
