"""Test the training loop on the CPU."""

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
    checkpoint, validation = {"every": 10, "keep": 2}, {"every": 60, "clips": 2}
    tiny_training.train(training_folder, steps=60, checkpoint=checkpoint, validation=validation)
    *lines, last_line = tiny_training.read_log(training_folder / "run")
    losses = [line["loss"] for line in lines]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    assert last_line["step"] == 60 and "validation/loss" in last_line
    folder = training_folder / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000050", "step-00000060"]
    expected_means = {
        "loss/sigma_0.00-0.25": 1.0,
        "loss/sigma_0.50-0.75": 2.0,
        "loss/sigma_0.75-1.00": 4.0,
    }
    assert bucket_losses([0.1, 0.6, 0.8, 1.0], [1, 2, 3, 5], 4) == expected_means


@pytest.mark.parametrize(("dtype", "exo"), [("float32", "sees_ego"), ("bfloat16", "alone")])
def test_validation_writes_sample_videos(training_folder, tiny_training, monkeypatch, dtype, exo):
    """Check the videos, and that checkpoints on the CPU have what is kept of exo there as well."""
    places = []
    monkeypatch.setattr(
        "egox_train.train.sampling.ExoCache",
        lambda *args, **more: places.append(more["kept_on"]) or ExoCache(*args, **more),
    )

    def train_and_sample(vae: object) -> None:
        tiny_training.train(
            training_folder,
            steps=2,
            memory={"base_dtype": dtype, "compute_dtype": dtype, "checkpoint_offload": True},
            conditioning={"exo": exo},
            validation={"every": 2, "clips": 1, "sample_steps": 2, "vae": vae},
        )

    train_and_sample(str(STANDIN_VAE))
    line = tiny_training.read_log(training_folder / "run")[-1]
    assert 0 < line["validation/psnr"] < 100 and -1 <= line["validation/ssim"] <= 1
    (video,) = (training_folder / "run" / "samples" / "step-00000002").glob("*.mp4")
    assert probe_video(video).frame_count == 5
    assert places == ([torch.device("cpu")] if exo == "alone" else [])
    with refuses("none.sft"):
        train_and_sample("none.sft")


def test_trackers_have_one_curve_of_a_resumed_run(training_folder, tiny_training):
    """Check that TensorBoard shows one loss curve for a resumed run."""
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    config = tiny_training.make_config(
        training_folder, steps=5, log={"every": 1, "trackers": ["tensorboard"]}
    )
    with pytest.raises(SimulatedKill):
        train(config, progress=raise_killed_at(3))  # behind the checkpoint of step 2
    train(config)
    events = event_accumulator.EventAccumulator(str(training_folder / "run" / "log"))
    events.Reload()
    lines = tiny_training.read_log(training_folder / "run")
    curve = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in curve] == [1, 2, 3, 4, 5]
    assert [loss for _, loss in curve] == pytest.approx([line["loss"] for line in lines], rel=1e-6)


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
    config = tiny_training.make_config(training_folder, conditioning={"caption_dropout": 0.5})

    def draw_items(samples: CachedSamples) -> list[TrainingItem]:
        return [item for step in range(100) for item, _ in samples.items_of_step(step, 2)]

    cached_samples = CachedSamples(config, "train")
    drawn_items = draw_items(cached_samples)
    assert 70 < sum(item.has_empty_caption for item in drawn_items) < 130
    assert drawn_items == draw_items(cached_samples)
    shard = training_folder / "cache" / "shard-00000.safetensors"
    made_from, _ = shard_header(shard)
    write_shard(shard, {**load_file(shard), EMPTY_CAPTION: torch.full((4, 24), 7.0)}, made_from)
    samples = CachedSamples(config, "train")
    empty_text, caption_text = (
        samples.load(TrainingItem(clip="take0__cam", has_empty_caption=is_empty)).text
        for is_empty in (True, False)
    )
    assert (empty_text == 7).all() and empty_text.shape == caption_text.shape
    assert not torch.equal(empty_text, caption_text)
    without_dropout = CachedSamples(tiny_training.make_config(training_folder), "train")
    assert not any(item.has_empty_caption for item in draw_items(without_dropout))


def test_infinite_loss_stops_training_and_names_the_clip(training_folder, tiny_training):
    tiny_training.make_cache(training_folder / "cache", nan_clip="take2__cam")
    with refuses("take2__cam") as error:
        tiny_training.train(
            training_folder, batch_size=1, checkpoint={"every": 1, "keep": 9}, steps=4
        )
    assert "NaN" in str(error.value) and "last good checkpoint" in str(error.value)
    for folder in checkpoint_folders(training_folder / "run"):
        tensors = load_file(folder / "trainable.safetensors").values()
        assert all(torch.isfinite(tensor).all() for tensor in tensors)


def test_checkpoint_of_other_settings_is_refused(training_folder, tiny_training):
    def train_on(steps: int = 4, **settings):
        return tiny_training.train(training_folder, steps=steps, **settings)

    train_on(2)
    for settings, message in (
        ({"seed": 4}, "seed"),
        ({"lora": {"rank": 8, "alpha": 8}}, "lora"),
        ({"conditioning": {"mode": "paper", "rays": "released"}}, "conditioning"),
        ({"conditioning": {"hidden_lines": "leave out"}}, "got 'draw'; expected 'leave out'"),
    ):
        with refuses(message):
            train_on(**settings)
    # One from before a setting existed goes on.
    file = checkpoint_folders(training_folder / "run")[-1] / "state.json"
    state = read_json(file)
    for later_setting in ("text_encoding", "hidden_lines"):
        del state["config"]["conditioning"][later_setting]
    del state["config"]["init_lora"]
    write_json(file, state)
    assert train_on(3).step == 3
    for rays, message in (("exact", "rays"), ("released", "cache contents")):
        tiny_training.make_cache(training_folder / "cache", clips=5, rays=rays)
        with refuses(message):
            train_on()
    tiny_training.make_cache(training_folder / "cache")
    tiny_training.make_base(training_folder / "base.safetensors", layers=3)
    with refuses("base model"):
        train_on()


def test_wrong_bases_are_refused(training_folder, tiny_training):
    base_bytes = (training_folder / "base.safetensors").read_bytes()
    (training_folder / "cut.safetensors").write_bytes(base_bytes[:5000])
    (training_folder / "old.ckpt").write_bytes(b"x")
    tiny_training.make_base(training_folder / "t2v.safetensors", in_channels=16)
    for name, value, message in (
        ("base", "t2v.safetensors", "36"),
        ("base", "none.safetensors", "not there"),
        ("base", "cache/shard-00000.safetensors", "a different model"),
        ("base", "cut.safetensors", "safetensors"),
        ("base", "old.ckpt", "pickled"),
    ):
        with refuses(message):
            tiny_training.train(training_folder, **{name: str(training_folder / value)})


def test_damaged_checkpoint_is_replaced_by_the_previous_one(training_folder, tiny_training, caplog):
    tiny_training.train(training_folder, steps=4)
    previous, newest = checkpoint_folders(training_folder / "run")
    weights = newest / "trainable.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    assert tiny_training.train(training_folder).finished
    assert newest.name in caplog.text
    assert f"continues from {previous.name} instead" in caplog.text
    log_lines = tiny_training.read_log(training_folder / "run")
    assert [line["step"] for line in log_lines] == [1, 2, 3, 4, 5, 6]
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
