"""Trainings of these tests run on one core, and one after the other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

MISSING = [name for name in ("accelerate", "peft", "pydantic", "yaml") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str:
    return f"tests/train left out: not installed: {', '.join(MISSING)}" if MISSING else ""


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that makes small caches and bases."""
    name = "egox_tests_tiny_cache"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("tiny_cache.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def workplace(tmp_path: Path, tiny: ModuleType) -> Path:
    """A folder with ``cache`` and ``base.safetensors``."""
    tiny.make_cache(tmp_path / "cache")
    tiny.make_base(tmp_path / "base.safetensors")
    return tmp_path
