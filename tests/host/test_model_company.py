"""Test the patched model together with other packs' patches and with torch.compile."""

from dataclasses import replace

import pytest
import torch

from tests.host.asking import Page
from tests.host.exo_cache_rig import (
    check_reused_equals_full,
    count_full_and_reused,
    exo_cache_of,
)
from tests.host.extras import extra_nodes
from tests.refusals import refuses
from tools.rigs import model_rig, standins

OVERRIDE = "optimized_attention_override"


@pytest.mark.parametrize(("lambda_g", "rows_per_block"), [(3.0, 24), (0.0, 36)])
def test_attention_without_bias_uses_the_kernel_that_the_user_chose(
    rig, monkeypatch, lambda_g, rows_per_block
):
    """Check that attention calls without a geometry bias run the kernel of ComfyUI's start
    option."""
    from comfy.ldm.modules.attention import attention_basic, wrap_attn

    query_and_key_counts = []

    @wrap_attn
    def count_and_attend(q, k, v, heads, *args, **kwargs):
        query_and_key_counts.append((q.shape[1], k.shape[1]))
        return attention_basic(q, k, v, heads, *args, **kwargs)

    monkeypatch.setattr("comfy.ldm.wan.model.optimized_attention", count_and_attend)
    rig.ksample(rig.patch(lambda_g=lambda_g), steps=1, cfg=1.0)
    assert sum(q for q, k in query_and_key_counts if k == 36) == 2 * rows_per_block, (
        "of both blocks"
    )
    assert [q for q, k in query_and_key_counts if k == 6] == [36, 36], "cross-attention"


def skip_layer(model):
    return extra_nodes("nodes_slg").SkipLayerGuidanceDiT.execute(
        model, scale=3.0, start_percent=0.0, end_percent=1.0, double_layers="1"
    )[0]


def cfg_zero_star(model):
    return extra_nodes("nodes_cfg").CFGZeroStar.execute(model)[0]


