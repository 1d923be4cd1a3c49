"""Test reading the base transformer from diffusers folders, shards and quantised files."""

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from egox_core.wan.lora_keys import rename_parameter
from egox_train.wan.transformer import load_base, save_native
from tests.refusals import refuses


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Write the same float32 weights as a folder of shards and as one file."""
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
    place = tmp_path_factory.mktemp("bases")
    model.save_pretrained(place / "folder" / "transformer", max_shard_size="1MB")
    assert len(list((place / "folder" / "transformer").glob("*.safetensors"))) > 2
    save_native(model, place / "base.safetensors", {}, torch.float32)
    return {"folder": place / "folder", "file": place / "base.safetensors"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shards_are_read_in_the_requested_dtype(bases, monkeypatch, dtype):
    """Cast while reading, because the 14B model takes 66 GB as float32."""
    monkeypatch.setattr("egox_train.wan.transformer.cast_base", lambda model, dtype: model)
    kept, may = set(), WanTransformer3DModel._keep_in_fp32_modules
    for name, parameter in load_base(bases["folder"], dtype).named_parameters():
        if parameter.dtype != dtype:
            assert parameter.dtype == torch.float32, name
            kept.add(next(part for part in name.split(".") if part in may))
    exact = {"time_embedder", "scale_shift_table", "norm2"}
    assert kept == (set() if dtype == torch.float32 else exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_and_a_file_give_the_same_model(bases, dtype):
    """Compare float32 weights and rotary tables exactly."""
    folder, file = (
        {**model.state_dict(), **dict(model.named_buffers())}
        for model in (load_base(bases[kind], dtype) for kind in ("folder", "file"))
    )
    assert folder.keys() == file.keys()
    for name, value in folder.items():
        assert value.dtype == file[name].dtype and torch.equal(value, file[name]), name


def test_float8_file_is_read_in_the_requested_dtype(bases, tmp_path, monkeypatch):
    save_native(load_base(bases["file"]), tmp_path / "small.safetensors", {}, torch.float8_e4m3fn)
    exact = load_base(tmp_path / "small.safetensors").state_dict()
    monkeypatch.setattr("egox_train.wan.transformer.cast_base", lambda model, dtype: model)
    half = load_base(tmp_path / "small.safetensors", torch.bfloat16).state_dict()
    for name, value in half.items():
        assert value.dtype == torch.bfloat16 and torch.equal(value.float(), exact[name])


@pytest.mark.parametrize("suffix", ["scale_weight", "weight_scale"])
def test_scaled_float8_weights_are_multiplied_by_their_scale(bases, tmp_path, suffix):
    """Read ComfyUI's old format and its new one with a scale per matrix or row."""
    weights, expected = load_file(bases["file"]), {}
    for name in [name for name in weights if name.endswith("ffn.0.weight")]:
        scale = weights[name].abs().amax(*([1] if "blocks.1." in name else [])) / 448
        small = (weights[name] / scale.reshape(-1, 1)).to(torch.float8_e4m3fn)
        expected[name] = small.float() * scale.reshape(-1, 1)
        weights |= {name: small, name.removesuffix("weight") + suffix: scale}
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(weights, tmp_path / "scaled.safetensors")
    got = load_base(tmp_path / "scaled.safetensors", torch.bfloat16).state_dict()
    assert len(expected) == 2
    for name, value in expected.items():
        found = got[rename_parameter(name, "diffusers")]
        assert found.dtype == torch.bfloat16 and torch.equal(found, value.bfloat16())


def test_other_quantised_files_are_refused(bases, tmp_path):
    weights = load_file(bases["file"])
    name = "blocks.0.ffn.0.weight"
    weights |= {name: weights[name].to(torch.int8), name + "_scale": torch.ones(1)}
    save_file(weights, tmp_path / "int8.safetensors")
    with refuses("quantised to torch.int8.*ends in _bf16"):
        load_base(tmp_path / "int8.safetensors")
