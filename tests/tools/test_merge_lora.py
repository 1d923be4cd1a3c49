"""Test the command that merges a LoRA into an 8-bit base model."""

import json
import math
import random
from collections.abc import Callable

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytest.importorskip("comfy_kitchen")

from egox_core.wan import MERGED  # noqa: E402
from tests.refusals import refuses  # noqa: E402
from tools.merge_lora import Merge, merge, read_back  # noqa: E402
from tools.rigs import standins  # noqa: E402


@pytest.fixture(scope="module")
def sources(repo_root):
    return [repo_root / "models" / standins.SHIPPED[kind] for kind in ("transformer", "lora")]


def test_interrupted_merge_resumes_only_with_equal_settings(sources, tmp_path):
    """Check that a merge continues its partial file if the settings are equal, and starts anew if
    not."""
    uncut_file, merged_file = tmp_path / "whole.safetensors", tmp_path / "again.safetensors"
    partial_file = tmp_path / "again.safetensors.part"
    merge(*sources, uncut_file)
    merged_bytes = uncut_file.read_bytes()
    for cut in random.Random(7).sample(range(len(merged_bytes)), 4) + [0, 5, len(merged_bytes)]:
        partial_file.write_bytes(merged_bytes[:cut])
        merge(*sources, merged_file)
        assert merged_file.read_bytes() == merged_bytes and not partial_file.exists(), cut
    partial_file.write_bytes(merged_bytes[:-9])
    merge(*sources, merged_file, strength=0.5)
    merged_weight = load_file(merged_file)["blocks.0.self_attn.q.weight"]
    assert merged_weight.dtype == torch.int8
    assert not torch.equal(merged_weight, load_file(uncut_file)["blocks.0.self_attn.q.weight"])


FFN = "blocks.0.ffn.0"


def write_scaled_float8(folder, base, newer):
    """Write a base model in scaled 8-bit floats."""
    scaled_tensors = {}
    metadata = {"config": "{}"}
    for name, tensor in load_file(base).items():
        if name == f"{FFN}.weight":
            scale = tensor.float().abs().max() / 448
            scaled_tensors[f"{FFN}.weight_scale" if newer else f"{FFN}.scale_weight"] = (
                scale.reshape(())
            )
            tensor = (tensor.float() / scale).to(torch.float8_e4m3fn)
        scaled_tensors[name] = tensor
    if newer:
        layer_formats = {FFN: {"format": "float8_e4m3fn"}}
        metadata["_quantization_metadata"] = json.dumps({"layers": layer_formats})
    save_file(scaled_tensors, folder / "scaled.safetensors", metadata)
    return folder / "scaled.safetensors"


@pytest.mark.parametrize("newer", [True, False])
@pytest.mark.parametrize("form", ["int8_tensorwise", "float8_e4m3fn"])
def test_scaled_base_gives_nearly_the_same_weights(sources, tmp_path, comfy_host, newer, form):
    """Check that a merge into a scaled float8 base differs only by the rounding of that base."""
    base_files = sources[0], write_scaled_float8(tmp_path, sources[0], newer)
    messages, merged_weights = [], []
    for base in base_files:
        merge(base, sources[1], tmp_path / "out.safetensors", form=form, report=messages.append)
        merged_weights.append(read_like_comfyui(tmp_path / "out.safetensors"))
    assert messages.count("read back by ComfyUI: 20 matrices as written") == 2
    assert (merged_weights[0] - merged_weights[1]).norm() < 0.05 * merged_weights[0].norm()


def read_like_comfyui(file):
    import comfy.ops
    import comfy.utils

    tensors, metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
    tensors, _ = comfy.utils.convert_old_quants(tensors, "", metadata=metadata)
    layer = comfy.ops.mixed_precision_ops().Linear(
        *tensors[f"{FFN}.weight"].shape[::-1], device="cpu"
    )
    layer_state = {
        key.removeprefix(f"{FFN}."): x for key, x in tensors.items() if key.startswith(FFN)
    }
    layer.load_state_dict(layer_state)
    return layer.weight.dequantize().float()