def compile_model(model, backend: str):
    """Compile a model as ComfyUI's compile node does."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    guard_filter = extra_nodes("nodes_torch_compile").skip_torch_compile_dict
    model = model.clone(disable_dynamic=True)
    set_torch_compile_wrapper(
        model=model, backend=backend, options={"guard_filter_fn": guard_filter}
    )
    return model


def use_gpu_attention(monkeypatch) -> None:
    """Replace ComfyUI's attention for CPUs, which breaks compiled graphs, by its attention for
    GPUs."""
    import comfy.ldm.wan.model
    from comfy.ldm.modules.attention import attention_pytorch

    monkeypatch.setattr(comfy.ldm.wan.model, "optimized_attention", attention_pytorch)


@pytest.mark.parametrize("form_count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_compiled_blocks_are_never_recompiled(rig, monkeypatch, repo_root, caplog, form_count):
    """Check that new seeds, strengths and LoRAs reuse compiled code.

    Forwards with the exo half and with cached exo are two forms, each with one or two prompts.
    """
    import comfy.ldm.wan.model
    from torch import _dynamo
    from torch._dynamo.utils import clear_compilation_metrics, get_compilation_metrics

    cfg_override = extra_nodes("nodes_custom_sampler").CFGOverride
    use_gpu_attention(monkeypatch)
    # Newer hosts load so; on the oldest a LoRA's weights differ from the file's in this.
    rig.model.model.requires_grad_(False)
    _dynamo.reset()
    clear_compilation_metrics()

    def compare_with_compiled(**changes):
        lora_strength = changes.pop("lora", None)
        model = rig.patch(recompute_exo=2, **changes)
        if lora_strength:
            weight_name = "diffusion_model.blocks.0.self_attn.k.weight"
            weight_shape = model.get_model_object(weight_name).shape
            model.add_patches(
                {weight_name: ("diff", (torch.full(weight_shape, 0.02),))}, lora_strength
            )
        eager_latent, compiled_latent = (
            rig.ksample(cfg_override.execute(variant, 1.0, 0.45, 1.0)[0], steps=6)
            if form_count == 4
            else rig.ksample(variant, steps=2, cfg=1.0)
            for variant in (model, compile_model(model, "eager"))
        )
        assert (compiled_latent - eager_latent).abs().max() <= 1e-5 * eager_latent.abs().max()
        assert count_full_and_reused(model) == ((3, 3) if form_count == 4 else (1, 1))

    compare_with_compiled()
    compilation_count = len(get_compilation_metrics())
    block_code = comfy.ldm.wan.model.WanAttentionBlock.forward.__code__
    for changes in ({"lambda_g": 1.0}, {"lora": 0.5}, {"lora": 0.7}):
        compare_with_compiled(**changes)
    compilations = get_compilation_metrics()
    egox_folders = str(repo_root / "nodes"), str(repo_root / "egox_core")
    assert not [
        entry.co_name for entry in compilations if str(entry.co_filename).startswith(egox_folders)
    ]
    assert len(compilations) == compilation_count
    block_lines = [
        entry.co_firstlineno
        for entry in compilations
        if entry.co_filename == block_code.co_filename
    ]
    # The first block's tokens lie otherwise in memory than those of the others.
    assert 2 <= block_lines.count(block_code.co_firstlineno) <= 2 * form_count
    assert "recompile_limit" not in caplog.text
    _dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "run_names"),
    [
        ("eager", ("none", "guided", "plain", "weaker", "none", "guided", "plain", "kept")),
        ("inductor", ("none", "guided", "weaker", "none")),  # each new form is compiled from C++
    ],
)
def test_torch_compile_never_takes_the_code_of_another_run(
    pack, repo_root, tmp_path, monkeypatch, backend, run_names
):
    """Check that differently patched clones of a compiled model each give the result of their own
    patch.

    The run ``kept`` has full forwards and those with cached exo, of other shapes. The guards are
    the same for all backends."""
    from torch import _dynamo
    from torch._dynamo.utils import counters

    use_gpu_attention(monkeypatch)
    _dynamo.reset()
    counters.clear()
    rig = model_rig.random_rig(pack, repo_root / "models", model_rig.RigSize())
    one_layer_form = replace(standins.WAN22_I2V, layers=1)  # tracing takes seconds per layer
    standins.save_standin(
        tmp_path / "one_layer.safetensors", *standins.make_transformer(one_layer_form)
    )
    rig.model = model_rig.load_transformer(tmp_path / "one_layer.safetensors")
    models = {
        "plain": rig.model,
        "none": rig.patch(lambda_g=0.0),
        "guided": rig.patch(),
        "weaker": rig.patch(lambda_g=0.5),
        "kept": rig.patch(recompute_exo=2),
    }
    for run_name in run_names:
        compiled_latent, eager_latent = (
            rig.ksample(model, steps=4 if run_name == "kept" else 1, cfg=1.0)
            for model in (compile_model(models[run_name], backend), models[run_name])
        )
        # Compiled kernels sum in another order; float32. Choices differ by 0.1 and more.
        assert (compiled_latent - eager_latent).abs().max() < 1e-3 * eager_latent.abs().max(), (
            run_name
        )
    if "kept" in run_names:
        assert count_full_and_reused(models["kept"]) == (2, 2)
    assert counters["stats"]["calls_captured"] > 25 * len(run_names), (
        "the transformer itself was compiled"
    )
    _dynamo.reset()


@pytest.mark.parametrize(
    ("changes", "kernel_note"),
    [
        ({}, "guided attention by sdpa"),
        ({"backend": "cudnn"}, "guided attention by sdpa"),  # of saved graphs: auto
        ({"backend": "reference"}, "guided attention by the dense reference"),
        ({"lambda_g": 0.0}, None),
    ],
)
def test_the_nodes_note_names_the_attention_kernel(rig, monkeypatch, changes, kernel_note):
    """Check that the nodes' notes name the attention kernel after a run."""
    page = Page()
    page.attach_node(monkeypatch, rig.nodes("model_patch").EgoXModelPatch, rig.nodes("host.steps"))
    model = rig.patch(**changes)
    assert page.texts == [], "not known yet"
    model_rig.import_core_module(rig.pack, "gga.kernel_check")._cached_choices.clear()
    rig.ksample(model, steps=1)
    *progress_texts, (node, note) = page.texts
    expected_progress = ["choosing a kernel, 0 s (sdpa)", "attention by sdpa"]
    assert [text for _, text in progress_texts] == (
        expected_progress if kernel_note and "sdpa" in kernel_note else []
    )
    assert ("backend cudnn means auto; " in note) is (changes.get("backend") == "cudnn")
    assert node == "7"
    assert note.startswith("no LoRA; ") and "; mask released; " in note
    timeless_note, _, time_text = note.rpartition("; ")
    assert timeless_note.endswith(f"; {kernel_note}") if kernel_note else "attention by" not in note
    assert " s per step in the model" in time_text and (
        "% of it in self-attention" in time_text
    ) is bool(kernel_note)

    notes = []
    monkeypatch.setattr(
        rig.nodes("show.results"), "note", lambda text: notes.append(text) or {"text": (text,)}
    )
    if "backend" not in changes:  # the sampler node takes the fastest
        rig.wan_sample(steps=1, **changes)
        assert [text.rpartition("; ")[0] for text in notes] == [timeless_note]


