"""Test the predicted memory of a training step against measurements."""

from itertools import pairwise

import pytest
import torch

from egox_core.wan.lora_keys import convert_transformer
from egox_train.train.config import LoraSettings, load_config, parse_config
from egox_train.train.loop import moving_average
from egox_train.train.lora import add_lora
from egox_train.train.loss import flow_loss
from egox_train.train.memory import CANVASES, Machine, check_memory, meta_model, predict
from egox_train.train.model import make_optimizer, make_trainable
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


@pytest.mark.parametrize("name", ["14B", "1.3B"])
def test_every_weight_is_counted_in_the_prediction(name):
    model = meta_model(name)
    native_weights, unknown_names = convert_transformer(model.state_dict(), "native")
    weights, unknown_weights = convert_transformer(native_weights, "diffusers")
    config = transformer_config(weights, {})
    assert not unknown_names and not unknown_weights and "img_emb.proj.1.weight" in native_weights
    assert config.items() <= {**model.config, "text_dim": 4096}.items()
    predicted_memory = predict(load_config(CONFIGS / "train_24gb.yaml"), model, RELEASED_GRID)
    assert predicted_memory.base == pytest.approx(
        2 * sum(parameter.numel() for parameter in model.parameters()), rel=0.005
    )
    with torch.device("meta"):
        lora_parameters = add_lora(model, LoraSettings(rank=256), seed=0)
    assert (
        predicted_memory.lora
        == predicted_memory.gradients
        == 4 * sum(parameter.numel() for parameter in lora_parameters)
    )


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
    model = meta_model("1.3B" if file == "train_24gb.yaml" else "14B")
    grid = SMALLER_GRID if "16gb" in file else RELEASED_GRID
    machine = Machine(gpu_bytes=gigabytes * GB, main_bytes=main_gb * GB)
    memory_notes = check_memory(load_config(CONFIGS / file), model, grid, machine, shards=shards)
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
    predicted = predict(parse_config(training_settings), meta_model(), RELEASED_GRID)
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
    config = load_config(CONFIGS / "train_14b_24gb.yaml", overrides)
    card_gb, main_gb = machine
    with refuses(message_pattern):
        check_memory(
            config,
            meta_model(),
            RELEASED_GRID,
            Machine(gpu_bytes=card_gb * GB, main_bytes=main_gb * GB),
        )


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_predicted_bytes_agree_with_a_real_step(tmp_path, tiny_training, optimizer):
    """Check that predicted bytes agree with the tensors of a real training step."""
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes", reason="not installed (part of the train extra)")
    tiny_training.make_cache(tmp_path / "cache", image_dim=1280)
    tiny_training.make_base(tmp_path / "base.safetensors", dim=256, image_dim=1280)
    training_config = tiny_training.make_config(
        tmp_path,
        lora={"rank": 64, "alpha": 64},
        memory={"base_dtype": "bfloat16", "compute_dtype": "bfloat16"},
        optimizer={"name": optimizer},
        ema_decay=0.9,
        gradient_accumulation=2,
    )
    weightless_base, grid = base_without_weights(training_config.base), (2, 4, 6, 4)
    predicted = predict(training_config, weightless_base, grid)
    trainable = make_trainable(training_config, torch.device("cpu"))
    optimizer = make_optimizer(training_config.optimizer, trainable.parameters)
    ema = moving_average(training_config, trainable.parameters, None)
    sample, noise = tiny_training.load_first_sample(training_config), torch.randn(1, 16, 2, 4, 4)
    checkpoints: dict[int, torch.Tensor] = {}

    def store_checkpoint(_, hidden, *__) -> None:
        checkpoints[id(hidden[0])] = hidden[0]

    for block in trainable.model.blocks:
        block.register_forward_pre_hook(store_checkpoint)
    with torch.autocast("cpu", torch.bfloat16):
        flow_loss(
            trainable.model,
            trainable.scope,
            sample.to("cpu", torch.bfloat16),
            noise.bfloat16(),
            torch.tensor([0.5]),
            training_config.conditioning,
        ).loss.backward()
    optimizer.step()

    def total_bytes(tensors) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor.ndim)

    trained_ids = {id(parameter) for parameter in trainable.parameters}
    base_parameters = [
        parameter for parameter in trainable.model.parameters() if id(parameter) not in trained_ids
    ]
    optimizer_tensors = [
        state_tensor
        for state in optimizer.state.values()
        for state_tensor in state.values()
        if torch.is_tensor(state_tensor)
    ]
    optimizer_tensors = [
        state_tensor
        for state_tensor in optimizer_tensors
        if state_tensor.numel() >= 4096 or optimizer == "adamw"
    ]  # not Adam's tables
    for name, tensors in {
        "base": base_parameters,
        "lora": trainable.parameters,
        "gradients": [parameter.grad for parameter in trainable.parameters],
        "optimizer": optimizer_tensors,
        "ema": ema.shadow_params,
        "checkpoints": [*checkpoints.values()][: len(trainable.model.blocks)],
    }.items():
        clip_count = (
            training_config.batch_size if name == "checkpoints" else 1
        )  # one clip of the batch was run
        assert clip_count * total_bytes(tensors) == pytest.approx(
            getattr(predicted, name), rel=0.01
        ), name


