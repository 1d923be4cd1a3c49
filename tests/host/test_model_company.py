"""The patched model in company: other attention overrides, other wrappers, caches, torch.compile, a
pair of models."""

from dataclasses import replace

import pytest
import torch
import torch._dynamo
from torch._dynamo.utils import counters

from tests.host.asking import Page
from tests.host.test_model_exo_cache import (
    check_reused_equals_full,
    count_full_and_reused,
    exo_cache_of,
)
from tests.refusals import refuses
from tools.rigs import model_rig, standins

OVERRIDE = "optimized_attention_override"


def test_the_override_ends_with_the_forward(rig):
    """The host's options of the run never hold ours, so that nothing outside the forward can meet
    it."""
    has_override = []

    def outside(executor, x, timestep, context, clip_fea, concat, options, **kwargs):
        out = executor(x, timestep, context, clip_fea, concat, options, **kwargs)
        has_override.append(OVERRIDE in options)
        return out

    patched = rig.patch()
    patched.wrappers["diffusion_model"] = {
        "outside": [outside],
        **patched.wrappers["diffusion_model"],
    }
    rig.ksample(patched, steps=1)
    assert has_override == [False]


@pytest.mark.parametrize("batch", [1, 2])
def test_an_override_gets_the_unguided_queries_of_a_block_in_two_calls(rig, monkeypatch, batch):
    """At 28,028 tokens of the 14B model, by shapes alone: meta tensors, and a biased kernel that
    computes nothing."""
    backends, geometries, options = (
        model_rig.core(rig.pack, f"gga.{name}") for name in ("backends", "geometry", "options")
    )
    monkeypatch.setattr(backends, "_choice", lambda *args: backends.Choice(names=["sdpa"]))
    monkeypatch.setitem(backends.BACKENDS, "sdpa", lambda q, *rest: torch.empty_like(q))
    t, h, w_exo, w_ego = 13, 28, 49, 28
    geometry = geometries.tokens_from_latents(
        torch.empty(t, t, 2 * h, 2 * w_exo, 3, device="meta"),
        torch.empty(t, 2 * h, 2 * w_ego, 3, device="meta"),
        torch.ones(t, 2 * h, 2 * w_exo),  # whose values are looked at
    )
    shapes = []

    def sparse(func, q, k, v, heads, mask=None, **kwargs):
        shapes.append((q.shape[1], k.shape[1], mask))
        return torch.empty_like(q)

    patch = rig.nodes("patch.forward")
    guidance = patch.GeometryGuidance(geometry, options.GgaOptions(), "auto")
    override = patch.AttentionOverride(
        geometry, guidance, sparse, {512, 257}, rig.nodes("patch.checks").PatchCalls()
    )
    q, k, v = (
        torch.empty(batch, geometry.tokens, 5120, dtype=torch.bfloat16, device="meta")
        for _ in range(3)
    )
    for block in range(3):
        shapes.clear()
        override(None, q, k, v, 40, transformer_options={"block_index": block})
        assert len(shapes) <= 2 and sum(queries for queries, _, _ in shapes) == t * h * w_exo
        assert {(keys, mask) for _, keys, mask in shapes} == {(28_028, None)}


@pytest.mark.parametrize(("lambda_g", "rows"), [(3.0, 24), (0.0, 36)])
def test_what_carries_no_bias_reaches_the_attention_that_the_user_chose(
    rig, monkeypatch, lambda_g, rows
):
    """Exo rows of guided blocks, unguided blocks and cross-attention, as a start option of the host
    sets it."""
    from comfy.ldm.modules.attention import attention_basic, wrap_attn

    counted = []

    @wrap_attn
    def chosen(q, k, v, heads, *args, **kwargs):
        counted.append((q.shape[1], k.shape[1]))
        return attention_basic(q, k, v, heads, *args, **kwargs)

    monkeypatch.setattr("comfy.ldm.wan.model.optimized_attention", chosen)
    rig.ksample(rig.patch(lambda_g=lambda_g), steps=1, cfg=1.0)
    assert sum(q for q, k in counted if k == 36) == 2 * rows, "of both blocks"
    assert [q for q, k in counted if k == 6] == [36, 36], "cross-attention"


def skip_layer(model):
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    return SkipLayerGuidanceDiT.execute(
        model, scale=3.0, start_percent=0.0, end_percent=1.0, double_layers="1"
    )[0]


