"""The predicted memory of a training step: it counts the architecture's weights, and the trainer
says it."""

import logging

import pytest
import torch
from diffusers import WanTransformer3DModel

from egox_core.wan.lora_keys import convert_transformer
from egox_train.train.config import LoraSettings, load_config
from egox_train.train.lora import add_lora
from egox_train.train.memory import predict
from egox_train.wan.transformer import transformer_config
from tests.paths import ROOT

CONFIGS = ROOT / "configs"
RELEASED = (13, 56, 98, 56)


def large(name: str) -> WanTransformer3DModel:
    """Wan 2.1 I2V 14B or Fun 1.3B InP on the meta device."""
    sizes, dim = {}, 5120
    if name == "1.3b":
        sizes, dim = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, 1536
    with torch.device("meta"):
        return WanTransformer3DModel(
            in_channels=36, out_channels=16, image_dim=1280, added_kv_proj_dim=dim, **sizes
        )


@pytest.mark.parametrize("name", ["14b", "1.3b"])
def test_every_weight_is_counted_and_the_shapes_tell_the_size(name):
    """Shapes as a file's header has them, in ComfyUI's naming."""
    model = large(name)
    native, unknown = convert_transformer(model.state_dict(), "native")
    weights, strangers = convert_transformer(native, "diffusers")
    found = transformer_config(weights, {})
    assert not unknown and not strangers and "img_emb.proj.1.weight" in native
    assert found.items() <= {**model.config, "text_dim": 4096}.items()
    memory = predict(load_config(CONFIGS / "train_24gb.yaml"), model, RELEASED)
    assert memory.base == 2 * sum(p.numel() for p in model.parameters())
    with torch.device("meta"):
        lora = add_lora(model, LoraSettings(rank=256), seed=0)
    assert memory.lora == memory.gradients == 4 * sum(p.numel() for p in lora)


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
    model = large("1.3b" if file == "train_24gb.yaml" else "14b")
    memory = predict(load_config(CONFIGS / file), model, RELEASED, shards=shards)
    assert memory.total < gigabytes * 1e9


def test_the_trainer_says_its_prediction(workplace, tiny, caplog):
    caplog.set_level(logging.INFO, "egox_train.train")
    tiny.train(workplace, steps=1)
    assert [record.message[:33] for record in caplog.records if "GB" in record.message] == [
        "predicted peak memory of a step: "
    ]
    everything = tiny.config(workplace, task="base_i2v")
    assert predict(everything, large("1.3b"), (2, 4, 6, 4)) is None
