"""Test the names and scales of LoRA tensors, and the kinds of files that are refused."""

import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.wan import check_lora, convert_lora, read_header, weight_file
from egox_core.wan.lora_conversion import REFUSED
from egox_core.wan.lora_keys import BLOCK_PARTS, PRODUCTS
from tests.refusals import refuses
from tools.convert_lora import main as convert_lora_tool

QUERY = "transformer.blocks.0.attn1.to_q"
KEY = "transformer.blocks.0.attn1.to_k"
NATIVE_QUERY = "diffusion_model.blocks.0.self_attn.q"


@pytest.fixture(scope="module")
def released_lora(repo_root):
    golden_tensors = load_file(repo_root / "tests/golden/tiny_lora.safetensors")
    return {
        key.removeprefix("r4a4.file."): tensor
        for key, tensor in golden_tensors.items()
        if key.startswith("r4a4.file.")
    }


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


def as_json(prefix: str = "", **settings) -> str:
    return json.dumps({prefix + name: value for name, value in settings.items()})


PEFT = "lora_adapter_metadata"
RANKS = {"r": 4, "rank_pattern": {"to_k": 2}}


@pytest.mark.parametrize(
    ("metadata", "beside", "scales"),
    [  # of rank 4 for the query and 2 for the key
        ({}, None, (1, 1)),
        ({PEFT: "not json, lora_alpha"}, None, (1, 1)),
        ({PEFT: as_json("transformer.", lora_alpha=16, **RANKS)}, None, (4, 8)),
        ({PEFT: as_json("text_encoder.", lora_alpha=16, r=4)}, None, (1, 1)),
        ({"config": as_json(lora_alpha=16, r=4, use_rslora=True)}, None, (8, 8)),
        ({"lora_alpha": "16", "r": "4"}, None, (4, 4)),
        ({"lora_alpha": "2", "use_rslora": "False"}, None, (0.5, 1)),
        ({"lora_alpha": "none"}, None, (1, 1)),
        ({"lora_alpha": "inf"}, None, (1, 1)),
        ({"egox.config": as_json(lora={"alpha": 16}), "egox.alpha": "16"}, None, (1, 1)),
        ({PEFT: as_json(lora_alpha=4, alpha_pattern={"^blocks.0.attn1.to_q": 12})}, None, (3, 2)),
        (
            {PEFT: as_json(lora_alpha=4, alpha_pattern={r"blocks\.\d\.attn1\.to_k": 1, "to_k": 2})},
            None,
            (1, 0.5),
        ),
        ({PEFT: as_json(lora_alpha=4, alpha_pattern={"(": 1})}, None, "alpha_pattern: got"),
        ({PEFT: as_json(lora_alpha=4, alpha_pattern={"(a+)+b": 1})}, None, "alpha_pattern: got"),
        ({"lora_alpha": "4"}, as_json(lora_alpha=16, **RANKS), (4, 8)),
        ({}, "{", "adapter_config.json"),
    ],
)
def test_alpha_comes_from_the_file_or_from_pefts_settings(tmp_path, metadata, beside, scales):
    """Check each place and form of the settings, before the run and with the file's values."""
    lora_file = tmp_path / "adapter_model.safetensors"
    tensors = lora_pair(QUERY, 4) | lora_pair(KEY, 2)
    save_file(tensors, lora_file, metadata)
    if beside is not None:
        (tmp_path / "adapter_config.json").write_text(beside, "utf-8")
    for values in (True, False):
        if isinstance(scales, str):
            with refuses(scales):
                weight_file(lora_file, "LoRA").lora(values=values)
            continue
        lora = weight_file(lora_file, "LoRA").lora(values=values)
        assert (lora.scale_of(NATIVE_QUERY), lora.scale_of(NATIVE_QUERY[:-1] + "k")) == scales
    if scales == (4, 8):
        save_file({**tensors, f"{QUERY}.alpha": torch.tensor(2.0)}, lora_file, metadata)
        assert weight_file(lora_file, "LoRA").lora(values=False).scales == (8, 0.5)
        own_name = lora_file.rename(tmp_path / "mine.safetensors")
        assert weight_file(own_name, "LoRA").lora().scale_of(NATIVE_QUERY[:-1] + "k") != 4


