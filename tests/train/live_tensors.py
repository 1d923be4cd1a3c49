"""Count the bytes of the tensors that live at once, as a card's memory would hold them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_ids(tree: object) -> dict[int, Tensor]:
    """Find the tensors in nested containers, by the storage that each is in."""
    return {
        leaf.untyped_storage()._cdata: leaf for leaf in tree_leaves(tree) if torch.is_tensor(leaf)
    }


class LiveBytes(TorchDispatchMode):
    """Record how many bytes of tensors that operations have made live at once at most.

    What was there before, such as weights, isn't counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most_bytes = 0
        self._sizes: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0  # of these, of which some may be freed

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        made_ids = storage_ids(results)
        if made_ids:
            given_ids = storage_ids((args, kwargs))
        for key, tensor in made_ids.items():
            if key not in self._sizes and key not in given_ids:
                storage = tensor.untyped_storage()
                self._sizes[key] = StorageWeakRef(storage), storage.nbytes()
                self._bytes += storage.nbytes()
        if self._bytes > self.most_bytes:
            self._sizes = {key: size for key, size in self._sizes.items() if not size[0].expired()}
            self._bytes = sum(size for _, size in self._sizes.values())
            self.most_bytes = max(self.most_bytes, self._bytes)
        return results

    def parked(self) -> saved_tensors_hooks:
        """Copy what autograd saves to where it isn't counted, as ``save_on_cpu`` does on a card.

        On a CPU that one copies nothing.
        """

        def park(tensor: Tensor) -> Tensor:
            copied_tensor = tensor.detach().clone()
            self._bytes -= self._sizes.pop(copied_tensor.untyped_storage()._cdata, (None, 0))[1]
            return copied_tensor

        return saved_tensors_hooks(park, lambda tensor: tensor.detach().clone())
