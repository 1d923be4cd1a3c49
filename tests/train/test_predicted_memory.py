"""Test the predicted memory of a training step against measurements."""

import re
from functools import cache

import pytest
import torch

from egox_core.wan.lora_keys import convert_transformer
from egox_train.train.config import LoraSettings, load_config, parse_config
from egox_train.train.lora import add_lora
from egox_train.train.loss import flow_loss
from egox_train.train.memory import CANVASES, Machine, check_memory, meta_model, predict
from egox_train.train.model import make_trainable
from egox_train.train.number_types import settle_types
from egox_train.train.samples import TrainSample
from egox_train.train.sampling import sample_ego
from egox_train.wan.transformer import base_without_weights, transformer_config
from tests.paths import ROOT
from tests.refusals import refuses
from tests.train.live_tensors import LiveBytes
from train_egox import main as train_egox

CONFIGS = ROOT / "configs"
RELEASED_GRID, SMALLER_GRID = CANVASES.values()
GB = 1e9
CARD = torch.device("cuda")
shared_model = cache(meta_model)
"""Model of a base, which tests only read."""


@pytest.mark.parametrize(
    ("name", "optimizer", "state_bytes"), [("14B", "adamw", 8), ("1.3B", "adamw8bit", 2)]
)
def test_every_weight_is_counted_in_the_prediction(name, optimizer, state_bytes):
    model = meta_model(name)
    native_weights, unknown_names = convert_transformer(model.state_dict(), "native")
    weights, unknown_weights = convert_transformer(native_weights, "diffusers")
    config = transformer_config(weights, {})
    assert not unknown_names and not unknown_weights and "img_emb.proj.1.weight" in native_weights
    assert config.items() <= {**model.config, "text_dim": 4096}.items()
    overrides = [f"optimizer.name={optimizer}", "ema_decay=.9", "batch_size=1"]
    config = settle_types(load_config(CONFIGS / "train_24gb.yaml", overrides), CARD)
    predicted = predict(config, model, RELEASED_GRID)
    assert predicted.base == pytest.approx(
        2 * sum(x.numel() for x in model.parameters()), rel=0.005
    )
    with torch.device("meta"):
        lora_parameters = add_lora(model, LoraSettings(rank=config.lora.rank), seed=0)
    count = sum(parameter.numel() for parameter in lora_parameters)
    assert predicted.lora == predicted.gradients == predicted.ema == 4 * count
    assert predicted.optimizer == pytest.approx(state_bytes * count, rel=0.03)


@pytest.mark.parametrize(
    ("file", "shards", "gigabytes", "main_gb"),
    [
        ("train_48gb.yaml", 1, 48, 32),
        ("train_example.yaml", 1, 48, 32),
        ("train_paper_8gpu.yaml", 8, 80, 32),
        ("train_24gb.yaml", 1, 24, 16),
        ("train_14b_24gb.yaml", 1, 24, 50),
        ("train_14b_16gb.yaml", 1, 16, 40),
    ],
)
def test_shipped_configurations_are_predicted_to_fit(file, shards, gigabytes, main_gb):
    model = shared_model("1.3B" if file == "train_24gb.yaml" else "14B")
    grid = SMALLER_GRID if "16gb" in file else RELEASED_GRID
    machine = Machine(gpu_bytes=gigabytes * GB, main_bytes=main_gb * GB)
    config = settle_types(load_config(CONFIGS / file), CARD)
    memory_notes = check_memory(config, model, grid, machine, shards=shards)
    assert "of a step" in memory_notes[0] and "main memory" in memory_notes[1]


@pytest.mark.parametrize(
    ("base", "measured_gb"), [("bfloat16", 64.1), ("bfloat16", 64.4), ("float8", 48.5)]
)
def test_prediction_is_slightly_above_measured_memory(base, measured_gb):
    """Check that the predicted memory is slightly above peaks measured on H200 and H100 GPUs."""
    training_settings = {
        "base": "",
        "cache": "",
        "output": "",
        "steps": 1,
        "memory": {"base_dtype": base},
    }
    config = settle_types(parse_config(training_settings), CARD)
    predicted = predict(config, shared_model("14B"), RELEASED_GRID)
    assert measured_gb < predicted.total / GB < 1.05 * measured_gb


