"""Test that the stand-in models can be remade and loaded."""

import importlib
import logging
from pathlib import Path

from lab.small_model.files import BASE_FILE, VAE_FILE
from tools.rigs import standins


def test_comfyuis_loaders_read_the_shipped_models_without_warnings(pack, repo_root, caplog):
    paths_module = importlib.import_module(f"{pack.__name__}.nodes.host.paths")
    import folder_paths

    paths_module.add_model_folders()
    folders_before = {
        kind: list(folder_paths.get_folder_paths(kind)) for kind in paths_module.MODEL_KINDS
    }
    paths_module.add_model_folders()
    assert {
        kind: folder_paths.get_folder_paths(kind) for kind in paths_module.MODEL_KINDS
    } == folders_before, "twice adds nothing"
    for kind in paths_module.MODEL_KINDS:
        kind_folders = [Path(folder) for folder in folders_before[kind]]
        assert kind_folders[-1] == repo_root / "models" / "demo" / kind, (
            "the pack comes after the user's own folders"
        )
        assert repo_root / "models" / kind not in kind_folders, "stand-ins are in no list"
    paths_module.add_model_folders(paths_module.STANDINS)

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
