"""Test the patched model with fp8 and GGUF weights."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.host.gguf_file import write_gguf
from tests.refusals import refuses
from tools.merge_lora import merge
from tools.rigs import model_rig, standins

GGUF_FORM = standins.TransformerForm(image_embedding=False)
"""Transformer with one head of 128 and text of width 4096, which ComfyUI assumes for files without
metadata (GGUF)."""


def load_gguf_pack(folder: Path) -> ModuleType:
    """Import the GGUF loader pack as ComfyUI imports a custom node."""
    if "comfyui_gguf" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "comfyui_gguf", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["comfyui_gguf"] = module
        spec.loader.exec_module(module)
    return sys.modules["comfyui_gguf"]


def check_quantised(rig, quantised_model, exact_model, tolerance: float) -> None:
    """Check that a quantised model's result is close to the exact one."""
    guided_latent = rig.ksample(rig.patch(quantised_model))
    assert guided_latent.isfinite().all()
    unguided_latent = rig.ksample(rig.patch(quantised_model, lambda_g=0.0))
    assert not torch.equal(guided_latent, unguided_latent)
    exact_latent = rig.ksample(rig.patch(exact_model))
    assert (guided_latent - exact_latent).std() < tolerance * exact_latent.std()


def set_text_width(rig, width: int) -> model_rig.ModelRig:
    """Replace a clip's prompts by ones of the width that another transformer reads."""
    positive, negative = (
        [[model_rig.text_conditioning(width, 6, seed)[0][0], values] for _, values in conditioning]
        for seed, conditioning in ((1, rig.positive), (2, rig.negative))
    )
    return replace(rig, positive=positive, negative=negative)


def test_gguf_weights_work_with_patch_and_lora(rig, shared_dir, comfy_host, tmp_path):
    pytest.importorskip("gguf", reason="the gguf package (extra: dev) quantises the stand-in")
    model_tensors, _ = standins.make_transformer(GGUF_FORM)
    model_folder = comfy_host.models / "diffusion_models"
    model_folder.mkdir(parents=True, exist_ok=True)
    write_gguf(model_folder / "standin-Q8_0.gguf", model_tensors)
    standins.save_standin(tmp_path / "exact.safetensors", model_tensors)
    standins.save_standin(
        tmp_path / "lora.safetensors",
        standins.draw_tensors(standins.lora_shapes(GGUF_FORM, 4), 3),
    )

    loader = load_gguf_pack(shared_dir / "peers" / "ComfyUI-GGUF").NODE_CLASS_MAPPINGS[
        "UnetLoaderGGUF"
    ]()
    (quantised_model,) = loader.load_unet("standin-Q8_0.gguf")
    assert type(quantised_model).__name__ == "GGUFModelPatcher"
    exact_model = model_rig.load_transformer(tmp_path / "exact.safetensors")
    rig = set_text_width(rig, 4096)
    # 8 bits a weight: 0.4 % of each block's largest; guidance 3 and three steps through two layers
    # enlarge it.
    check_quantised(rig, quantised_model, exact_model, tolerance=0.1)

    load_lora = rig.nodes("lora").load_lora
    lora_model, report = load_lora(quantised_model, tmp_path / "lora.safetensors", 1.0)
    assert "32 tensors matched" in report
    lora_latent, plain_latent = (
        rig.ksample(rig.patch(lora_model)),
        rig.ksample(rig.patch(quantised_model)),
    )
    exact_lora_model, _ = load_lora(exact_model, tmp_path / "lora.safetensors", 1.0)
    assert not torch.equal(lora_latent, plain_latent)
    exact_lora_latent = rig.ksample(rig.patch(exact_lora_model))
    assert (lora_latent - exact_lora_latent).std() < 0.1 * exact_lora_latent.std()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_weights_work_with_patch_and_lora(rig, repo_root, dtype):
    """Check guided sampling with weights that are stored in 8 bits."""
    weights_file = repo_root / "models" / standins.SHIPPED["transformer"]
    quantised_model = model_rig.load_transformer(weights_file, dtype=dtype)
    assert quantised_model.model.diffusion_model.blocks[0].self_attn.q.weight.dtype == dtype
    # 3 (e4m3) or 2 (e5m2) bits of mantissa: 6 % or 12 % a weight, random, so that sums are nearer.
    check_quantised(
        rig, quantised_model, rig.model, tolerance=0.3 if dtype == torch.float8_e4m3fn else 0.6
    )
    lora_model, _ = rig.nodes("lora").load_lora(
        quantised_model, repo_root / "models" / standins.SHIPPED["lora"], 1.0
    )
    assert not torch.equal(
        rig.ksample(rig.patch(lora_model)), rig.ksample(rig.patch(quantised_model))
    )


