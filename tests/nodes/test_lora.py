"""Test the node EgoX LoRA."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tools.convert_lora import main as convert_lora_tool
from tools.rigs import model_rig, standins


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    with torch.inference_mode():
        return model_rig.make_rig(pack, repo_root / "models")


@pytest.fixture(scope="module")
def released_lora(repo_root) -> Path:
    return repo_root / "models" / standins.SHIPPED["lora"]


def load_lora(rig, path: Path, strength: float = 1.0, **factors):
    return rig.nodes("lora").load_lora(rig.model, path, strength, **factors)


def read_patched_weights(model) -> dict[str, torch.Tensor]:
    """Read the transformer's weights as ComfyUI computes with them once the patched model is
    loaded."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_full_load=True)
    return {
        name: weight.clone() for name, weight in model.model.diffusion_model.state_dict().items()
    }


def max_weight_difference(model, other_model) -> float:
    other_weights = read_patched_weights(other_model)
    return max(
        float((weight - other_weights[name]).abs().max())
        for name, weight in read_patched_weights(model).items()
    )


def test_lora_changes_the_result_before_or_after_the_patch(rig, released_lora):
    plain_latent = rig.ksample(rig.patch())
    lora_model, report = load_lora(rig, released_lora)
    assert "32 tensors matched, 0 unmatched; rank 4; alpha/rank 1; 16 weights changed" in report
    latent_lora_first = rig.ksample(rig.patch(lora_model))
    model_lora_last, _ = rig.nodes("lora").load_lora(rig.patch(), released_lora, 1.0)
    assert not torch.equal(latent_lora_first, plain_latent)
    assert torch.equal(rig.ksample(model_lora_last), latent_lora_first)
    assert not torch.equal(
        rig.ksample(rig.patch(load_lora(rig, released_lora, 0.5)[0])), latent_lora_first
    )
    assert torch.equal(rig.ksample(rig.patch(load_lora(rig, released_lora, 0.0)[0])), plain_latent)


def test_two_loras_add_up(rig, released_lora):
    full_model, half_model = (load_lora(rig, released_lora, share)[0] for share in (1, 0.5))
    two_lora_model, _ = rig.nodes("lora").load_lora(half_model, released_lora, 0.5)
    assert max_weight_difference(two_lora_model, full_model) < 1e-6


@pytest.fixture
def native_tensors(rig, released_lora) -> dict[str, torch.Tensor]:
    convert = model_rig.import_core_module(rig.pack, "wan.lora_conversion").convert_lora
    return dict(convert(load_file(released_lora)).tensors)


