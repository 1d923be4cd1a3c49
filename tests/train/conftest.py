"""Trainings of these tests run on one core, and one after the other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

MISSING = [
    name
    for name in ("accelerate", "peft", "pydantic", "yaml")
    if importlib.util.find_spec(name) is None
]
collect_ignore_glob = ["*"] if MISSING else []


def pytest_report_header() -> str:
    return f"tests of training left out: not installed: {', '.join(MISSING)}" if MISSING else ""


@pytest.fixture(scope="session")
def clusters() -> ModuleType:
    """The module that starts Ray clusters."""
    return _load("ray_cluster")


@pytest.fixture(scope="session")
def compiling() -> None:
    """Torch compiles for this machine's processor: as ``compile_blocks`` asks."""
    import torch

    try:
        torch.compile(torch.sin)(torch.zeros(2))
    except Exception as error:
        pytest.skip(f"torch can't compile here: {str(error).splitlines()[0]}")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that makes small caches and bases."""
    return _load("tiny_cache")


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """The module that makes the networks of metrics."""
    return _load("random_networks")


@pytest.fixture(scope="session")
def launching() -> ModuleType:
    """The module that starts trainings as processes."""
    return _load("launching")


@pytest.fixture(scope="session")
def golden_geometry():
    """golden_geometry(vectors, rays) -> GgaGeometry."""
    return _load("golden_geometry").golden_geometry


@pytest.fixture
def workplace(tmp_path, tiny) -> Path:
    """A folder with ``cache`` and ``base.safetensors``."""
    tiny.make_cache(tmp_path / "cache")
    tiny.make_base(tmp_path / "base.safetensors")
    return tmp_path


def _load(name: str) -> ModuleType:
    module_name = f"egox_tests_{name}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            module_name, Path(__file__).with_name(f"{name}.py")
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return sys.modules[module_name]


@pytest.fixture(scope="session")
def takes() -> ModuleType:
    """The module that writes small takes."""
    return _load("prepared_takes")


@pytest.fixture(scope="session")
def synthetic_takes(takes, tmp_path_factory) -> Path:
    """Four synthetic takes of five frames, 64x32."""
    return takes.write_synthetic(tmp_path_factory.mktemp("takes"), 4)


@pytest.fixture(scope="session")
def training_set(synthetic_takes, tmp_path_factory) -> Path:
    """Set that ``prepare`` makes of them: read only."""
    from egox_train.data.prepare import prepare
    from egox_train.data.prepare_options import PrepareOptions

    root = tmp_path_factory.mktemp("set")
    prepare(
        synthetic_takes,
        root,
        PrepareOptions(frames=5, stride=5, exo_size=(64, 32), ego_size=32),
        fractions={"validation": 0.5},
    )
    return root


@pytest.fixture(scope="session")
def depth_models(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a metric and a relative depth model of random weights."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    return _load("random_depth_models").write_models(tmp_path_factory.mktemp("depth_models"))


@pytest.fixture(scope="session")
def mask_models(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a semantic and a universal segmentation model of random weights."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    models, folder = _load("random_mask_models"), tmp_path_factory.mktemp("mask_models")
    return models.write_semantic(folder / "semantic"), models.write_universal(folder / "universal")