def test_a_peft_file_without_its_settings_is_warned_of():
    peft_pair = lora_pair("base_model.model.blocks.0.self_attn.q")
    alpha = {"base_model.model.blocks.0.self_attn.q.alpha": torch.tensor(1.0)}
    assert "warning: alpha is not known" in convert_lora(peft_pair).report
    for tensors in ({**peft_pair, **alpha}, {**peft_pair, **lora_pair(KEY)}):
        assert "warning" not in convert_lora(tensors).report


NAN_PAIR = lora_pair(QUERY) | {f"{QUERY}.lora_B.weight": torch.full((8, 2), math.nan)}
PRODUCT_NAMES = {
    "LoKr": ("lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_t2"),
    "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "OFT or BOFT": ("oft_blocks", "rescale", "alpha"),
    "GLoRA": ("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
    "set of whole differences": ("diff", "diff_b"),
}
OTHER_MODELS = {
    "vace.blocks.0.self_attn.q": "Wan VACE",
    "diffusion_model.vace_blocks.0.self_attn.q": "Wan VACE",
    "face_adapter.fuser_blocks.0.linear1_q": "Wan Animate",
    "controlnet.blocks.0.attn1.to_q": "a control model",
    "lora_unet_double_blocks_0_img_attn_qkv": "FLUX",
    "lora_te_blocks_0_self_attn_q": "a text encoder",
    "lora_unet_down_blocks_0_attentions_0_proj_in": "a U-Net",
    "vae.decoder": "a VAE",
}
REFUSALS = [
    ("DoRA", lora_pair(QUERY) | {f"{QUERY}.dora_scale": torch.ones(8)}, f"DoRA .{QUERY}"),
    ("two models", lora_pair(QUERY) | lora_pair("transformer_2" + QUERY[11:]), "transformer_2.blo"),
    *(
        (kind, {f"{layer}.{end}": torch.ones(4, 4) for end in ends}, f"{len(ends)} .* {product}")
        for product, ends in PRODUCT_NAMES.items()
        for kind, layer in (
            ("product of the host's", "lora_unet_blocks_0_self_attn_k"),
            ("product of the host's", "diffusion_model.blocks.3.ffn.0"),
            ("product", "lycoris_blocks_0_attn1_to_k"),
        )
    ),
    ("unknown kind", {f"{NATIVE_QUERY}.vera_b": torch.ones(2)}, "such as vera_b of diffusion_m"),
    ("other model", {f"{NATIVE_QUERY}.weight": torch.ones(2)}, "1 tensors: 1 q "),
    ("other model", {}, "0 tensors: none"),
    *(("other model", lora_pair(layer), f"2 of {name}") for layer, name in OTHER_MODELS.items()),
    ("half a pair", {f"{QUERY}.lora_A.weight": torch.ones(4, 8)}, "lora_A without its lora_B"),
    (
        "half a pair",
        lora_pair(KEY) | {f"{QUERY}.lora_B.weight": torch.ones(8, 4)},
        "lora_B without its lora_A",
    ),
    *(
        ("ranks", lora_pair(QUERY) | {f"{QUERY}.lora_{half}.weight": torch.ones(shape)}, "q: A .*B")
        for half, shape in (("B", (8, 3)), ("A", (8,)), ("B", (8,)))
    ),
    ("ranks", lora_pair(QUERY, 0), r"A \(0, 8\)"),
    ("counts", lora_pair(QUERY) | {f"{QUERY}.alpha": torch.ones(2)}, r"q.alpha of shape \(2,\)"),
    ("counts", lora_pair(QUERY) | {f"{QUERY}.dora_scale": torch.ones(3)}, "dora_scale of shape"),
    ("whole numbers", lora_pair(QUERY, dtype=torch.int8), "to_q|self_attn.q in torch.int8"),
    ("not finite", NAN_PAIR, "NaN or infinity in 1 of 2 tensors, such as .*B.weight"),
]


@pytest.mark.parametrize(("kind", "state", "fact"), REFUSALS)
def test_files_that_are_no_usable_lora_are_refused(tmp_path, kind, state, fact):
    """Check each kind of refusal by its tensors, and by the header of its file."""
    expected, fix = REFUSED[kind]
    with refuses(f"(?s)LoRA file: got .*{fact}.*; expected ") as error:
        convert_lora(state, to="diffusers" if kind == "DoRA" else "native")
    assert (error.value.expected, error.value.fix) == (expected, fix)
    if kind not in ("DoRA", "not finite"):  # which a header doesn't show, or a host takes
        save_file(state, tmp_path / "it.safetensors")
        with refuses(f"(?s){fact}.* in 'it.safetensors' of .* bytes: "):
            check_lora(tmp_path / "it.safetensors")


def test_each_kind_of_refusal_is_tested():
    assert {kind for kind, *_ in REFUSALS} == REFUSED.keys()
    assert PRODUCT_NAMES.keys() == PRODUCTS.keys()


@pytest.mark.parametrize(
    ("added_tensors", "report"),
    [
        (lora_pair("vace.blocks.0.self_attn.q"), "2 unmatched.* not used: 2 of Wan VACE"),
        ({f"{KEY}.lokr_w1": torch.ones(2, 2)}, "1 lokr_w1"),
        (lora_pair(KEY) | {f"{KEY}.lora_mid.weight": torch.ones(2, 2)}, "1 lora_mid"),
    ],
)
def test_parts_beside_a_lora_are_left_out_and_named(added_tensors, report):
    lora = convert_lora({**added_tensors, **lora_pair(QUERY), **lora_pair("transformer.proj_out")})
    assert lora.matched == 4 == len(lora.tensors)
    assert lora.unmatched == tuple(added_tensors)
    assert len(lora.others) == (0 if "mid" in report else len(added_tensors))
    assert re.search(report, lora.report)


def test_fp8_scales_are_multiplied_in_and_magnitudes_are_columns():
    for name, shape in (("dora_scale", (6, 1)), ("lora_magnitude_vector", (6,))):
        lora = convert_lora(
            lora_pair(QUERY)
            | {f"{QUERY}.{name}": torch.ones(shape), f"{QUERY}.lora_B.weight": torch.ones(6, 2)}
            | {f"{QUERY}.lora_A.scale_weight": torch.tensor(3.0)}
            | {f"{QUERY}.lora_B.weight_scale": torch.arange(6.0)}
        )
        assert lora.tensors[f"{NATIVE_QUERY}.dora_scale"].shape == (6, 1)
        assert float(lora.tensors[f"{NATIVE_QUERY}.lora_A.weight"].mean()) == 3
        assert lora.tensors[f"{NATIVE_QUERY}.lora_B.weight"][:, 0].tolist() == [*range(6)]
        assert not lora.unmatched
    with refuses(r"lora_A.weight quantised to torch.float32, scales \(3,\)"):
        convert_lora(lora_pair(QUERY) | {f"{QUERY}.lora_A.scale_weight": torch.ones(3)})


def test_a_lora_whose_changes_are_all_zero_is_warned_of():
    zero_up = torch.zeros(8, 2).to(torch.float8_e4m3fn)
    zero_lora = lora_pair(QUERY) | {f"{QUERY}.lora_B.weight": zero_up}
    zero_alpha = lora_pair(QUERY) | {f"{QUERY}.alpha": torch.tensor(0.0)}
    for state in (zero_lora, zero_alpha):
        assert "warning: all of its changes are 0" in convert_lora(state).report
        for more in (
            lora_pair(KEY),
            {f"{QUERY}.dora_scale": torch.ones(8, 1)},
            {"transformer.blocks.0.norm2.diff": torch.ones(8)},
        ):
            assert "warning" not in convert_lora({**state, **more}).report


def test_lora_for_another_model_is_refused(released_lora):
    lora = convert_lora(released_lora)
    model_shapes = {
        f"{part.removeprefix('diffusion_model.')}.weight": (64, 64) for part in lora.parts
    }
    assert lora.check_fits(model_shapes) == ()
    one_block_shapes = {k: v for k, v in model_shapes.items() if k.startswith("blocks.0")}
    assert len(lora.check_fits(one_block_shapes)) == 8
    assert "8 parts are not in this model, such as blocks.1." in lora.report_on(
        one_block_shapes, ""
    )
    for shapes, fix in (
        (dict.fromkeys(model_shapes, (128, 64)), "64x64; expected 128x64.*the model of this LoRA"),
        ({"input_blocks.0.weight": (64, 64)}, "expected parts of the loaded model"),
    ):
        with refuses(fix):
            lora.check_fits(shapes)


DIFFERENCE = {"transformer.blocks.0.norm2.diff": torch.ones(8)}


@pytest.mark.parametrize(
    ("tensors", "metadata", "printed_text"),
    [
        (lora_pair(QUERY), {"egox.exo": "alone"}, "2 tensors matched.*trained with exo alone, wh"),
        (
            {k.replace(".weight", ".hands.weight"): v for k, v in lora_pair(QUERY).items()},
            {},
            "2 tensors mat",
        ),
        ({f"{QUERY}.lokr_w{n}": torch.ones(4, 4) for n in (1, 2)}, {}, "2 tensors of other kinds"),
        (lora_pair(QUERY) | DIFFERENCE, {}, "2 tensors matched.*1 tensors of other kinds"),
    ],
)
def test_convert_lora_command_writes_native_names(
    tmp_path, capsys, tensors, metadata, printed_text
):
    lora_file, native_file = tmp_path / "source.safetensors", tmp_path / "native.safetensors"
    save_file(tensors, lora_file, metadata)
    assert convert_lora_tool([str(lora_file), str(native_file)]) == 0
    text = capsys.readouterr().out
    native_tensors = load_file(native_file)
    assert len(native_tensors) == len(tensors)
    assert all(name.startswith("diffusion_model.blocks.0.") for name in native_tensors)
    assert {**read_header(native_file, "LoRA")["__metadata__"]} == {"format": "pt", **metadata}
    assert "not taken over" not in text
    assert re.search(printed_text, text)


def test_convert_lora_command_writes_whole_transformers(repo_root, tmp_path, capsys):
    weights = load_file(repo_root / "tests/golden/tiny_transformer.safetensors")
    weights = {k.removeprefix("weights."): v for k, v in weights.items() if k[:8] == "weights."}
    source_file, target_file = tmp_path / "whole.safetensors", tmp_path / "native.safetensors"
    save_file(weights, source_file)
    assert convert_lora_tool([str(source_file), str(target_file)]) == 0
    assert len(load_file(target_file)) == len(weights)
    for tensors, target, expected_text in (
        (dict([*weights.items()][:40]), target_file, "of which 40 tensors are here"),
        (
            {**weights, "blocks.0.attn1.to_q.weight_scale": torch.ones(())},
            target_file,
            "quantised; expected all of its weights",
        ),
        (weights, source_file, "whole.safetensors, which it is made of"),
        (weights, tmp_path / "native.pt", "use native.safetensors"),
    ):
        save_file(tensors, source_file)
        assert convert_lora_tool([str(source_file), str(target)]) == 1
        assert expected_text in capsys.readouterr().err
