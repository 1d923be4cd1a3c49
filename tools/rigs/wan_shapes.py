"""Build the full-size Wan transformer without weights, for shapes and operation counts."""

from collections.abc import Mapping
from typing import Any

import torch

from egox_core.frozen import frozen
from egox_core.sizes import PIXEL_STEP, REFERENCE_EXO_SIZE, REFERENCE_SIZE, latent_frames

SIZES: Mapping[str, Mapping[str, int]] = {
    "14b": {
        "dim": 5120,
        "num_heads": 40,
        "num_layers": 40,
        "ffn_dim": 13824,
        "freq_dim": 256,
        "text_dim": 4096,
    },
    "small": {
        "dim": 256,
        "num_heads": 2,
        "num_layers": 2,
        "ffn_dim": 512,
        "freq_dim": 64,
        "text_dim": 128,
    },
}
"""Sizes of Wan 2.1 I2V 14B, and of a small model with heads of 128 for machines without a GPU."""


@frozen
class ClipSize:
    """Hold the size of a clip in frames and px."""

    frames: int
    exo_width: int
    height: int
    ego_width: int

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Count (t, h, w_exo, w_ego) in tokens."""
        h, w_exo, w_ego = (
            side // PIXEL_STEP for side in (self.height, self.exo_width, self.ego_width)
        )
        return latent_frames(self.frames), h, w_exo, w_ego

    @property
    def tokens(self) -> int:
        t, h, w_exo, w_ego = self.grid
        return t * h * (w_exo + w_ego)


CLIPS: Mapping[str, ClipSize] = {
    "14b": ClipSize(
        frames=49, exo_width=REFERENCE_EXO_SIZE[0], height=REFERENCE_SIZE, ego_width=REFERENCE_SIZE
    ),
    "small": ClipSize(frames=9, exo_width=112, height=64, ego_width=64),
}
"""Clip with which each size is measured, of which the first is the released one."""
IMAGE_FEATURES, IMAGE_TOKENS, TEXT_TOKENS = 1280, 257, 512


def wan_model(size: str, weight_dtype: torch.dtype, compute_dtype: torch.dtype) -> Any:
    """Build ComfyUI's model object (``WAN21``) with uninitialised weights on the CPU."""
    import comfy.model_base
    import comfy.supported_models

    settings = {
        "image_model": "wan2.1",
        "model_type": "i2v",
        "in_dim": 36,
        "out_dim": 16,
        "text_len": TEXT_TOKENS,
        "eps": 1e-6,
        "qk_norm": True,
        "cross_attn_norm": True,
        **SIZES[size],
    }
    config = comfy.supported_models.WAN21_I2V(settings)
    config.set_inference_dtype(
        weight_dtype, None if weight_dtype == compute_dtype else compute_dtype
    )
    return comfy.model_base.WAN21(config, image_to_video=True, device=torch.device("cpu"))


def forward_flops(size: str, tokens: int) -> float:
    """Count multiplications and additions of one forward of the transformer for one prompt."""
    shape = SIZES[size]
    dim, ffn = shape["dim"], shape["ffn_dim"]
    extra_tokens = TEXT_TOKENS + IMAGE_TOKENS
    linear_flops = (
        2 * tokens * dim * (4 * dim + 2 * dim + 2 * ffn)
    )  # self q k v o, cross q o, feed-forward
    cross_kv_flops = 2 * extra_tokens * dim * 2 * dim
    attention_flops = 4 * tokens * dim * (tokens + extra_tokens)
    input_output_flops = 2 * tokens * dim * (36 + 16) * 4
    return (
        shape["num_layers"] * float(linear_flops + cross_kv_flops + attention_flops)
        + input_output_flops
    )