@pytest.mark.parametrize(
    ("machine", "changed_settings", "message_pattern"),
    [
        (
            (24, 64),
            [],
            r"got 26.1 GB .* on a card of 24.0.*optimizer.name=adamw8bit \(then 20.9 GB",
        ),
        ((24, 64), ["optimizer.name=adamw8bit", "ema_decay=.99"], "got 24.3 GB.*ema_decay=null"),
        ((16, 64), ["optimizer.name=adamw8bit"], r"lora.rank=64 .*\(then 14.3 GB"),
        (
            (24, 32),
            ["optimizer.name=adamw8bit"],
            "46.8 GB of main memory, of which 32.0 GB are free",
        ),
        ((8, 16), ["optimizer.name=adamw8bit"], "smaller size or rank"),
        ((80, 16), ["optimizer.name=adamw8bit"], "main memory.*Fix: train at a smaller"),
    ],
)
def test_training_beyond_memory_is_refused_with_a_fix(machine, changed_settings, message_pattern):
    overrides = [*changed_settings] if changed_settings else ["optimizer.name=adamw"]
    config = settle_types(load_config(CONFIGS / "train_14b_24gb.yaml", overrides), CARD)
    card_gb, main_gb = machine
    with refuses(message_pattern):
        check_memory(
            config,
            shared_model("14B"),
            RELEASED_GRID,
            Machine(gpu_bytes=card_gb * GB, main_bytes=main_gb * GB),
        )


GRID = (3, 8, 14, 8)


def draw_sample() -> TrainSample:
    """Draw a sample without guidance, whose bytes are those of its latents."""
    latents = {
        name: torch.randn(1, 16, *GRID[:2], width).bfloat16()
        for name, width in (("exo", 14), ("ego", 8), ("cond_ego", 8))
    }
    return TrainSample(clips=("a",), text=torch.randn(1, 4, 24).bfloat16(), **latents)


def make_model(folder, tiny_training, *, dim: int, layers: int, exo: str, **more):
    """Build a small model in bfloat16, and its configuration."""
    tiny_training.make_base(folder / "base.safetensors", dim=dim, layers=layers)
    memory = {"base_dtype": "bfloat16", "compute_dtype": "bfloat16"} | more.pop("memory", {})
    config = tiny_training.make_config(
        folder,
        batch_size=1,
        lora={"rank": 16, "alpha": 16},
        memory=memory,
        conditioning={"exo": exo, "gga_mode": "off"},
        **more,
    )
    return make_trainable(config, torch.device("cpu")), config


@pytest.mark.parametrize("checkpoint_offload", [False, True])
@pytest.mark.parametrize("exo", ["sees_ego", "alone"])
def test_predicted_activations_agree_with_what_lives_at_the_peak(
    tmp_path, tiny_training, monkeypatch, exo, checkpoint_offload
):
    """Check the sum of activations and gradients, and its growth by block, in both modes of
    exo."""
    sample, counted, predicted = draw_sample(), [], []
    memory = {"checkpoint_offload": checkpoint_offload}
    for layers in (4, 6):
        trainable, config = make_model(
            tmp_path, tiny_training, dim=128, layers=layers, exo=exo, memory=memory
        )
        live_bytes = LiveBytes()
        monkeypatch.setattr("egox_train.train.offload.save_on_cpu", live_bytes.parked)
        with live_bytes:
            with torch.autocast("cpu", torch.bfloat16):
                loss = flow_loss(
                    trainable.model,
                    trainable.scope,
                    sample,
                    torch.randn(sample.ego.shape).bfloat16(),
                    torch.tensor([0.5]),
                    config.conditioning,
                ).loss
            loss.backward()
        counted.append(live_bytes.most_bytes)
        prediction = predict(config, base_without_weights(config.base), GRID)
        predicted.append(prediction.activation_bytes + prediction.gradients)
    assert counted == pytest.approx(predicted, rel=0.1)
    assert counted[1] - counted[0] == pytest.approx(predicted[1] - predicted[0], rel=0.01)


@pytest.mark.parametrize(("exo", "recompute_exo"), [("alone", 1), ("sees_ego", 0), ("sees_ego", 1)])
def test_predicted_samples_agree_with_what_lives_at_the_peak(
    tmp_path, tiny_training, exo, recompute_exo
):
    """Check the bytes while a validation clip is sampled, with exo kept and without."""
    validation = {"every": 1, "sample_steps": 2, "recompute_exo": recompute_exo}
    for layers in (2, 4):
        trainable, config = make_model(
            tmp_path, tiny_training, dim=256, layers=layers, exo=exo, validation=validation
        )
        trainable.model.eval()
        options = {"steps": 2, "recompute_exo": recompute_exo, "autocast": True}
        arguments = trainable.model, trainable.scope, draw_sample(), config.conditioning
        with (live_bytes := LiveBytes()):
            sample_ego(*arguments, **options)
        predicted = predict(config, base_without_weights(config.base), GRID)
        assert live_bytes.most_bytes == pytest.approx(predicted.samples, rel=0.1)


def test_training_page_has_rows_of_the_memory_table(capsys):
    assert train_egox(["train", "--memory-table"]) == 0
    page = (ROOT / "docs/training.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| \d+x\d+ \|", line)]
    assert rows and set(rows) <= set(capsys.readouterr().out.splitlines())