def test_half_precision_weights_keep_directions_in_float32(rig, repo_root):
    weights_file = repo_root / "models" / standins.SHIPPED["transformer"]
    half_model = model_rig.load_transformer(weights_file, dtype=torch.bfloat16)
    # 8 bits of mantissa: 0.4 % a value.
    check_quantised(rig, half_model, rig.model, tolerance=0.1)
    patched_model = rig.patch(half_model)
    rig.ksample(patched_model, steps=1)
    # Near cosine -1 the logarithm would lose everything else (quirks 17).
    geometry = patched_model.get_all_wrappers("diffusion_model")[0].guidance.geometry
    assert geometry.key_dirs.dtype == geometry.query_dirs.dtype == torch.float32


@torch.inference_mode()  # as the server loads it
@pytest.mark.parametrize(
    ("file_form", "tolerance"), [("int8_tensorwise", 0.1), ("float8_e4m3fn", 0.3)]
)
def test_a_merged_file_in_eight_bits_acts_as_base_and_lora(
    rig, repo_root, tmp_path, file_form, tolerance
):
    """Check that a merged file samples like its base with the LoRA."""
    import comfy_kitchen.tensor

    base_file, lora_file = (
        repo_root / "models" / standins.SHIPPED[kind] for kind in ("transformer", "lora")
    )
    lora_tensors = load_file(lora_file)
    lora_with_settings = tmp_path / "alone.safetensors"
    lora_settings = {"egox.exo": "alone", "egox.position_scale": "0.5"}
    save_file(lora_tensors, lora_with_settings, lora_settings)
    merged_file = tmp_path / "merged.safetensors"
    if file_form == "int8_tensorwise" and not hasattr(comfy_kitchen.tensor, "TensorWiseINT8Layout"):
        with refuses("expected ComfyUI 0.27 or newer"):
            merge(base_file, lora_with_settings, merged_file, form=file_form)
        return
    merge(base_file, lora_with_settings, merged_file, form=file_form)
    merged_model = model_rig.load_transformer(merged_file)
    load_lora = rig.nodes("lora").load_lora
    weight = merged_model.model.diffusion_model.blocks[0].self_attn.q.weight
    assert type(weight).__name__ == "QuantizedTensor"
    assert weight._qdata.dtype.itemsize == 1
    exact_model, _ = load_lora(rig.model, lora_with_settings, 1.0)
    for options in ({}, {"lambda_g": 0.0}):
        merged_latent, exact_latent = (
            rig.ksample(rig.patch(model, **options)) for model in (merged_model, exact_model)
        )
        assert 0 < (merged_latent - exact_latent).std() < tolerance * exact_latent.std(), options
    assert rig.nodes("patch.patch").is_exo_alone(merged_model)
    patched_model = rig.patch(merged_model)
    assert patched_model.model_options["transformer_options"]["rope_options"]["scale_y"] == 0.5
    with refuses("in the model's file already"):
        load_lora(merged_model, lora_with_settings, 1.0)
    save_file(
        {name: 2 * tensor for name, tensor in lora_tensors.items()}, tmp_path / "other.safetensors"
    )
    two_lora_model, _ = load_lora(merged_model, tmp_path / "other.safetensors", 1.0)
    assert not torch.equal(rig.ksample(rig.patch(two_lora_model)), rig.ksample(patched_model))
