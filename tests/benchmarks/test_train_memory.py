"""The memory model counts what the architecture has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.support.memory_model import (
    ModelSize,
    TrainSetting,
    align_weights,
    block_weights,
    canvas_tokens,
    estimate,
    estimate_alignment,
    lora_weights,
    other_weights,
    pose_weights,
)
from egox_core.errors import EgoXInputError
from egox_core.train.config import TrainConfig, load_config
from egox_core.types import Panels
from egox_core.wan.align import AlignSize, ExoEgoAlign
from egox_core.wan.pose_injection import PoseInjection


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
    """What a training configuration asks for, at the released size; of several views the costliest number."""
    memory, views, several = config.memory, config.views, config.task == "views"
    own = {} if not several else {
        "tokens": max(canvas_tokens(views.panels(count)) for count in views.counts),
        "pose_hidden": views.pose_hidden if views.pose != "off" else 0,
        "pose_blocks": ModelSize().layers if views.pose == "rays_each_block" else 1,
        "align": None if views.align is None else AlignSize(width=config.align.width, layers=config.align.layers)}
    if config.conditioning.gga_mode == "off":
        own["ego_tokens_a_frame"] = 0
    return TrainSetting(
        **own,
        batch=config.batch_size, rank=config.lora.rank, targets=config.lora.targets, base=memory.base_dtype,
        optimizer=config.optimizer.name, checkpointing=memory.gradient_checkpointing,
        block_offload=memory.block_offload, checkpoint_offload=memory.checkpoint_offload,
        ema=config.ema_decay is not None, shards=shards)


@pytest.mark.parametrize(("file", "shards", "gigabytes"), [
    ("train_48gb.yaml", 1, 48), ("train_example.yaml", 1, 48), ("train_paper_8gpu.yaml", 8, 80),
    ("train_views_48gb.yaml", 1, 48), ("train_views_80gb.yaml", 1, 80)])
def test_shipped_configurations_are_predicted_to_fit(file, shards, gigabytes):
    config = load_config(Path(__file__).resolve().parent.parent.parent / "configs" / file)
    assert estimate(ModelSize(), setting_of(config, shards=shards)).total < gigabytes * 1e9


def test_the_alignments_configuration_fits_a_small_gpu():
    config = load_config(Path(__file__).resolve().parent.parent.parent / "configs" / "train_view_align.yaml")
    tokens = max(canvas_tokens(config.views.panels(count)) for count in config.views.counts)
    size = AlignSize(width=config.align.width, layers=config.align.layers)
    assert tokens == 45_864 and estimate_alignment(size, tokens).total < 8e9
    for worse in ({"batch": 2}, {"checkpointing": False}, {"ema": True}):
        assert estimate_alignment(size, tokens, **worse).total > estimate_alignment(size, tokens).total


def test_what_comes_beside_the_transformer_is_counted():
    """Weights of pose injection and alignment, and the tokens of the layouts that bench views tells of."""
    setting = TrainSetting(pose_hidden=512, align=AlignSize())
    with torch.device("meta"):
        pose, align = PoseInjection(ModelSize().dim, hidden=512), ExoEgoAlign()
        deep = PoseInjection(ModelSize().dim, hidden=512, blocks=3)
    assert sum(p.numel() for p in pose.parameters()) == pose_weights(ModelSize(), setting)
    assert sum(p.numel() for p in deep.parameters()) == pose_weights(ModelSize(), replace(setting, pose_blocks=3))
    assert sum(p.numel() for p in align.parameters()) == align_weights(AlignSize())
    assert estimate(ModelSize(), setting).total > estimate(ModelSize(), TrainSetting()).total
    tokens = [canvas_tokens(Panels(views=count)) for count in (1, 2, 4)]
    assert tokens == [28_028, 45_864, 81_536] and canvas_tokens(Panels(views=4, layout="mosaic")) == 27_664


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
