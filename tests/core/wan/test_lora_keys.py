"""LoRA and checkpoint names: every tensor of the goldens finds its place, deltas stay, other files
are refused."""

import itertools
import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from egox_core.wan import check_lora
from egox_core.wan.lora_keys import (
    BLOCK_PARTS,
    convert_lora,
    convert_transformer,
    rename_parameter,
)
from tests.refusals import refuses
from tools.convert_lora import main as convert_lora_tool

QUERY = "transformer.blocks.0.attn1.to_q"


def part_of(golden, prefix):
    return {
        key.removeprefix(prefix): tensor for key, tensor in golden.items() if key.startswith(prefix)
    }


@pytest.fixture(scope="module")
def released(repo_root):
    return part_of(load_file(repo_root / "tests/golden/tiny_lora.safetensors"), "r4a4.file.")


@pytest.fixture(scope="module")
def golden_weights(repo_root):
    return part_of(load_file(repo_root / "tests/golden/tiny_transformer.safetensors"), "weights.")


def pair(part: str, rank: int = 2, width: int = 8, **on) -> dict[str, torch.Tensor]:
    return {
        f"{part}.lora_A.weight": torch.ones(rank, width, **on),
        f"{part}.lora_B.weight": torch.ones(width, rank, **on),
    }


def test_there_and_back_is_the_same_file(released):
    back = convert_lora(convert_lora(released).tensors, to="diffusers").tensors
    assert back.keys() == released.keys() and all(
        torch.equal(back[key], released[key]) for key in released
    )


@pytest.mark.parametrize(
    "form",
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
def test_other_namings_are_read(form):
    for part, native in BLOCK_PARTS.items():
        flat, flat_native = (name.replace(".", "_") for name in (part, native))
        down = form.format(part=part, native=native, flat=flat, flat_native=flat_native)
        up = down.replace("lora_A", "lora_B").replace("lora_down", "lora_up")
        lora = convert_lora({down: torch.zeros(2, 8), up: torch.zeros(8, 2)})
        named = f"diffusion_model.blocks.7.{native}.lora_"
        assert set(lora.tensors) == {named + "A.weight", named + "B.weight"}


ALPHA = {"r": 4, "lora_alpha": 16}


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        (None, 1),
        ({"lora_adapter_metadata": "not json, lora_alpha"}, 1),
        ({"lora_adapter_metadata": json.dumps({f"transformer.{k}": ALPHA[k] for k in ALPHA})}, 4),
        ({"lora_adapter_metadata": json.dumps({f"text_encoder.{k}": ALPHA[k] for k in ALPHA})}, 1),
        ({"config": json.dumps({**ALPHA, "use_rslora": True})}, 8),
        ({"config": json.dumps({"r": 4, "lora_alpha": 4})}, 1),
        ({"format": "pt", "lora_alpha": "16", "r": "4"}, 4),
        ({"lora_alpha": "2", "use_rslora": "False"}, 0.5),
        ({"lora_alpha": "none"}, 1),
        ({"egox.config": json.dumps({"lora": {"alpha": 16}}), "egox.alpha": "16"}, 1),
    ],
)
def test_alpha_comes_from_the_file_or_from_its_settings(released, metadata, scale):
    assert convert_lora(released, metadata).scales == (scale,)
    file_lora = convert_lora({**released, f"{QUERY}.alpha": torch.tensor(2.0)}, metadata)
    assert file_lora.scales == tuple(sorted({scale, 0.5}, reverse=True)), "the file's own counts"


