"""Test the names of LoRA and checkpoint tensors: conversion, scales, other formats and refused
files."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from egox_core.wan import check_lora, convert_lora
from egox_core.wan.lora_keys import BLOCK_PARTS
from tests.refusals import refuses
from tools.convert_lora import main as convert_lora_tool

QUERY = "transformer.blocks.0.attn1.to_q"


def strip_prefix(golden, prefix):
    return {
        key.removeprefix(prefix): tensor for key, tensor in golden.items() if key.startswith(prefix)
    }


@pytest.fixture(scope="module")
def released_lora(repo_root):
    return strip_prefix(load_file(repo_root / "tests/golden/tiny_lora.safetensors"), "r4a4.file.")


@pytest.fixture(scope="module")
def golden_weights(repo_root):
    return strip_prefix(
        load_file(repo_root / "tests/golden/tiny_transformer.safetensors"), "weights."
    )


def lora_pair(
    layer: str, rank: int = 2, width: int = 8, **tensor_options
) -> dict[str, torch.Tensor]:
    return {
        f"{layer}.lora_A.weight": torch.ones(rank, width, **tensor_options),
        f"{layer}.lora_B.weight": torch.ones(width, rank, **tensor_options),
    }


def test_converting_to_native_names_and_back_gives_the_same_tensors(released_lora):
    restored_lora = convert_lora(convert_lora(released_lora).tensors, to="diffusers").tensors
    assert restored_lora.keys() == released_lora.keys() and all(
        torch.equal(restored_lora[key], released_lora[key]) for key in released_lora
    )


@pytest.mark.parametrize(
    "name_template",
    [
        "diffusion_model.blocks.7.{native}.lora_A.weight",
        "blocks.7.{part}.lora_A.weight",
        "base_model.model.blocks.7.{part}.lora_A.default.weight",
        "transformer.blocks.7.{part}.lora_down.weight",
        "lora_unet_blocks_7_{flat_native}.lora_down.weight",
        "lora_unet_blocks_7.{native}.lora_down.weight",
        "lycoris_blocks_7_{flat}.lora_down.weight",
        "unet_blocks_7_{flat_native}.lora_down.weight",
        "pipe.dit.blocks.7.{native}.lora_A.hands.weight",
    ],
)
def test_other_naming_schemes_are_converted(name_template):
    for layer, native_layer in BLOCK_PARTS.items():
        flat_layer, flat_native = (name.replace(".", "_") for name in (layer, native_layer))
        down_name = name_template.format(
            part=layer, native=native_layer, flat=flat_layer, flat_native=flat_native
        )
        up_name = down_name.replace("lora_A", "lora_B").replace("lora_down", "lora_up")
        lora = convert_lora({down_name: torch.zeros(2, 8), up_name: torch.zeros(8, 2)})
        native_prefix = f"diffusion_model.blocks.7.{native_layer}.lora_"
        assert set(lora.tensors) == {native_prefix + "A.weight", native_prefix + "B.weight"}


ALPHA_SETTINGS = {"r": 4, "lora_alpha": 16}


@pytest.mark.parametrize(
    ("metadata", "expected_scale"),
    [
        (None, 1),
        ({"lora_adapter_metadata": "not json, lora_alpha"}, 1),
        (
            {
                "lora_adapter_metadata": json.dumps(
                    {f"transformer.{k}": ALPHA_SETTINGS[k] for k in ALPHA_SETTINGS}
                )
            },
            4,
        ),
        (
            {
                "lora_adapter_metadata": json.dumps(
                    {f"text_encoder.{k}": ALPHA_SETTINGS[k] for k in ALPHA_SETTINGS}
                )
            },
            1,
        ),
        ({"config": json.dumps({**ALPHA_SETTINGS, "use_rslora": True})}, 8),
        ({"config": json.dumps({"r": 4, "lora_alpha": 4})}, 1),
        ({"format": "pt", "lora_alpha": "16", "r": "4"}, 4),
        ({"lora_alpha": "2", "use_rslora": "False"}, 0.5),
        ({"lora_alpha": "none"}, 1),
        ({"egox.config": json.dumps({"lora": {"alpha": 16}}), "egox.alpha": "16"}, 1),
    ],
)
def test_alpha_comes_from_the_file_or_from_its_settings(released_lora, metadata, expected_scale):
    assert convert_lora(released_lora, metadata).scales == (expected_scale,)
    file_lora = convert_lora({**released_lora, f"{QUERY}.alpha": torch.tensor(2.0)}, metadata)
    assert file_lora.scales == tuple(sorted({expected_scale, 0.5}, reverse=True)), (
        "the file's own counts"
    )


@pytest.mark.parametrize(
    ("name", "alpha", "expected_scale"),
    [
        ("adapter_model", 16, 4),
        ("adapter_model", 4, 1),
        ("adapter_model", 1, 0.25),
        ("mine", 16, 1),
    ],
)
def test_alpha_is_read_from_pefts_adapter_config(tmp_path, capsys, name, alpha, expected_scale):
    """Check that LoRA alpha is read from adapter_config.json, unless the LoRA file has a user's own
    name."""
    lora_file = tmp_path / f"{name}.safetensors"
    native_file = tmp_path / "native.safetensors"
    save_file(lora_pair("base_model.model.blocks.0.self_attn.q", 4), lora_file)
    settings_file = tmp_path / "adapter_config.json"
    settings_file.write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": alpha}), "utf-8"
    )
    assert convert_lora_tool([str(lora_file), str(native_file)]) == 0
    printed_text = capsys.readouterr().out
    assert f"alpha/rank {expected_scale:g}" in printed_text
    assert ("warning: alpha is not known" in printed_text) is (name == "mine")
    settings_file.write_text("{", "utf-8")
    assert convert_lora_tool([str(lora_file), str(native_file)]) == (name != "mine")


@pytest.mark.parametrize(
    ("layer", "expected_fix"),
    [
        ("lora_unet_blocks_0_self_attn_k", "Fix: load it with ComfyUI's own Load LoRA"),
        ("diffusion_model.blocks.3.ffn.0", "Fix: load it with"),
        ("lycoris_blocks_0_attn1_to_k", "Fix: convert it to names as diffusion_model"),
    ],
)
@pytest.mark.parametrize(
    ("adapter_type", "tensor_names"),
    [
        ("LoKr", ("alpha", "lokr_w1", "lokr_w2")),
        ("LoKr", ("lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_t2")),
        ("LoHa", ("alpha", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
        ("OFT or BOFT", ("alpha", "oft_blocks", "rescale")),
        ("GLoRA", ("a1.weight", "a2.weight", "b1.weight", "b2.weight")),
        ("set of whole differences", ("diff", "diff_b")),
    ],
)
def test_other_adapter_types_of_lycoris_are_refused_by_name(
    tmp_path, layer, expected_fix, adapter_type, tensor_names
):
    lora_state = {f"{layer}.{name_end}": torch.ones(4, 4) for name_end in tensor_names}
    with refuses(f"got {len(tensor_names)} tensors of a {adapter_type};.*{expected_fix}"):
        convert_lora(lora_state)
    save_file(lora_state, tmp_path / "it.safetensors")
    with refuses(
        f"of a {adapter_type} in 'it.safetensors' of .* bytes: a {adapter_type};.*{expected_fix}"
    ):
        check_lora(tmp_path / "it.safetensors")
    mixed_lora = convert_lora({**lora_state, **lora_pair("blocks.0.self_attn.q")})
    assert mixed_lora.matched == 2
    assert len(mixed_lora.others) == len(tensor_names)


def test_nan_is_refused_and_zero_changes_are_warned_of():
    lora_state = lora_pair("blocks.0.self_attn.q") | lora_pair(
        "blocks.1.self_attn.k", dtype=torch.bfloat16
    )
    assert "warning" not in convert_lora(lora_state).report
    for value in (math.nan, math.inf):
        for name in lora_state:
            with refuses(f"NaN or infinity in 1 of 4 tensors, such as diffusion_model.{name}"):
                convert_lora({**lora_state, name: torch.full_like(lora_state[name], value)})
    up_matrix_names = [name for name in lora_state if "lora_B" in name]
    one_zero_state = {
        **lora_state,
        up_matrix_names[0]: torch.zeros_like(lora_state[up_matrix_names[0]]),
    }
    assert "warning" not in convert_lora(one_zero_state).report
    all_zero_state = {
        **one_zero_state,
        up_matrix_names[1]: torch.zeros_like(lora_state[up_matrix_names[1]]).to(
            torch.float8_e4m3fn
        ),
    }
    assert "warning: all of its changes are 0" in convert_lora(all_zero_state).report
    zero_alphas = {
        name.replace("lora_B.weight", "alpha"): torch.tensor(0.0) for name in up_matrix_names
    }
    assert "changes are 0" in convert_lora({**lora_state, **zero_alphas}).report
    for extra_name in ("self_attn.q.dora_scale", "norm3.diff"):
        assert (
            "warning"
            not in convert_lora(
                {**all_zero_state, f"blocks.0.{extra_name}": torch.ones(8, 1)}
            ).report
        )


def test_peft_patterns_scale_single_layers():
    ranks = {"attn1.to_q": 4, "attn1.to_k": 2, "attn2.to_q": 4}
    lora_state = {}
    for name, rank in ranks.items():
        lora_state |= lora_pair(f"transformer.blocks.0.{name}", rank)

    def converted_alphas(**patterns):
        settings = {"r": 4, "lora_alpha": 4, "rank_pattern": {"to_k": 2}, **patterns}
        peft_json = json.dumps({f"transformer.{name}": value for name, value in settings.items()})
        tensors = convert_lora(lora_state, {"lora_adapter_metadata": peft_json}).tensors
        native_layers = (BLOCK_PARTS[name] for name in ranks)
        return [float(tensors[f"diffusion_model.blocks.0.{part}.alpha"]) for part in native_layers]

    assert converted_alphas(lora_alpha=8) == [8, 8, 8]
    assert converted_alphas(alpha_pattern={"^blocks.0.attn1.to_q": 12}) == [12, 4, 4]
    assert converted_alphas(alpha_pattern={r"blocks\.\d+\.attn2\.to_q": 1, "to_q": 2}) == [2, 4, 1]
    for bad_pattern in ("(", "(a+)+b"):
        with refuses("alpha_pattern"):
            converted_alphas(alpha_pattern={bad_pattern: 1})


@pytest.mark.parametrize(
    ("layer", "expected_text"),
    [
        ("vace.blocks.0.self_attn.q", "2 of Wan VACE"),
        ("diffusion_model.vace_blocks.0.self_attn.q", "2 of Wan VACE"),
        ("face_adapter.fuser_blocks.0.linear1_q", "2 of Wan Animate"),
        ("controlnet.blocks.0.attn1.to_q", "2 of a control model"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "2 of FLUX"),
        ("lora_te_blocks_0_self_attn_q", "2 of a text encoder"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "2 of a U-Net"),
        ("vae.decoder", "2 of a VAE"),
    ],
)
def test_layers_of_other_models_are_refused_by_model_name(layer, expected_text):
    with refuses(expected_text):
        convert_lora(lora_pair(layer))
    lora = convert_lora(
        {**lora_pair(layer), **lora_pair("x.blocks.0.self_attn.q"), **lora_pair("x.head.head")}
    )
    assert lora.matched == 4
    assert lora.unmatched == tuple(lora_pair(layer))
    assert "2 unmatched" in lora.report
    assert expected_text in lora.report


def test_fp8_scales_are_multiplied_in_and_layers_with_mid_matrices_left_out():
    lora_state = lora_pair("blocks.0.self_attn.q") | lora_pair("blocks.0.self_attn.k")
    lora_state["blocks.0.self_attn.q.lora_A.scale_weight"] = torch.tensor(3.0)
    lora_state["blocks.0.self_attn.k.lora_mid.weight"] = torch.ones(2, 2)
    lora = convert_lora(lora_state)
    assert float(lora.tensors["diffusion_model.blocks.0.self_attn.q.lora_A.weight"].mean()) == 3
    assert lora.matched == 2
    assert not lora.others
    assert "1 lora_mid" in lora.report


def test_dora_magnitudes_are_converted_with_their_layer():
    """Check that DoRA magnitudes of ComfyUI and PEFT are converted along with their layers."""
    for name, shape in (("dora_scale", (8, 1)), ("lora_magnitude_vector", (8,))):
        lora_state = lora_pair(QUERY) | {f"{QUERY}.{name}": torch.ones(shape)}
        lora = convert_lora(lora_state)
        assert lora.tensors["diffusion_model.blocks.0.self_attn.q.dora_scale"].shape == (8, 1)
    with refuses("DoRA"):
        convert_lora(lora_state, to="diffusers")
    with refuses(r"dora_scale: got shape \(3, 1\)"):
        convert_lora(lora_state | {f"{QUERY}.{name}": torch.ones(3)})


def test_lora_for_another_model_is_refused(released_lora):
    lora = convert_lora(released_lora)
    model_shapes = {
        key.removeprefix("diffusion_model.").replace(".lora_A", ""): (64, 64)
        for key in lora.tensors
        if "lora_A" in key
    }
    assert lora.check_fits(model_shapes) == ()
    one_block_shapes = {
        name: shape for name, shape in model_shapes.items() if name.startswith("blocks.0")
    }
    assert len(lora.check_fits(one_block_shapes)) == 8
    with refuses("the model of this LoRA"):
        lora.check_fits(dict.fromkeys(model_shapes, (128, 64)))
    with refuses("parts of the loaded model"):
        lora.check_fits({"input_blocks.0.weight": (64, 64)})


@pytest.mark.parametrize(
    "state, message",
    [  # the first of both models of Wan 2.2
        (
            lora_pair(QUERY) | lora_pair("transformer_2.blocks.0.attn1.to_q"),
            "transformer_2.blocks.0.attn1",
        ),
        ({"text_model.encoder.lora_A.weight": torch.zeros(4, 8)}, "Wan transformer"),
        ({}, "Wan transformer"),
        ({f"{QUERY}.lora_A.weight": torch.zeros(4, 8)}, "without its lora_B"),
        (lora_pair(QUERY) | {f"{QUERY}.lora_B.weight": torch.zeros(8, 3)}, "rank of the LoRA"),
        (
            lora_pair("blocks.0.attn1.to_k") | {f"{QUERY}.lora_B.weight": torch.zeros(8, 4)},
            "its lora_A",
        ),
    ],
)
def test_files_that_are_no_wan_lora_are_refused(state, message):
    with refuses(message):
        convert_lora(state)


def test_convert_lora_command_writes_native_names(released_lora, tmp_path, capsys):
    source, target = tmp_path / "released.safetensors", tmp_path / "native.safetensors"
    save_file(released_lora, source, metadata={"format": "pt", "egox.mask_mode": "paper"})

    def refusal_text(source, target):
        assert convert_lora_tool([str(source), str(target)]) == 1
        return capsys.readouterr().err

    assert convert_lora_tool([str(source), str(target)]) == 0
    assert "32 tensors matched, 0 unmatched" in capsys.readouterr().out
    with safe_open(target, framework="pt") as file:
        assert all(key.startswith("diffusion_model.blocks.") for key in file.keys())
        assert file.metadata()["egox.mask_mode"] == "paper"
    (tmp_path / "released.bin").write_bytes(b"")
    assert 'save_file: "released.bin"' in refusal_text(tmp_path / "released.bin", target)
    assert ".safetensors" in refusal_text(source, tmp_path / "native.pt")


@pytest.mark.parametrize("content_kind", ["LoKr", "diff beside pairs", "alone", "other adapter"])
def test_convert_lora_command_keeps_other_adapter_tensors(tmp_path, capsys, content_kind):
    lora_file, native_file = tmp_path / "source.safetensors", tmp_path / "native.safetensors"
    lora_state = {
        "LoKr": {f"{QUERY}.lokr_w{n}": torch.ones(4, 4) for n in (1, 2)},
        "diff beside pairs": lora_pair(QUERY) | {"transformer.blocks.0.norm2.diff": torch.ones(8)},
        "alone": lora_pair(QUERY),
        "other adapter": {
            name.replace(".weight", ".hands.weight"): x for name, x in lora_pair(QUERY).items()
        },
    }[content_kind]
    save_file(lora_state, lora_file, {"egox.exo": "alone"} if content_kind == "alone" else {})
    assert convert_lora_tool([str(lora_file), str(native_file)]) == 0
    printed_text = capsys.readouterr().out
    native_names = load_file(native_file).keys()
    assert all(name.startswith("diffusion_model.blocks.0.") for name in native_names)
    assert len(native_names) == len(lora_state)
    assert "not taken over" not in printed_text
    expected_texts = {
        "LoKr": "2 tensors of other kinds",
        "diff beside pairs": "1 tensors of other kinds",
    }
    expected_texts["alone"] = "trained with exo alone, which only the file's metadata say"
    assert expected_texts.get(content_kind, "2 tensors matched") in printed_text


def test_convert_command_refuses_shards_and_overwriting_its_source(
    golden_weights, tmp_path, capsys
):
    full_file, target_file = tmp_path / "whole.safetensors", tmp_path / "native.safetensors"
    save_file(golden_weights, full_file)
    tensor_names = list(golden_weights)
    shard_file, quantised_file = tmp_path / "shard.safetensors", tmp_path / "scaled.safetensors"
    save_file({name: golden_weights[name] for name in tensor_names[:40]}, shard_file)
    scale_name = "blocks.0.attn1.to_q.weight_scale"
    save_file({**golden_weights, scale_name: torch.ones(())}, quantised_file)
    for source_file, target_path, expected_text in (
        (shard_file, target_file, "of which 40 tensors are here"),
        (quantised_file, target_file, "quantised; expected all of its weights"),
        (full_file, full_file, "whole.safetensors, which it is made of"),
    ):
        assert convert_lora_tool([str(source_file), str(target_path)]) == 1
        assert expected_text in capsys.readouterr().err
    assert convert_lora_tool([str(full_file), str(target_file)]) == 0
    assert len(load_file(target_file)) == len(tensor_names)