def cfg_zero_star(model):
    from comfy_extras.nodes_cfg import CFGZeroStar

    return CFGZeroStar.execute(model)[0]


def compiled(model, backend: str):
    """Compile with the host's compile node, by any backend (``eager`` traces and guards, but builds
    no kernels)."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    model = model.clone(disable_dynamic=True)
    set_torch_compile_wrapper(
        model=model, backend=backend, options={"guard_filter_fn": skip_torch_compile_dict}
    )
    return model


def attend_as_on_a_card(monkeypatch) -> None:
    """Use attention as on a card. The host's attention for CPUs is one more break, and doubles the
    forms."""
    import comfy.ldm.wan.model
    from comfy.ldm.modules.attention import attention_pytorch

    monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", attention_pytorch)


def test_compiled_blocks_have_four_forms_and_none_anew(rig, monkeypatch, repo_root, caplog):
    """The forms are full and kept, for one condition and two, the same for another seed, strength
    or LoRA. Our own code stays out of it."""
    import comfy.ldm.wan.model
    from comfy_extras.nodes_custom_sampler import CFGOverride
    from torch._dynamo.utils import clear_compilation_metrics, get_compilation_metrics

    attend_as_on_a_card(monkeypatch)
    # Newer hosts load so; on the oldest a LoRA's weights differ from the file's in this.
    rig.model.model.requires_grad_(False)
    torch._dynamo.reset()
    clear_compilation_metrics()

    def run(**changes):
        weaker = changes.pop("lora", None)
        model = rig.patch(recompute_exo=2, **changes)
        if weaker:
            name = "diffusion_model.blocks.0.self_attn.k.weight"
            size = model.get_model_object(name).shape
            model.add_patches({name: ("diff", (torch.full(size, 0.02),))}, weaker)
        eager, one = (
            rig.ksample(CFGOverride.execute(each, 1.0, 0.45, 1.0)[0], steps=6)
            for each in (model, compiled(model, "eager"))
        )
        assert (one - eager).abs().max() <= 1e-5 * eager.abs().max()
        assert count_full_and_reused(model) == (3, 3)

    run()
    first = len(get_compilation_metrics())
    block = comfy.ldm.wan.model.WanAttentionBlock.forward.__code__
    for changes in ({"lambda_g": 1.0}, {"lora": 0.5}, {"lora": 0.7}):
        run(**changes)
    compilations = get_compilation_metrics()
    ours = str(repo_root / "nodes"), str(repo_root / "egox_core")
    assert not [one.co_name for one in compilations if str(one.co_filename).startswith(ours)]
    assert len(compilations) == first
    lines = [one.co_firstlineno for one in compilations if one.co_filename == block.co_filename]
    # The first block's tokens lie otherwise in memory than those of the others.
    assert 2 <= lines.count(block.co_firstlineno) <= 2 * 4
    assert "recompile_limit" not in caplog.text
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "runs"),
    [
        ("eager", ("none", "guided", "plain", "weaker", "none", "guided", "plain", "kept")),
        ("inductor", ("none", "guided", "weaker", "none")),  # each new form is compiled from C++
    ],
)
def test_torch_compile_never_takes_the_code_of_another_run(
    pack, repo_root, tmp_path, monkeypatch, backend, runs
):
    """The host's node drops the guards on transformer_options, where wrappers and overrides live.
    ``kept``: full forwards and those whose exo half is kept, of other shapes. The guards are the
    same for all backends."""
    attend_as_on_a_card(monkeypatch)
    torch._dynamo.reset()
    counters.clear()
    rig = model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize())
    form = replace(standins.WAN22_I2V, layers=1)  # tracing takes seconds per layer
    standins.write(tmp_path / "one_layer.safetensors", *standins.transformer(form))
    rig.model = model_rig.load_transformer(tmp_path / "one_layer.safetensors")
    models = {
        "plain": rig.model,
        "none": rig.patch(lambda_g=0.0),
        "guided": rig.patch(),
        "weaker": rig.patch(lambda_g=0.5),
        "kept": rig.patch(recompute_exo=2),
    }
    for name in runs:
        got, expected = (
            rig.ksample(model, steps=4 if name == "kept" else 1, cfg=1.0)
            for model in (compiled(models[name], backend), models[name])
        )
        # Compiled kernels sum in another order; float32. Choices differ by 0.1 and more.
        assert (got - expected).abs().max() < 1e-3 * expected.abs().max(), name
    if "kept" in runs:
        assert count_full_and_reused(models["kept"]) == (2, 2)
    assert counters["stats"]["calls_captured"] > 25 * len(runs), (
        "the transformer itself was compiled"
    )
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({}, "guided attention by sdpa"),
        ({"backend": "cudnn"}, "guided attention by sdpa"),  # of saved graphs: auto
        ({"backend": "reference"}, "guided attention by the dense reference"),
        ({"lambda_g": 0.0}, None),
    ],
)
def test_the_kernel_stands_in_the_nodes_note(rig, monkeypatch, changes, kernel):
    """The sampler node has the note with its result, and EgoX Model Patch when the run of another
    sampler ends."""
    page = Page()
    page.shows(monkeypatch, rig.nodes("model_patch").EgoXModelPatch, rig.nodes("host.steps"))
    model = rig.patch(**changes)
    assert page.texts == [], "not known yet"
    model_rig.core(rig.pack, "gga.backends")._choice_of.clear()
    rig.ksample(model, steps=1)
    *before, (node, note) = page.texts
    first_words = ["choosing a kernel, 0 s (sdpa)", "attention by sdpa"]
    assert [words for _, words in before] == (first_words if kernel and "sdpa" in kernel else [])
    assert ("backend cudnn means auto; " in note) is (changes.get("backend") == "cudnn")
    assert node == "7" and note.startswith("mask released; ")
    untimed, _, times = note.rpartition("; ")
    assert untimed.endswith(f"; {kernel}") if kernel else "attention by" not in note
    assert " s per step in the model" in times and ("% of it in self-attention" in times) is bool(
        kernel
    )

    notes = []
    monkeypatch.setattr(
        rig.nodes("show.results"), "note", lambda text: notes.append(text) or {"text": (text,)}
    )
    if "backend" not in changes:  # the sampler node takes the fastest
        rig.wan_sample(steps=1, **changes)
        assert [text.rpartition("; ")[0] for text in notes] == [untimed]


def every_token(call: dict) -> dict:
    """Move a block's tokens by their mean, so that a patch that sees part of them gives something
    else."""
    return {**call, "img": call["img"] + 0.3 * call["img"].mean(dim=1, keepdim=True)}


def double_block(model):
    model.set_model_double_block_patch(every_token)


def self_attention_patch(model):
    model.set_model_attn1_patch(lambda call: 0.5 * call["x"])


def cross_attention_patch(model):
    model.set_model_attn2_patch(lambda call: call["x"] + call["x"].mean(dim=1, keepdim=True))


def attention_override(model):
    model.model_options["transformer_options"][OVERRIDE] = lambda func, *args, **kwargs: (
        0.5 * func(*args, **kwargs)
    )


def replaced_block(model):
    model.set_model_patch_replace(
        lambda call, extra: every_token(extra["original_block"](call)), "dit", "double_block", 0
    )


def halved(kind: str):
    """Give a patch that adds a wrapper of one of the host's kinds, which halves the result."""

    def wrapper(model):
        model.add_wrapper_with_key(
            kind, "other", lambda executor, *args, **kwargs: 0.5 * executor(*args, **kwargs)
        )

    wrapper.__name__ = f"halved_{kind}"
    return wrapper


