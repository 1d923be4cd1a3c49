"""Test the recognition of weight files by their headers, with true names and small shapes."""

import json
import math
from pathlib import Path

import pytest

from egox_core.wan.file_kinds import (
    check_lora,
    check_run_files,
    check_weights,
)
from tests.refusals import refuses

MODEL, TEXT, VAE, VISION, LORA = "model", "text encoder", "VAE", "CLIP vision", "LoRA"

BYTES_PER_ITEM = {"F16": 2, "F8_E4M3": 1}
T5_NAME = "encoder.block.{}.layer.0.SelfAttention.{}.weight"
WEB_PAGE = b"\n<!DOCTYPE html><title>Access is restricted</title>" + b"x" * 400
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3355522016\n"


def write_weights(
    file: Path, content: bytes | dict[str, tuple[int, ...]], dtype: str = "F16"
) -> Path:
    """Write a weight file from bytes, or from names and shapes of zero tensors."""
    if isinstance(content, dict):
        header = {}
        end_byte = 0
        for name, shape in content.items():
            begin_byte = end_byte
            end_byte = end_byte + BYTES_PER_ITEM[dtype] * math.prod(shape)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin_byte, end_byte]}
        header_bytes = json.dumps(header).encode()
        content = len(header_bytes).to_bytes(8, "little") + header_bytes + bytes(end_byte)
    file.write_bytes(content)
    return file


