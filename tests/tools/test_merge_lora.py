"""Test the command that merges a LoRA into an 8-bit base model."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytest.importorskip("comfy_kitchen")

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


@pytest.mark.parametrize("missing_layers", ["second block", "image parts"])
def test_layers_missing_in_the_base_are_reported(sources, tmp_path, missing_layers):
    lora_tensors = load_file(sources[1])
    base_file = sources[0]
    layer_name = "blocks.0.cross_attn.k_img"
    if missing_layers == "second block":
        base_file = tmp_path / "one.safetensors"
        layer_name = "blocks.1."
        tensors = load_file(sources[0])
        save_file(
            {name: x for name, x in tensors.items() if not name.startswith(layer_name)}, base_file
        )
    else:
        width = lora_tensors["transformer.blocks.0.attn1.to_q.lora_A.weight"].shape[1]
        factors = {"A": torch.ones(4, width), "B": torch.ones(width, 4)}
        lora_tensors |= {
            f"diffusion_model.{layer_name}.lora_{factor_name}.weight": x
            for factor_name, x in factors.items()
        }
    save_file(lora_tensors, tmp_path / "lora.safetensors")
    messages = []
    merge(
        base_file,
        tmp_path / "lora.safetensors",
        tmp_path / "out.safetensors",
        report=messages.append,
    )
    assert f"parts are not in this model, such as {layer_name}" in messages[0]
    assert ("made for Wan 2.1 I2V" in messages[0]) is (missing_layers == "image parts")


@pytest.mark.parametrize(
    ("file_kind", "words"),
    [
        ("gguf", "GGUF and pickled files can't be merged"),
        ("merged", "into which a LoRA is merged already"),
        ("whole", "products of two matrices alone"),
        ("swapped", "LoRA"),
        ("shard", "of which 49 tensors are here and .*Fix: give the whole model"),
        ("nan", "strength of the LoRA: got nan"),
        ("copy", "with two of a weight, such as .*blocks.0.modulation"),
        ("adapter", "no plain Wan transformer has, such as blocks.0.ffn.0.base_layer.weight"),
        ("int8", "LoRA file: got .* in torch.int8"),
        ("position", "egox.position_scale of the LoRA's file: got wide"),
        ("itself", "base.safetensors, which it is made of"),
        ("link", "other.safetensors, which it is made of"),
    ],
)
def test_unmergeable_files_are_refused(file_kind, words, sources, tmp_path):
    (base, lora) = sources
    target = tmp_path / "out.safetensors"
    strength = 1.0
    if file_kind in ("itself", "link"):
        target = base = tmp_path / "base.safetensors"
        save_file(load_file(sources[0]), base)
        if file_kind == "link":
            target = tmp_path / "other.safetensors"
            target.hardlink_to(base)
    elif file_kind == "shard":
        base = tmp_path / "base-00001-of-00002.safetensors"
        save_file(dict(list(load_file(sources[0]).items())[:49]), base)
    elif file_kind == "nan":
        strength = float("nan")
    elif file_kind in ("copy", "adapter"):
        added_tensors = {
            "copy": {"model_ema.blocks.0.modulation": torch.ones(1, 6, 8)},
            "adapter": {f"{FFN}.base_layer.weight": torch.ones(2, 2)},
        }
        save_file(
            {**load_file(base), **added_tensors[file_kind]}, base := tmp_path / "odd.safetensors"
        )
    elif file_kind == "int8":
        int8_tensors = {name: x.to(torch.int8) for name, x in load_file(lora).items()}
        save_file(int8_tensors, lora := tmp_path / "whole.safetensors")
    elif file_kind == "position":
        metadata = {"egox.position_scale": "wide"}
        save_file(load_file(lora), lora := tmp_path / "told.safetensors", metadata)
    elif file_kind == "gguf":
        base = tmp_path / "base.gguf"
    elif file_kind == "merged":
        base = tmp_path / "merged.safetensors"
        merge(*sources, base)
    elif file_kind == "whole":
        lora = tmp_path / "more.safetensors"
        save_file({**load_file(sources[1]), "diffusion_model.head.head.diff": torch.ones(2)}, lora)
    else:
        base, lora = lora, base
    with refuses(words):
        merge(base, lora, target, strength=strength)
    assert not list(tmp_path.glob("out*"))


def test_merge_with_a_broken_base_writes_no_file(sources, tmp_path):
    """Check that a base with infinite or NaN weights is refused before a file is written."""
    base_tensors = load_file(sources[0])
    weight_name = "blocks.1.ffn.0.weight"
    save_file(
        {**base_tensors, weight_name: base_tensors[weight_name] / 0},
        tmp_path / "broken.safetensors",
    )
    with refuses(f"NaN or infinity in {weight_name}"):
        merge(tmp_path / "broken.safetensors", sources[1], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