def function_wrapper(model):
    model.set_model_unet_function_wrapper(
        lambda apply, call: 0.5 * apply(call["input"], call["timestep"], **call["c"])
    )


def changed_guidance(model):
    model.set_model_sampler_cfg_function(lambda args: args["cond"] * 0.5)


def changed_result(model):
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.5)


class ScaledHead(torch.nn.Module):
    """The transformer's last part, its result halved."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *args, **kwargs):
        return 0.5 * self.head(*args, **kwargs)


def replaced_object(model):
    model.add_object_patch(
        "diffusion_model.head", ScaledHead(model.get_model_object("diffusion_model.head"))
    )


def positions(model):
    """Change positions in time by code that knows nothing of the host's rope_options."""
    encode = model.get_model_object("diffusion_model.rope_encode")
    model.add_object_patch(
        "diffusion_model.rope_encode",
        lambda t, h, w, transformer_options=None, **kwargs: encode(
            t, h, w, transformer_options={"rope_options": {"scale_t": 3.0}}, **kwargs
        ),
    )


def flow_shift(model):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    return ModelSamplingSD3().patch(model, 3.0)[0]


def context_handler(model):
    import comfy.context_windows as windows

    model.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=2,
        context_overlap=1,
        dim=2,
    )


def joined(stranger, model):
    """Clone a model and add another pack's patch."""
    model = model.clone()
    return stranger(model) or model


