"""Test trainings that accelerate launches in several processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from egox_train.train.checkpoints import checkpoint_folders
from egox_train.train.config import parse_config
from egox_train.train.loop import train
from tests.paths import STANDIN_VAE

FLOAT32 = {"base_dtype": "float32", "compute_dtype": "float32"}
BFLOAT16 = {"base_dtype": "bfloat16", "compute_dtype": "bfloat16"}


def check_resuming(output: Path, run_again) -> None:
    """Check that a resumed training reproduces its last checkpoint and result."""
    tensors_before = load_file(output / "lora.safetensors")
    shutil.rmtree(checkpoint_folders(output)[-1])
    (output / "lora.safetensors").unlink()
    run_again()
    tensors_after = load_file(output / "lora.safetensors")
    assert tensors_before.keys() == tensors_after.keys() and all(
        torch.equal(tensors_before[k], tensors_after[k]) for k in tensors_before
    )


def single_process_losses(
    training_folder, tiny_training, training_processes, values: dict
) -> list[float]:
    train(parse_config({**values, "batch_size": 4, "output": str(training_folder / "one")}))
    return training_processes.read_losses(training_folder / "one")


FORKED_PAIRS = """
import multiprocessing, os, sys
from pathlib import Path
from egox_train.train import loop
from egox_train.train.config import load_config
from tests.train import fsdp2_on_cpu
from tests.twins.exo_alone import TwoPasses
from tools.setup.server import find_free_port

def run(rank, file, is_twin, flow_loss=loop.flow_loss):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    if is_twin:
        def loss_by_twin(model, scope, *more):
            print("by two passes", flush=True)
            return flow_loss(TwoPasses(model, scope), scope, *more)
        loop.flow_loss = loss_by_twin
    loop.train(load_config(Path(file)))

context = multiprocessing.get_context("fork")
for word in sys.argv[1:]:
    if "=" in word:
        os.environ.update([word.split("=")])
        continue
    os.environ.update(MASTER_PORT=str(find_free_port()))
    pair = [context.Process(target=run, args=(rank, word, "passes" in word)) for rank in (0, 1)]
    for process in pair: process.start()
    for process in pair: process.join()
    if any(process.exitcode for process in pair): sys.exit(1)
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the launched runs are slow tests")


def run_forked_pairs(training_processes, *words: str | Path) -> str:
    """Train by each configuration in two processes, by those named "passes" with the twin of
    ``exo_halves``.

    A word NAME=VALUE sets the environment of those that follow."""
    result = subprocess.run(
        [sys.executable, "-c", FORKED_PAIRS, *map(str, words)],
        cwd=training_processes.ROOT,
        text=True,
        env={
            **training_processes.ENVIRONMENT,
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
        },
        capture_output=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope="module", params=[pytest.param(FLOAT32, marks=pytest.mark.slow), BFLOAT16])
def paired_runs(request, tiny_training, training_processes, tmp_path_factory) -> tuple[Path, str]:
    """Train in two processes by all configurations of two tests, and return the folder and what was
    printed.

    One start does for both, because the imports take half of the time."""
    folder = tmp_path_factory.mktemp("paired")
    tiny_training.make_cache(folder / "cache")
    tiny_training.make_base(folder / "base.safetensors")
    shipped_file = training_processes.ROOT / "configs/accelerate_fsdp2.yaml"
    fsdp_options = yaml.safe_load(shipped_file.read_text("utf-8"))["fsdp_config"]
    fsdp_words = [
        "ACCELERATE_USE_FSDP=true",
        *(f"{name.upper().replace('_LAYER', '')}={value}" for name, value in fsdp_options.items()),
    ]
    settings = tiny_training.make_settings(folder, steps=6, batch_size=2)
    words: list[str | Path] = [training_processes.write_config(folder, "two", settings)]
    for launch, launch_words in (("ddp", []), ("fsdp2", fsdp_words)):
        parking = {"checkpoint_offload": launch == "ddp" and request.param is BFLOAT16}
        settings = tiny_training.make_settings(
            folder,
            steps=3,
            batch_size=1,
            conditioning={"exo": "alone"},
            memory=request.param | parking,
        )
        names = f"{launch}_blocks", f"{launch}_passes"
        words += launch_words
        words += [training_processes.write_config(folder, n, settings) for n in names]
    return folder, run_forked_pairs(training_processes, *words)


