"""Test the exo cache with other packs' patches and conditions that come one by one."""

from functools import partial, wraps

import pytest
import torch

from tools.rigs import model_rig

from .exo_cache_rig import (
    check_reused_equals_full,
    count_full_and_reused,
    exo_cache_of,
    large_rig,
)


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    return large_rig(pack, repo_root)


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize("uses_lazy_cache", [False, True])
def test_comfyuis_step_caches_skip_forwards_with_and_without_cached_exo(
    rig, patch_first, uses_lazy_cache
):
    """Check that EasyCache and LazyCache don't change results while they skip no step."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    step_cache_node = LazyCacheNode if uses_lazy_cache else EasyCacheNode

    def add_step_cache(model, threshold: float):
        return step_cache_node.execute(
            model, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0, verbose=False
        )[0]

    def patch_with_step_cache(threshold: float):
        if patch_first:
            return add_step_cache(rig.patch(recompute_exo=2), threshold)
        return rig.patch(add_step_cache(rig.model, threshold), recompute_exo=2)

    compares_whole_canvases = patch_first and not uses_lazy_cache
    latent_without_step_cache = rig.ksample(
        rig.patch(recompute_exo=1 if compares_whole_canvases else 2), steps=8
    )
    assert torch.equal(rig.ksample(patch_with_step_cache(0.0), steps=8), latent_without_step_cache)
    model = patch_with_step_cache(3.0)
    latent = rig.ksample(model, steps=8)
    cache = exo_cache_of(model)
    forward_count = sum(count_full_and_reused(model))
    assert (
        cache.full_count > 0
        and latent.isfinite().all()
        and (latent - latent_without_step_cache).abs().max() < latent_without_step_cache.abs().max()
    )
    if compares_whole_canvases:
        assert cache.reused_count == 0 and forward_count == 8, (
            "it decides after the patch, which then keeps nothing"
        )
        assert "nodes_easycache needs the whole canvas" in rig.nodes(
            "patch.checks"
        ).describe_exo_use(cache)
    else:
        assert forward_count < 8


class EnhancedModule(torch.nn.Module):
    """Wrap a module and scale its output by a mean over all tokens."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        return (
            getattr(super().__getattr__("inner"), name)
            if name != "inner"
            else self._modules["inner"]
        )

    def forward(self, *args, **kwargs):
        return enhance(self.inner(*args, **kwargs))


def enhance(tokens: torch.Tensor) -> torch.Tensor:
    """Scale tokens by a mean over all of them, as Enhance-A-Video does."""
    return tokens * (1 + tokens.mean().tanh())


def call_enhanced(inner_call, *args, **kwargs):
    return enhance(inner_call(*args, **kwargs))


REPLACEMENTS = {
    # kind: a factory of the replacement for the given method or module
    "function": lambda inner_call: (
        lambda *args, **kwargs: call_enhanced(inner_call, *args, **kwargs)
    ),
    "partial": lambda inner_call: partial(call_enhanced, inner_call),
    "wraps": lambda inner_call: wraps(inner_call)(REPLACEMENTS["function"](inner_call)),
    "compile": lambda inner_call: torch.compile(
        REPLACEMENTS["function"](inner_call), backend="eager"
    ),
    "module": EnhancedModule,
}


@pytest.mark.parametrize(
    ("replacement_kind", "module_suffix"),
    [*((kind, ".self_attn") for kind in REPLACEMENTS), ("function", ""), ("module", "")],
)
def test_attention_that_another_node_replaces_switches_the_exo_cache_off(
    rig, module_suffix, replacement_kind
):
    model = rig.patch(recompute_exo=2)
    for block_number in range(len(model.get_model_object("diffusion_model").blocks)):
        object_name = f"diffusion_model.blocks.{block_number}{module_suffix}"
        object_name += "" if replacement_kind == "module" else ".forward"
        model.add_object_patch(
            object_name, REPLACEMENTS[replacement_kind](model.get_model_object(object_name))
        )
    check_reused_equals_full(rig, model, 1e-5)
    cache_note = rig.nodes("patch.checks").describe_exo_use(exo_cache_of(model))
    assert (
        count_full_and_reused(model)[1] == 0 and f"{__name__} needs the whole canvas" in cache_note
    )
    check_reused_equals_full(rig, unreplaced_model := rig.patch(recompute_exo=2), 1e-5)
    assert count_full_and_reused(unreplaced_model) == (1, 3)