def wan_shapes(
    channels: int, width: int = 8, **more_shapes: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    query_shapes = {"blocks.0.self_attn.q.weight": (width, width)}
    patch_shapes = {"patch_embedding.weight": (width, channels, 1, 2, 2)}
    return {"head.modulation": (1, 2, width), **more_shapes, **patch_shapes, **query_shapes}


def lora_shapes(width: int = 8) -> dict[str, tuple[int, ...]]:
    layer_name = "transformer.blocks.0.attn1.to_q"
    return {
        f"{layer_name}.lora_A.weight": (4, width),
        f"{layer_name}.lora_B.weight": (width, 4),
    }


def umt5_shapes(*, in_every_block: bool, has_tokenizer: bool = True) -> dict[str, tuple[int, ...]]:
    shapes = {T5_NAME.format(block, "q"): (8, 8) for block in range(2)}
    bias_shapes = {
        T5_NAME.format(b, "relative_attention_bias"): (32, 1) for b in range(1 + in_every_block)
    }
    return {**shapes, **bias_shapes, **({"spiece_model": (9,)} if has_tokenizer else {})}


VAE21_SHAPES = {"decoder.middle.0.residual.0.gamma": (8, 1, 1, 1)}
VAE22_SHAPES = {
    **VAE21_SHAPES,
    "decoder.upsamples.0.upsamples.0.residual.2.weight": (8, 8, 3, 3, 3),
}
CLIP_NAME = "vision_model.embeddings.class_embedding"


@pytest.mark.parametrize(
    ("expected_kind", "content", "message_pattern"),
    [
        (MODEL, wan_shapes(36), None),
        (MODEL, wan_shapes(36, scaled_fp8=(2,)), None),
        (MODEL, WEB_PAGE, "file.safetensors' of 4.. bytes.*a web page.*in a browser"),
        (MODEL, LFS_POINTER, "a Git LFS pointer.*git lfs pull"),
        (MODEL, b"", "empty.*download it again"),
        (
            MODEL,
            wan_shapes(16),
            r"of \d+ bytes: .*16 input channels .text-to-video.*2.1 I2V 14B 480P",
        ),
        (MODEL, wan_shapes(48), "48 input channels .Fun Control"),
        (MODEL, wan_shapes(16, **{"vace_patch_embedding.weight": (8, 96, 1, 2, 2)}), "Wan VACE"),
        (
            MODEL,
            wan_shapes(36, **{"control_adapter.conv.weight": (8, 8)}),
            "Camera transformer with 36",
        ),
        (MODEL, lora_shapes(), "a LoRA"),
        (TEXT, umt5_shapes(in_every_block=True), None),
        (TEXT, umt5_shapes(in_every_block=False), "t5xxl.*take umt5_xxl_fp8_e4m3fn_scaled"),
        (TEXT, umt5_shapes(in_every_block=True, has_tokenizer=False), "without its tokenizer"),
        (TEXT, {"blocks.0.pos_embedding.embedding.weight": (32, 64)}, "WanVideoWrapper's naming"),
        (
            TEXT,
            {"model.layers.0.mlp.up_proj.weight": (8, 8)},
            "a different model, such as model.layer",
        ),
        (VAE, VAE21_SHAPES, None),
        (VAE, VAE22_SHAPES, "the Wan 2.2 5B VAE.*take wan_2.1_vae"),
        (VISION, {CLIP_NAME: (1280,)}, None),
        (VISION, {CLIP_NAME: (1024,)}, "of another width, .1024.*take clip_vision_h"),
        (
            VISION,
            wan_shapes(16, scaled_fp8=(2,)),
            "16 input channels .text-to-video., scaled float8",
        ),
        (LORA, lora_shapes(), None),
        (
            LORA,
            lora_shapes(width=6),
            "size 6x6 in 'file.safetensors' of .* on 'base.safet.*expected 8x8",
        ),
    ],
)
def test_weight_files_are_recognised_by_their_headers(
    tmp_path, expected_kind, content, message_pattern
):
    weight_file = write_weights(tmp_path / "file.safetensors", content, "F8_E4M3")
    base_model_file = write_weights(tmp_path / "base.safetensors", wan_shapes(36))

    def check() -> None:
        check_lora(weight_file, base_model_file) if expected_kind == LORA else check_weights(
            weight_file, expected_kind
        )

    if message_pattern is None:
        return check()
    with refuses(f"(?s){message_pattern}"):
        check()


def test_truncated_file_is_refused_with_its_full_size(tmp_path):
    weight_bytes = write_weights(tmp_path / "whole.safetensors", wan_shapes(36)).read_bytes()
    truncated_file = write_weights(tmp_path / "cut.safetensors", weight_bytes[:-20])
    with refuses(
        f"'cut.safet.* of {len(weight_bytes) - 20:,} bytes.*cut off: {len(weight_bytes):,} "
        "bytes belong"
    ):
        check_run_files(truncated_file)


def test_unknown_weights_pass_if_allowed(tmp_path):
    weight_file = write_weights(tmp_path / "tae.safetensors", {"decoder.22.bias": (3,)})
    check_weights(weight_file, VAE, unknown=True)
    with refuses("of a different model, such as decoder.22.bias"):
        check_weights(weight_file, VAE)


def full_wan_shapes(blocks: int = 3) -> dict[str, tuple[int, ...]]:
    part_names = ("self_attn.q.weight", "self_attn.q.bias", "ffn.0.weight", "modulation")
    block_shapes = {f"blocks.{n}.{part}": (8, 8) for n in range(blocks) for part in part_names}
    outer_shapes = {"patch_embedding.weight": (8, 36, 1, 2, 2), "time_embedding.0.weight": (8, 8)}
    return {
        **outer_shapes,
        **block_shapes,
        "head.modulation": (1, 2, 8),
        "head.head.weight": (8, 8),
    }


@pytest.mark.parametrize(
    ("present_tensors", "missing_name"),
    [
        (range(16), None),
        (range(7), "blocks.1.ffn.0.weight"),
        (range(10), "head.modulation"),
        (range(2, 14), "patch_embedding.weight"),
        (range(6, 14), "blocks.0.ffn.0.weight"),
        (range(10, 16), "blocks.0.ffn.0.weight"),
        ([*range(6), *range(10, 16)], "blocks.1.ffn.0.weight"),
        ([*range(4), *range(5, 16)], "blocks.0.ffn.0.weight"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_part_of_a_split_model_is_refused(tmp_path, present_tensors, missing_name, prefix):
    model_shapes = {f"{prefix}{name}": shape for name, shape in full_wan_shapes().items()}
    tensor_names = list(model_shapes)
    weight_file = write_weights(
        tmp_path / "model.safetensors",
        {tensor_names[n]: model_shapes[tensor_names[n]] for n in present_tensors},
    )
    if missing_name is None:
        return check_weights(weight_file, MODEL)
    message_pattern = (
        f"a Wan transformer.*of which {len(present_tensors)} tensors are here and {missing_name} "
        "is not"
    )
    with refuses(
        f"{message_pattern}.*Fix: give the whole model; parts of a split one work only together"
    ):
        check_weights(weight_file, MODEL)