def test_a_lora_is_scaled_by_the_settings_beside_its_file(
    rig, native_tensors, released_lora, tmp_path
):
    adapter_file = tmp_path / "adapter_model.safetensors"
    save_file(
        {k.replace("diffusion_model", "base_model.model"): x for k, x in native_tensors.items()},
        adapter_file,
    )
    adapter_file.with_name("adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}', "utf-8")
    scaled_model, report = load_lora(rig, adapter_file, 0.5)
    assert "alpha/rank 2;" in report
    assert max_weight_difference(scaled_model, load_lora(rig, released_lora)[0]) < 1e-6


def test_a_compressed_lora_is_the_same_here_and_in_comfyuis_loader(rig, released_lora, tmp_path):
    """Check that EgoX's and ComfyUI's loader apply a compressed LoRA equally."""
    import comfy.sd

    compressed_file = tmp_path / "small.safetensors"
    assert convert_lora_tool([str(released_lora), str(compressed_file), "--energy", ".8"]) == 0
    egox_model, report = load_lora(rig, compressed_file)
    assert "32 tensors matched" not in report
    assert "48 tensors matched, 0 unmatched" in report
    assert "rank 4, 3" in report
    assert "alpha/rank 1;" in report
    comfyui_model, _ = comfy.sd.load_lora_for_models(
        rig.model, None, load_file(compressed_file), 1.0, 0.0
    )
    assert (
        max_weight_difference(egox_model, comfyui_model)
        == 0
        < max_weight_difference(egox_model, load_lora(rig, released_lora)[0])
        < max_weight_difference(egox_model, rig.model)
    )


def test_lora_kinds_that_are_refused_load_in_comfyuis_own_loader(rig, tmp_path):
    import comfy.lora

    for name_ends in (
        ("lokr_w1", "lokr_w2"),
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        ("oft_blocks",),
        ("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
        ("diff",),
    ):
        tensors = {f"lora_unet_blocks_0_self_attn_k.{e}": torch.ones(4, 4, 4) for e in name_ends}
        assert comfy.lora.load_lora(tensors, comfy.lora.model_lora_keys_unet(rig.model.model, {}))
    diffusers_file = tmp_path / "lokr.sft"
    save_file({f"transformer.blocks.0.attn1.to_k.{name_ends[0]}": torch.ones(4, 4)}, diffusers_file)
    with pytest.raises(ValueError, match="python tools/convert_lora.py IN OUT, to names as"):
        load_lora(rig, diffusers_file)


def test_a_dora_loads_as_in_comfyuis_own_loader(rig, native_tensors, tmp_path):
    import comfy.lora

    for key in [key for key in native_tensors if key.endswith("lora_B.weight")]:
        row_count = len(native_tensors[key])
        native_tensors[key.replace("lora_B.weight", "dora_scale")] = torch.linspace(
            0.5, 2, row_count
        )[:, None]
    save_file(native_tensors, tmp_path / "dora.safetensors")
    comfyui_model = rig.model.clone()
    model_keys = comfy.lora.model_lora_keys_unet(comfyui_model.model, {})
    comfyui_model.add_patches(comfy.lora.load_lora(native_tensors, model_keys), 0.5)
    egox_model, report = load_lora(rig, tmp_path / "dora.safetensors", 0.5)
    assert "48 tensors matched, 0 unmatched" in report
    assert max_weight_difference(egox_model, comfyui_model) == 0


def test_weight_differences_of_step_distilled_loras_are_loaded(rig, native_tensors, tmp_path):
    """Check a LoRA that also contains whole weight differences."""
    native_tensors["diffusion_model.blocks.0.norm3.diff"] = torch.full((128,), 0.25)
    native_tensors["diffusion_model.blocks.0.self_attn.q.diff_b"] = torch.full((128,), 0.5)
    save_file(native_tensors, tmp_path / "distilled.safetensors")
    patched_model, report = load_lora(rig, tmp_path / "distilled.safetensors", 2.0)
    assert "2 more by names of the host" in report
    plain_weights, patched_weights = (
        read_patched_weights(rig.model),
        read_patched_weights(patched_model),
    )
    for name, change in (("blocks.0.norm3.weight", 0.5), ("blocks.0.self_attn.q.bias", 1.0)):
        assert (patched_weights[name] - plain_weights[name] - change).abs().max() < 1e-6


def test_another_lora_under_the_released_file_name_is_reported(rig, released_lora, tmp_path):
    """Check that a LoRA with the released file's name but another rank is reported."""
    renamed_file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(load_file(released_lora), renamed_file)
    assert (
        "warning: not EgoX's own file, which has rank 256"
        in (report := load_lora(rig, renamed_file)[1])
        and "rank 4" in report
    )

    released_form = standins.TransformerForm(image_embedding=False)
    tensors = standins.draw_tensors(standins.lora_shapes(released_form, 256), 1)
    save_file(tensors, renamed_file)
    assert (
        "warning" not in (report := load_lora(rig, renamed_file)[1])
        and "made for Wan 2.1 I2V" in report
    )
    save_file(
        {key: value for key, value in tensors.items() if "blocks.0.attn1.to_q" not in key},
        renamed_file,
    )
    assert "other parts: blocks.0.self_attn.q" in load_lora(rig, renamed_file)[1]


def test_metadata_sets_auto_inputs_and_contradictions_are_reported(
    rig, released_lora, tmp_path, caplog
):
    metadata = {
        "egox.mask_mode": "paper",
        "egox.gga_mode": "paper",
        "egox.rays": "exact",
        "egox.lambda_g": "1",
        "egox.position_scale": "0.5",
    }
    save_file(load_file(released_lora), tmp_path / "paper.safetensors", metadata)
    save_file(
        load_file(released_lora), tmp_path / "trainer.safetensors", {"egox.mask_mode": "trainer"}
    )
    model, report = load_lora(rig, tmp_path / "paper.safetensors")
    assert "positions times 0.5" in report
    rope_options = model.model_options["transformer_options"]["rope_options"]
    assert (rope_options["scale_x"], rope_options["scale_y"], rope_options["scale_t"]) == (
        0.5,
        0.5,
        1.0,
    )
    exo, prior = model_rig.clip_pictures(rig.size)
    node = rig.nodes("conditioning").EgoXConditioning
    with torch.inference_mode():
        canvas = node.execute(
            rig.positive, rig.negative, rig.vae, exo, prior, -1, model=model
        ).result[3]
    assert canvas.mask_mode == "paper"

    def read_patch_note(canvas, **changes) -> str:
        node_output = rig.nodes("model_patch").EgoXModelPatch.execute(
            model,
            canvas,
            depth=rig.depth,
            trajectory=rig.trajectory,
            **{**rig.gga_defaults, **changes},
        )
        return node_output.ui.as_dict()["text"][0]

    matching_note = read_patch_note(canvas, gga_mode="auto", lambda_g=1.0)
    assert "geometry paper, λ_g 1, rays exact" in matching_note
    assert "trained" not in matching_note
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    contradiction = "the LoRA was trained with mask_mode paper, not released"
    assert contradiction in read_patch_note(rig.canvas) and contradiction in caplog.text
    _, report = rig.nodes("lora").load_lora(model, tmp_path / "trainer.safetensors", 1.0)
    assert "egox.mask_mode contradicts" in report


@pytest.mark.parametrize(
    ("first_scale", "second_scale", "expected_scale"),
    [(0.5, 1, 1), (0.5, None, 0.5), (0.5, 0.25, 0.25)],
)
def test_the_later_of_two_loras_sets_the_position_scale(
    rig, released_lora, tmp_path, first_scale, second_scale, expected_scale
):
    model = rig.model
    for scale in (first_scale, second_scale):
        lora_file = tmp_path / f"{scale}.safetensors"
        metadata = {} if scale is None else {"egox.position_scale": f"{scale:g}"}
        save_file(load_file(released_lora), lora_file, metadata)
        model, _ = rig.nodes("lora").load_lora(model, lora_file, 1.0)
    rope_options = rig.patch(model).model_options["transformer_options"]["rope_options"]
    assert rope_options["scale_x"] == rope_options["scale_y"] == expected_scale


def test_comfyuis_loader_keeps_the_metadata_of_a_lora(rig, native_tensors, released_lora, tmp_path):
    import comfy.sd

    metadata = {"egox.exo": "alone", "egox.position_scale": "0.5", "egox.rays": "exact"}
    save_file(load_file(released_lora), tmp_path / "ours.safetensors", metadata)
    egox_model, _ = load_lora(rig, tmp_path / "ours.safetensors")
    try:
        comfyui_model, _ = comfy.sd.load_lora_for_models(
            rig.model, None, native_tensors, 1, 0, lora_metadata=metadata
        )
    except TypeError:
        pytest.skip("this host hands no metadata on")
    comfyui_latent, egox_latent = (
        rig.ksample(rig.patch(model)) for model in (comfyui_model, egox_model)
    )
    assert torch.equal(comfyui_latent, egox_latent) and not torch.equal(
        egox_latent, rig.ksample(rig.patch())
    )


def test_a_merge_reports_progress_and_can_be_cancelled(rig, released_lora):
    """Check that a cancelled merge of LoRA weights is undone."""
    import comfy.model_management as management

    (rig.model.detach(), messages := [])
    patched_model, _ = load_lora(rig, released_lora)
    with rig.nodes("host.steps").show_merging(patched_model, messages.append):
        patched_weights = read_patched_weights(patched_model)
    assert messages[::15] == [f"merging the LoRA, weight {n} of 16" for n in (1, 16)]
    patched_model.detach()
    plain_weights = read_patched_weights(rig.model)
    half_model, _ = load_lora(rig, released_lora, 0.5)

    def cancel(text: str) -> None:
        if "weight 5 " in text:
            management.interrupt_current_processing()

    with (
        rig.nodes("host.steps").show_merging(half_model, cancel),
        pytest.raises(management.InterruptProcessingException),
    ):
        read_patched_weights(half_model)
    for model, expected_weights in ((rig.model, plain_weights), (patched_model, patched_weights)):
        weights = read_patched_weights(model)
        assert all(torch.equal(weights[name], weight) for name, weight in expected_weights.items())
