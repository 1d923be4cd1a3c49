"""Test that the exo cache follows LoRAs whose strength changes within a run."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tools.rigs import model_rig

from .exo_cache_rig import count_full_and_reused, large_rig
from .extras import extra_nodes


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return large_rig(pack, repo_root)


def draw_key_lora(rig) -> dict[str, torch.Tensor]:
    """Draw a random LoRA for the first block's keys."""
    layer_name = "diffusion_model.blocks.0.self_attn.k"
    output_size, input_size = rig.model.get_model_object(layer_name).weight.shape
    draw_normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    return {
        f"{layer_name}.lora_A.weight": draw_normal(4, input_size) / 5,
        f"{layer_name}.lora_B.weight": draw_normal(output_size, 4) / 5,
    }


def load_key_lora(rig) -> Any:
    """Load the LoRA of :func:`draw_key_lora` into the model with ComfyUI's own loader."""
    import comfy.sd

    return comfy.sd.load_lora_for_models(rig.model, None, draw_key_lora(rig), 1.0, 0.0)[0]


def create_hook(rig, kind: str) -> Any:
    """Create a hook as ComfyUI's *Create Hook LoRA* or *Create Hook Model as LoRA* does."""
    import comfy.hooks

    key_lora = draw_key_lora(rig)
    if kind == "lora":
        return comfy.hooks.create_hook_lora(key_lora, 1.0, 1.0)
    down_weight, up_weight = key_lora.values()
    weight_name = "diffusion_model.blocks.0.self_attn.k.weight"
    return comfy.hooks.create_hook_model_as_lora(
        {weight_name: rig.model.get_model_object(weight_name) + up_weight @ down_weight},
        None,
        1.0,
        1.0,
    )


def attach_hooks(conditioning: list, hooks: Any) -> list:
    """Attach hooks to a conditioning as ComfyUI's *Cond Set Props* does."""
    (hooked_conditioning,) = (
        extra_nodes("nodes_hooks")
        .ConditioningSetProperties()
        .set_properties(conditioning, 1.0, "default", hooks=hooks)
    )
    return hooked_conditioning


@pytest.mark.parametrize("kind", ["lora", "model"])
@pytest.mark.parametrize("lambda_g", [0.0, 3.0])
@pytest.mark.parametrize("recompute_exo", [1, 2, 0])
def test_a_hook_on_both_prompts_equals_the_lora_on_the_model(rig, recompute_exo, lambda_g, kind):
    lora_hooks = create_hook(rig, kind)
    hooked_prompts = {
        name: attach_hooks(getattr(rig, name), lora_hooks) for name in ("positive", "negative")
    }
    patch_options = {"lambda_g": lambda_g, "recompute_exo": recompute_exo}
    patched_model = rig.patch(**patch_options)
    hooked_latent = rig.ksample(patched_model, steps=4, **hooked_prompts)
    lora_latent = rig.ksample(rig.patch(load_key_lora(rig), **patch_options), steps=4)
    plain_latent = rig.ksample(rig.patch(**patch_options), steps=4)
    assert (hooked_latent - lora_latent).abs().max() <= 1e-5 * (
        plain_latent - lora_latent
    ).abs().max()
    if recompute_exo != 1:
        assert count_full_and_reused(patched_model) == ((2, 2) if recompute_exo else (1, 3))
    positive_only_latent = rig.ksample(
        rig.patch(**patch_options), steps=4, positive=hooked_prompts["positive"]
    )
    assert (
        positive_only_latent.isfinite().all()
        and not torch.equal(positive_only_latent, hooked_latent)
        and not torch.equal(positive_only_latent, plain_latent)
    )


def test_the_strength_of_a_scheduled_lora_is_part_of_the_cache_key(rig):
    exo_cache_module = rig.nodes("patch.exo_cache")
    model_input = torch.zeros(1, 36, 3, 8, 8)
    executor = SimpleNamespace(
        class_obj=rig.model.get_model_object("diffusion_model"), wrappers=[None], idx=0
    )
    cache = rig.nodes("patch.exo_cache").ExoCache(0)
    base_options = {
        "sample_sigmas": torch.tensor([1.0, 0.0]),
        "sigmas": torch.tensor([1.0]),
        "uuids": ["a"],
    }
    option_changes = (
        {},
        {exo_cache_module.WEIGHTS: ((1, 0.5),)},
        {exo_cache_module.WEIGHTS: ((1, 0.7),)},
        {"uuids": ["b"]},
        {exo_cache_module.SLOTS: {"dit": {("double_block", 1): torch.nn.functional.softmax}}},
    )
    cases = [
        *(({**base_options, **changed_options}, None) for changed_options in option_changes),
        (base_options, [0, 1, 2]),
    ]
    exo_calls = [
        exo_cache_module.make_exo_call(cache, executor, model_input, (), options, frames, 1)
        for options, frames in cases
    ]
    assert len({(call.key, call.conditions, call.weights) for call in exo_calls}) == 6
