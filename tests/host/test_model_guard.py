"""Test which models and inputs are refused before sampling."""

import inspect
from dataclasses import replace

import pytest
import torch

from tests.refusals import refuses
from tools.rigs import model_rig

from .test_model_batches import ForwardRecorder

TINY_CONFIG = {
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
EXTRA_CONFIG = {  # what a class needs beyond the common shape
    "WAN21_Vace": {"vace_layers": 1, "vace_in_dim": 96},
    "WAN21_Camera": {"in_dim": 32},
    "WAN22_T2V": {"out_dim": 48, "in_dim": 48},
    "WAN22_S2V": {"cond_dim": 16, "in_dim": 16, "num_layers": 4},
    "WAN22_Animate": {"num_layers": 6},
    "WAN22_WanDancer": {"num_layers": 30},
}


def make_tiny_model(name: str):
    """Make a small Wan model without values, on the meta device."""
    import comfy.model_patcher
    import comfy.supported_models

    config_class = getattr(comfy.supported_models, name)
    config = {
        **TINY_CONFIG,
        **{k: v for k, v in config_class.unet_config.items() if k != "causal_ar"},
        **EXTRA_CONFIG.get(name, {}),
    }
    if name == "WAN21_T2V":
        config["in_dim"] = 16
    model_config = config_class(dict(config))
    model_config.unet_config.setdefault("dtype", torch.float32)
    meta_device = torch.device("meta")
    return comfy.model_patcher.ModelPatcher(
        model_config.get_model({}, device=meta_device),
        load_device=meta_device,
        offload_device=meta_device,
    )


def replace_forward(model, first_call: int):
    """Replace the model's forward by one that drops its options, as some packs do."""
    forward_orig = model.get_model_object("diffusion_model").forward_orig
    call_numbers = iter(range(99))

    def call_replaced(apply, args):
        transformer = apply.__self__.diffusion_model
        if next(call_numbers) >= first_call:
            transformer.forward_orig = lambda *a, **k: forward_orig(
                *a, **{**k, "transformer_options": {}}
            )
        try:
            return apply(args["input"], args["timestep"], **args["c"])
        finally:
            vars(transformer).pop("forward_orig", None)

    bypassed_model = model.clone()
    bypassed_model.set_model_unet_function_wrapper(call_replaced)
    return bypassed_model


def test_geometry_lost_after_the_first_step_is_reported(rig, caplog):
    checks = rig.nodes("patch.checks")
    patch_calls = rig.nodes("patch.patch").patch_calls
    model = replace_forward(rig.patch(), 1)
    rig.ksample(model, steps=4)
    note = checks.add_run_notes("", patch_calls(model))
    block_count = len(model.get_model_object("diffusion_model").blocks)
    assert (
        f"geometry acted in {block_count} of {4 * block_count} self-attentions (overridden by: "
        in note
    )
    assert "remove the node" in note
    assert note.partition(";")[0] in caplog.text
    guided_model = replace_forward(rig.patch(), 9)
    rig.ksample(guided_model, steps=4)
    assert (
        patch_calls(guided_model).attention_count == 4 * block_count
        and not patch_calls(guided_model).missed()
    )


def test_other_wan_models_are_refused(rig):
    import comfy.supported_models

    config_names = [
        name
        for name, config_class in vars(comfy.supported_models).items()
        if inspect.isclass(config_class)
        and issubclass(config_class, comfy.supported_models.WAN21_T2V)
    ]
    assert len(config_names) > 10
    for name in set(config_names) - {"WAN21_I2V"}:
        with refuses("Wan 2.1 I2V 14B"):
            rig.patch(make_tiny_model(name))


def test_a_model_of_another_family_is_refused(rig):
    import comfy.model_patcher
    import comfy.supported_models

    config_class = comfy.supported_models.SD15
    cpu = torch.device("cpu")
    config = config_class(
        {**config_class.unet_config, "in_channels": 4, "disable_unet_model_creation": True}
    )
    model = comfy.model_patcher.ModelPatcher(config.get_model({}), cpu, cpu)
    with refuses("got a BaseModel model"):
        rig.patch(model)


def test_latent_of_another_clip_is_refused_before_sampling(rig):
    patched_model = rig.patch()
    forward_recorder = ForwardRecorder(patched_model)
    latent = {"samples": torch.zeros(1, 16, 4, 4, 4)}
    with refuses("latent to sample"):
        rig.ksample(patched_model, latent=latent)
    with refuses("latent to sample"):
        rig.wan_sample(latent=latent)
    assert forward_recorder.shapes == [], "refused before any work"
    assert rig.ksample(patched_model).isfinite().all(), "the model works after a refusal"


def test_a_missing_image_embedding_is_refused_before_sampling(image_embedding_rig):
    prompt_without_embedding = [
        [text, {k: v for k, v in values.items() if k != "clip_vision_output"}]
        for text, values in image_embedding_rig.positive
    ]
    patched_model = image_embedding_rig.patch()
    forward_recorder = ForwardRecorder(patched_model)
    with refuses("image embedding"):
        image_embedding_rig.ksample(patched_model, positive=prompt_without_embedding)
    canvas = replace(image_embedding_rig.canvas, image_embedding="none", clip_vision=None)
    with refuses("image embedding"):
        image_embedding_rig.wan_sample(positive=prompt_without_embedding, canvas=canvas)
    assert forward_recorder.shapes == [], "refused before any work"


def test_conditioning_of_other_nodes_is_refused(rig):
    patched_model = rig.patch()
    other_conditioning = model_rig.text_conditioning(1024, 6, 1)
    with refuses("EgoX Conditioning"):
        rig.ksample(patched_model, positive=other_conditioning)
    lengthened_conditioning = [
        [text, {**values, "time_dim_concat": torch.zeros(1, 16, 1, 4, 4)}]
        for text, values in rig.positive
    ]
    with refuses("frames appended in time"):
        rig.ksample(patched_model, positive=lengthened_conditioning)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lambda_g": 0.0, "gga_mode": "paper"}, "silence"),
        ({"depth": None}, "connect 'depth' of Depth Align"),
        ({"trajectory": None}, "connect 'trajectory' of Ego Pose Input"),
    ],
)
def test_bad_choices_are_refused_by_both_nodes(rig, changes, message):
    for run_node in (rig.patch, rig.wan_sample):
        with refuses(message):
            run_node(**changes)


