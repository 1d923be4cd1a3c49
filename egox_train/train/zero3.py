"""DeepSpeed ZeRO-3 through accelerate: weights and optimizer state are in parts on all processes.

DeepSpeed keeps each process's share of all trained weights as one flat tensor, and steps, clips and
zeroes by itself. What leaves the run (LoRA, checkpoints) is gathered to whole tensors by name: the
files are those of any other run."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .config import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")
SUPPORTED_STAGE = 3


def asked_for() -> bool:
    """Check whether accelerate's launcher was given a DeepSpeed configuration."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def configure(plugin: Any, config: TrainConfig, accumulation: int) -> None:
    """Puts batch, accumulation (micro-steps an optimizer step) and clipping of the training into
    DeepSpeed's settings."""
    plugin.deepspeed_config.update(
        {
            "train_micro_batch_size_per_gpu": config.batch_size,
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": config.optimizer.max_grad_norm,
        }
    )


def is_partitioned(model: nn.Module) -> bool:
    """Check whether DeepSpeed holds the model's weights in parts."""
    return any(hasattr(p, "ds_id") for p in model.parameters())


def gathered(model: nn.Module) -> AbstractContextManager:
    """Inside, the trained weights are whole, for reading; all processes must enter together."""
    if not is_partitioned(model):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([p for p in model.parameters() if p.requires_grad])


def optimizer_state(model: nn.Module, optimizer: Any) -> Mapping[str, Any]:
    """Adam's moments as whole tensors by name, and how many steps they have seen."""
    from deepspeed.utils import safe_get_full_optimizer_state

    moments = {
        name: {key: safe_get_full_optimizer_state(p, key).cpu().clone() for key in MOMENTS}
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    adam, shares = _adam_of(optimizer)
    return {"moments": moments, "step": float(adam.state[shares[0]]["step"])}


def put_optimizer_state(model: nn.Module, optimizer: Any, state: Mapping[str, Any]) -> None:
    """Loads :func:`optimizer_state` back, every process its part."""
    from deepspeed.utils import safe_set_local_optimizer_state

    adam, shares = _adam_of(optimizer)
    for share in shares:  # DeepSpeed makes them at the first step only
        adam.state[share] = {
            "step": torch.tensor(state["step"]),
            **{key: torch.zeros_like(share) for key in MOMENTS},
        }
    for name, p in model.named_parameters():
        if p.requires_grad:
            for key in MOMENTS:
                safe_set_local_optimizer_state(p, _share_of(p, state["moments"][name][key]), key)


def _adam_of(optimizer: Any) -> tuple[torch.optim.Optimizer, list[Tensor]]:
    """torch's own optimizer inside the wrappers, and the flat shares that it steps."""
    while not hasattr(optimizer, "fp32_partitioned_groups_flat"):
        optimizer = optimizer.optimizer
    return optimizer.optimizer, optimizer.fp32_partitioned_groups_flat


def _share_of(parameter: Any, whole: Tensor) -> Tensor:
    """This process's piece of a whole tensor; the last one is filled up with zeros."""
    size = parameter.ds_tensor.ds_numel
    start = torch.distributed.get_rank() * size
    piece = whole.flatten()[start : start + size]
    return torch.nn.functional.pad(piece, (0, size - piece.numel())).to(parameter.ds_tensor.device)
