"""Test the node EgoX LoRA."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.video import RELEASED_TINT
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


@pytest.fixture
def native_tensors(rig, released_lora) -> dict[str, torch.Tensor]:
    convert = model_rig.import_core_module(rig.pack, "wan.lora_conversion").convert_lora
    return dict(convert(load_file(released_lora)).tensors)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("compressed", "48 tensors matched, 0 un"),
        ("DoRA", "48 tensors matched, 0 un"),
        ("whole differences", "2 more by names of the host"),
    ],
)
def test_a_lora_is_the_same_here_and_in_comfyuis_loader(
    rig, native_tensors, released_lora, tmp_path, kind, counts
):
    """Check a LoRA with mixed ranks, one with scales, and a step-distilled one."""
    import comfy.sd

    file = tmp_path / "lora.safetensors"
    if kind == "compressed":
        assert convert_lora_tool([str(released_lora), str(file), "--energy", ".8"]) == 0
    else:
        up_names = [name for name in native_tensors if name.endswith("lora_B.weight")]
        native_tensors |= {
            name.replace("lora_B.weight", "dora_scale"): torch.linspace(
                0.5, 2, len(native_tensors[name])
            )[:, None]
            for name in (up_names if kind == "DoRA" else ())
        }
        if kind != "DoRA":
            native_tensors["diffusion_model.blocks.0.norm3.diff"] = torch.full((128,), 0.25)
            native_tensors["diffusion_model.blocks.0.self_attn.q.diff_b"] = torch.full((128,), 0.5)
        save_file(native_tensors, file)
    egox_model, report = load_lora(rig, file, 0.5)
    assert counts in report
    comfyui_model, _ = comfy.sd.load_lora_for_models(rig.model, None, load_file(file), 0.5, 0.0)
    assert max_weight_difference(egox_model, comfyui_model) == 0
    assert max_weight_difference(egox_model, load_lora(rig, released_lora, 0.5)[0]) > 0


def test_another_lora_under_the_released_file_name_is_reported(rig, released_lora, tmp_path):
    renamed_file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(load_file(released_lora), renamed_file)
    assert "which has rank 256" in load_lora(rig, renamed_file)[1]
    released_form = standins.TransformerForm(image_embedding=False)
    tensors = standins.draw_tensors(standins.lora_shapes(released_form, 256), 1)
    save_file({k: x for k, x in tensors.items() if "blocks.0.attn1.to_q" not in k}, renamed_file)
    report = load_lora(rig, renamed_file)[1]
    assert "rank 256," not in report and "other parts: blocks.0.self_attn.q" in report


def test_the_released_tint_is_that_of_a_lora_of_the_released_form(rig, released_lora, tmp_path):
    names = ("form", "native", "diffusers", "small", "trained")
    files = {name: tmp_path / f"{name}.safetensors" for name in names}
    form = standins.TransformerForm(image_embedding=False)
    tensors = standins.draw_tensors(standins.lora_shapes(form, 256), 1)
    save_file(tensors, files["form"])
    save_file(tensors, files["trained"], {"egox.steps": "10"})
    for name, options in (
        ("native", ()),
        ("diffusers", ("--to", "diffusers")),
        ("small", ("--rank", "8")),
    ):
        assert convert_lora_tool([str(files["form"]), str(files[name]), *options]) == 0
    read_colours = rig.nodes("sampling").model_colours
    for file in (*files.values(), released_lora):
        is_released = file.stem not in ("trained", released_lora.stem)
        tint = read_colours(load_lora(rig, file)[0])["tint"]
        assert tint == (RELEASED_TINT.text() if is_released else None), file.name


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
    other_metadata = {"egox.mask_mode": "trainer", "egox.position_scale": "0.25"}
    save_file(load_file(released_lora), tmp_path / "trainer.safetensors", other_metadata)
    save_file(load_file(released_lora), tmp_path / "plain.safetensors")
    model, _ = load_lora(rig, tmp_path / "paper.safetensors")

    def scales(model) -> set[float]:
        rope_options = model.model_options["transformer_options"]["rope_options"]
        return {rope_options["scale_x"], rope_options["scale_y"]}

    assert scales(model) == {0.5}
    exo, prior = model_rig.clip_pictures(rig.size)
    node = rig.nodes("conditioning").EgoXConditioning
    with torch.inference_mode():
        canvas = node.execute(
            rig.positive, rig.negative, rig.vae, exo, prior, -1, model=model
        ).result[3]
    assert canvas.mask_mode == "paper"

    def read_patch_note(canvas, **changes) -> str:
        inputs = {"depth": rig.depth, "trajectory": rig.trajectory, **rig.gga_defaults, **changes}
        node_output = rig.nodes("model_patch").EgoXModelPatch.execute(model, canvas, **inputs)
        return node_output.ui.as_dict()["text"][0]

    matching_note = read_patch_note(canvas, gga_mode="auto", lambda_g=1.0)
    assert "geometry paper, λ_g 1, rays exact" in matching_note
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    contradiction = "the LoRA was trained with mask_mode paper, not released"
    assert contradiction in read_patch_note(rig.canvas) and contradiction in caplog.text
    for name, scale in (("plain", 0.5), ("trainer", 0.25)):
        later_model, report = rig.nodes("lora").load_lora(
            model, tmp_path / f"{name}.safetensors", 1
        )
        assert scales(rig.patch(later_model)) == {scale}, "the later of two sets it"
    assert "egox.mask_mode contradicts" in report


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
