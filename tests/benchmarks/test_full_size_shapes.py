"""Whole transformers on the meta device: a complete LoRA of the released form fits, and the 14B's
FLOP are counted."""

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
