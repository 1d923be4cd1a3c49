"""Whole transformers on the meta device: a complete LoRA of the released form fits, and the 14B's
FLOP are counted."""

from __future__ import annotations

import pytest
import torch

from tools.rigs import wan_shapes
from tools.rigs.model_rig import core


@pytest.fixture(scope="module")
def model(pack):
    return wan_shapes.wan_model("14b", "meta", torch.bfloat16, torch.bfloat16)


@pytest.fixture(scope="module")
def smaller(pack):
    return wan_shapes.wan_model("1.3b", "meta", torch.bfloat16, torch.bfloat16)


@pytest.mark.parametrize(("of", "blocks"), [("model", 40), ("smaller", 30)])
def test_a_complete_rank_256_lora_maps_onto_every_block(request, pack, of, blocks):
    import comfy.lora

    model = request.getfixturevalue(of)
    keys = core(pack, "wan.lora_keys")
    file = wan_shapes.released_lora(pack, model)
    assert len(file) == blocks * 2 * 4 * 2  # blocks, attentions, q k v o, A and B
    lora = keys.convert_lora(file)
    assert lora.unmatched == () and lora.matched == len(file) and lora.ranks == (256,)
    shapes = {name: tuple(weight.shape) for name, weight in model.diffusion_model.named_parameters()}
    assert keys.check_lora_fits(lora, shapes) == ()
    # The host's own look-up finds each of them too.
    patches = comfy.lora.load_lora(lora.tensors, comfy.lora.model_lora_keys_unet(model, {}), log_missing=False)
    assert len(patches) == blocks * 2 * 4


def test_a_file_with_pose_and_alignment_finds_every_tensors_place(pack, model):
    """Two blocks of LoRA and alignment are real, the others on meta; stock look-up takes the LoRA and nothing else."""
    import comfy.lora

    keys, files, align, pose = (core(pack, f"wan.{name}")
                                for name in ("lora_keys", "method_file", "align", "pose_injection"))
    real = ("blocks.0.", "blocks.1.")
    lora = {name: torch.full(tensor.shape, 0.5) if any(block in name for block in real) else tensor
            for name, tensor in wan_shapes.released_lora(pack, model, rank=4).items()}
    with torch.device("meta"):
        parts = pose.PoseInjection(5120), align.ExoEgoAlign()
    state = files.join_method(lora, *parts)
    state = {name: torch.full(tensor.shape, 0.25) if name.startswith(("egox_pose.", *(f"egox_align.{b}" for b in real)))
             else tensor for name, tensor in state.items()}
    found = files.split_method(state)
    modules = {**{f"egox_pose.{name}": tensor for name, tensor in found.pose.state_dict().items()},
               **{f"egox_align.{name}": tensor for name, tensor in found.align.state_dict().items()}}
    assert {**found.lora, **modules}.keys() == state.keys()
    for name, tensor in modules.items():
        assert tensor.device == state[name].device and tensor.shape == state[name].shape
        assert tensor.is_meta or bool((tensor == 0.25).all()), name
    assert sum(tensor.numel() for tensor in found.pose.state_dict().values()) == pytest.approx(2.6e6, rel=0.02)
    assert sum(tensor.numel() for tensor in found.align.state_dict().values()) == pytest.approx(85e6, rel=0.01)
    converted = keys.convert_lora(found.lora)
    shapes = {name: tuple(weight.shape) for name, weight in model.diffusion_model.named_parameters()}
    assert converted.unmatched == () and keys.check_lora_fits(converted, shapes) == ()
    stock = keys.convert_lora(state)
    assert len(stock.unmatched) == len(modules) and stock.tensors.keys() == converted.tensors.keys()
    patches = comfy.lora.load_lora(stock.tensors, comfy.lora.model_lora_keys_unet(model, {}), log_missing=False)
    assert len(patches) == 40 * 2 * 4


def test_every_native_name_has_a_diffusers_one(pack, model):
    keys = core(pack, "wan.lora_keys")
    names = [name for name, _ in model.diffusion_model.named_parameters()]
    diffusers = [keys.rename_parameter(name, "diffusers") for name in names]
    assert None not in diffusers and len(set(diffusers)) == len(names)
    assert [keys.rename_parameter(name) for name in diffusers] == names