@pytest.mark.parametrize(
    ("name", "alpha", "scale"),
    [
        ("adapter_model", 16, 4),
        ("adapter_model", 4, 1),
        ("adapter_model", 1, 0.25),
        ("mine", 16, 1),
    ],
)
def test_peft_keeps_alpha_beside_its_weights(tmp_path, capsys, name, alpha, scale):
    """PEFT keeps them under its own two names. Settings next to another file may be another LoRA's."""
    source, target = tmp_path / f"{name}.safetensors", tmp_path / "native.safetensors"
    save_file(pair("base_model.model.blocks.0.self_attn.q", 4), source)
    settings = tmp_path / "adapter_config.json"
    settings.write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": alpha}), "utf-8")
    assert convert_lora_tool([str(source), str(target)]) == 0
    output = capsys.readouterr().out
    assert f"alpha/rank {scale:g}" in output
    assert ("warning: alpha is not known" in output) is (name == "mine")
    settings.write_text("{", "utf-8")
    assert convert_lora_tool([str(source), str(target)]) == (name != "mine")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("lora_unet_blocks_0_self_attn_k", "Fix: load it with ComfyUI's own Load LoRA"),
        ("diffusion_model.blocks.3.ffn.0", "Fix: load it with"),
        ("lycoris_blocks_0_attn1_to_k", "Fix: convert it to names as diffusion_model"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("LoKr", ("alpha", "lokr_w1", "lokr_w2")),
        ("LoKr", ("lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_t2")),
        ("LoHa", ("alpha", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
        ("OFT or BOFT", ("alpha", "oft_blocks", "rescale")),
        ("GLoRA", ("a1.weight", "a2.weight", "b1.weight", "b2.weight")),
        ("set of whole differences", ("diff", "diff_b")),
    ],
)
def test_other_products_of_lycoris_are_named(tmp_path, part, words, kind, ends):
    state = {f"{part}.{end}": torch.ones(4, 4) for end in ends}
    with refuses(f"got {len(ends)} tensors of a {kind};.*{words}"):
        convert_lora(state)
    save_file(state, tmp_path / "it.safetensors")
    with refuses(f"of a {kind} in 'it.safetensors' of .* bytes: a {kind};.*{words}"):
        check_lora(tmp_path / "it.safetensors")
    mixed_lora = convert_lora({**state, **pair("blocks.0.self_attn.q")})
    assert mixed_lora.matched == 2 and len(mixed_lora.others) == len(ends)


@pytest.mark.parametrize("kind", ["oft_R.weight", "boft_s", "vera_lambda_b", "ia3_l", "oft_r.mine"])
def test_kinds_that_nobody_here_reads_are_told_by_their_parts(kind):
    for module in ("transformer.blocks.0.attn1.to_q", "lycoris_blocks_0_self_attn_q"):
        with refuses(f"1 tensors of another kind, such as {kind} of {module}; .* write a LoRA"):
            convert_lora({f"{module}.{kind}": torch.ones(4, 4)})
    with refuses("10 to_q .*made for Wan image-to-video"):
        convert_lora({f"blocks.{n}.attn1.to_q.weight": torch.ones(4, 4) for n in range(10)})


def test_numbers_that_are_none_and_changes_that_are_nothing():
    state = pair("blocks.0.self_attn.q") | pair("blocks.1.self_attn.k", dtype=torch.bfloat16)
    assert "warning" not in convert_lora(state).report
    for value in (math.nan, math.inf):
        for name in state:
            with refuses(f"NaN or infinity in 1 of 4 tensors, such as diffusion_model.{name}"):
                convert_lora({**state, name: torch.full_like(state[name], value)})
    ups = [name for name in state if "lora_B" in name]
    one = {**state, ups[0]: torch.zeros_like(state[ups[0]])}
    assert "warning" not in convert_lora(one).report
    none = {**one, ups[1]: torch.zeros_like(state[ups[1]]).to(torch.float8_e4m3fn)}
    assert "warning: all of its changes are 0" in convert_lora(none).report
    alphas = {name.replace("lora_B.weight", "alpha"): torch.tensor(0.0) for name in ups}
    assert "changes are 0" in convert_lora({**state, **alphas}).report
    for more in ("self_attn.q.dora_scale", "norm3.diff"):
        assert "warning" not in convert_lora({**none, f"blocks.0.{more}": torch.ones(8, 1)}).report


def test_peft_patterns_give_single_parts_their_own_scale():
    ranks = {"attn1.to_q": 4, "attn1.to_k": 2, "attn2.to_q": 4}
    state = {}
    for name, rank in ranks.items():
        state |= pair(f"transformer.blocks.0.{name}", rank)

    def alphas(**patterns):
        settings = {"r": 4, "lora_alpha": 4, "rank_pattern": {"to_k": 2}, **patterns}
        peft = json.dumps({f"transformer.{name}": value for name, value in settings.items()})
        tensors = convert_lora(state, {"lora_adapter_metadata": peft}).tensors
        parts = (BLOCK_PARTS[name] for name in ranks)
        return [float(tensors[f"diffusion_model.blocks.0.{part}.alpha"]) for part in parts]

    assert alphas(lora_alpha=8) == [8, 8, 8]
    assert alphas(alpha_pattern={"^blocks.0.attn1.to_q": 12}) == [12, 4, 4]
    assert alphas(alpha_pattern={r"blocks\.\d+\.attn2\.to_q": 1, "to_q": 2}) == [2, 4, 1]
    for pattern in ("(", "(a+)+b"):
        with refuses("alpha_pattern"):
            alphas(alpha_pattern={pattern: 1})


@pytest.mark.parametrize(
    ("part", "words"),
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
def test_parts_of_other_models_are_named(part, words):
    with refuses(words):
        convert_lora(pair(part))
    lora = convert_lora({**pair(part), **pair("x.blocks.0.self_attn.q"), **pair("x.head.head")})
    assert lora.matched == 4 and lora.unmatched == tuple(pair(part))
    assert "2 unmatched" in lora.report and words in lora.report


def test_fp8_scales_are_multiplied_in_and_a_mid_matrix_leaves_its_part_out():
    state = pair("blocks.0.self_attn.q") | pair("blocks.0.self_attn.k")
    state["blocks.0.self_attn.q.lora_A.scale_weight"] = torch.tensor(3.0)
    state["blocks.0.self_attn.k.lora_mid.weight"] = torch.ones(2, 2)
    lora = convert_lora(state)
    assert float(lora.tensors["diffusion_model.blocks.0.self_attn.q.lora_A.weight"].mean()) == 3
    assert lora.matched == 2 and not lora.others and "1 lora_mid" in lora.report


def test_magnitudes_of_dora_go_with_their_part():
    """They are the column that the host takes, or PEFT's row. The naming of diffusers hasn't them."""
    for name, shape in (("dora_scale", (8, 1)), ("lora_magnitude_vector", (8,))):
        state = pair(QUERY) | {f"{QUERY}.{name}": torch.ones(shape)}
        lora = convert_lora(state)
        assert lora.tensors["diffusion_model.blocks.0.self_attn.q.dora_scale"].shape == (8, 1)
    with refuses("DoRA"):
        convert_lora(state, to="diffusers")
    with refuses(r"dora_scale: got shape \(3, 1\)"):
        convert_lora(state | {f"{QUERY}.{name}": torch.ones(3)})


def test_lora_for_another_model_is_refused(released):
    lora = convert_lora(released)
    shapes = {
        key.removeprefix("diffusion_model.").replace(".lora_A", ""): (64, 64)
        for key in lora.tensors
        if "lora_A" in key
    }
    assert lora.check_fits(shapes) == ()
    shorter = {name: shape for name, shape in shapes.items() if name.startswith("blocks.0")}
    assert len(lora.check_fits(shorter)) == 8
    with refuses("the model of this LoRA"):
        lora.check_fits(dict.fromkeys(shapes, (128, 64)))
    with refuses("parts of the loaded model"):
        lora.check_fits({"input_blocks.0.weight": (64, 64)})


@pytest.mark.parametrize(
    "state, message",
    [  # the first of both models of Wan 2.2
        (pair(QUERY) | pair("transformer_2.blocks.0.attn1.to_q"), "transformer_2.blocks.0.attn1"),
        ({"text_model.encoder.lora_A.weight": torch.zeros(4, 8)}, "Wan transformer"),
        ({}, "Wan transformer"),
        ({f"{QUERY}.lora_A.weight": torch.zeros(4, 8)}, "without its lora_B"),
        (pair(QUERY) | {f"{QUERY}.lora_B.weight": torch.zeros(8, 3)}, "rank of the LoRA"),
        (pair("blocks.0.attn1.to_k") | {f"{QUERY}.lora_B.weight": torch.zeros(8, 4)}, "its lora_A"),
    ],
)
def test_files_that_are_no_wan_lora_are_refused(state, message):
    with refuses(message):
        convert_lora(state)


def test_whole_transformer_converts_and_comes_back(golden_weights):
    native, unmatched = convert_transformer(golden_weights)
    assert unmatched == () and len(native) == len(golden_weights)
    assert native["blocks.1.self_attn.o.weight"] is golden_weights["blocks.1.attn1.to_out.0.weight"]
    assert native["head.modulation"] is golden_weights["scale_shift_table"]
    in_a_checkpoint = {f"model.diffusion_model.{key}": tensor for key, tensor in native.items()}
    back, _ = convert_transformer(in_a_checkpoint, "diffusers")
    assert back.keys() == golden_weights.keys()


def test_a_checkpoint_of_no_transformer_is_refused():
    assert rename_parameter("blocks.0.attn3.to_q.weight") is None
    with refuses("transformer checkpoint"):
        convert_transformer({"encoder.conv.weight": torch.zeros(1)})


def test_the_tool_writes_what_the_stock_loader_takes(released, tmp_path, capsys):
    source, target = tmp_path / "released.safetensors", tmp_path / "native.safetensors"
    save_file(released, source, metadata={"format": "pt", "egox.mask_mode": "paper"})

    def refused(source, target):
        assert convert_lora_tool([str(source), str(target)]) == 1
        return capsys.readouterr().err

    assert convert_lora_tool([str(source), str(target)]) == 0
    assert "32 tensors matched, 0 unmatched" in capsys.readouterr().out
    with safe_open(target, framework="pt") as file:
        assert all(key.startswith("diffusion_model.blocks.") for key in file.keys())
        assert file.metadata()["egox.mask_mode"] == "paper"
    (tmp_path / "released.bin").write_bytes(b"")
    assert 'save_file: "released.bin"' in refused(tmp_path / "released.bin", target)
    assert ".safetensors" in refused(source, tmp_path / "native.pt")


@pytest.mark.parametrize("kind", ["LoKr", "diff beside pairs", "alone", "other adapter"])
def test_the_tool_takes_over_what_the_host_reads(tmp_path, capsys, kind):
    source, target = tmp_path / "source.safetensors", tmp_path / "native.safetensors"
    state = {
        "LoKr": {f"{QUERY}.lokr_w{n}": torch.ones(4, 4) for n in (1, 2)},
        "diff beside pairs": pair(QUERY) | {"transformer.blocks.0.norm2.diff": torch.ones(8)},
        "alone": pair(QUERY),
        "other adapter": {
            name.replace(".weight", ".hands.weight"): x for name, x in pair(QUERY).items()
        },
    }[kind]
    save_file(state, source, {"egox.exo": "alone"} if kind == "alone" else {})
    assert convert_lora_tool([str(source), str(target)]) == 0
    output, names = capsys.readouterr().out, load_file(target).keys()
    assert all(name.startswith("diffusion_model.blocks.0.") for name in names)
    assert len(names) == len(state) and "not taken over" not in output
    words = {"LoKr": "2 tensors of other kinds", "diff beside pairs": "1 tensors of other kinds"}
    words["alone"] = "trained with exo alone, which only the file's metadata say"
    assert words.get(kind, "2 tensors matched") in output


def test_the_tool_refuses_parts_of_a_transformer_and_its_own_source(
    golden_weights, tmp_path, capsys
):
    full_file, target = tmp_path / "whole.safetensors", tmp_path / "native.safetensors"
    save_file(golden_weights, full_file)
    names = list(golden_weights)
    shard, scaled = tmp_path / "shard.safetensors", tmp_path / "scaled.safetensors"
    save_file({name: golden_weights[name] for name in names[:40]}, shard)
    query = "blocks.0.attn1.to_q.weight_scale"
    save_file({**golden_weights, query: torch.ones(())}, scaled)
    for source, path, words in (
        (shard, target, "of which 40 tensors are here"),
        (scaled, target, "quantised; expected all of its weights"),
        (full_file, full_file, "whole.safetensors, which it is made of"),
    ):
        assert convert_lora_tool([str(source), str(path)]) == 1
        assert words in capsys.readouterr().err
    assert convert_lora_tool([str(full_file), str(target)]) == 0
    assert len(load_file(target)) == len(names)


RELEASED_PARTS = tuple(
    f"attn{which}.to_{matrix}" for which in (1, 2) for matrix in ("q", "k", "v", "out.0")
)


def test_the_released_files_form_at_full_size():
    """40 blocks of width 5120, rank of the authors' script, no alpha.

    Written by hand from the documented names (docs/quirks.md, LoRA key names), so that no rule of
    ours makes both."""
    state = {}
    for block, part in itertools.product(range(40), RELEASED_PARTS):
        state |= pair(f"transformer.blocks.{block}.{part}", 256, 5120, device="meta")
    lora = convert_lora(state, {"format": "pt"})
    assert (lora.matched, lora.unmatched, lora.ranks, lora.scales) == (640, (), (256,), (1.0,))
    parts = {
        f"blocks.{block}.{attention}.{matrix}"
        for block in range(40)
        for attention in ("self_attn", "cross_attn")
        for matrix in "qkvo"
    }
    assert lora.check_fits({f"{part}.weight": (5120, 5120) for part in parts}) == ()
    named = {f"diffusion_model.{part}.lora_{half}.weight" for part in parts for half in "AB"}
    assert set(lora.tensors) == named
