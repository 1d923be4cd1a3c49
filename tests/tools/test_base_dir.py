"""Test ComfyUI's base directory and the link to the pack in it."""

from dataclasses import replace
from pathlib import Path

import pytest

from egox_core.safe_files import read_json
from tools.setup.base_dir import (
    BASE_FOLDERS,
    PACK_NAME,
    make_base_dir,
    user_model_arguments,
)
from tools.setup.host import Host
from tools.setup.layout import Layout


@pytest.fixture
def layout(tmp_path) -> Layout:
    repo = tmp_path / "repo"
    for folder in (".git", ".venv", "nodes"):
        (repo / folder).mkdir(parents=True)
    (repo / "__init__.py").write_text("", "utf-8")
    (repo / "nodes" / "x.py").write_text("", "utf-8")
    return Layout(repo)


def test_folders_and_pack_are_there_also_the_second_time(layout):
    for _ in range(2):
        base_dir = make_base_dir(layout.base, layout)
        assert all((base_dir.root / name).is_dir() for name in BASE_FOLDERS)
        assert (base_dir.root / "custom_nodes" / PACK_NAME / "nodes" / "x.py").is_file()


def test_models_of_a_users_host_are_shared_by_name(layout, tmp_path):
    base_dir = make_base_dir(layout.base, layout)
    user_host = Host(tmp_path / "theirs", (0, 30, 0), "test", owned=False)
    assert user_model_arguments(user_host, base_dir) == (), "it has no models folder"
    (user_host.root / "models" / "diffusion_models").mkdir(parents=True)
    option, file = user_model_arguments(user_host, base_dir)
    assert option == "--extra-model-paths-config"
    assert read_json(Path(file)) == {
        "host": {
            "base_path": str(user_host.root / "models"),
            "diffusion_models": "diffusion_models",
        }
    }
    assert user_model_arguments(replace(user_host, owned=True), base_dir) == ()