@pytest.mark.parametrize("changed_object", ["the class", "torch's hook", "forward_orig"])
def test_attention_changed_in_each_call_switches_the_exo_cache_off(
    pack, repo_root, monkeypatch, changed_object
):
    """Check that the exo cache is off when another pack changes attention in each call."""
    rig = large_rig(pack, repo_root)  # on which no object patch has left a method
    model = rig.patch(recompute_exo=2)
    transformer = model.get_model_object("diffusion_model")

    def call_with_changed_attention(apply, call):
        self_attention = transformer.blocks[0].self_attn
        handle = None
        with monkeypatch.context() as patch:
            if changed_object == "the class":
                class_forward = type(self_attention).forward
                patch.setattr(
                    type(self_attention),
                    "forward",
                    lambda *a, **k: call_enhanced(class_forward, *a, **k),
                )
            elif changed_object == "forward_orig":
                patch.setattr(
                    transformer, changed_object, partial(call_enhanced, transformer.forward_orig)
                )
            else:
                handle = self_attention.register_forward_hook(
                    lambda module, args, output: enhance(output)
                )
            prediction = apply(call["input"], call["timestep"], **call["c"])
        if handle is not None:
            handle.remove()
        return prediction

    model.set_model_unet_function_wrapper(call_with_changed_attention)
    check_reused_equals_full(rig, model, 1e-5)
    assert count_full_and_reused(model)[1] == 0 and exo_cache_of(model).whole_canvas_code == {
        __name__
    }


@pytest.mark.parametrize(
    "module_path",
    [
        "blocks.0.cross_attn",  # NAG
        "blocks.0.ffn",
        "blocks.0.self_attn.norm_q",
        "text_embedding",
        "head",
    ],
)
def test_replaced_modules_that_work_per_token_leave_exo_cached(rig, module_path):
    model = rig.patch(recompute_exo=2)
    module_path = f"diffusion_model.{module_path}.forward"
    original = model.get_model_object(module_path)
    model.add_object_patch(module_path, lambda *args, **kwargs: 1.1 * original(*args, **kwargs))
    check_reused_equals_full(rig, model, 1e-5)
    assert count_full_and_reused(model) == (1, 3)
    assert not exo_cache_of(model).whole_canvas_code


def call_conditions_one_by_one(model, passed_names: str):
    """Patch the model so that each condition is computed in its own call.

    Of the stack's names it passes on all, only those of its own side, or none."""

    def call_each_condition(apply, args):
        outputs = []
        count = len(args["cond_or_uncond"])
        for position, side in enumerate(args["cond_or_uncond"]):
            condition_args = {
                name: x.chunk(count)[position] if isinstance(x, torch.Tensor) else x
                for name, x in args["c"].items()
            }
            options = dict(condition_args["transformer_options"])
            if passed_names == "its side":
                options["cond_or_uncond"] = [side]
            elif passed_names == "nothing":
                del options["cond_or_uncond"], options["uuids"]
            condition_args["transformer_options"] = options
            x, noise_level = (args[name].chunk(count)[position] for name in ("input", "timestep"))
            outputs.append(apply(x, noise_level, **condition_args))
        return torch.cat(outputs)

    wrapped_model = model.clone()
    wrapped_model.set_model_unet_function_wrapper(call_each_condition)
    return wrapped_model


@pytest.mark.parametrize("passed_names", ["all names", "its side"])
@pytest.mark.parametrize("recompute_exo", [1, 0])
def test_a_wrapper_may_call_the_model_for_one_condition_at_a_time(rig, passed_names, recompute_exo):
    model = rig.patch(recompute_exo=recompute_exo)
    plain_latent = rig.ksample(model, steps=4)
    wrapped_latent = rig.ksample(call_conditions_one_by_one(model, passed_names), steps=4)
    assert (wrapped_latent - plain_latent).abs().max() < 1e-5 * plain_latent.abs().max()
    if recompute_exo == 0:
        assert count_full_and_reused(model) == (2, 6)
