"""Gather weights and optimizer states that FSDP2 shards over processes, and shard them again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor


def full_tensor(tensor: Tensor) -> Tensor:  # any shape -> the same, of all processes
    """Gather a sharded tensor to the full one, and return other tensors unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(model: nn.Module) -> bool:
    """Check whether the model's weights are sharded over processes."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def optimizer_state(model: nn.Module, optimizer: Any) -> Mapping[str, Any]:
    """Gather the optimizer state of all processes to full tensors.

    Of a spread model these are whole tensors by name, on rank 0 alone.
    """
    if not is_sharded(model):
        return optimizer.state_dict()
    return get_optimizer_state_dict(
        model,
        _full_state(optimizer),
        options=StateDictOptions(full_state_dict=True, cpu_offload=True),
    )


def load_optimizer_state(model: nn.Module, optimizer: Any, state: Mapping[str, Any]) -> None:
    """Load a gathered optimizer state, of which each process keeps its shard."""
    if not is_sharded(model):
        optimizer.load_state_dict(state)
        return
    # Rank 0 alone holds the whole state when it comes from optimizer_state, so it is rank 0's that
    # is handed out.
    rank_state = dict(state) if torch.distributed.get_rank() == 0 else {}
    set_optimizer_state_dict(
        model,
        _full_state(optimizer),
        rank_state,
        options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
    )


def _full_state(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)