@pytest.mark.parametrize("checkpoint_offload", [False, True])
@pytest.mark.parametrize("exo", ["sees_ego", "alone"])
def test_predicted_activations_agree_with_what_lives_at_the_peak(
    tmp_path, tiny_training, monkeypatch, exo, checkpoint_offload
):
    """Check the sum of activations and gradients, and its growth by block, in both modes of
    exo."""
    grid, counted, predicted = (3, 8, 14, 8), [], []
    latents = {
        name: torch.randn(1, 16, *grid[:2], width).bfloat16()
        for name, width in (("exo", 14), ("ego", 8), ("cond_ego", 8))
    }
    sample = TrainSample(clips=("a",), text=torch.randn(1, 4, 24).bfloat16(), **latents)
    depths = (4, 5, 6)
    for depth in depths:
        tiny_training.make_base(tmp_path / "base.safetensors", dim=128, layers=depth)
        config = tiny_training.make_config(
            tmp_path,
            batch_size=1,
            lora={"rank": 16, "alpha": 16},
            memory={
                "base_dtype": "bfloat16",
                "compute_dtype": "bfloat16",
                "checkpoint_offload": checkpoint_offload,
            },
            conditioning={"exo": exo, "gga_mode": "off"},
        )
        trainable, live_bytes = make_trainable(config, torch.device("cpu")), LiveBytes()
        monkeypatch.setattr("egox_train.train.offload.save_on_cpu", live_bytes.parked)
        with live_bytes:
            with torch.autocast("cpu", torch.bfloat16):
                loss = flow_loss(
                    trainable.model,
                    trainable.scope,
                    sample,
                    torch.randn(latents["ego"].shape).bfloat16(),
                    torch.tensor([0.5]),
                    config.conditioning,
                ).loss
            loss.backward()
        counted.append(live_bytes.most_bytes)
        prediction = predict(config, base_without_weights(config.base), grid)
        predicted.append(prediction.activation_bytes + prediction.gradients)
    assert counted == pytest.approx(predicted, rel=0.1)
    counted_slopes, predicted_slopes = (
        [second - first for first, second in pairwise(sizes)] for sizes in (counted, predicted)
    )
    assert counted_slopes == pytest.approx(predicted_slopes, rel=0.01)


@pytest.mark.parametrize(("exo", "recompute_exo"), [("alone", 1), ("sees_ego", 0), ("sees_ego", 1)])
def test_predicted_samples_agree_with_what_lives_at_the_peak(
    tmp_path, tiny_training, exo, recompute_exo
):
    """Check the bytes while a validation clip is sampled, with exo kept and without."""
    grid = (3, 8, 14, 8)
    latents = {
        name: torch.randn(1, 16, *grid[:2], width).bfloat16()
        for name, width in (("exo", 14), ("ego", 8), ("cond_ego", 8))
    }
    sample = TrainSample(clips=("a",), text=torch.randn(1, 4, 24).bfloat16(), **latents)
    for depth in (2, 4):
        tiny_training.make_base(tmp_path / "base.safetensors", dim=256, layers=depth)
        config = tiny_training.make_config(
            tmp_path,
            lora={"rank": 16, "alpha": 16},
            memory={"base_dtype": "bfloat16", "compute_dtype": "bfloat16"},
            conditioning={"exo": exo, "gga_mode": "off"},
            validation={"every": 1, "sample_steps": 2, "recompute_exo": recompute_exo},
        )
        trainable, live_bytes = make_trainable(config, torch.device("cpu")), LiveBytes()
        trainable.model.eval()
        with live_bytes:
            sample_ego(
                trainable.model,
                trainable.scope,
                sample,
                config.conditioning,
                steps=2,
                recompute_exo=recompute_exo,
                autocast=True,
            )
        predicted = predict(config, base_without_weights(config.base), grid)
        assert live_bytes.most_bytes == pytest.approx(predicted.samples, rel=0.1)


def test_training_page_has_the_memory_table(capsys):
    assert train_egox(["train", "--memory-table"]) == 0
    assert capsys.readouterr().out.strip() in (ROOT / "docs/training.md").read_text("utf-8")
