"""The peak accelerator memory of a training step, predicted before the first one: arithmetic, nothing
is run.

What is counted, and how well it is known:
- weights, LoRA, gradients, optimizer and EMA states: exact, from the model's shapes;
- activations with gradient checkpointing: each block's input (the checkpoint), plus what autograd keeps of the one
  block that is being recomputed, operation by operation as diffusers' Wan block has them;
- one ego frame's attention bias with its temporaries;
- allocator slack: a flat share.
``bench gpu`` measures a real step beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from torch import nn

from egox_core.frozen import frozen

from .config import TrainConfig
from .lora import TARGET_GROUPS, target_modules

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float8": 1.0}  # float8's scale per row is negligible
OPTIMIZER_BYTES = {
    "adamw": 8.0,
    "adamw8bit": 2.0,
    "adafactor": 0.02,
    "muon": 4.0,
}  # of state, a trained weight
SLACK = 0.06


@frozen
class MemoryEstimate:
    """Bytes by part."""

    base: float
    lora: float
    gradients: float
    optimizer: float
    ema: float
    checkpoints: float
    block: float
    ends: float
    bias: float

    @property
    def total(self) -> float:
        """All parts, and the allocator's slack."""
        return (1 + SLACK) * sum(astuple(self))

    def __str__(self) -> str:
        trained = self.lora + self.gradients + self.optimizer + self.ema
        active = self.checkpoints + self.block + self.ends + self.bias
        return (
            f"predicted peak memory of a step: {self.total / 1e9:.1f} GB (base {self.base / 1e9:.1f}, trained "
            f"weights and their states {trained / 1e9:.1f}, activations {active / 1e9:.1f})"
        )


def predict(
    config: TrainConfig,
    model: WanTransformer3DModel,  # without a LoRA; its shapes are enough
    grid: tuple[int, int, int, int],  # (t, h, w_exo, w_ego) of the largest canvas, in latents
    *,
    shards: int = 1,  # processes that weights are spread over
) -> MemoryEstimate | None:
    """Predict the peak of one process; None where all weights are trained, or single modules."""
    memory, targets = config.memory, config.lora.targets
    if not config.trains_lora or not set(targets) <= set(TARGET_GROUPS):
        return None
    t, h, w_exo, w_ego = grid
    tokens = t * (h // 2) * ((w_exo + w_ego) // 2)
    have: Any = model.config
    dim, blocks = have.num_attention_heads * have.attention_head_dim, have.num_layers
    activation = 4.0 if memory.base_dtype == "float32" else 2.0  # of other weights, too
    linear = {n: m for n, m in model.blocks.named_modules() if isinstance(m, nn.Linear)}
    a_block = sum(m.weight.numel() for m in linear.values()) / blocks
    other = sum(p.numel() for p in model.parameters()) - blocks * a_block
    a_block *= BYTES[memory.base_dtype]
    on_device = 1 if memory.block_offload else blocks  # offload: the visiting block alone
    base = (on_device * a_block + other * activation) / shards
    if shards > 1:
        base += a_block  # the one that is gathered
    if memory.base_dtype == "float8":
        base += dim * have.ffn_dim * 2  # the one weight that is unpacked at a time
    modules = target_modules(targets)
    trained = sum(
        config.lora.rank * (m.in_features + m.out_features) / shards
        for n, m in linear.items()
        if n.partition(".")[2] in modules
    )
    rows = tokens * config.batch_size
    hidden, ffn = (rows * width * activation for width in (dim, have.ffn_dim))
    low_rank = rows * config.lora.rank * activation
    block = _block_activations(
        hidden, ffn, low_rank, 4.0 * rows * dim, targets, image=bool(have.image_dim)
    )
    checkpoints = 0
    if memory.gradient_checkpointing:  # parked ones: that in use and the next
        checkpoints = 2 if memory.checkpoint_offload else blocks
    # One ego frame's rows: cosine, its scaled copy, the logarithm, and the cast one (padded by the
    # kernel once). The product kernel makes none; copies in its backward pass take as much.
    guided = config.conditioning.gga_options().biases
    bias_rows = (h // 2) * (w_ego // 2) * tokens if guided else 0
    return MemoryEstimate(
        base=base,
        lora=trained * 4,
        gradients=trained * 4,
        optimizer=trained * OPTIMIZER_BYTES[config.optimizer.name],
        ema=trained * 4 if config.ema_decay else 0.0,
        checkpoints=checkpoints * hidden,
        block=block if memory.gradient_checkpointing else blocks * block,
        ends=rows * (have.in_channels + 2 * 64) * 4 + 6 * hidden,
        bias=bias_rows * (3 * 4.0 + 2 * activation),
    )


def _block_activations(
    hidden: float,
    ffn: float,
    low_rank: float,  # behind the A matrix of a LoRA
    full: float,  # as hidden, in float32
    targets: Collection[str],
    *,
    image: bool,
) -> float:
    """Bytes that autograd keeps of one block, and the gradients beside them while it is gone
    through backwards.

    Frozen layers keep no input, since their weights get no gradient; modulation is frozen too.
    """
    norms = 3 * full  # float32 input of the three layer norms
    # q and k before their norm; q, k, v, result of the attention; result put together from exo and
    # ego parts
    self_attention = (2 + 4 + 2) * hidden
    # q before its norm, q, result for the text, result for the picture
    cross = (3 + image) * hidden
    feed_forward = ffn  # input of the activation function
    # (inputs of the LoRA's A matrices that others don't keep, matrices of token length; text is short)
    kept = {"attn1": (1, 4), "attn2": (2, 2), "attn2_image": (0, 0), "ffn": (1, 2)}
    lora = sum(kept[t][0] * hidden + kept[t][1] * low_rank for t in targets)
    if "ffn" in targets:
        lora += ffn
    backward = 2 * ffn + 2 * full  # on both sides of the feed-forward, and of the residual stream
    return norms + self_attention + cross + feed_forward + lora + backward