def test_missing_depth_is_masked_and_reported(rig):
    depth_m = rig.depth.depth_m.clone()
    depth_m[:, :, : rig.size.exo_width // 2] = float("nan")
    depth = replace(rig.depth, depth_m=depth_m)
    assert "50.0% of the exo tokens have no depth" in read_patch_note(rig, depth=depth)
    masked_latent = rig.ksample(rig.patch(depth=depth))
    assert masked_latent.isfinite().all() and not torch.equal(
        masked_latent, rig.ksample(rig.patch())
    )


@pytest.mark.parametrize("recompute_exo", [1, 2])
@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_a_nan_is_refused_with_the_block_where_it_began(rig, recompute_exo, backend):
    """Check that NaNs in weights or text are refused with the block's name."""
    patched_model = rig.patch(backend=backend, recompute_exo=recompute_exo)
    expected_latent = rig.ksample(patched_model)
    blocks = rig.model.model.diffusion_model.blocks
    for block, message in ((1, "first in blocks.1 of 2"), (0, "first in blocks.0 of 2")):
        weight = blocks[block].ffn[0].weight
        with torch.inference_mode():
            old_weight = weight[0, 0].clone()
            weight[0, 0] = torch.nan
        with refuses(f"step 1 of the sampling: got NaN.*{message}"):
            rig.ksample(patched_model)
        with torch.inference_mode():
            weight[0, 0] = old_weight
    nan_conditioning = [[x * torch.nan, values] for x, values in rig.positive]
    with refuses("from the text on"):
        rig.ksample(patched_model, positive=nan_conditioning)
    assert torch.equal(rig.ksample(patched_model), expected_latent)


def test_cancelled_sampling_leaves_a_working_model(rig):
    import comfy.model_management

    patched_model = rig.patch()
    expected_latent = rig.ksample(patched_model)
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        rig.ksample(patched_model)
    comfy.model_management.interrupt_current_processing(False)
    assert torch.equal(rig.ksample(patched_model), expected_latent)


def read_patch_note(rig, **changes) -> str:
    """Read the note that EgoX Model Patch shows."""
    inputs = {"model": rig.model, "canvas": rig.canvas, "depth": rig.depth} | changes
    inputs |= {"trajectory": rig.trajectory, **rig.gga_defaults}
    return rig.nodes("model_patch").EgoXModelPatch.execute(**inputs).ui.as_dict()["text"][0]


def test_the_note_says_when_the_model_takes_no_image_embedding(rig, image_embedding_rig):
    assert "takes no picture embedding" in read_patch_note(rig)
    assert "takes no picture embedding" not in read_patch_note(image_embedding_rig)
