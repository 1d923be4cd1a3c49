"""What every benchmark result is kept with: machine, versions, date; and the peak memory of a piece of work."""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """CPU, cores, memory and GPU, without names that identify one computer."""
    facts: dict[str, Any] = {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count(),
                             "torch_threads": torch.get_num_threads()}
    if hasattr(os, "getloadavg"):
        facts["load_average"] = round(os.getloadavg()[0], 2)  # a busy machine makes every timing an upper bound
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two options that all benchmarks share."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")


def finish(name: str, result: dict[str, Any], args: argparse.Namespace, table: str) -> None:
    """Print the result as asked, and keep it when asked."""
    record = {"benchmark": name, "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "machine": machine(),
              "versions": versions(), **result}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text if args.json else table)
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def peak_extra_mb(work: Callable[[], Any]) -> float | None:
    """Peak resident memory during ``work`` above that before it, MiB; None without psutil.

    Sampled every 2 ms by a thread: blocks that live shorter can be missed.
    """
    try:
        import psutil
    except ImportError:
        return None
    process, done, peak = psutil.Process(), threading.Event(), 0
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            done.wait(0.002)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(0, peak - before) / 2**20


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
