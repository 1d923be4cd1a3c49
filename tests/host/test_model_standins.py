"""The stand-in models: remade with equal tensors, and taken whole by the stock loaders."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lab.small_model.files import BASE_FILE, VAE_FILE
from tools.rigs import standins as standins


@pytest.fixture
def remade(request: pytest.FixtureRequest) -> Path:
    """What the script has made for this run."""
    return request.getfixturevalue("standins")


@pytest.mark.parametrize("what", sorted(standins.SHIPPED))
def test_committed_files_are_what_the_script_makes(what: str, remade: Path, repo_root: Path) -> None:
    committed = load_file(repo_root / "models" / standins.SHIPPED[what])
    made = load_file(remade / standins.SHIPPED[what])
    assert committed.keys() == made.keys()
    for name, tensor in made.items():
        assert torch.equal(committed[name], tensor), name


def test_committed_files_are_small(repo_root: Path) -> None:
    sizes = [path.stat().st_size for path in (repo_root / "models").rglob("egox_standin*.safetensors")]
    assert sizes and sum(sizes) < 10_000_000
    trained = [path.stat().st_size for path in (repo_root / "models" / "demo").rglob("*.safetensors")]
    assert len(trained) == 3 and sum(trained) < 40_000_000


def test_stock_loaders_take_the_shipped_models(pack, repo_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = importlib.import_module(f"{pack.__name__}.nodes.host.paths")
    import folder_paths

    folders.add_model_folders()
    before = {kind: list(folder_paths.get_folder_paths(kind)) for kind in folders.MODEL_KINDS}
    folders.add_model_folders()
    assert {kind: folder_paths.get_folder_paths(kind) for kind in folders.MODEL_KINDS} == before, "twice adds nothing"
    for kind in folders.MODEL_KINDS:
        listed = [Path(folder) for folder in before[kind]]
        assert listed[-1] == repo_root / "models" / "demo" / kind, "the pack comes after the user's own folders"
        assert repo_root / "models" / kind not in listed, "stand-ins are in no list"
    folders.add_model_folders(folders.STANDINS)

    import nodes as host_nodes

    with caplog.at_level(logging.WARNING):
        (model,) = host_nodes.UNETLoader().load_unet(BASE_FILE, "default")
        host_nodes.VAELoader().load_vae(VAE_FILE)
    assert model.get_model_object("diffusion_model").in_dim == 36

    with caplog.at_level(logging.WARNING):
        (model,) = host_nodes.UNETLoader().load_unet(standins.SHIPPED["transformer"].name, "default")
        (vae,) = host_nodes.VAELoader().load_vae(standins.SHIPPED["vae"].name)
    said = [record.getMessage() for record in caplog.records]
    assert not [line for line in said if "missing" in line or "unexpected" in line or "keys" in line]
    transformer = model.get_model_object("diffusion_model")
    assert (transformer.in_dim, transformer.text_dim, transformer.img_emb) == (36, 1024, None)

    latent = vae.encode(torch.rand(9, 32, 48, 3))
    assert latent.shape == (1, 16, 3, 4, 6)
    assert vae.decode(latent).shape == (1, 9, 32, 48, 3)


def test_wan21_form_has_an_image_embedding(comfy_host, remade: Path, caplog: pytest.LogCaptureFixture) -> None:
    import comfy.clip_vision
    import comfy.model_base
    import comfy.sd
    import comfy.utils

    with caplog.at_level(logging.WARNING):
        model = comfy.sd.load_diffusion_model(str(remade / standins.TESTS_ONLY["transformer_img_emb"]))
    assert not [r for r in caplog.records if "unet" in r.getMessage()], "missing or unexpected keys"
    assert type(model.model) is comfy.model_base.WAN21
    assert model.get_model_object("diffusion_model").img_emb is not None

    vision = comfy.clip_vision.ClipVisionModel(standins.CLIP_VISION_CONFIG)
    missing, unexpected = vision.load_sd(comfy.utils.load_torch_file(str(remade / standins.TESTS_ONLY["clip_vision"])))
    assert not missing and not unexpected
    assert vision.encode_image(torch.rand(1, 32, 56, 3)).penultimate_hidden_states.shape == (1, 257, 1280)

    clip = comfy.sd.load_clip([str(remade / standins.TESTS_ONLY["text"])], clip_type=comfy.sd.CLIPType.WAN,
                              model_options={"umt5xxl_model_config": dict(standins.UMT5_CONFIG)})
    (encoded, _), = clip.encode_from_tokens_scheduled(clip.tokenize("a person pours tea"))
    assert encoded.shape == (1, 512, 4096) and encoded.isfinite().all()


@pytest.mark.parametrize(("what", "kind", "channels"), [("vace", "WAN21_Vace", 16), ("fun_control", "WAN21", 48)])
def test_forms_of_the_baselines(comfy_host, remade: Path, caplog: pytest.LogCaptureFixture, what: str, kind: str,
                                channels: int) -> None:
    import comfy.sd

    with caplog.at_level(logging.WARNING):
        model = comfy.sd.load_diffusion_model(str(remade / standins.TESTS_ONLY[what]))
    assert not [r for r in caplog.records if "unet" in r.getMessage()], "missing or unexpected keys"
    assert type(model.model).__name__ == kind
    assert model.get_model_object("diffusion_model").in_dim == channels
