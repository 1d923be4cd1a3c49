"""Refused models, and every bad input that must be found before a step is taken."""

import inspect
from dataclasses import replace

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

from .test_model_batches import Calls

TINY = {
    "image_model": "wan2.1",
    "dim": 128,
    "ffn_dim": 64,
    "num_heads": 1,
    "num_layers": 2,
    "out_dim": 16,
    "in_dim": 36,
    "patch_size": (1, 2, 2),
    "freq_dim": 256,
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
}
SPECIAL = {  # what a class needs beyond the common shape
    "WAN21_Vace": {"vace_layers": 1, "vace_in_dim": 96},
    "WAN21_Camera": {"in_dim": 32},
    "WAN22_T2V": {"out_dim": 48, "in_dim": 48},
    "WAN22_S2V": {"cond_dim": 16, "in_dim": 16, "num_layers": 4},
    "WAN22_Animate": {"num_layers": 6},
    "WAN22_WanDancer": {"num_layers": 30},
}


def tiny_model(name: str):
    """Make a small model of one of the host's Wan configurations on the meta device (nothing is
    computed with it)."""
    import comfy.model_patcher
    import comfy.supported_models

    kind = getattr(comfy.supported_models, name)
    config = {
        **TINY,
        **{k: v for k, v in kind.unet_config.items() if k != "causal_ar"},
        **SPECIAL.get(name, {}),
    }
    if name == "WAN21_T2V":
        config["in_dim"] = 16
    model_config = kind(dict(config))
    model_config.unet_config.setdefault("dtype", torch.float32)
    meta = torch.device("meta")
    return comfy.model_patcher.ModelPatcher(
        model_config.get_model({}, device=meta), load_device=meta, offload_device=meta
    )


def taken_over(model, first: int):
    """Replace the forward from call ``first`` on, as nodes do that leave a few steps to the model.
    Options, and the attention override with them, are gone."""
    forward_orig = model.get_model_object("diffusion_model").forward_orig
    calls = iter(range(99))

    def around(apply, args):
        transformer = apply.__self__.diffusion_model
        if next(calls) >= first:
            transformer.forward_orig = lambda *a, **k: forward_orig(
                *a, **{**k, "transformer_options": {}}
            )
        try:
            return apply(args["input"], args["timestep"], **args["c"])
        finally:
            vars(transformer).pop("forward_orig", None)

    other = model.clone()
    other.set_model_unet_function_wrapper(around)
    return other


def test_geometry_that_is_lost_after_the_first_step_is_told(rig, caplog):
    checks, calls_of = rig.nodes("patch.checks"), rig.nodes("patch.patch").patch_calls
    model = taken_over(rig.patch(), 1)
    rig.ksample(model, steps=4)
    note = checks.with_kernels("", calls_of(model))
    blocks = len(model.get_model_object("diffusion_model").blocks)
    assert f"geometry acted in {blocks} of {4 * blocks} self-attentions (overridden by: " in note
    assert "remove the node" in note and note.partition(";")[0] in caplog.text
    guided_model = taken_over(rig.patch(), 9)
    rig.ksample(guided_model, steps=4)
    assert calls_of(guided_model).attended == 4 * blocks and not calls_of(guided_model).missed()


@pytest.mark.parametrize("patch_first", [True, False])
def test_steps_and_layers_that_the_host_s_nodes_skip_are_no_loss(rig, patch_first):
    from comfy_extras.nodes_easycache import EasyCacheNode
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    def others(model):
        (model,) = EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False)
        return SkipLayerGuidanceDiT.execute(model, 3.0, 0.0, 1.0, "0", "0, 1")[0]

    model = others(rig.patch()) if patch_first else rig.patch(others(rig.model))
    rig.ksample(model, steps=6)
    calls = rig.nodes("patch.patch").patch_calls(model)
    assert calls.attended and not calls.missed()


def test_other_wan_models_are_refused(rig):
    import comfy.supported_models

    names = [
        name
        for name, kind in vars(comfy.supported_models).items()
        if inspect.isclass(kind) and issubclass(kind, comfy.supported_models.WAN21_T2V)
    ]
    assert len(names) > 10
    for name in set(names) - {"WAN21_I2V"}:
        with refuses("Wan 2.1 I2V 14B"):
            rig.patch(tiny_model(name))


def test_another_family_is_refused(rig):
    import comfy.model_patcher
    import comfy.supported_models

    kind, cpu = comfy.supported_models.SD15, torch.device("cpu")
    config = kind({**kind.unet_config, "in_channels": 4, "disable_unet_model_creation": True})
    model = comfy.model_patcher.ModelPatcher(config.get_model({}), cpu, cpu)
    with refuses("got a BaseModel model"):
        rig.patch(model)


