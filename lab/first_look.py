"""Collect facts about the machine without importing torch, and write them to a file."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def missing_packages(names: Iterable[str]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


def this_machine() -> dict[str, Any]:
    """Describe the operating system, CPU cores, free disk, main memory and NVIDIA driver."""
    memory_gb = None
    if find_spec("psutil") is not None:
        import psutil

        memory_gb = round(psutil.virtual_memory().available / 1e9, 1)
    return {
        "system": platform.system(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "disk_gb": round(shutil.disk_usage(tempfile.gettempdir()).free / 1e9, 1),
        "main_memory_gb": memory_gb,
        "nvidia_driver": shutil.which("nvidia-smi") is not None,
    }


def write_first(file: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file atomically without importing torch."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary_file = file.with_name(f".{file.name}.first")
    temporary_file.write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")
    os.replace(temporary_file, file)