def add_token_mean(call: dict) -> dict:
    """Add to each token of a block the mean of all its tokens."""
    return {**call, "img": call["img"] + 0.3 * call["img"].mean(dim=1, keepdim=True)}


def add_double_block_patch(model):
    model.set_model_double_block_patch(add_token_mean)


def add_self_attention_patch(model):
    model.set_model_attn1_patch(lambda call: 0.5 * call["x"])


def add_cross_attention_patch(model):
    model.set_model_attn2_patch(lambda call: call["x"] + call["x"].mean(dim=1, keepdim=True))


def add_attention_override(model):
    model.model_options["transformer_options"][OVERRIDE] = lambda func, *args, **kwargs: (
        0.5 * func(*args, **kwargs)
    )


def replace_block(model):
    model.set_model_patch_replace(
        lambda call, extra: add_token_mean(extra["original_block"](call)), "dit", "double_block", 0
    )


def make_halving_patch(wrapper_kind: str):
    """Make a function that patches a model so that its output is halved."""

    def add_halving_wrapper(model):
        model.add_wrapper_with_key(
            wrapper_kind, "other", lambda executor, *args, **kwargs: 0.5 * executor(*args, **kwargs)
        )

    add_halving_wrapper.__name__ = f"halve_{wrapper_kind}"
    return add_halving_wrapper


def add_function_wrapper(model):
    model.set_model_unet_function_wrapper(
        lambda apply, call: 0.5 * apply(call["input"], call["timestep"], **call["c"])
    )


def halve_guidance(model):
    model.set_model_sampler_cfg_function(lambda args: args["cond"] * 0.5)


def halve_result(model):
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.5)


class HalvedHead(torch.nn.Module):
    """Halve the output of the transformer's last layer."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *args, **kwargs):
        return 0.5 * self.head(*args, **kwargs)


def replace_head(model):
    model.add_object_patch(
        "diffusion_model.head", HalvedHead(model.get_model_object("diffusion_model.head"))
    )


def stretch_positions(model):
    """Stretch the tokens' positions in time, as another pack does."""
    encode = model.get_model_object("diffusion_model.rope_encode")
    model.add_object_patch(
        "diffusion_model.rope_encode",
        lambda t, h, w, transformer_options=None, **kwargs: encode(
            t, h, w, transformer_options={"rope_options": {"scale_t": 3.0}}, **kwargs
        ),
    )


def add_flow_shift(model):
    return extra_nodes("nodes_model_advanced").ModelSamplingSD3().patch(model, 3.0)[0]


def add_context_windows(model):
    import comfy.context_windows as windows

    model.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=2,
        context_overlap=1,
        dim=2,
    )


def clone_with_patch(add_patch, model):
    """Clone a model and add another pack's patch to it."""
    model = model.clone()
    return add_patch(model) or model


def widen_by_hand(rig, add_patch, *, patch_first: bool):
    """Join exo and ego halves without EgoX's code, together with another pack's patch."""
    canvas_module = model_rig.import_core_module(rig.pack, "wan.canvas")
    t, h, w_exo, w_ego = rig.canvas.latent_grid
    exo_mask = canvas_module.build_mask(rig.canvas.mask_mode, t, h, w_exo, w_ego)[..., :w_exo]
    exo_latent = rig.model.get_model_object("latent_format").process_in(
        rig.canvas.exo_latent.float()
    )
    known_latents = torch.cat(
        [exo_latent, exo_mask.to(exo_latent).expand(1, 4, -1, -1, -1), exo_latent], dim=1
    )

    def widen(executor, x, *args, **kwargs):
        window = args[4].get("context_window")
        window_latents = (
            known_latents if window is None else window.get_tensor(known_latents, dim=2)
        )
        return executor(
            torch.cat([window_latents.expand(len(x), -1, -1, -1, -1), x], dim=-1), *args, **kwargs
        )[..., w_exo:]

    model = rig.model.clone() if patch_first else clone_with_patch(add_patch, rig.model)
    model = model.clone()
    model.add_wrapper_with_key("diffusion_model", "by_hand", widen)
    return clone_with_patch(add_patch, model) if patch_first else model


