"""Quantised weights: the host's fp8 and GGUF files through the real loader pack, with the patch and
a LoRA on them."""

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

FORM = standins.TransformerForm(image_embedding=False)
"""One head of 128 and 4096 wide text, as the host guesses without metadata, which GGUF files don't
carry."""


def load_gguf_pack(folder: Path) -> ModuleType:
    """Import the GGUF loader pack as the host imports a custom node."""
    if "comfyui_gguf" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "comfyui_gguf", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["comfyui_gguf"] = module
        spec.loader.exec_module(module)
    return sys.modules["comfyui_gguf"]


def checks_on_quantised(rig, quantised, exact, tolerance: float) -> None:
    """Check that sampling works, that geometry and LoRA have their effect, and that the result is
    close to the unquantised one's."""
    guided = rig.ksample(rig.patch(quantised))
    assert guided.isfinite().all()
    none = rig.ksample(rig.patch(quantised, lambda_g=0.0))
    assert not torch.equal(guided, none)
    reference = rig.ksample(rig.patch(exact))
    assert (guided - reference).std() < tolerance * reference.std()


def with_text(rig, width: int) -> model_rig.ModelRig:
    """Change a clip's prompts to the width that another transformer reads."""
    positive, negative = (
        [[model_rig.text_conditioning(width, 6, seed)[0][0], values] for _, values in cond]
        for seed, cond in ((1, rig.positive), (2, rig.negative))
    )
    return replace(rig, positive=positive, negative=negative)


def test_gguf_weights(rig, shared_dir, comfy_host, tmp_path):
    pytest.importorskip("gguf", reason="the gguf package (extra: dev) quantises the stand-in")
    tensors, _ = standins.transformer(FORM)
    folder = comfy_host.models / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf(folder / "standin-Q8_0.gguf", tensors)
    standins.write(tmp_path / "exact.safetensors", tensors)
    standins.write(
        tmp_path / "lora.safetensors", standins.random_tensors(standins.lora_shapes(FORM, 4), 3)
    )

    loader = load_gguf_pack(shared_dir / "peers" / "ComfyUI-GGUF").NODE_CLASS_MAPPINGS[
        "UnetLoaderGGUF"
    ]()
    (quantised,) = loader.load_unet("standin-Q8_0.gguf")
    assert type(quantised).__name__ == "GGUFModelPatcher"
    exact = model_rig.load_transformer(tmp_path / "exact.safetensors")
    rig = with_text(rig, 4096)
    # 8 bits a weight: 0.4 % of each block's largest; guidance 3 and three steps through two layers
    # enlarge it.
    checks_on_quantised(rig, quantised, exact, tolerance=0.1)

    load_lora = rig.nodes("lora").load_lora
    with_lora, report = load_lora(quantised, tmp_path / "lora.safetensors", 1.0)
    assert "32 tensors matched" in report
    changed, plain = rig.ksample(rig.patch(with_lora)), rig.ksample(rig.patch(quantised))
    exact_lora, _ = load_lora(exact, tmp_path / "lora.safetensors", 1.0)
    assert not torch.equal(changed, plain)
    reference = rig.ksample(rig.patch(exact_lora))
    assert (changed - reference).std() < 0.1 * reference.std()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_weights(rig, repo_root, dtype):
    """Like UNETLoader for weight_dtype fp8: weights stored in 8 bits, computed in the manual
    cast's dtype."""
    path = repo_root / "models" / standins.SHIPPED["transformer"]
    quantised = model_rig.load_transformer(path, dtype=dtype)
    assert quantised.model.diffusion_model.blocks[0].self_attn.q.weight.dtype == dtype
    # 3 (e4m3) or 2 (e5m2) bits of mantissa: 6 % or 12 % a weight, random, so that sums are nearer.
    checks_on_quantised(
        rig, quantised, rig.model, tolerance=0.3 if dtype == torch.float8_e4m3fn else 0.6
    )
    lora, _ = rig.nodes("lora").load_lora(
        quantised, repo_root / "models" / standins.SHIPPED["lora"], 1.0
    )
    assert not torch.equal(rig.ksample(rig.patch(lora)), rig.ksample(rig.patch(quantised)))


def test_half_precision_weights(rig, repo_root):
    path = repo_root / "models" / standins.SHIPPED["transformer"]
    half = model_rig.load_transformer(path, dtype=torch.bfloat16)
    # 8 bits of mantissa: 0.4 % a value.
    checks_on_quantised(rig, half, rig.model, tolerance=0.1)
    patched = rig.patch(half)
    rig.ksample(patched, steps=1)
    # Near cosine -1 the logarithm would lose everything else (quirks 17).
    geometry = patched.get_all_wrappers("diffusion_model")[0].guidance.geometry
    assert geometry.key_dirs.dtype == geometry.query_dirs.dtype == torch.float32


@torch.inference_mode()  # as the server loads it
@pytest.mark.parametrize(("form", "tolerance"), [("int8_tensorwise", 0.1), ("float8_e4m3fn", 0.3)])
def test_a_merged_file_in_eight_bits_acts_as_base_and_lora(
    rig, repo_root, tmp_path, form, tolerance
):
    """Written by the command, loaded by the host, guided, with kept exo and another LoRA on top."""
    import comfy_kitchen.tensor

    base, lora = (repo_root / "models" / standins.SHIPPED[kind] for kind in ("transformer", "lora"))
    lora_tensors = load_file(lora)
    with_settings = tmp_path / "alone.safetensors"
    settings = {"egox.exo": "alone", "egox.position_scale": "0.5"}
    save_file(lora_tensors, with_settings, settings)
    file = tmp_path / "merged.safetensors"
    if form == "int8_tensorwise" and not hasattr(comfy_kitchen.tensor, "TensorWiseINT8Layout"):
        with refuses("expected ComfyUI 0.27 or newer"):
            merge(base, with_settings, file, form=form)
        return
    merge(base, with_settings, file, form=form)
    merged, load_lora = model_rig.load_transformer(file), rig.nodes("lora").load_lora
    weight = merged.model.diffusion_model.blocks[0].self_attn.q.weight
    assert type(weight).__name__ == "QuantizedTensor" and weight._qdata.dtype.itemsize == 1
    exact, _ = load_lora(rig.model, with_settings, 1.0)
    for how in ({}, {"lambda_g": 0.0}):
        merged_latent, exact_latent = (
            rig.ksample(rig.patch(model, **how)) for model in (merged, exact)
        )
        assert 0 < (merged_latent - exact_latent).std() < tolerance * exact_latent.std(), how
    assert rig.nodes("patch.patch").exo_alone(merged)
    patched = rig.patch(merged)
    assert patched.model_options["transformer_options"]["rope_options"]["scale_y"] == 0.5
    with refuses("in the model's file already"):
        load_lora(merged, with_settings, 1.0)
    save_file(
        {name: 2 * tensor for name, tensor in lora_tensors.items()}, tmp_path / "other.safetensors"
    )
    on_top, _ = load_lora(merged, tmp_path / "other.safetensors", 1.0)
    assert not torch.equal(rig.ksample(rig.patch(on_top)), rig.ksample(patched))
