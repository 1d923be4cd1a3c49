"""Peak memory of tensors during a piece of work: the allocator's on a GPU, counted by storage on a CPU.

The CPU's resident size jumps with the allocator's whims; what is counted here is every storage that an operation made
and that was still alive, so figures repeat to the byte. A kernel's inner scratch memory is not seen on a CPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _LiveStorages(TorchDispatchMode):
    """Adds up storages as operations return them, and takes them off as they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in given and storage._cdata not in self.sizes:
                self._enter(storage)
        return out

    def _enter(self, storage: torch.UntypedStorage) -> None:
        self.sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._leave, storage._cdata).atexit = False

    def _leave(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def peak_tensor_bytes(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes of tensors alive at the worst moment of ``work``, beyond those alive before it; its result counts."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _LiveStorages() as live:
        work()
    return live.peak
