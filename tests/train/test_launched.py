"""The shipped accelerate configurations, launched: each trains as one process does, and goes on
where it stopped."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egox_core.safe_files import read_json
from egox_train.train.checkpoints import checkpoint_folders
from egox_train.train.config import parse_config
from egox_train.train.loop import train
from tests.paths import STANDIN_VAE

BFLOAT16 = {"base_dtype": "bfloat16", "compute_dtype": "bfloat16"}


def goes_on_alike(output: Path, run_again) -> None:
    """Check that the same command makes the same last checkpoint and result again after they were
    deleted."""
    before = load_file(output / "lora.safetensors")
    shutil.rmtree(checkpoint_folders(output)[-1])
    (output / "lora.safetensors").unlink()
    run_again()
    after = load_file(output / "lora.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def curve_of_one(workplace, tiny, launching, values: dict) -> list[float]:
    train(parse_config({**values, "batch_size": 4, "output": str(workplace / "one")}))
    return launching.losses(workplace / "one")


PAIR = """
import multiprocessing, os, sys
from pathlib import Path
from egox_train.train.config import load_config
from egox_train.train.loop import train

def run(rank):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    train(load_config(Path(sys.argv[1])))

context = multiprocessing.get_context("fork")
processes = [context.Process(target=run, args=(rank,)) for rank in (0, 1)]
for process in processes: process.start()
for process in processes: process.join()
sys.exit(max(abs(process.exitcode) for process in processes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the launched runs are slow tests")
def test_two_processes_give_the_curve_of_one_with_the_same_global_batch(workplace, tiny, launching):
    """They are forked, so that two of them import once. The slow tests go through the launchers."""
    values = tiny.settings(workplace, steps=6)
    config = launching.write(workplace, "two", {**values, "batch_size": 2})
    pair = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(launching.free_port()),
        "ACCELERATE_USE_CPU": "true",
    }
    run = subprocess.run(
        [sys.executable, "-c", PAIR, str(config)],
        cwd=launching.ROOT,
        text=True,
        env={**launching.ENVIRONMENT, **pair},
        capture_output=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    train(parse_config({**values, "batch_size": 2, "steps": 1, "output": str(workplace / "half")}))
    one, two = curve_of_one(workplace, tiny, launching, values), launching.losses(workplace / "two")
    assert len(one) == len(two) == 6 and one[0] != launching.losses(workplace / "half")[0]
    # The same samples, noise and levels; sums are taken in another order.
    assert max(abs(a - b) / a for a, b in zip(one, two, strict=True)) < 1e-3


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one(workplace, tiny, launching):
    """Offloaded checkpoints, average, accumulation and validation too, against one process without
    any of it."""
    shared = tiny.settings(
        workplace,
        validation={"every": 4, "clips": 3},
        optimizer={"warmup_steps": 2, "learning_rate": 1e-2, "decay": "constant"},
    )  # which doesn't hang on ``steps``
    values = {
        **shared,
        "batch_size": 1,
        "gradient_accumulation": 2,
        "ema_decay": 0.9,
        "memory": {**shared["memory"], "checkpoint_offload": True},
    }
    launching.launch(
        "accelerate_ddp.yaml", launching.write(workplace, "two", {**values, "steps": 4})
    )
    outcome = train(parse_config({**values, "steps": 8, "output": str(workplace / "two")}))
    assert outcome.finished
    train(parse_config({**shared, "steps": 8, "batch_size": 4, "output": str(workplace / "one")}))
    one, two = (tiny.curve(workplace / name) for name in ("one", "two"))
    assert (
        [line["step"] for line in one]
        == [line["step"] for line in two]
        == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    )
    for a, b in zip(one, two, strict=True):
        key = "loss" if "loss" in a else "validation/loss"
        assert abs(a[key] - b[key]) / a[key] < 1e-3  # sums are taken in another order
    state = read_json(checkpoint_folders(workplace / "two")[-1] / "state.json")
    assert (state["global_batch"], state["config"]["gradient_accumulation"]) == (4, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "memory", [{"base_dtype": "float32", "compute_dtype": "float32"}, BFLOAT16]
)
def test_shards(workplace, tiny, launching, memory):
    """FSDP2 runs on gloo, with accelerate's refusal of CPUs lifted, also with a base in another
    dtype than the LoRA.

    Three held-out clips are shared unevenly, and sampled where torchmetrics is installed.
    """
    sampled = {"sample_steps": 2, "vae": str(STANDIN_VAE)}
    if importlib.util.find_spec("torchmetrics") is None:
        sampled = {}
    values = tiny.settings(
        workplace,
        memory=memory,
        checkpoint={"every": 4, "keep": 2},
        validation={"every": 4, "clips": 3, **sampled},
    )
    tiny.make_cache(workplace / "cache", clips=9)  # three of them held out
    values |= {"batch_size": 1, "gradient_accumulation": 2} if memory is BFLOAT16 else {}
    config = launching.write(workplace, "two", values)

    def run() -> str:
        front = Path(__file__).with_name("fsdp2_on_cpu.py")
        return launching.launch("accelerate_fsdp2.yaml", config, front=front)

    output = run()
    assert "FSDP2 True, " in output and "FSDP2 True, 0 of" not in output
    one = curve_of_one(workplace, tiny, launching, {**values, "gradient_accumulation": 1})
    assert (
        max(abs(a - b) / a for a, b in zip(one, launching.losses(workplace / "two"), strict=True))
        < 1e-3
    )
    (alone,), (shared,) = (
        [line for line in tiny.curve(workplace / name) if "validation/loss" in line]
        for name in ("one", "two")
    )
    assert (
        alone.keys()
        == shared.keys()
        == {"step", "validation/loss", "validation/zero"}
        | ({"validation/psnr", "validation/ssim"} if sampled else set())
    )
    assert (
        abs(alone["validation/loss"] - shared["validation/loss"]) / alone["validation/loss"] < 1e-3
    )
    goes_on_alike(workplace / "two", run)
