"""The predicted memory of a training step: it counts the architecture's weights, and the trainer
says it."""

import logging

import pytest
import torch
from diffusers import WanTransformer3DModel

from egox_core.wan.lora_keys import convert_transformer
from egox_train.train.config import LoraSettings, load_config
from egox_train.train.lora import add_lora
from egox_train.train.memory import predict, size_of
from egox_train.wan.step_memory import (
    ModelSize,
    TrainSetting,
    block_weights,
    lora_weights,
    other_weights,
)
from egox_train.wan.transformer import transformer_config
from tests.paths import ROOT

SMALLER = ModelSize(dim=1536, ffn_dim=8960, layers=30, heads=12)  # Wan 2.1 Fun 1.3B InP
CONFIGS = ROOT / "configs"


@pytest.mark.parametrize("size", [ModelSize(), SMALLER], ids=["14b", "1.3b"])
def test_every_weight_is_counted_and_the_shapes_tell_the_size(size):
    """Against diffusers' own models and their LoRA on the meta device; shapes as a file's header has
    them, in ComfyUI's naming."""
    with torch.device("meta"):
        model = WanTransformer3DModel(
            in_channels=36,
            out_channels=16,
            num_attention_heads=size.heads,
            ffn_dim=size.ffn_dim,
            num_layers=size.layers,
            image_dim=1280,
            added_kv_proj_dim=size.dim,
        )
    native, unknown = convert_transformer(model.state_dict(), "native")
    weights, strangers = convert_transformer(native, "diffusers")
    found = transformer_config(weights, {})
    assert not unknown and not strangers
    assert found.items() <= {**model.config, "text_dim": 4096}.items()
    assert native["patch_embedding.weight"].shape == (size.dim, 36, 1, 2, 2)
    assert "img_emb.proj.1.weight" in native and size_of(model) == size
    counted = size.layers * block_weights(size) + other_weights(size)
    assert counted == pytest.approx(sum(p.numel() for p in model.parameters()), rel=1e-3)
    with torch.device("meta"):
        lora = add_lora(model, LoraSettings(rank=256), seed=0)
    assert sum(p.numel() for p in lora) == lora_weights(size, TrainSetting())


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


def test_the_trainer_says_its_prediction(workplace, tiny, caplog):
    caplog.set_level(logging.INFO, "egox_train.train")
    tiny.train(workplace, steps=1)
    assert [record.message[:33] for record in caplog.records if "GB" in record.message] == [
        "predicted peak memory of a step: "
    ]
    everything = tiny.config(workplace, task="base_i2v")
    assert predict(everything, ModelSize(), (2, 4, 6, 4)) is None
