"""The stand-in models: remade with equal tensors, and loaded by the stock loaders without a missing
key."""

import importlib
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lab.small_model.files import BASE_FILE, VAE_FILE
from tools.rigs import standins


@pytest.fixture
def remade(request) -> Path:
    """Give the files that the script has made for this run."""
    return request.getfixturevalue("standins")


@pytest.mark.parametrize("what", sorted(standins.SHIPPED))
def test_committed_files_are_what_the_script_makes(what, remade, repo_root):
    committed = load_file(repo_root / "models" / standins.SHIPPED[what])
    remade_tensors = load_file(remade / standins.SHIPPED[what])
    assert committed.keys() == remade_tensors.keys()
    for name, tensor in remade_tensors.items():
        assert torch.equal(committed[name], tensor), name


def test_stock_loaders_take_the_shipped_models(pack, repo_root, caplog):
    folders = importlib.import_module(f"{pack.__name__}.nodes.host.paths")
    import folder_paths

    folders.add_model_folders()
    before = {kind: list(folder_paths.get_folder_paths(kind)) for kind in folders.MODEL_KINDS}
    folders.add_model_folders()
    assert {kind: folder_paths.get_folder_paths(kind) for kind in folders.MODEL_KINDS} == before, (
        "twice adds nothing"
    )
    for kind in folders.MODEL_KINDS:
        listed = [Path(folder) for folder in before[kind]]
        assert listed[-1] == repo_root / "models" / "demo" / kind, (
            "the pack comes after the user's own folders"
        )
        assert repo_root / "models" / kind not in listed, "stand-ins are in no list"
    folders.add_model_folders(folders.STANDINS)

    import nodes as host_nodes

    with caplog.at_level(logging.WARNING):
        (model,) = host_nodes.UNETLoader().load_unet(BASE_FILE, "default")
        host_nodes.VAELoader().load_vae(VAE_FILE)
    assert model.get_model_object("diffusion_model").in_dim == 36

    with caplog.at_level(logging.WARNING):
        (model,) = host_nodes.UNETLoader().load_unet(
            standins.SHIPPED["transformer"].name, "default"
        )
        (vae,) = host_nodes.VAELoader().load_vae(standins.SHIPPED["vae"].name)
    messages = [record.getMessage() for record in caplog.records]
    assert not [
        line for line in messages if "missing" in line or "unexpected" in line or "keys" in line
    ]
    transformer = model.get_model_object("diffusion_model")
    assert (transformer.in_dim, transformer.text_dim, transformer.img_emb) == (36, 1024, None)
