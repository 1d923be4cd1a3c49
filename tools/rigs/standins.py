"""Make the stand-in models: tiny models with random weights in the real files' form.

They exist so that the whole graph can run where the real 14B weights can't be had; the code path is
the same, the pictures are noise. The committed ones (``models/``) are remade with equal tensors by
this script:

    python3 run.py make standins                     # the three that ship, into models/
    python3 run.py make standins --all --out DIR    # those and the forms that only tests read
"""

import argparse
import io
import json
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tools.setup.layout import REPO_ROOT

from .standin_shapes import (
    WAN21_FUN_CONTROL,
    WAN21_I2V,
    WAN21_VACE,
    WAN22_I2V,
    Shapes,
    TransformerForm,
    clip_vision_shapes,
    lora_shapes,
    transformer_shapes,
    umt5_shapes,
    vae_shapes,
)

SEED = 20
LORA_RANK = 4
VAE_DIM = 4

SHIPPED = {
    "transformer": Path("diffusion_models/egox_standin_wan22_i2v.safetensors"),
    "vae": Path("vae/egox_standin_wan_vae.safetensors"),
    "lora": Path("loras/egox_standin_lora_wan22.safetensors"),
}
TESTS_ONLY = {
    "transformer_img_emb": Path("diffusion_models/egox_standin_wan21_i2v.safetensors"),
    "vace": Path("diffusion_models/egox_standin_wan21_vace.safetensors"),
    "fun_control": Path("diffusion_models/egox_standin_wan21_fun_control.safetensors"),
    "lora_img_emb": Path("loras/egox_standin_lora_wan21.safetensors"),
    "text": Path("text_encoders/egox_standin_umt5.safetensors"),
    "clip_vision": Path("clip_vision/egox_standin_clip_vision.safetensors"),
}

LETTERS = " ".join(chr(i) for i in range(33, 127))
UMT5_CONFIG = {"num_layers": 1, "d_ff": 64, "num_heads": 1, "d_kv": 64, "vocab_size": 128}
"""Changes of ComfyUI's T5-XXL configuration with which a loader reads the stand-in text encoder."""

CLIP_VISION_CONFIG = {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 224,
    "intermediate_size": 64,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 14,
    "projection_dim": 1024,
}
"""Configuration of the picture encoder, in the form of ComfyUI's ClipVisionModel."""


NOTE = {"note": "EgoX stand-in: random weights, for tests and the demo only"}


def draw_tensor(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Draw one seeded tensor: unit gain for weights, ones for norm scales, small biases.

    It uses numpy's legacy generator, whose numbers never change, and a separate stream for each
    name, so that a further tensor doesn't change the others."""
    random_state = np.random.RandomState((seed * 1_000_003 + zlib.crc32(name.encode())) % 2**32)
    noise = torch.from_numpy(random_state.standard_normal(shape)).float()
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return torch.ones(shape)
    if name.endswith(("img_emb.proj.0.weight", "img_emb.proj.4.weight")):
        return torch.ones(shape)
    if name.endswith("bias") and len(shape) == 1:
        return 0.02 * noise
    if "modulation" in name:
        return noise / math.sqrt(shape[-1])
    return noise / math.sqrt(max(1, math.prod(shape[1:])))


def draw_tensors(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Draw seeded tensors for a table of shapes."""
    return {
        name: draw_tensor(name, shape, seed).to(torch.float16).contiguous()
        for name, shape in shapes.items()
    }


def config_metadata(config: dict[str, object]) -> dict[str, str]:
    """Build the metadata with a model's configuration for its loader."""
    return {**NOTE, "config": json.dumps(config)}


def make_transformer(
    form: TransformerForm, seed: int = SEED
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Make a small transformer's tensors and metadata."""
    config_changes = {}
    if form.heads != form.dim // 128:
        config_changes["num_heads"] = form.heads
    if form.text_dim != 4096:
        config_changes["text_dim"] = form.text_dim
    return draw_tensors(transformer_shapes(form), seed), config_metadata(
        {"transformer": config_changes}
    ) if config_changes else NOTE


def train_tokenizer(sentences: Sequence[str] = (LETTERS, LETTERS), **options: Any) -> torch.Tensor:
    """Train a small sentencepiece tokenizer with umT5's special ids.

    Its pieces are single characters unless the trainer's options say otherwise."""
    import sentencepiece  # a requirement of the host; only --all comes here

    model_stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model_stream,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        **{"model_type": "char", "vocab_size": UMT5_CONFIG["vocab_size"], **options},
    )
    return torch.from_numpy(np.frombuffer(model_stream.getvalue(), dtype=np.uint8).copy())


def save_standin(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Save one file and print its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path), metadata=metadata or NOTE)
    print(f"{path}  {path.stat().st_size / 1e6:.2f} MB (stand-in)")


def make_shipped(out: Path, seed: int = SEED) -> None:
    """Make the three files that the demo's workflow reads."""
    save_standin(out / SHIPPED["transformer"], *make_transformer(WAN22_I2V, seed))
    save_standin(out / SHIPPED["vae"], draw_tensors(vae_shapes(VAE_DIM), seed))
    save_standin(
        out / SHIPPED["lora"],
        draw_tensors(lora_shapes(WAN22_I2V, LORA_RANK), seed),
        {"format": "pt"},
    )


def make_tests_only(out: Path, seed: int = SEED) -> None:
    """Make the small models that only tests read."""
    save_standin(out / TESTS_ONLY["transformer_img_emb"], *make_transformer(WAN21_I2V, seed + 1))
    save_standin(out / TESTS_ONLY["vace"], *make_transformer(WAN21_VACE, seed + 2))
    save_standin(out / TESTS_ONLY["fun_control"], *make_transformer(WAN21_FUN_CONTROL, seed + 3))
    lora_tensors = draw_tensors(lora_shapes(WAN21_I2V, LORA_RANK), seed + 1)
    save_standin(out / TESTS_ONLY["lora_img_emb"], lora_tensors, {"format": "pt"})
    text_tensors = draw_tensors(umt5_shapes(UMT5_CONFIG), seed)
    text_tensors["spiece_model"] = train_tokenizer()
    save_standin(out / TESTS_ONLY["text"], text_tensors, config_metadata(UMT5_CONFIG))
    save_standin(
        out / TESTS_ONLY["clip_vision"],
        draw_tensors(clip_vision_shapes(CLIP_VISION_CONFIG), seed),
        config_metadata(CLIP_VISION_CONFIG),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run.py make standins",
        description="Make the EgoX stand-in models (random weights, seeded).",
    )
    parser.add_argument(
        "--out", type=Path, default=REPO_ROOT / "models", help="the models folder to write into"
    )
    parser.add_argument("--all", action="store_true", help="also the files that only tests read")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(argv)
    make_shipped(options.out, options.seed)
    if options.all:
        make_tests_only(options.out, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
