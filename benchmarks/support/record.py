"""Record of a benchmark result with machine, versions and date, and the peak memory of a piece of
work.

Tensors' memory is the allocator's on a GPU and counted by storage on a CPU. There the process's
resident size jumps with the allocator's whims; what is counted is every storage that an operation
made and that was still alive, so figures repeat to the byte. A kernel's inner scratch memory is not
seen on a CPU."""

import argparse
import json
import os
import platform
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

RESULTS = Path(__file__).resolve().parent.parent / "results"


def machine() -> dict[str, Any]:
    """CPU, cores, memory and GPU, without names that identify one computer."""
    facts: dict[str, Any] = {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
    if hasattr(os, "getloadavg"):
        facts["load_average"] = round(
            os.getloadavg()[0], 2
        )  # a busy machine makes every timing an upper bound
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def matrix_rate(device: torch.device) -> float:
    """Operations a second of one large matrix product in the compute dtype: what the FLOP limit is
    reckoned with."""
    on_gpu = device.type == "cuda"
    n, dtype = (8192, torch.bfloat16) if on_gpu else (1024, torch.float32)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """One call, waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two options that all benchmarks share."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of a table"
    )
    parser.add_argument(
        "--save", action="store_true", help="keep the result under benchmarks/results/"
    )


def figure_text(estimate: Mapping[str, float] | None, digits: int) -> str:
    """A mean with its interval for a table."""
    if estimate is None:
        return "–"
    mean, low, high = (f"{estimate[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def bench_parser(account: str) -> argparse.ArgumentParser:
    """A parser with the two options; its help is the script's own account of itself."""
    parser = argparse.ArgumentParser(
        description=account, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return parser


def finish(
    name: str, result: dict[str, Any], args: argparse.Namespace, table: str, passed: bool = True
) -> int:
    """Print the result as asked, and keep it when asked; the script's exit code."""
    record = {
        "benchmark": name,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        **result,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text if args.json else table)
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n", "utf-8")
    return 0 if passed else 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class _LiveStorages(TorchDispatchMode):
    """Adds up storages as operations return them, and takes them off as they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in inputs and storage._cdata not in self.sizes:
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
    """Bytes of tensors alive at the worst moment of ``work``, beyond those alive before it; its
    result counts."""
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
