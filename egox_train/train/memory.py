"""The peak memory of a step as a configuration asks for it, predicted before the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..wan.step_memory import MemoryEstimate, ModelSize, TrainSetting, estimate
from .config import TrainConfig
from .lora import TARGET_GROUPS

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


def predict(
    config: TrainConfig,
    model: ModelSize,
    grid: tuple[int, int, int, int],  # (t, h, w_exo, w_ego) of the largest canvas, in latents
    *,
    shards: int = 1,  # processes that weights are spread over
) -> MemoryEstimate | None:
    """Predict the peak of one process; None where all weights are trained, or single modules."""
    t, h, w_exo, w_ego = grid
    tokens, memory = t * (h // 2) * ((w_exo + w_ego) // 2), config.memory
    if not config.trains_lora or not set(config.lora.targets) <= set(TARGET_GROUPS):
        return None
    guided = config.conditioning.gga_options().biases
    return estimate(
        model,
        TrainSetting(
            tokens=tokens,
            ego_tokens_a_frame=(h // 2) * (w_ego // 2) if guided else 0,
            batch=config.batch_size,
            rank=config.lora.rank,
            targets=config.lora.targets,
            base=memory.base_dtype,
            optimizer=config.optimizer.name,
            checkpointing=memory.gradient_checkpointing,
            block_offload=memory.block_offload,
            checkpoint_offload=memory.checkpoint_offload,
            ema=config.ema_decay is not None,
            shards=shards,
        ),
    )


def size_of(model: WanTransformer3DModel) -> ModelSize:
    """Read the sizes of a diffusers Wan transformer."""
    have: Any = model.config
    return ModelSize(
        dim=have.num_attention_heads * have.attention_head_dim,
        ffn_dim=have.ffn_dim,
        layers=have.num_layers,
        heads=have.num_attention_heads,
        text_dim=have.text_dim,
        image_dim=have.image_dim or 0,
        in_channels=have.in_channels,
        out_channels=have.out_channels,
        freq_dim=have.freq_dim,
    )


def in_words(memory: MemoryEstimate) -> str:
    """Describe a prediction in one line."""
    trained = memory.lora + memory.gradients + memory.optimizer + memory.ema
    active = memory.checkpoints + memory.block + memory.ends + memory.bias
    return (
        f"predicted peak memory of a step: {memory.total / 1e9:.1f} GB (base {memory.base / 1e9:.1f}, trained "
        f"weights and their states {trained / 1e9:.1f}, activations {active / 1e9:.1f})"
    )