def test_merged_file_that_comfyui_would_misread_is_not_written(sources, tmp_path, comfy_host):
    """Check that a merged file with a wrong format description or scale is refused."""
    merge(*sources, merged_file := tmp_path / "whole.safetensors")
    merge_job = Merge(*sources, 1.0, "int8_tensorwise")
    tensors = load_file(merged_file)
    with safe_open(merged_file, "pt") as file:
        metadata = file.metadata()
    assert "20 matrices" in read_back(merged_file, merge_job)
    first_weight, second_weight = [name for name in merge_job.names if merge_job.config(name)][:2]
    scale_name = f"{first_weight}_scale"
    layer_name = first_weight.removesuffix(".weight")
    layers_json = json.dumps({"layers": {layer_name: {"format": "float8_e4m3fn"}}})
    for changes, new_metadata in (
        ({}, {"_quantization_metadata": layers_json}),
        ({first_weight: tensors[second_weight].clone()}, {}),
        ({scale_name: 2 * tensors[scale_name]}, {}),
    ):
        save_file({**tensors, **changes}, merged_file, {**metadata, **new_metadata})
        with refuses(f"{first_weight}, which ComfyUI reads otherwise than it was written"):
            read_back(merged_file, merge_job)


def test_alpha_is_merged_and_missing_layers_are_reported(sources, tmp_path):
    lora_tensors = load_file(sources[1])
    width = lora_tensors["transformer.blocks.0.attn1.to_q.lora_A.weight"].shape[1]
    layer_name = "diffusion_model.blocks.0.cross_attn.k_img"
    lora_tensors[f"{layer_name}.lora_A.weight"] = torch.ones(4, width)
    lora_tensors[f"{layer_name}.lora_B.weight"] = torch.ones(width, 4)
    lora_tensors["transformer.blocks.0.attn1.to_q.alpha"] = torch.tensor(8.0)
    save_file(lora_tensors, lora_file := tmp_path / "lora.safetensors")
    plain, once, twice = (
        Merge(sources[0], file, strength, "float8_e4m3fn").weight("blocks.0.self_attn.q.weight")
        for file, strength in ((sources[1], 0.0), (lora_file, 1.0), (sources[1], 2.0))
    )
    torch.testing.assert_close(once, twice)
    assert not torch.equal(once, plain)
    report = Merge(sources[0], lora_file, 1.0, "float8_e4m3fn").report
    assert "1 parts are not in this model, such as blocks.0.cross_attn.k_img" in report
    assert "made for Wan 2.1 I2V" in report


def add(name: str, *shape: int) -> Callable[[dict], dict]:
    return lambda tensors: {**tensors, name: torch.ones(shape)}


def replace(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], dict]:
    return lambda tensors: {**tensors, f"{FFN}.weight": change(tensors[f"{FFN}.weight"])}


@pytest.mark.parametrize(
    ("words", "changed", "change"),
    [
        ("of which 49 tensors are here.*: give the whole", 0, lambda t: dict([*t.items()][:49])),
        ("two of a weight, such as blocks.0.mod", 0, add("model_ema.blocks.0.modulation", 1, 6, 8)),
        ("no plain Wan transformer has", 0, add(f"{FFN}.base_layer.weight", 2, 2)),
        (f"NaN or infinity in {FFN}", 0, replace(lambda weight: weight / 0)),
        (f"{FFN}.weight quantised to torch.int8", 0, replace(lambda weight: weight.to(torch.int8))),
        ("products of two matrices alone", 1, add("diffusion_model.head.head.diff", 2)),
    ],
)
def test_unmergeable_files_are_refused(words, changed, change, sources, tmp_path):
    files = [*sources]
    files[changed] = tmp_path / "changed.safetensors"
    with safe_open(sources[changed], "pt") as file:
        save_file(change(load_file(sources[changed])), files[changed], file.metadata())
    with refuses(words):
        merge(*files, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_wrong_sources_targets_and_strengths_are_refused(sources, tmp_path):
    base, lora = sources
    (itself := tmp_path / "base.safetensors").hardlink_to(base)
    target = tmp_path / "out.safetensors"
    save_file(load_file(base), merged := tmp_path / "merged.safetensors", {MERGED: ""})
    wide_settings = {"egox.position_scale": "wide"}
    save_file(load_file(lora), wide := tmp_path / "wide.safetensors", wide_settings)
    for arguments, strength, words in (
        ((base.with_suffix(".gguf"), lora, target), 1, "GGUF and pickled files can't be merged"),
        ((lora, base, target), 1, "model: got .* a LoRA"),
        ((merged, lora, target), 1, "into which a LoRA is merged already"),
        ((base, wide, target), 1, "egox.position_scale of the LoRA's file: got wide"),
        ((base, lora, itself), 1, "base.safetensors, which it is made of"),
        ((base, lora, target), math.nan, "strength of the LoRA: got nan"),
    ):
        with refuses(words):
            merge(*arguments, strength=strength)
