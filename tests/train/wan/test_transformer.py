"""Test that the base transformer is read from folders and files."""

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from egox_core.wan.lora_keys import rename_parameter
from egox_train.wan.transformer import load_base, save_native
from tests.refusals import refuses


@pytest.fixture(scope="module")
def base_paths(tmp_path_factory) -> dict[str, Path]:
    """Write a random base model both as a folder and as one file."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=128,
        in_channels=36,
        out_channels=16,
        text_dim=24,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
    )
    folder = tmp_path_factory.mktemp("bases")
    model.save_pretrained(folder / "folder" / "transformer", max_shard_size="1MB")
    assert len(list((folder / "folder" / "transformer").glob("*.safetensors"))) > 2
    save_native(model, folder / "base.safetensors", {}, torch.float32)
    return {"folder": folder / "folder", "file": folder / "base.safetensors"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shards_are_read_in_the_requested_dtype(base_paths, monkeypatch, dtype):
    """Check that weights are read in the requested dtype, except those that must stay float32."""
    monkeypatch.setattr("egox_train.wan.transformer.cast_base", lambda model, dtype: model)
    float32_parts, allowed_parts = set(), WanTransformer3DModel._keep_in_fp32_modules
    for name, parameter in load_base(base_paths["folder"], dtype).named_parameters():
        if parameter.dtype != dtype:
            assert parameter.dtype == torch.float32, name
            float32_parts.add(next(part for part in name.split(".") if part in allowed_parts))
    expected_parts = {"time_embedder", "scale_shift_table", "norm2"}
    assert float32_parts == (set() if dtype == torch.float32 else expected_parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_and_a_file_give_the_same_model(base_paths, dtype):
    """Check that a model read from a folder equals one read from a single file."""
    folder_tensors, file_tensors = (
        {**model.state_dict(), **dict(model.named_buffers())}
        for model in (load_base(base_paths[kind], dtype) for kind in ("folder", "file"))
    )
    assert folder_tensors.keys() == file_tensors.keys()
    for name, folder_tensor in folder_tensors.items():
        assert folder_tensor.dtype == file_tensors[name].dtype and torch.equal(
            folder_tensor, file_tensors[name]
        ), name


def test_float8_file_is_read_in_the_requested_dtype(base_paths, tmp_path, monkeypatch):
    save_native(
        load_base(base_paths["file"]), tmp_path / "small.safetensors", {}, torch.float8_e4m3fn
    )
    float32_state = load_base(tmp_path / "small.safetensors").state_dict()
    monkeypatch.setattr("egox_train.wan.transformer.cast_base", lambda model, dtype: model)
    bfloat16_state = load_base(tmp_path / "small.safetensors", torch.bfloat16).state_dict()
    for name, value in bfloat16_state.items():
        assert value.dtype == torch.bfloat16 and torch.equal(value.float(), float32_state[name])


@pytest.mark.parametrize("suffix", ["scale_weight", "weight_scale"])
def test_scaled_float8_weights_are_multiplied_by_their_scale(base_paths, tmp_path, suffix):
    """Check that float8 weights are multiplied by their scales."""
    weights, expected_weights = load_file(base_paths["file"]), {}
    for name in [name for name in weights if name.endswith("ffn.0.weight")]:
        scale = weights[name].abs().amax(*([1] if "blocks.1." in name else [])) / 448
        float8_weight = (weights[name] / scale.reshape(-1, 1)).to(torch.float8_e4m3fn)
        expected_weights[name] = float8_weight.float() * scale.reshape(-1, 1)
        weights |= {name: float8_weight, name.removesuffix("weight") + suffix: scale}
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(weights, tmp_path / "scaled.safetensors")
    loaded_state = load_base(tmp_path / "scaled.safetensors", torch.bfloat16).state_dict()
    assert len(expected_weights) == 2
    for name, value in expected_weights.items():
        loaded_weight = loaded_state[rename_parameter(name, "diffusers")]
        assert loaded_weight.dtype == torch.bfloat16 and torch.equal(
            loaded_weight, value.bfloat16()
        )


def test_other_quantised_files_are_refused(base_paths, tmp_path):
    loaded_weights = load_file(base_paths["file"])
    name = "blocks.0.ffn.0.weight"
    loaded_weights |= {name: loaded_weights[name].to(torch.int8), name + "_scale": torch.ones(1)}
    save_file(loaded_weights, tmp_path / "int8.safetensors")
    with refuses("quantised to torch.int8.*ends in _bf16"):
        load_base(tmp_path / "int8.safetensors")