def widened_by_hand(rig, stranger, *, patch_first: bool):
    """Put the exo half beside the ego half without EgoX's code, with the stranger before or after."""
    canvas = model_rig.core(rig.pack, "wan.canvas")
    t, h, w_exo, w_ego = rig.canvas.latent_grid
    mask = canvas.build_mask(rig.canvas.mask_mode, t, h, w_exo, w_ego)[..., :w_exo]
    exo = rig.model.get_model_object("latent_format").process_in(rig.canvas.exo_latent.float())
    known = torch.cat([exo, mask.to(exo).expand(1, 4, -1, -1, -1), exo], dim=1)

    def widen(executor, x, *args, **kwargs):
        window = args[4].get("context_window")
        here = known if window is None else window.get_tensor(known, dim=2)
        return executor(
            torch.cat([here.expand(len(x), -1, -1, -1, -1), x], dim=-1), *args, **kwargs
        )[..., w_exo:]

    model = rig.model.clone() if patch_first else joined(stranger, rig.model)
    model = model.clone()
    model.add_wrapper_with_key("diffusion_model", "by_hand", widen)
    return joined(stranger, model) if patch_first else model


COMPANY = {
    # stranger: whether exo may be kept between steps when it comes after the patch, and before it
    double_block: (False, False),
    self_attention_patch: (False, False),
    cross_attention_patch: (False, False),
    attention_override: (True, True),
    replaced_block: (False, False),
    skip_layer: (True, True),
    cfg_zero_star: (True, True),
    halved("diffusion_model"): (False, True),
    halved("apply_model"): (True, True),
    halved("outer_sample"): (True, True),
    halved("sampler_sample"): (True, True),
    function_wrapper: (True, True),
    changed_guidance: (True, True),
    changed_result: (True, True),
    replaced_object: (True, True),
    positions: (False, False),
    flow_shift: (True, True),
    context_handler: (True, True),
}


@pytest.mark.parametrize("patch_first", [True, False], ids=["after the patch", "before it"])
@pytest.mark.parametrize("stranger", COMPANY, ids=lambda stranger: stranger.__name__)
def test_a_strangers_patch(rig, stranger, patch_first, is_pinned_host):
    """It works as on a canvas that the test itself puts together, guided too. Exo is kept only if
    that is the same."""

    def patched(**changes):
        if patch_first:
            return joined(stranger, rig.patch(**changes))
        return rig.patch(joined(stranger, rig.model), **changes)

    reference = rig.ksample(widened_by_hand(rig, stranger, patch_first=patch_first))
    if not is_pinned_host and torch.equal(reference, rig.ksample(rig.patch(lambda_g=0.0))):
        pytest.skip("this host never calls such a patch")
    unguided = rig.ksample(patched(lambda_g=0.0))
    assert torch.equal(unguided, reference)
    assert not torch.equal(unguided, rig.ksample(rig.patch(lambda_g=0.0))), "the stranger acts"

    guided = rig.ksample(patched())
    assert (guided - unguided).abs().max() > 1e-3, "the geometry acts"
    assert not torch.equal(guided, rig.ksample(rig.patch()))

    model = patched(recompute_exo=2)
    cache = exo_cache_of(model)
    may_keep = COMPANY[stranger][0 if patch_first else 1]
    check_reused_equals_full(rig, model, 1e-5)
    assert (cache.kept > 0, bool(cache.in_the_way)) == (may_keep, not may_keep)


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize("kind", ["WanUni3CCnetPatch", "MultiTalkCrossAttnPatch"])
def test_patches_that_take_the_canvas_for_a_picture_are_refused(rig, kind, patch_first):
    """The host's own classes, before anything is computed."""
    modules = {
        "WanUni3CCnetPatch": "comfy_extras.nodes_model_patch",
        "MultiTalkCrossAttnPatch": "comfy.ldm.wan.model_multitalk",
    }
    node_class = getattr(pytest.importorskip(modules[kind]), kind, None)
    if node_class is None:
        pytest.skip(f"this host has no {kind}")
    patch = node_class.__new__(node_class)  # never called: it needs weights
    patch.models, patch.prepared_render = list, None
    model = rig.patch() if patch_first else rig.model.clone()
    model.set_model_patch(patch, "double_block" if "Uni3C" in kind else "attn2_patch")
    model = model if patch_first else rig.patch(model)
    with refuses("a different node's patch.*take that node out"):
        rig.ksample(model, steps=1)


