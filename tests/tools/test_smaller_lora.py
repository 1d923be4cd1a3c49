"""Test the command that reduces a LoRA's rank and precision."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.wan import read_header
from tests.refusals import refuses
from tools.convert_lora import SmallerLora, main

WIDTH, RANK = 96, 24
PARTS = tuple(
    f"blocks.{block}.{part}"
    for block in range(2)
    for part in ("self_attn.q", "self_attn.o", "cross_attn.v", "ffn.0", "ffn.2")
)


@pytest.fixture
def source(tmp_path):
    """Write a LoRA of ten layers whose singular values decrease at different rates."""
    generator = torch.Generator().manual_seed(11)
    lora_tensors = {}
    for number, layer_name in enumerate(PARTS):
        singular_value_scale = torch.arange(1, RANK + 1) ** -(0.3 + 0.2 * number)
        down_matrix = torch.randn(RANK, WIDTH, generator=generator)
        lora_tensors |= {
            f"diffusion_model.{layer_name}.lora_A.weight": down_matrix,
            f"diffusion_model.{layer_name}.lora_B.weight": torch.randn(
                WIDTH, RANK, generator=generator
            )
            * singular_value_scale,
            f"diffusion_model.{layer_name}.alpha": torch.tensor(2.0 * RANK),
        }
    metadata = {
        "egox.rank": str(RANK),
        "egox.alpha": str(2 * RANK),
        "egox.lambda_g": "2",
        "egox.rays": "exact",
        "lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 1}),
    }
    save_file(lora_tensors, tmp_path / "whole.safetensors", metadata)
    return tmp_path / "whole.safetensors"


def smaller(source, *options):
    reduced_file = source.with_name("smaller.safetensors")
    assert main([str(source), str(reduced_file), *options]) == 0
    return reduced_file


def products(file) -> dict[str, torch.Tensor]:
    """Compute each LoRA layer's product (alpha / rank) B A in float64."""
    lora_tensors = load_file(file)
    products_by_part = {}
    for name in (n for n in lora_tensors if n.endswith("lora_A.weight")):
        layer_name = name.removesuffix(".lora_A.weight")
        down_matrix, up_matrix = (
            lora_tensors[f"{layer_name}.lora_{factor_name}.weight"].double() for factor_name in "AB"
        )
        lora_scale = float(lora_tensors.get(f"{layer_name}.alpha", len(down_matrix))) / len(
            down_matrix
        )
        products_by_part[layer_name] = lora_scale * (up_matrix.flatten(1) @ down_matrix.flatten(1))
    return products_by_part


def relative_errors(file, full_products) -> dict[str, float]:
    """Compute each layer's squared error relative to the squared norm of its original product."""
    file_products = products(file)
    return {
        p: float((file_products[p] - x).square().sum() / x.square().sum())
        for p, x in full_products.items()
    }


@pytest.mark.parametrize("energy", [0.9, 0.99, 0.999])
def test_each_layer_keeps_the_requested_energy_at_the_least_rank(source, energy, capsys):
    file = smaller(source, "--energy", str(energy))
    lora_tensors, source_products = load_file(file), products(source)
    for layer_name, share in relative_errors(file, source_products).items():
        squares = torch.linalg.svdvals(source_products[layer_name]).square()
        lost_energy = 1 - squares.cumsum(0) / squares.sum()
        rank = len(lora_tensors[f"{layer_name}.lora_A.weight"])
        assert (
            share == pytest.approx(float(lost_energy[rank - 1]), abs=1e-6)
            and share <= 1 - energy + 1e-6
        )
        assert rank == 1 or lost_energy[rank - 2] > 1 - energy
        assert float(lora_tensors[f"{layer_name}.alpha"]) == rank
    output = capsys.readouterr().out
    assert "self_attn.q: 2 matrices, rank " in output
    assert "median" in output


def test_float16_halves_the_file_with_small_errors(source):
    file = smaller(source, "--dtype", "float16")
    assert file.stat().st_size < 0.55 * source.stat().st_size
    assert max(relative_errors(file, products(source)).values()) ** 0.5 < 5e-4


def test_training_metadata_is_kept_except_the_rank(source):
    metadata = read_header(smaller(source, "--rank", "5"), "LoRA")["__metadata__"]
    assert metadata["egox.lambda_g"] == "2"
    assert metadata["egox.rays"] == "exact"
    assert metadata["egox.rank"] == metadata["egox.alpha"] == "5"
    assert "lora_adapter_metadata" not in metadata


def test_diffusers_peft_and_the_trainer_read_the_same_products(source):
    """Check that three readers agree on a reduced LoRA."""
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    from egox_train.train.export import export
    from egox_train.train.lora import read_lora

    file = smaller(source, "--energy", "0.95", "--to", "diffusers")
    file_products = products(file)
    ranks = {p: len(x) for p, x in load_file(file).items() if p.endswith("lora_A.weight")}
    assert len(set(ranks.values())) > 3
    sizes = {"num_attention_heads": 2, "attention_head_dim": 48, "ffn_dim": 96, "num_layers": 2}
    model = diffusers.WanTransformer3DModel(text_dim=8, **sizes)
    weights_before = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_lora_adapter(load_file(file), prefix="transformer")
    model.fuse_lora()
    weights_after = model.state_dict()
    for layer_name, product in file_products.items():
        name = layer_name.removeprefix("transformer.")
        weight_change = (
            weights_after[f"{name}.base_layer.weight"] - weights_before[f"{name}.weight"]
        )
        torch.testing.assert_close(weight_change.double(), product, atol=1e-5, rtol=1e-4)
    tensors, _ = read_lora(file)
    native_file = source.with_name("native.safetensors")
    export(file, native_file, "native")
    for product in products(native_file).values():
        matching_name = next(
            p for p in file_products if torch.allclose(file_products[p], product, atol=1e-5)
        )
        name = matching_name.removeprefix("transformer.")
        trainer_product = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        torch.testing.assert_close(trainer_product.double(), product, atol=1e-5, rtol=1e-4)


Q = "diffusion_model.blocks.0.self_attn.q"


@pytest.mark.parametrize(
    ("added_tensors", "message_pattern"),
    [
        ({f"{Q}.dora_scale": torch.ones(WIDTH, 1)}, "with a DoRA"),
        ({"diffusion_model.blocks.9.ffn.0.lokr_w1": torch.ones(2, 2)}, "with a LoKr"),
        ({f"{Q}.lora_A.scale_weight": torch.ones(1)}, "scaled float8.*convert it without"),
        ({f"{Q}.lora_A.weight": torch.full((RANK, WIDTH), torch.nan)}, "NaN or infinity"),
        ({f"{Q}.lora_A.weight": torch.full((RANK, WIDTH), 1e6)}, "--dtype bfloat16"),
    ],
)
def test_unsupported_layers_are_refused(source, added_tensors, message_pattern):
    save_file({**load_file(source), **added_tensors}, source)
    with refuses(message_pattern):
        SmallerLora(source, "native", torch.float16, None, None).write(
            source.with_name("out.safetensors"), lambda message_pattern: None
        )
    assert not source.with_name("out.safetensors").exists()


@pytest.mark.parametrize("options", [["--energy", "1.5"], ["--rank", "0"], ["--energy", "99"]])
def test_out_of_range_options_are_refused(source, options, capsys):
    with pytest.raises(SystemExit):
        main([str(source), "out.safetensors", *options])
    assert "expected" in capsys.readouterr().err
