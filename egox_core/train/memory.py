"""The peak memory of a step as a configuration asks for it, predicted before the first one."""

from __future__ import annotations

from torch import nn

from ..wan.align import AlignSize
from ..wan.step_memory import MemoryEstimate, ModelSize, TrainSetting, estimate, estimate_alignment
from .config import TrainConfig
from .lora import TARGET_GROUPS


def predict(
    config: TrainConfig,
    model: ModelSize,
    grid: tuple[int, int, int, int],  # (t, h, w_exo, w_ego) of the largest canvas, in latents
    *,
    shards: int = 1,  # processes that weights are spread over
) -> MemoryEstimate | None:
    """Predict the peak of one process; None where all weights of a base or single modules are trained."""
    t, h, w_exo, w_ego = grid
    tokens, memory = t * (h // 2) * ((w_exo + w_ego) // 2), config.memory
    align = AlignSize(width=config.align.width, layers=config.align.layers)
    if config.task == "view_align":
        return estimate_alignment(align, tokens, batch=config.batch_size, optimizer=config.optimizer.name,
                                  checkpointing=memory.gradient_checkpointing, ema=config.ema_decay is not None)
    if not config.trains_lora or not set(config.lora.targets) <= set(TARGET_GROUPS):
        return None
    views = config.views
    own = {} if config.task != "views" else {
        "pose_hidden": views.pose_hidden if views.pose != "off" else 0,
        "pose_blocks": model.layers if views.pose == "rays_each_block" else 1,
        "align": None if views.align is None else align}
    guided = config.conditioning.gga_options().biases
    return estimate(model, TrainSetting(
        **own, tokens=tokens, ego_tokens_a_frame=(h // 2) * (w_ego // 2) if guided else 0,
        batch=config.batch_size, rank=config.lora.rank, targets=config.lora.targets, base=memory.base_dtype,
        optimizer=config.optimizer.name, checkpointing=memory.gradient_checkpointing,
        block_offload=memory.block_offload, checkpoint_offload=memory.checkpoint_offload,
        ema=config.ema_decay is not None, shards=shards))


def size_of(model: nn.Module) -> ModelSize:
    """Read the sizes of a diffusers Wan transformer."""
    have = model.config
    return ModelSize(
        dim=have.num_attention_heads * have.attention_head_dim, ffn_dim=have.ffn_dim, layers=have.num_layers,
        heads=have.num_attention_heads, text_dim=have.text_dim, image_dim=have.image_dim or 0,
        in_channels=have.in_channels, out_channels=have.out_channels, freq_dim=have.freq_dim)


def in_words(memory: MemoryEstimate) -> str:
    """Describe a prediction in one line."""
    trained = memory.lora + memory.gradients + memory.optimizer + memory.ema
    active = memory.checkpoints + memory.block + memory.ends + memory.bias
    return (f"predicted peak memory of a step: {memory.total / 1e9:.1f} GB (base {memory.base / 1e9:.1f}, trained "
            f"weights and their states {trained / 1e9:.1f}, activations {active / 1e9:.1f})")
