"""The memory model counts what the architecture has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.support.memory_model import (
    ModelSize,
    TrainSetting,
    block_weights,
    estimate,
    lora_weights,
    other_weights,
)
from egox_core.errors import EgoXInputError
from egox_core.train.config import TrainConfig, load_config


def test_the_model_counts_every_weight():
    """Against diffusers' own 14B on the meta device: the sum of all its tensors."""
    from diffusers import WanTransformer3DModel

    size = ModelSize()
    with torch.device("meta"):
        model = WanTransformer3DModel(in_channels=36, out_channels=16, image_dim=1280, added_kv_proj_dim=5120)
    total = sum(p.numel() for p in model.parameters())
    counted = size.layers * block_weights(size) + other_weights(size)
    assert abs(counted - total) / total < 1e-3 and 16.2e9 < total < 16.6e9
    from egox_core.train.config import LoraSettings
    from egox_core.train.lora import add_lora

    with torch.device("meta"):
        small = WanTransformer3DModel(in_channels=36, out_channels=16, num_layers=2)
        parameters = add_lora(small, LoraSettings(rank=256), seed=0)
    assert sum(p.numel() for p in parameters) * 20 == lora_weights(ModelSize(), TrainSetting())


def setting_of(config: TrainConfig, *, shards: int = 1) -> TrainSetting:
    """What a training configuration asks for, at the released size."""
    memory = config.memory
    return TrainSetting(
        batch=config.batch_size, rank=config.lora.rank, targets=config.lora.targets, base=memory.base_dtype,
        optimizer=config.optimizer.name, checkpointing=memory.gradient_checkpointing,
        block_offload=memory.block_offload, checkpoint_offload=memory.checkpoint_offload,
        ema=config.ema_decay is not None, shards=shards)


@pytest.mark.parametrize(("file", "shards", "gigabytes"), [
    ("train_48gb.yaml", 1, 48), ("train_example.yaml", 1, 48), ("train_paper_8gpu.yaml", 8, 80)])
def test_shipped_configurations_are_predicted_to_fit(file, shards, gigabytes):
    config = load_config(Path(__file__).resolve().parent.parent.parent / "configs" / file)
    assert estimate(ModelSize(), setting_of(config, shards=shards)).total < gigabytes * 1e9


def test_predictions_go_the_right_way():
    base = estimate(ModelSize(), TrainSetting()).total
    for better in ({"base": "float8"}, {"base": "int4"}, {"block_offload": True}, {"checkpoint_offload": True},
                   {"optimizer": "adamw8bit"}, {"optimizer": "adafactor"}, {"rank": 64}, {"shards": 8},
                   {"tokens": 14014}):
        assert estimate(ModelSize(), TrainSetting(**better)).total < base, better
    for worse in ({"base": "float32"}, {"ema": True}, {"checkpointing": False}, {"batch": 2},
                  {"targets": ("attn1", "attn2", "ffn")}):
        assert estimate(ModelSize(), TrainSetting(**worse)).total > base, worse
    with pytest.raises(EgoXInputError):
        estimate(ModelSize(), TrainSetting(base="int3"))
