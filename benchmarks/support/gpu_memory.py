"""``bench gpu``: how much of the device's memory a piece of work takes, and less of it than there is."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

GB = 1e9
SAMPLE_S = 0.02


class DeviceMemory:
    """Peak memory during a ``with``: of torch's tensors, and of the whole device (the host's own allocator too).

    Both in GB, None without a GPU; the device's figure is sampled and holds other programs as well.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        self.tensors_gb: float | None = None
        self.device_gb: float | None = None

    def __enter__(self) -> DeviceMemory:
        if self.on_gpu:
            empty(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._least, self._done = self._free(), threading.Event()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.on_gpu:
            self._done.set()
            self._watcher.join()
            self.tensors_gb = torch.cuda.max_memory_allocated(self.device) / GB
            self.device_gb = (torch.cuda.mem_get_info(self.device)[1] - self._least) / GB

    def _free(self) -> int:
        return torch.cuda.mem_get_info(self.device)[0]

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._least = min(self._least, self._free())

    def text(self) -> str:
        """For a row of the table."""
        if self.tensors_gb is None:
            return "memory not measured on a CPU"
        return f"peak {self.tensors_gb:.1f} GB of tensors, {self.device_gb:.1f} GB on the device"


def compute_device() -> torch.device:
    """The GPU in use, by number since not all of torch takes it without; the CPU where there is none."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def empty(device: torch.device) -> None:
    """Gives back what nobody uses."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def free_bytes(device: torch.device, cap_gb: float | None = None) -> float:
    """Bytes that tensors may take; without a GPU without end, since sizes are small there."""
    if device.type != "cuda":
        return float("inf")
    empty(device)
    free = torch.cuda.mem_get_info(device)[0]
    return free if cap_gb is None else min(free, cap_gb * GB - torch.cuda.memory_allocated(device))


@contextmanager
def capped(device: torch.device, cap_gb: float | None) -> Iterator[None]:
    """torch may hold this much of the device and no more."""
    if cap_gb is None or device.type != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * GB / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
