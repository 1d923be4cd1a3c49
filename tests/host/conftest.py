"""Start a real ComfyUI server once for all host tests."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tools.rigs import model_rig
from tools.setup.api_client import ApiClient, read_prompt
from tools.setup.base_dir import BaseDir, make_base_dir
from tools.setup.environment import Environment
from tools.setup.layout import Layout
from tools.setup.server import Server


@pytest.fixture(scope="session")
def server(archive, environment, standin_models, tmp_path_factory) -> Iterator[Server]:
    """Start ComfyUI's server with the archive as a pack, and with folders of this test session."""
    packs = {"egox_standin_nodes": environment.layout.repo / "tests" / "standin_nodes"}
    layout = Layout(archive)
    base_dir = make_base_dir(tmp_path_factory.mktemp("server_base"), layout, packs)
    shutil.copytree(standin_models, base_dir.models, dirs_exist_ok=True)
    archive_environment = Environment(environment.host, environment.python, layout)
    with Server(archive_environment, base_dir, base_dir.root / "server.log") as running_server:
        yield running_server


@pytest.fixture(scope="session")
def server_base(server) -> BaseDir:
    return server.base


@pytest.fixture
def client(server) -> ApiClient:
    """Return the running server's API client, after checking that the server is alive."""
    assert server.is_running() and server.client.version(), server.log_tail(60)
    return server.client


@pytest.fixture(scope="session")
def object_info(server) -> dict[str, Any]:
    return server.client.object_info()


@pytest.fixture(scope="session")
def load_workflow() -> Callable[[str], dict[str, Any]]:
    """Provide a function that reads a shipped workflow as an API prompt."""
    return read_prompt


@pytest.fixture(scope="module")
def rig(pack, repo_root) -> model_rig.ModelRig:
    """Load a small transformer and a clip's conditioning once per test file."""
    with torch.inference_mode():
        return model_rig.make_rig(pack, repo_root / "models", noise_seed=5)


@pytest.fixture(scope="module")
def image_embedding_rig(pack, standin_models) -> model_rig.ModelRig:
    """Load a small transformer with image embedding and a clip's conditioning."""
    with torch.inference_mode():
        return model_rig.make_rig(pack, standin_models, image_embedding=True, noise_seed=5)