@needs_fork
def test_exo_alone_in_two_processes_equals_two_passes_bit_for_bit(paired_runs, tiny_training):
    """Check losses, norms of the gradients, and the weights after three steps, by DDP with the
    checkpoints parked and by FSDP2."""
    folder, printed = paired_runs
    assert printed.count("by two passes") == 2 * 2 * 3
    # Of the run whose losses are those of one process, too.
    assert printed.count("FSDP2 False, 0 of") == 2 + 4 and printed.count("FSDP2 True, ") == 4
    assert "FSDP2 True, 0 of" not in printed
    for launch in ("ddp", "fsdp2"):
        (curve, lora), (twin_curve, twin_lora) = (
            (
                tiny_training.read_log(folder / f"{launch}_{name}"),
                load_file(folder / f"{launch}_{name}" / "lora.safetensors"),
            )
            for name in ("blocks", "passes")
        )
        assert len(curve) == 3 and curve == twin_curve and lora.keys() == twin_lora.keys()
        for name, tensor in lora.items():
            assert float(tensor.abs().max()) > 0 and torch.equal(tensor, twin_lora[name]), name


@needs_fork
def test_two_processes_have_the_losses_of_one(paired_runs, tiny_training, training_processes):
    """Check that training in two processes has the losses of one process."""
    folder, _ = paired_runs
    settings = tiny_training.make_settings(folder, steps=6)
    half_output = folder / "half"
    train(parse_config({**settings, "batch_size": 2, "steps": 1, "output": str(half_output)}))
    single_losses = single_process_losses(folder, tiny_training, training_processes, settings)
    pair_losses, half_losses = map(training_processes.read_losses, (folder / "two", half_output))
    # The same samples, noise and levels; sums are taken in another order.
    assert pair_losses == pytest.approx(single_losses, rel=1e-3) and len(pair_losses) == 6
    assert single_losses[0] != half_losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("memory", [FLOAT32, BFLOAT16])
def test_sharded_training_equals_one_process(
    training_folder, tiny_training, training_processes, memory
):
    """Check that FSDP2 training in two processes equals training in one.

    Three held-out clips are shared unevenly, and sampled.
    """
    pytest.importorskip("torchmetrics")
    settings = tiny_training.make_settings(
        training_folder,
        memory=memory,
        checkpoint={"every": 4, "keep": 2},
        validation={"every": 4, "clips": 3, "sample_steps": 2, "vae": str(STANDIN_VAE)},
    )
    tiny_training.make_cache(training_folder / "cache", clips=9)  # three of them held out
    settings |= {"batch_size": 1, "gradient_accumulation": 2} if memory is BFLOAT16 else {}
    config = training_processes.write_config(training_folder, "two", settings)

    def run() -> str:
        start_script = Path(__file__).with_name("fsdp2_on_cpu.py")
        return training_processes.run_two_processes(
            "accelerate_fsdp2.yaml", config, front=start_script
        )

    output = run()
    assert "FSDP2 True, " in output and "FSDP2 True, 0 of" not in output
    single_losses = single_process_losses(
        training_folder, tiny_training, training_processes, {**settings, "gradient_accumulation": 1}
    )
    losses = training_processes.read_losses(training_folder / "two")
    assert losses == pytest.approx(single_losses, rel=1e-3)
    (single,), (sharded,) = (
        [x for x in tiny_training.read_log(training_folder / name) if "validation/loss" in x]
        for name in ("one", "two")
    )
    names = {f"validation/{name}" for name in ("loss", "zero", "psnr", "ssim")}
    assert single.keys() == sharded.keys() == {"step"} | names
    assert sharded["validation/loss"] == pytest.approx(single["validation/loss"], rel=1e-3)
    check_resuming(training_folder / "two", run)