def test_latent_of_another_clip_is_refused_before_sampling(rig):
    patched = rig.patch()
    calls = Calls(patched)
    latent = {"samples": torch.zeros(1, 16, 4, 4, 4)}
    with refuses("latent to sample"):
        rig.ksample(patched, latent=latent)
    with refuses("latent to sample"):
        rig.wan_sample(latent=latent)
    assert calls.shapes == [], "refused before any work"
    assert rig.ksample(patched).isfinite().all(), "the model works after a refusal"


def test_missing_picture_embedding_is_refused_before_sampling(wan21):
    bare = [
        [text, {k: v for k, v in values.items() if k != "clip_vision_output"}]
        for text, values in wan21.positive
    ]
    patched = wan21.patch()
    calls = Calls(patched)
    with refuses("image embedding"):
        wan21.ksample(patched, positive=bare)
    canvas = replace(wan21.canvas, image_embedding="none", clip_vision=None)
    with refuses("image embedding"):
        wan21.wan_sample(positive=bare, canvas=canvas)
    assert calls.shapes == [], "refused before any work"


def test_conditioning_from_elsewhere_is_refused(rig):
    patched = rig.patch()
    stray = model_rig.text_conditioning(1024, 6, 1)
    with refuses("EgoX Conditioning"):
        rig.ksample(patched, positive=stray)
    extra = [
        [text, {**values, "time_dim_concat": torch.zeros(1, 16, 1, 4, 4)}]
        for text, values in rig.positive
    ]
    with refuses("frames appended in time"):
        rig.ksample(patched, positive=extra)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lambda_g": 0.0, "gga_mode": "paper"}, "silence"),
        ({"depth": None}, "connect 'depth' of Depth Align"),
        ({"trajectory": None}, "connect 'trajectory' of Ego Pose Input"),
    ],
)
def test_bad_choices_are_refused_by_both_nodes(rig, changes, words):
    for run in (rig.patch, rig.wan_sample):
        with refuses(words):
            run(**changes)


def test_missing_depth_is_masked_and_reported(rig):
    depth_m = rig.depth.depth_m.clone()
    depth_m[:, :, : rig.size.exo_width // 2] = float("nan")
    depth = replace(rig.depth, depth_m=depth_m)
    assert "50.0% of the exo tokens have no depth" in note_of(rig, depth=depth)
    got = rig.ksample(rig.patch(depth=depth))
    assert got.isfinite().all() and not torch.equal(got, rig.ksample(rig.patch()))


@pytest.mark.parametrize("recompute_exo", [1, 2])
@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_a_nan_ends_the_run_where_it_began(rig, recompute_exo, backend):
    """It isn't the kernel's fault, whether one was chosen before or not. The repaired model runs."""
    patched = rig.patch(backend=backend, recompute_exo=recompute_exo)
    expected = rig.ksample(patched)
    blocks = rig.model.model.diffusion_model.blocks
    for block, words in ((1, "first in blocks.1 of 2"), (0, "first in blocks.0 of 2")):
        weight = blocks[block].ffn[0].weight
        with torch.inference_mode():
            old_weight = weight[0, 0].clone()
            weight[0, 0] = torch.nan
        with refuses(f"step 1 of the sampling: got NaN.*{words}"):
            rig.ksample(patched)
        with torch.inference_mode():
            weight[0, 0] = old_weight
    text = [[x * torch.nan, values] for x, values in rig.positive]
    with refuses("from the text on"):
        rig.ksample(patched, positive=text)
    assert torch.equal(rig.ksample(patched), expected)


def test_cancelled_sampling_leaves_a_working_model(rig):
    import comfy.model_management

    patched = rig.patch()
    expected = rig.ksample(patched)
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        rig.ksample(patched)
    comfy.model_management.interrupt_current_processing(False)
    assert torch.equal(rig.ksample(patched), expected)


def note_of(rig, **changes) -> str:
    """Read the note of EgoX Model Patch."""
    inputs = {"model": rig.model, "canvas": rig.canvas, "depth": rig.depth} | changes
    inputs |= {"trajectory": rig.trajectory, **rig.gga_defaults}
    return rig.nodes("model_patch").EgoXModelPatch.execute(**inputs).ui.as_dict()["text"][0]


def test_the_patch_says_when_the_noise_seed_is_unknown(wan21, caplog):
    unknown = note_of(wan21, canvas=replace(wan21.canvas, noise_seed=None))
    assert "noise_seed" in unknown and "noise_seed" not in note_of(wan21)
    assert [
        r for r in caplog.records if r.levelname == "WARNING" and "noise_seed" in r.getMessage()
    ]


def test_the_patch_says_when_the_model_takes_no_picture(rig, wan21):
    assert "takes no picture embedding" in note_of(rig)
    assert "takes no picture embedding" not in note_of(wan21)
