"""Test the training loop on the CPU."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from egox_core.gga import ExoCache
from egox_core.safe_files import read_json, write_json
from egox_core.video import probe_video
from egox_train.data.cache_store import EMPTY_CAPTION, shard_header, write_shard
from egox_train.train.checkpoints import checkpoint_folders
from egox_train.train.config import parse_config
from egox_train.train.loop import train
from egox_train.train.model import make_optimizer
from egox_train.train.samples import CachedSamples, TrainingItem
from egox_train.train.step_log import bucket_losses
from tests.full_disk import limit_file_size
from tests.paths import STANDIN_VAE, read_folder_files
from tests.refusals import refuses

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9"
)


class SimulatedKill(Exception):
    """Exception that simulates a killed process."""


def raise_killed_at(step: int):
    def progress(done: int, total: int, stage: str) -> None:
        if done == step:
            raise SimulatedKill

    return progress


def load_trained(output: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint_folders(output)[-1] / "trainable.safetensors")


def tensors_equal(
    first_tensors: dict[str, torch.Tensor], second_tensors: dict[str, torch.Tensor]
) -> bool:
    return first_tensors.keys() == second_tensors.keys() and all(
        torch.equal(first_tensors[name], second_tensors[name]) for name in first_tensors
    )


@pytest.mark.parametrize(
    "changed_settings",
    [
        {},
        {
            "ema_decay": 0.9,
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.2},
            "gradient_accumulation": 2,
        },
        {"task": "base_i2v"},
        {"optimizer": {"name": "adafactor", "learning_rate": 1e-3, "warmup_steps": 0}},
        pytest.param({"optimizer": {"name": "muon"}}, marks=needs_muon),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(training_folder, tiny_training, changed_settings):
    uninterrupted_config = tiny_training.make_config(
        training_folder, output=str(training_folder / "whole"), **changed_settings
    )
    interrupted_config = tiny_training.make_config(
        training_folder, output=str(training_folder / "broken"), **changed_settings
    )
    train(uninterrupted_config)
    with pytest.raises(SimulatedKill):
        train(interrupted_config, progress=raise_killed_at(3))  # behind the checkpoint of step 2
    train_outcome = train(interrupted_config)
    assert (train_outcome.step, train_outcome.finished) == (6, True)
    assert tensors_equal(
        load_trained(training_folder / "whole"), load_trained(training_folder / "broken")
    )
    assert tiny_training.read_log(training_folder / "whole") == tiny_training.read_log(
        training_folder / "broken"
    )
    result_name = "base.safetensors" if changed_settings.get("task") else "lora.safetensors"
    assert tensors_equal(
        load_file(training_folder / "whole" / result_name),
        load_file(training_folder / "broken" / result_name),
    )


@needs_muon
def test_muon_steps_equally_in_all_directions_and_refuses_vectors(
    tmp_path, tiny_training, training_folder
):
    training_config = tiny_training.make_config(
        tmp_path, optimizer={"name": "muon", "learning_rate": 0.1, "weight_decay": 0}
    )
    weight = torch.nn.Parameter(torch.zeros(4, 8))
    weight.grad = torch.diag(torch.tensor([1.0, 0.3, 0.1, 0.03])) @ torch.eye(4, 8)
    make_optimizer(training_config.optimizer, [weight]).step()
    singular_values = torch.linalg.svdvals(weight.detach())
    # Newton and Schulz in bfloat16 leave .7 to 1.2; a step is .2 of the root of the longer side, as
    # Adam's.
    assert ((singular_values / (0.1 * 0.2 * 8**0.5) - 0.95).abs() < 0.35).all(), singular_values
    with refuses(r"optimizer.name.*matrices alone"):
        tiny_training.train(training_folder, task="base_i2v", optimizer={"name": "muon"})


def test_training_reduces_the_loss_and_keeps_last_checkpoints(training_folder, tiny_training):
    training_config = tiny_training.make_config(
        training_folder,
        steps=60,
        checkpoint={"every": 10, "keep": 2},
        validation={"every": 60, "clips": 2},
    )
    train(training_config)
    log_lines = tiny_training.read_log(training_folder / "run")
    losses = [line["loss"] for line in log_lines if "loss" in line]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    validation_lines = [line for line in log_lines if "validation/loss" in line]
    assert len(validation_lines) == 1 and validation_lines[0]["step"] == 60
    assert [f.name for f in checkpoint_folders(training_folder / "run")] == [
        "step-00000050",
        "step-00000060",
    ]
    assert not list((training_folder / "run" / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("dtype", "exo"), [("float32", "sees_ego"), ("bfloat16", "alone")])
def test_validation_writes_sample_videos(training_folder, tiny_training, monkeypatch, dtype, exo):
    """Check the videos, and that checkpoints on the CPU have what is kept of exo there as well."""
    places = []
    monkeypatch.setattr(
        "egox_train.train.sampling.ExoCache",
        lambda *args, **more: places.append(more["kept_on"]) or ExoCache(*args, **more),
    )
    tiny_training.train(
        training_folder,
        steps=2,
        memory={"base_dtype": dtype, "compute_dtype": dtype, "checkpoint_offload": True},
        conditioning={"exo": exo},
        validation={"every": 2, "clips": 1, "sample_steps": 2, "vae": str(STANDIN_VAE)},
    )
    (line,) = [
        line
        for line in tiny_training.read_log(training_folder / "run")
        if "validation/psnr" in line
    ]
    assert 0 < line["validation/psnr"] < 100 and -1 <= line["validation/ssim"] <= 1
    (video,) = (training_folder / "run" / "samples" / "step-00000002").glob("*.mp4")
    assert probe_video(video).frame_count == 5
    assert places == ([torch.device("cpu")] if exo == "alone" else [])
    for vae, expected_text in (
        (None, "no validation.vae"),
        ("none.safetensors", "none.safetensors"),
    ):
        with refuses(expected_text):
            tiny_training.train(
                training_folder, validation={"every": 2, "sample_steps": 2, "vae": vae}
            )


def test_losses_are_averaged_by_noise_level():
    expected_means = {
        "loss/sigma_0.00-0.25": 1.0,
        "loss/sigma_0.50-0.75": 2.0,
        "loss/sigma_0.75-1.00": 4.0,
    }
    assert bucket_losses([0.1, 0.6, 0.8, 1.0], [1, 2, 3, 5], 4) == expected_means


def test_trackers_have_one_curve_of_a_resumed_run(training_folder, tiny_training, monkeypatch):
    """Check that TensorBoard and Weights & Biases show one loss curve for a resumed run."""
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    tracker_names = ["tensorboard", *(["wandb"] if importlib.util.find_spec("wandb") else [])]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    training_settings = tiny_training.make_settings(
        training_folder,
        steps=5,
        log={"every": 1, "trackers": tracker_names},
        validation={"every": 5, "clips": 1, "sample_steps": 1, "vae": str(STANDIN_VAE)},
    )
    with pytest.raises(SimulatedKill):
        train(
            parse_config(training_settings), progress=raise_killed_at(3)
        )  # behind the checkpoint of step 2
    train(parse_config(training_settings))
    folder = training_folder / "run" / "log"
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    logged_losses = [
        line["loss"] for line in tiny_training.read_log(training_folder / "run") if "loss" in line
    ]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        logged_losses, rel=1e-6
    )
    if "wandb" in tracker_names:
        files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
        assert len({file.stem.rpartition("-")[2] for file in files}) == 1  # of one run, by its id
        log_bytes = b"".join(
            file.read_bytes() for file in files
        )  # records with their numbers as JSON text
        assert b"gradient_norm" in log_bytes and all(
            json.dumps(loss).encode() in log_bytes for loss in logged_losses
        )


def test_checkpoints_are_also_written_by_time(training_folder, tiny_training, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "egox_train.train.loop.save_checkpoint",
        lambda output, state, keep: steps.append(state.step),
    )
    look_times = iter(range(0, 10_000, 25))  # seconds, at each look
    monkeypatch.setattr(
        "egox_train.train.loop.time",
        SimpleNamespace(monotonic=lambda: next(look_times), perf_counter=lambda: 0.0),
    )
    tiny_training.train(training_folder, checkpoint={"every": 100, "minutes": 1.0})
    assert steps == [3, 6]


def test_captions_are_dropped_at_the_set_share(training_folder, tiny_training):
    training_settings = tiny_training.make_settings(
        training_folder, conditioning={"caption_dropout": 0.5}
    )
    cached_samples = CachedSamples(parse_config(training_settings), "train")
    drawn_items = [item for step in range(100) for item, _ in cached_samples.items_of_step(step, 2)]
    assert 70 < sum(item.has_empty_caption for item in drawn_items) < 130
    assert drawn_items == [
        item for step in range(100) for item, _ in cached_samples.items_of_step(step, 2)
    ]
    with refuses("caption_dropout=0"):
        train(parse_config(training_settings))  # a cache without the empty caption
    shard = training_folder / "cache" / "shard-00000.safetensors"
    made_from, _ = shard_header(shard)
    write_shard(shard, {**load_file(shard), EMPTY_CAPTION: torch.full((4, 24), 7.0)}, made_from)
    reread_samples = CachedSamples(parse_config(training_settings), "train")
    empty_text, caption_text = (
        reread_samples.load(TrainingItem(clip="take0__cam", has_empty_caption=empty_text)).text
        for empty_text in (True, False)
    )
    assert (
        bool((empty_text == 7).all())
        and empty_text.shape == caption_text.shape
        and not torch.equal(empty_text, caption_text)
    )
    samples_without_dropout = CachedSamples(tiny_training.make_config(training_folder), "train")
    assert not any(
        item.has_empty_caption
        for step in range(100)
        for item, _ in samples_without_dropout.items_of_step(step, 2)
    )


def test_infinite_loss_stops_training_and_names_the_clip(training_folder, tiny_training):
    tiny_training.make_cache(training_folder / "cache", nan_clip="take2__cam")
    training_config = tiny_training.make_config(
        training_folder, batch_size=1, checkpoint={"every": 1, "keep": 9}, steps=4
    )
    with refuses("take2__cam") as error:
        train(training_config)
    assert "NaN" in str(error.value) and "last good checkpoint" in str(error.value)
    for folder in checkpoint_folders(training_folder / "run"):
        assert all(
            torch.isfinite(tensor).all()
            for tensor in load_file(folder / "trainable.safetensors").values()
        )


def test_checkpoint_of_other_settings_is_refused(training_folder, tiny_training):
    tiny_training.train(training_folder, steps=2)
    for changed_settings, message_pattern in (
        ({"seed": 4}, "seed"),
        ({"lora": {"rank": 8, "alpha": 8}}, "lora"),
        ({"conditioning": {"mode": "paper", "rays": "released"}}, "conditioning"),
        ({"conditioning": {"hidden_lines": "leave out"}}, "got 'draw'; expected 'leave out'"),
    ):
        with refuses(message_pattern):
            tiny_training.train(training_folder, steps=4, **changed_settings)
    # One from before a setting existed goes on.
    file = checkpoint_folders(training_folder / "run")[-1] / "state.json"
    state_content = read_json(file)
    for later_setting in ("text_encoding", "hidden_lines"):
        del state_content["config"]["conditioning"][later_setting]
    del state_content["config"]["init_lora"]
    write_json(file, state_content)
    assert tiny_training.train(training_folder, steps=3).step == 3
    for rays, message_pattern in (("exact", "rays"), ("released", "cache contents")):
        tiny_training.make_cache(training_folder / "cache", clips=5, rays=rays)
        with refuses(message_pattern):
            tiny_training.train(training_folder, steps=4)
    tiny_training.make_cache(training_folder / "cache")
    tiny_training.make_base(training_folder / "base.safetensors", layers=3)
    with refuses("base model"):
        tiny_training.train(training_folder, steps=4)


def test_captions_of_another_width_are_refused_before_the_base_is_read(
    training_folder, tiny_training
):
    tiny_training.make_cache(training_folder / "cache", text_dim=16)
    with refuses("16 numbers a token.*24, as base model.*zeros:512x24"):
        tiny_training.train(training_folder, steps=2)


def test_wrong_bases_are_refused(training_folder, tiny_training):
    base_bytes = (training_folder / "base.safetensors").read_bytes()
    (training_folder / "cut.safetensors").write_bytes(base_bytes[:5000])
    (training_folder / "old.ckpt").write_bytes(b"x")
    tiny_training.make_base(training_folder / "t2v.safetensors", in_channels=16)
    for base, message_pattern in (
        ("t2v.safetensors", "36"),
        ("none.safetensors", "not there"),
        ("cache/shard-00000.safetensors", "a different model"),
        ("cut.safetensors", "safetensors"),
        ("old.ckpt", "pickled"),
    ):
        with refuses(message_pattern):
            tiny_training.train(training_folder, base=str(training_folder / base))


def test_damaged_checkpoint_is_replaced_by_the_previous_one(training_folder, tiny_training, caplog):
    tiny_training.train(training_folder, output=str(training_folder / "whole"))
    tiny_training.train(training_folder, steps=4)
    previous_checkpoint, newest_checkpoint = checkpoint_folders(training_folder / "run")
    file_bytes = (newest_checkpoint / "trainable.safetensors").read_bytes()
    (newest_checkpoint / "trainable.safetensors").write_bytes(file_bytes[: len(file_bytes) // 2])
    assert tiny_training.train(training_folder).finished
    assert (
        newest_checkpoint.name in caplog.text
        and f"continues from {previous_checkpoint.name} instead" in caplog.text
    )
    steps = [line["step"] for line in tiny_training.read_log(training_folder / "run")]
    assert steps == [1, 2, 3, 4, 5, 6]
    for folder in checkpoint_folders(training_folder / "run"):
        (folder / "optimizer.pt").write_bytes(b"")
    with refuses("step-00000006"):
        tiny_training.train(training_folder, steps=8)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit of POSIX")
def test_full_disk_keeps_the_last_checkpoint(training_folder, tiny_training):
    checkpoints = training_folder / "run" / "checkpoints"
    tiny_training.train(training_folder, steps=4)
    files_before = read_folder_files(checkpoints)
    # Larger than the log and configuration, smaller than the weights.
    with limit_file_size(8000), refuses("room on the disk") as error:
        tiny_training.train(training_folder, steps=8, log={"every": 100})
    assert "step-00000004" in str(error.value)
    assert read_folder_files(checkpoints) == files_before
    assert tiny_training.train(training_folder, steps=8).step == 8


def test_changed_cache_shard_is_refused(training_folder, tiny_training):
    other_cache = tiny_training.make_cache(training_folder / "other", nan_clip="take0__cam")
    (training_folder / "cache" / "shard-00000.safetensors").write_bytes(
        (other_cache / "shard-00000.safetensors").read_bytes()
    )
    with refuses("shard-00000"):
        tiny_training.train(training_folder)
