"""Provide pytest fixtures for the training tests."""

import importlib.util
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

MISSING = [
    name
    for name in ("accelerate", "peft", "pydantic", "torchmetrics", "yaml")
    if importlib.util.find_spec(name) is None
]
collect_ignore_glob = ["*"] if MISSING else []


def pytest_report_header() -> str:
    return f"tests of training left out: not installed: {', '.join(MISSING)}" if MISSING else ""


@pytest.fixture(scope="session")
def clusters() -> ModuleType:
    """Provide the module that starts local Ray clusters."""
    return import_module("tests.train.ray_cluster")


@pytest.fixture(scope="session")
def compiling() -> None:
    """Skip the test if torch.compile doesn't work on this machine."""
    import torch

    try:
        torch.compile(torch.sin)(torch.zeros(2))
    except Exception as error:
        pytest.skip(f"torch can't compile here: {str(error).splitlines()[0]}")


@pytest.fixture
def one_compared_frame(monkeypatch) -> None:
    """Compare one frame of a clip with its scene, from one turn, to tell the turn of its view."""
    monkeypatch.setattr("egox_core.metrics.frame_alignment.MAX_FRAMES", 1)  # of 17
    monkeypatch.setattr("egox_core.metrics.turn_search.STARTS", 1)  # of five


@pytest.fixture(scope="session")
def tiny_training() -> ModuleType:
    """Provide the module that writes small caches and base models."""
    return import_module("tests.train.tiny_cache")


@pytest.fixture(scope="session")
def network_writers() -> ModuleType:
    """Provide the module that writes small random networks for video metrics."""
    return import_module("tests.train.random_networks")


@pytest.fixture(scope="session")
def training_processes() -> ModuleType:
    """Provide the module that starts training processes."""
    return import_module("tests.train.launching")


@pytest.fixture
def training_folder(tmp_path, tiny_training) -> Path:
    """Write a folder with a small cache and a small base model."""
    tiny_training.make_cache(tmp_path / "cache")
    tiny_training.make_base(tmp_path / "base.safetensors")
    return tmp_path


@pytest.fixture(scope="session")
def take_writers() -> ModuleType:
    """Provide the module that writes small takes."""
    return import_module("tests.train.prepared_takes")


@pytest.fixture(scope="session")
def synthetic_takes(take_writers, tmp_path_factory) -> Path:
    """Write four small synthetic takes."""
    return take_writers.write_synthetic(tmp_path_factory.mktemp("takes"), 4)


@pytest.fixture(scope="session")
def training_set(take_writers, synthetic_takes, tmp_path_factory) -> Path:
    """Prepare the synthetic takes as a training set, which tests only read."""
    root = tmp_path_factory.mktemp("set")
    take_writers.prepare_and_read(synthetic_takes, root, validation=0.5)
    return root


@pytest.fixture(scope="session")
def raw_data_set(take_writers, tmp_path_factory) -> Path:
    """Write a small take in Ego-Exo4D's folder layout, which tests only read."""
    cameras = dict.fromkeys(("cam01", "cam02"), (224, 126))
    folder = tmp_path_factory.mktemp("raw") / "raw"
    return take_writers.write_egoexo4d(folder, take_writers.TAKE, frames=12, cameras=cameras)


@pytest.fixture(scope="session")
def depth_models(tmp_path_factory) -> Iterator[tuple[Path, Path]]:
    """Write a metric and a relative depth model with random weights."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    write_models = import_module("tests.train.random_depth_models").write_models
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("egox_train.data.depth_model.SHORT_SIDE_PX", 140)
        yield write_models(tmp_path_factory.mktemp("depth_models"))


@pytest.fixture(scope="session")
def mask_models(tmp_path_factory) -> tuple[Path, Path]:
    """Write two segmentation models with random weights."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    models = import_module("tests.train.random_mask_models")
    folder = tmp_path_factory.mktemp("mask_models")
    return models.write_semantic(folder / "semantic"), models.write_universal(folder / "universal")