FOREIGN_PATCHES = {
    # patch: whether exo may be cached when it is added after EgoX's patch, and before it
    add_double_block_patch: (False, False),
    add_self_attention_patch: (False, False),
    add_cross_attention_patch: (False, False),
    add_attention_override: (True, True),
    replace_block: (False, False),
    skip_layer: (True, True),
    cfg_zero_star: (True, True),
    make_halving_patch("diffusion_model"): (False, True),
    make_halving_patch("apply_model"): (True, True),
    make_halving_patch("outer_sample"): (True, True),
    make_halving_patch("sampler_sample"): (True, True),
    add_function_wrapper: (True, True),
    halve_guidance: (True, True),
    halve_result: (True, True),
    replace_head: (True, True),
    stretch_positions: (False, False),
    add_flow_shift: (True, True),
    add_context_windows: (True, True),
}


@pytest.mark.parametrize(
    ("add_patch", "patch_first"),
    [
        # Set before EgoX's patch, those that leave exo cached either way take their turn in --all.
        pytest.param(add_patch, first, marks=[] if first or not all(may) else pytest.mark.slow)
        for add_patch, may in FOREIGN_PATCHES.items()
        for first in (True, False)
    ],
    ids=lambda value: getattr(value, "__name__", ("before it", "after the patch")[value is True]),
)
def test_another_packs_patch_acts_as_on_a_canvas_made_by_hand(
    rig, add_patch, patch_first, is_pinned_host
):
    def patch_both(**changes):
        if patch_first:
            return clone_with_patch(add_patch, rig.patch(**changes))
        return rig.patch(clone_with_patch(add_patch, rig.model), **changes)

    reference_latent = rig.ksample(widen_by_hand(rig, add_patch, patch_first=patch_first))
    if not is_pinned_host and torch.equal(reference_latent, rig.ksample(rig.patch(lambda_g=0.0))):
        pytest.skip("this host never calls such a patch")
    unguided_latent = rig.ksample(patch_both(lambda_g=0.0))
    assert torch.equal(unguided_latent, reference_latent)
    assert not torch.equal(unguided_latent, rig.ksample(rig.patch(lambda_g=0.0))), (
        "the other patch acts"
    )

    guided_latent = rig.ksample(patch_both())
    assert (guided_latent - unguided_latent).abs().max() > 1e-3, "the geometry acts"
    assert not torch.equal(guided_latent, rig.ksample(rig.patch()))

    model = patch_both(recompute_exo=2)
    cache = exo_cache_of(model)
    may_cache = FOREIGN_PATCHES[add_patch][0 if patch_first else 1]
    check_reused_equals_full(rig, model, 1e-5)
    assert (cache.reused_count > 0, bool(cache.whole_canvas_code)) == (may_cache, not may_cache)


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize("class_name", ["WanUni3CCnetPatch", "MultiTalkCrossAttnPatch"])
def test_patches_that_treat_the_canvas_as_one_picture_are_refused(rig, class_name, patch_first):
    """Check that such patches of ComfyUI are refused before sampling."""
    modules = {
        "WanUni3CCnetPatch": "comfy_extras.nodes_model_patch",
        "MultiTalkCrossAttnPatch": "comfy.ldm.wan.model_multitalk",
    }
    node_class = getattr(pytest.importorskip(modules[class_name]), class_name, None)
    if node_class is None:
        pytest.skip(f"this host has no {class_name}")
    foreign_patch = node_class.__new__(node_class)  # never called: it needs weights
    foreign_patch.models = list
    foreign_patch.prepared_render = None
    model = rig.patch() if patch_first else rig.model.clone()
    model.set_model_patch(foreign_patch, "double_block" if "Uni3C" in class_name else "attn2_patch")
    model = model if patch_first else rig.patch(model)
    with refuses("a different node's patch.*take that node out"):
        rig.ksample(model, steps=1)


