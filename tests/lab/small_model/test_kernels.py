"""Test how many GPU kernels drawing a room would launch, counted on the CPU."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lab.small_model.clips import draw_clip
from lab.small_model.settings import FIRST_SEED, ClipSettings

VIEW_OPERATIONS = set(
    "view _unsafe_view reshape expand slice select unsqueeze squeeze transpose t permute alias "
    "detach unbind split as_strided diagonal unfold empty new_empty empty_like split_with_sizes "
    "lift_fresh empty_strided".split()
)
WAITING_OPERATIONS = {
    "nonzero",
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "bincount",
    "masked_select",
}


class Launches(TorchDispatchMode):
    """Count torch operations that would launch a GPU kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.waits = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation = func._schema.name.split("::")[1]
        self.kernels[operation] += operation not in VIEW_OPERATIONS
        has_mask_index = operation.startswith("index") and any(
            torch.is_tensor(i) and i.dtype == torch.bool
            for i in (args[1] if isinstance(args[1], (list, tuple)) else ())
        )
        self.waits[operation] += operation in WAITING_OPERATIONS or has_mask_index
        return func(*args, **(kwargs or {}))


def test_a_room_is_few_large_launches():
    """Check that drawing a synthetic room launches few GPU kernels."""
    launches, thread_count = Launches(), torch.get_num_threads()
    torch.set_num_threads(1)  # another thread's operations wouldn't be counted
    try:
        with launches:
            draw_clip(FIRST_SEED["test"], ClipSettings())
    finally:
        torch.set_num_threads(thread_count)
    assert 5_000 < launches.kernels.total() < 30_000, launches.kernels.most_common(10)
    assert launches.waits.total() < 1_000, launches.waits.most_common(10)
