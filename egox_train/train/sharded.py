"""Weights and optimizer state that are spread over processes, gathered to whole tensors and spread
again.

FSDP2 spreads each tensor (a DTensor); what DeepSpeed does is in :mod:`.zero3`.
"""

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

from . import zero3


def whole(tensor: Tensor) -> Tensor:  # any shape -> the same, of all processes
    """The whole of a spread tensor (all processes must ask together); other tensors as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(model: nn.Module) -> bool:
    """Check whether the model's weights are spread over processes."""
    return zero3.is_partitioned(model) or any(isinstance(p, DTensor) for p in model.parameters())


def optimizer_state(model: nn.Module, optimizer: Any) -> Mapping[str, Any]:
    """State as one process would have it; of a spread model whole tensors by name, under FSDP2 on
    rank 0 alone."""
    if zero3.is_partitioned(model):
        return zero3.optimizer_state(model, optimizer)
    if not is_sharded(model):
        return optimizer.state_dict()
    return get_optimizer_state_dict(
        model, _plain(optimizer), options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )


def put_optimizer_state(model: nn.Module, optimizer: Any, state: Mapping[str, Any]) -> None:
    """Loads :func:`optimizer_state` back, every process its part."""
    if zero3.is_partitioned(model):
        zero3.put_optimizer_state(model, optimizer, state)
        return
    if not is_sharded(model):
        optimizer.load_state_dict(state)
        return
    # Rank 0 alone holds the whole state when it comes from optimizer_state, so it is rank 0's that
    # is handed out.
    own = dict(state) if torch.distributed.get_rank() == 0 else {}
    set_optimizer_state_dict(
        model,
        _plain(optimizer),
        own,
        options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
    )


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)