def test_a_prompts_area_is_refused_and_its_mask_is_accepted(rig):
    from nodes import ConditioningSetArea, ConditioningSetAreaPercentage, ConditioningSetMask

    video_area_node = extra_nodes("nodes_video_model").ConditioningSetAreaPercentageVideo

    def sample_with_condition(node, *settings, **options):
        (positive,) = node().append(rig.positive, *settings)
        return rig.ksample(rig.patch(**options), positive=positive, steps=2)

    height, width = (8 * side for side in rig.latent["samples"].shape[-2:])
    left_mask = torch.zeros(1, height, width)
    left_mask[:, :, : width // 2] = 1
    plain_latent = rig.ksample(rig.patch(), steps=2)
    # The host computes a condition with an area by itself: products of one sum in another order
    # than those of two, on some processors. It gives the negative of that area the positive's name.
    for recompute_exo in (1, 2):
        whole_area_latent = sample_with_condition(
            ConditioningSetArea, width, height, 0, 0, 1.0, recompute_exo=recompute_exo
        )
        latent_without_area = (
            plain_latent
            if recompute_exo == 1
            else rig.ksample(rig.patch(recompute_exo=recompute_exo), steps=2)
        )
        torch.testing.assert_close(whole_area_latent, latent_without_area, rtol=0, atol=1e-3)
    video_area_latent = sample_with_condition(video_area_node, 1, 1, 1, 0, 0, 0, 1.0)
    torch.testing.assert_close(video_area_latent, plain_latent, rtol=0, atol=1e-3)
    assert (
        sample_with_condition(ConditioningSetMask, left_mask, "default", 1.0) - plain_latent
    ).abs().max() > 0.1
    mask_per_frame = left_mask.expand(rig.latent["samples"].shape[2], -1, -1)
    assert (
        sample_with_condition(ConditioningSetMask, mask_per_frame, "default", 1.0).isfinite().all()
    )
    for node, settings in (
        (ConditioningSetArea, (width // 2, height, 0, 0, 1.0)),
        (ConditioningSetArea, (width, height, 0, 8, 1.0)),
        (ConditioningSetAreaPercentage, (0.5, 1, 0, 0, 1.0)),
        (video_area_node, (1, 1, 0.5, 0, 0, 0, 1.0)),
        (ConditioningSetMask, (left_mask, "mask bounds", 1.0)),
    ):
        with refuses("positive conditioning.*an area.*a mask in place of the area"):
            sample_with_condition(node, *settings)
    with refuses("mask of the positive conditioning.*9 frames.*one picture of the mask"):
        sample_with_condition(ConditioningSetMask, left_mask.expand(9, -1, -1), "default", 1.0)


@pytest.mark.parametrize("patch_first", [True, False])
@pytest.mark.parametrize(
    "kept_slices", [(slice(None), slice(2)), (slice(2), slice(None))], ids=["tile", "window"]
)
def test_tiles_and_windows_of_another_pack_are_refused(rig, patch_first, kept_slices):
    time_slice, width_slice = kept_slices

    def call_on_part(apply, call):
        part_arguments = {
            **call["c"],
            "c_concat": call["c"]["c_concat"][:, :, time_slice, :, width_slice],
        }
        prediction = torch.zeros_like(call["input"])
        prediction[:, :, time_slice, :, width_slice] = apply(
            call["input"][:, :, time_slice, :, width_slice], call["timestep"], **part_arguments
        )
        return prediction

    base_model = rig.model.clone() if not patch_first else rig.patch(lambda_g=0.0)
    base_model.set_model_unet_function_wrapper(call_on_part)
    with refuses("(?s)latent in a call.*the ego half.*windows or tiles"):
        rig.ksample(base_model if patch_first else rig.patch(base_model, lambda_g=0.0))


def sample_with_two_models(rig, positive_model, negative_model) -> torch.Tensor:
    """Sample with separate models for the positive and negative prompt."""
    import comfy.samplers

    guider_class = getattr(extra_nodes("nodes_custom_sampler"), "DualModelGuider", None)
    if guider_class is None:
        pytest.skip("this host has no guider of two models")
    guider = guider_class.execute(
        positive_model, rig.positive, 3.0, negative_model, rig.negative
    ).result[0]
    latent = rig.latent["samples"]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3))
    sigmas = torch.tensor([1.0, 0.8, 0.5, 0.0])
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=1)


def test_a_guider_of_two_models_uses_the_positive_models_canvas(rig, caplog):
    plain_model = rig.model.clone()
    patched_model = rig.patch(recompute_exo=0)
    caplog.clear()  # of the model's lack of a LoRA
    expected_latent = sample_with_two_models(rig, patched_model, patched_model)
    assert count_full_and_reused(patched_model) == (2, 4)
    assert torch.equal(sample_with_two_models(rig, patched_model, plain_model), expected_latent)
    messages = [record.getMessage() for record in caplog.records]
    # The host warns of models that the tests before still hold.
    assert not [message for message in messages if "memory leak" not in message]
    other_patch = rig.patch(lambda_g=0.0)
    assert torch.equal(sample_with_two_models(rig, patched_model, other_patch), expected_latent)
    assert "the negative's own EgoX patch isn't asked" in caplog.text
    with refuses("the EgoX patch on the negative's model alone.*to 'model' of the guider"):
        sample_with_two_models(rig, plain_model, patched_model)
