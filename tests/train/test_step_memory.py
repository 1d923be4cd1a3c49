"""The predicted memory of a training step: it counts the architecture's weights, and the trainer
says it."""

import logging
from dataclasses import replace

import pytest
import torch

from egox_train.train.config import load_config
from egox_train.train.memory import predict, size_of
from egox_train.wan.step_memory import (
    ModelSize,
    TrainSetting,
    block_weights,
    estimate,
    lora_weights,
    other_weights,
)
from tests.paths import ROOT

SMALLER = ModelSize(dim=1536, ffn_dim=8960, layers=30, heads=12)  # Wan 2.1 Fun 1.3B InP
CONFIGS = ROOT / "configs"


def test_every_weight_is_counted():
    """Against diffusers' own 14B and its LoRA, on the meta device."""
    from diffusers import WanTransformer3DModel

    from egox_train.train.config import LoraSettings
    from egox_train.train.lora import add_lora

    size = ModelSize()
    with torch.device("meta"):
        model = WanTransformer3DModel(
            in_channels=36, out_channels=16, image_dim=1280, added_kv_proj_dim=5120
        )
        small = WanTransformer3DModel(in_channels=36, out_channels=16, num_layers=2)
        lora = add_lora(small, LoraSettings(rank=256), seed=0)
    assert size_of(model) == size
    counted = size.layers * block_weights(size) + other_weights(size)
    assert counted == pytest.approx(sum(p.numel() for p in model.parameters()), rel=1e-3)
    assert sum(p.numel() for p in lora) == lora_weights(replace(size, layers=2), TrainSetting())


def test_a_base_of_1_3b_is_known_by_its_shapes():
    """All shapes of Wan 2.1 Fun 1.3B InP on the meta device: as a file's header has them, in
    ComfyUI's naming."""
    from diffusers import WanTransformer3DModel

    from egox_core.wan.lora_keys import convert_transformer
    from egox_train.train.config import LoraSettings
    from egox_train.train.lora import add_lora
    from egox_train.wan.transformer import transformer_config

    with torch.device("meta"):
        model = WanTransformer3DModel(
            in_channels=36,
            out_channels=16,
            num_attention_heads=12,
            ffn_dim=8960,
            num_layers=30,
            image_dim=1280,
            added_kv_proj_dim=1536,
        )
    native, unknown = convert_transformer(model.state_dict(), "native")
    weights, strangers = convert_transformer(native, "diffusers")
    found = transformer_config(weights, {})
    assert (
        not unknown
        and not strangers
        and found.items() <= {**model.config, "text_dim": 4096}.items()
    )
    assert (
        native["patch_embedding.weight"].shape == (1536, 36, 1, 2, 2)
        and "img_emb.proj.1.weight" in native
    )
    assert size_of(model) == SMALLER
    counted = SMALLER.layers * block_weights(SMALLER) + other_weights(SMALLER)
    assert counted == pytest.approx(sum(p.numel() for p in model.parameters()), rel=1e-3)
    assert counted == pytest.approx(1.564e9, rel=0.01)
    with torch.device("meta"):
        lora = add_lora(model, LoraSettings(rank=256), seed=0)
    assert (
        sum(p.numel() for p in lora)
        == lora_weights(SMALLER, TrainSetting())
        == 30 * 16 * 1536 * 256
    )


@pytest.mark.parametrize(
    ("file", "shards", "gigabytes"),
    [
        ("train_48gb.yaml", 1, 48),
        ("train_example.yaml", 1, 48),
        ("train_paper_8gpu.yaml", 8, 80),
        ("train_24gb.yaml", 1, 24),
    ],
)
def test_shipped_configurations_are_predicted_to_fit(file, shards, gigabytes):
    config = load_config(CONFIGS / file)
    size = SMALLER if file == "train_24gb.yaml" else ModelSize()
    assert predict(config, size, (13, 56, 98, 56), shards=shards).total < gigabytes * 1e9


@pytest.mark.parametrize(
    "better",
    [
        {"base": "float8"},
        {"base": "int4"},
        {"block_offload": True},
        {"checkpoint_offload": True},
        {"optimizer": "adamw8bit"},
        {"rank": 64},
        {"shards": 8},
        {"tokens": 14014},
    ],
)
def test_what_saves_memory_is_predicted_to(better):
    base = estimate(ModelSize(), TrainSetting()).total
    assert estimate(ModelSize(), TrainSetting(**better)).total < base < 75e9
    assert estimate(ModelSize(), TrainSetting(ema=True)).total > base


def test_the_trainer_says_its_prediction(workplace, tiny, caplog):
    caplog.set_level(logging.INFO, "egox_train.train")
    tiny.train(workplace, steps=1)
    assert [record.message[:33] for record in caplog.records if "GB" in record.message] == [
        "predicted peak memory of a step: "
    ]
    everything = tiny.config(workplace, task="base_i2v")
    assert predict(everything, ModelSize(), (2, 4, 6, 4)) is None
