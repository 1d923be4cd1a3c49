"""Bad input over HTTP: refused with got / expected / fix before sampling, and the server lives
on."""

from typing import Any

import numpy as np
import pytest

from tools.setup.api_client import ApiClient, PromptRefused

from .prompts import of_type, small, with_standins


@pytest.fixture(scope="module")
def prompt(load_workflow) -> dict[str, Any]:
    return load_workflow("egox_demo")


def refusal(client: ApiClient, prompt: dict[str, Any]) -> tuple[str, list[str]]:
    """Host's message on a bad prompt, and the types of the nodes that ran before it said so."""
    try:
        outcome = client.run(prompt, timeout=300)
    except PromptRefused as error:
        return str(error), []
    assert outcome.status == "error", f"accepted: {outcome.status}"
    return outcome.error_text, [prompt[node_id]["class_type"] for node_id in outcome.ran]


def change(prompt: dict[str, Any], kind: str, **values: Any) -> dict[str, Any]:
    changed = small(prompt)
    of_type(changed, kind).update(values)
    return changed


@pytest.fixture
def put(server_base, request):
    """``put(name, bytes)``: a file in the server's input folder, each test in a folder of its own;
    its name."""

    def place(name: str, content: bytes) -> str:
        path = server_base.input / request.node.originalname / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{request.node.originalname}/{name}"

    return place


def check(client: ApiClient, prompt: dict[str, Any], *words: str) -> None:
    """Refused in these words, before anything ran."""
    said, ran = refusal(client, prompt)
    for word in ("got", "expected", "Fix:", *words):
        assert word in said, f"{word!r} is not in: {said}"
    assert not ran, f"ran first: {ran}"
    assert client.version()  # it still answers, however late


def test_depth_that_needs_pickle(client, prompt, put, tmp_path):
    np.savez(tmp_path / "d.npz", depth_m=np.array([{"not": "numbers"}], dtype=object))
    name = put("pickled.npz", (tmp_path / "d.npz").read_bytes())
    check(client, change(prompt, "EgoXDepthAlign", depth_file=name, camera_file=""))


def test_a_model_that_is_no_36_channel_wan(client, prompt, server_base):
    """A tiny Wan text-to-video transformer: 16 channels in."""
    import torch
    from safetensors.torch import load_file, save_file

    whole = next(server_base.models.rglob("egox_standin_wan22_i2v.safetensors"))
    tensors = load_file(whole)
    tensors["patch_embedding.weight"] = (
        tensors["patch_embedding.weight"][:, :16].contiguous().to(torch.float16)
    )
    from safetensors import safe_open

    with safe_open(whole, framework="pt") as file:
        metadata = file.metadata()
    save_file(
        tensors, str(server_base.models / "diffusion_models" / "t2v.safetensors"), metadata=metadata
    )
    check(
        client,
        change(prompt, "UNETLoader", unet_name="t2v.safetensors"),
        "t2v.safetensors",
        "text-to-video",
        "36",
    )


@pytest.mark.parametrize(
    ("loader", "key", "folder", "content", "word"),
    [
        ("UNETLoader", "unet_name", "diffusion_models", b"<!DOCTYPE html>", "a web page"),
        ("EgoXLoadLora", "lora_name", "loras", b"version https://git-lfs", "git lfs pull"),
        ("VAELoader", "vae_name", "vae", b"", "empty"),
        ("EgoXTestsLoadTextEncoder", "clip_name", "text_encoders", "loras", "a LoRA"),
        ("EgoXTestsLoadClipVision", "clip_name", "clip_vision", "vae", "a Wan 2.1 VAE"),
        ("EgoXLoadLora", "lora_name", "loras", "wide", "a LoRA of this model"),
    ],
)
def test_weights_that_are_no_weights(
    client, load_workflow, server_base, loader, key, folder, content, word
):
    """At Run, by headers alone: no loader has run."""
    if content == "wide":
        from safetensors.torch import save

        from tools.rigs.standins import TransformerForm, lora_shapes, random_tensors

        content = save(random_tensors(lora_shapes(TransformerForm(dim=256), 4), 1))
    elif isinstance(content, str):
        content = next((server_base.models / content).glob("egox_standin_*")).read_bytes()
    (server_base.models / folder / "bad.safetensors").write_bytes(content)
    changed = with_standins(small(load_workflow("egox_basic")))
    of_type(changed, loader)[key] = "bad.safetensors"
    check(client, changed, "bad.safetensors", word)


def test_geometry_that_makes_no_sense(client, prompt):
    check(client, change(prompt, "EgoXWanSampler", lambda_g=0.0, gga_mode="paper"), "silence")
    without = change(prompt, "EgoXWanSampler", lambda_g=3.0)
    del of_type(without, "EgoXWanSampler")["depth"]
    check(client, without, "Depth Align")