def test_a_prompt_s_area_is_named_and_its_mask_may_stay(rig):
    from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

    from nodes import ConditioningSetArea, ConditioningSetAreaPercentage, ConditioningSetMask

    def run(node, *settings, **options):
        (positive,) = node().append(rig.positive, *settings)
        return rig.ksample(rig.patch(**options), positive=positive, steps=2)

    height, width = (8 * side for side in rig.latent["samples"].shape[-2:])
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    plain = rig.ksample(rig.patch(), steps=2)
    # The host computes a condition with an area by itself: products of one sum in another order than
    # those of two, on some processors. It gives the negative of that area the positive's name.
    for every in (1, 2):
        whole = run(ConditioningSetArea, width, height, 0, 0, 1.0, recompute_exo=every)
        same = plain if every == 1 else rig.ksample(rig.patch(recompute_exo=every), steps=2)
        torch.testing.assert_close(whole, same, rtol=0, atol=1e-3)
    video = run(ConditioningSetAreaPercentageVideo, 1, 1, 1, 0, 0, 0, 1.0)
    torch.testing.assert_close(video, plain, rtol=0, atol=1e-3)
    assert (run(ConditioningSetMask, mask, "default", 1.0) - plain).abs().max() > 0.1
    of_each = mask.expand(rig.latent["samples"].shape[2], -1, -1)
    assert run(ConditioningSetMask, of_each, "default", 1.0).isfinite().all()
    for node, settings in (
        (ConditioningSetArea, (width // 2, height, 0, 0, 1.0)),
        (ConditioningSetArea, (width, height, 0, 8, 1.0)),
        (ConditioningSetAreaPercentage, (0.5, 1, 0, 0, 1.0)),
        (ConditioningSetAreaPercentageVideo, (1, 1, 0.5, 0, 0, 0, 1.0)),
        (ConditioningSetMask, (mask, "mask bounds", 1.0)),
    ):
        with refuses("positive conditioning.*an area.*a mask in place of the area"):
            run(node, *settings)
    with refuses("mask of the positive conditioning.*9 frames.*one picture of the mask"):
        run(ConditioningSetMask, mask.expand(9, -1, -1), "default", 1.0)


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize(
    "cut", [(slice(None), slice(2)), (slice(2), slice(None))], ids=["tile", "window"]
)
def test_parts_whose_place_is_unknown_are_refused(rig, patch_first, cut):
    """Another pack's tiles and windows: exo would be of another place or time."""
    time, width = cut

    def parts(apply, call):
        of_call = {**call["c"], "c_concat": call["c"]["c_concat"][:, :, time, :, width]}
        out = torch.zeros_like(call["input"])
        out[:, :, time, :, width] = apply(
            call["input"][:, :, time, :, width], call["timestep"], **of_call
        )
        return out

    base = rig.model.clone() if not patch_first else rig.patch(lambda_g=0.0)
    base.set_model_unet_function_wrapper(parts)
    with refuses("(?s)latent in a call.*the ego half.*windows or tiles"):
        rig.ksample(base if patch_first else rig.patch(base, lambda_g=0.0))


def guided_by_two(rig, positive, negative) -> torch.Tensor:
    """Sample with the host's guider of two models."""
    import comfy.samplers
    from comfy_extras import nodes_custom_sampler

    guider_of = getattr(nodes_custom_sampler, "DualModelGuider", None)
    if guider_of is None:
        pytest.skip("this host has no guider of two models")
    guider = guider_of.execute(positive, rig.positive, 3.0, negative, rig.negative).result[0]
    latent = rig.latent["samples"]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3))
    sigmas = torch.tensor([1.0, 0.8, 0.5, 0.0])
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=1)


def test_a_guider_of_two_models_takes_the_canvas_of_the_positives(rig, caplog):
    plain, patched = rig.model.clone(), rig.patch(recompute_exo=0)
    both = guided_by_two(rig, patched, patched)
    assert count_full_and_reused(patched) == (2, 4)
    assert torch.equal(guided_by_two(rig, patched, plain), both)
    assert not caplog.records
    other = rig.patch(lambda_g=0.0)
    assert torch.equal(guided_by_two(rig, patched, other), both)
    assert "the negative's own EgoX patch isn't asked" in caplog.text
    with refuses("the EgoX patch on the negative's model alone.*to 'model' of the guider"):
        guided_by_two(rig, plain, patched)
