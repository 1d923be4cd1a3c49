"""Weight files told by their headers: true names, small shapes, no content."""

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

ITEM = {"F16": 2, "F8_E4M3": 1}
T5 = "encoder.block.{}.layer.0.SelfAttention.{}.weight"
HTML = b"\n<!DOCTYPE html><title>Access is restricted</title>" + b"x" * 400
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3355522016\n"


def put(file: Path, content: bytes | dict[str, tuple[int, ...]], dtype: str = "F16") -> Path:
    """Write these bytes, or a safetensors file of these tensors, all zero."""
    if isinstance(content, dict):
        header, end = {}, 0
        for name, shape in content.items():
            begin, end = end, end + ITEM[dtype] * math.prod(shape)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + bytes(end)
    file.write_bytes(content)
    return file


def wan(channels: int, dim: int = 8, **more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    query = {"blocks.0.self_attn.q.weight": (dim, dim)}
    patch = {"patch_embedding.weight": (dim, channels, 1, 2, 2)}
    return {"head.modulation": (1, 2, dim), **more, **patch, **query}


def lora(dim: int = 8, up: int = 4) -> dict[str, tuple[int, ...]]:
    part = "transformer.blocks.0.attn1.to_q"
    return {
        f"{part}.lora_A.weight": (4, dim),
        f"{part}.lora_B.weight": (dim, up),
    }


def umt5(*, everywhere: bool, tokenizer: bool = True) -> dict[str, tuple[int, ...]]:
    shapes = {T5.format(block, "q"): (8, 8) for block in range(2)}
    bias = {T5.format(b, "relative_attention_bias"): (32, 1) for b in range(1 + everywhere)}
    return {**shapes, **bias, **({"spiece_model": (9,)} if tokenizer else {})}


VAE21 = {"decoder.middle.0.residual.0.gamma": (8, 1, 1, 1)}
VAE22 = {**VAE21, "decoder.upsamples.0.upsamples.0.residual.2.weight": (8, 8, 3, 3, 3)}
CLIP = "vision_model.embeddings.class_embedding"


@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        (MODEL, wan(36), None),
        (MODEL, wan(36, scaled_fp8=(2,)), None),
        (MODEL, HTML, "file.safetensors' of 4.. bytes.*a web page.*in a browser"),
        (MODEL, LFS, "a Git LFS pointer.*git lfs pull"),
        (MODEL, b"", "empty.*download it again"),
        (MODEL, wan(16), r"of \d+ bytes: .*16 input channels .text-to-video.*2.1 I2V 14B 480P"),
        (MODEL, wan(48), "48 input channels .Fun Control"),
        (MODEL, wan(16, **{"vace_patch_embedding.weight": (8, 96, 1, 2, 2)}), "Wan VACE"),
        (MODEL, wan(36, **{"control_adapter.conv.weight": (8, 8)}), "Camera transformer with 36"),
        (MODEL, lora(), "a LoRA"),
        (TEXT, umt5(everywhere=True), None),
        (TEXT, umt5(everywhere=False), "t5xxl.*take umt5_xxl_fp8_e4m3fn_scaled"),
        (TEXT, umt5(everywhere=True, tokenizer=False), "without its tokenizer"),
        (TEXT, {"blocks.0.pos_embedding.embedding.weight": (32, 64)}, "WanVideoWrapper's naming"),
        (
            TEXT,
            {"model.layers.0.mlp.up_proj.weight": (8, 8)},
            "a different model, such as model.layer",
        ),
        (VAE, VAE21, None),
        (VAE, VAE22, "the Wan 2.2 5B VAE.*take wan_2.1_vae"),
        (VISION, {CLIP: (1280,)}, None),
        (VISION, {CLIP: (1024,)}, "of another width, .1024.*take clip_vision_h"),
        (VISION, wan(16, scaled_fp8=(2,)), "16 input channels .text-to-video., scaled float8"),
        (LORA, lora(), None),
        (LORA, HTML, "a web page"),
        (LORA, lora(dim=6), "size 6x6 in 'file.safetensors' of .* on 'base.safet.*expected 8x8"),
        (LORA, lora(up=3), r"rank of the LoRA: got .*A \(4, 8\), B \(8, 3\) in 'file.safetens"),
        (LORA, {"unet.down_blocks.0.attn.to_q.lora_A.weight": (4, 8)}, "of a Wan transformer"),
    ],
)
def test_a_file_is_told_by_its_header(tmp_path, place, content, words):
    file = put(tmp_path / "file.safetensors", content, "F8_E4M3")
    base = put(tmp_path / "base.safetensors", wan(36))

    def check() -> None:
        check_lora(file, base) if place == LORA else check_weights(file, place)

    if words is None:
        return check()
    with refuses(f"(?s){words}"):
        check()


def test_a_cut_file_says_how_much_belongs_to_it(tmp_path):
    content = put(tmp_path / "whole.safetensors", wan(36)).read_bytes()
    file = put(tmp_path / "cut.safetensors", content[:-20])
    with refuses(
        f"'cut.safet.* of {len(content) - 20:,} bytes.*cut off: {len(content):,} bytes belong"
    ):
        check_run_files(file)


def test_what_nobody_knows_may_pass(tmp_path):
    file = put(tmp_path / "tae.safetensors", {"decoder.22.bias": (3,)})
    check_weights(file, VAE, unknown=True)
    with refuses("of a different model, such as decoder.22.bias"):
        check_weights(file, VAE)


def whole_wan(blocks: int = 3) -> dict[str, tuple[int, ...]]:
    parts = ("self_attn.q.weight", "self_attn.q.bias", "ffn.0.weight", "modulation")
    of_blocks = {f"blocks.{n}.{part}": (8, 8) for n in range(blocks) for part in parts}
    ends = {"patch_embedding.weight": (8, 36, 1, 2, 2), "time_embedding.0.weight": (8, 8)}
    return {**ends, **of_blocks, "head.modulation": (1, 2, 8), "head.head.weight": (8, 8)}


@pytest.mark.parametrize(
    ("left", "missing"),
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
def test_a_part_of_a_model_is_not_taken_for_it(tmp_path, left, missing, prefix):
    content = {f"{prefix}{name}": shape for name, shape in whole_wan().items()}
    names = list(content)
    file = put(tmp_path / "model.safetensors", {names[n]: content[names[n]] for n in left})
    if missing is None:
        return check_weights(file, MODEL)
    words = f"a Wan transformer.*of which {len(left)} tensors are here and {missing} is not"
    with refuses(f"{words}.*Fix: give the whole model; parts of a split one work only together"):
        check_weights(file, MODEL)
