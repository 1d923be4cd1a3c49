"""Record a benchmark's result together with the machine, package versions and date."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RESULTS = Path(__file__).resolve().parent.parent / "results"


def machine() -> dict[str, Any]:
    """Describe this machine's CPU, cores, memory and GPU, without its name."""
    import torch

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
    """Measure the operations per second of one large matrix product on a device."""
    import torch

    is_gpu = device.type == "cuda"
    matrix_size, dtype = (8192, torch.bfloat16) if is_gpu else (1024, torch.float32)
    a, b = (torch.randn(matrix_size, matrix_size, device=device, dtype=dtype) for _ in range(2))
    return 2 * matrix_size**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Measure the duration of one function call in seconds, including the device's work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start_time_s = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start_time_s


def versions() -> dict[str, str]:
    import numpy as np
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line options that all benchmarks share."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of a table"
    )
    parser.add_argument(
        "--save", action="store_true", help="keep the result under benchmarks/results/"
    )


def bench_parser(account: str) -> argparse.ArgumentParser:
    """Build a command line parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=account, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return parser


def finish(
    name: str,
    result: dict[str, Any],
    args: argparse.Namespace,
    table: str,
    passed: bool = True,
) -> int:
    """Print a benchmark's result and save it if requested, and return the script's exit code."""
    text = json.dumps(add_machine_facts(name, result), indent=1, ensure_ascii=False)
    print(text if args.json else table)
    if args.save:
        (RESULTS / f"{name}.json").write_text(text + "\n", "utf-8")
    return 0 if passed else 1


def add_machine_facts(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Add the benchmark's name, the date, the machine and package versions to a result."""
    return {
        "benchmark": name,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        **result,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
