"""Test ``--engine ray`` on a cluster whose processes die."""

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
from tests.train.test_parallel import results_by_number, run_script
from train_egox import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("engine_run.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them"),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed (the cluster extra)"
    ),
]
HEAD_LIMIT_S = 240


@pytest.fixture
def cluster(monkeypatch, clusters) -> Iterator:
    import_folders = filter(None, [str(ROOT), str(SCRIPT.parent), os.environ.get("PYTHONPATH")])
    for name, value in (
        ("RAY_AUTH_MODE", "disabled"),
        ("EGOX_GPU_DEVICE", "cpu"),
        ("PYTHONPATH", os.pathsep.join(import_folders)),
    ):
        monkeypatch.setenv(name, value)
    with clusters.two_nodes() as nodes:
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes


def prepare_arguments(source: Path, out: Path) -> list[str]:
    option_text = "--depth plane --frames 5 --stride 5 --size 112x64 --validation 0.3 --test 0"
    return ["prepare", str(source), str(out), *option_text.split()]


def start_prepare(source: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "train_egox.py"),
            *prepare_arguments(source, out),
            "--engine",
            "ray",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def raw_takes_folder(take_writers, tmp_path) -> Path:
    """Write small takes, among them some with damaged annotations."""
    raw_folder = tmp_path / "raw"
    cameras = {"cam01": (112, 64), "cam02": (112, 64)}
    for number in range(4):
        take_writers.write_egoexo4d(raw_folder, f"take_{number}", frames=25, cameras=cameras)
    take_writers.write_damaged(raw_folder)
    return raw_folder


def test_cluster_with_dying_workers_makes_the_same_set(
    cluster, raw_takes_folder, take_writers, tmp_path
):
    process = start_prepare(raw_takes_folder, tmp_path / "cluster")
    for _ in range(2):
        cluster.kill_worker()
        time.sleep(2)
    output = process.communicate(timeout=1200)[0]
    assert process.returncode == 0, output[-3000:]
    assert "runs on the Ray cluster at" in output and "died" in output and "2 CPUs" in output
    assert main(prepare_arguments(raw_takes_folder, tmp_path / "one")) == 0
    cluster_manifest, single_manifest = (
        (tmp_path / name / "manifest.jsonl").read_bytes() for name in ("cluster", "one")
    )
    assert cluster_manifest == single_manifest and len(cluster_manifest.splitlines()) == 40
    skipped = read_json(tmp_path / "cluster" / "report.json")["skipped"]
    assert {item for row in skipped for item in row["what"]} == {
        f"uid-{name}" for name in take_writers.DAMAGES
    }


def test_lost_cluster_head_ends_the_command_and_keeps_clips(cluster, raw_takes_folder, tmp_path):
    process = start_prepare(raw_takes_folder, tmp_path / "set")
    clip_folder = tmp_path / "set" / "clips"
    deadline = time.monotonic() + 600
    while not (
        clip_folder.is_dir() and sum(not p.name.startswith(".") for p in clip_folder.iterdir()) > 8
    ):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    cluster.kill_head()
    start_time = time.monotonic()
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2 and time.monotonic() - start_time < HEAD_LIMIT_S, output[-3000:]
    assert (
        "error: Ray cluster: got no answer from its head" in output
        and "finished parts are kept" in output
    )
    finished_records = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert 0 < len(finished_records) < 40
    listed_clips = [
        (tmp_path / "set" / "splits" / f"{name}.txt").read_text("utf-8").split()
        for name in ("train", "validation")
    ]
    assert sorted(sum(listed_clips, [])) == [record.clip for record in finished_records]


def test_only_model_processes_use_the_gpus(cluster, tmp_path):
    """Check that only processes that hold a model occupy a GPU."""
    results = results_by_number(run_script("models", tmp_path))
    assert len({model for _, model, _, _ in results}) <= 2  # one process for each GPU
    assert not {worker for worker, *_ in results} & {model for _, model, _, _ in results}
    assert {gpus for *_, gpus, _ in results} == {1} and {error for *_, error in results} == {
        "item: got 1"
    }
