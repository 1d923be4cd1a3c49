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
    """Run a bad prompt, and return the host's message and the types of the nodes that ran before
    it."""
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


def check(client: ApiClient, prompt: dict[str, Any], *words: str) -> None:
    """Check that a prompt is refused in these words, before anything ran."""
    message, ran = refusal(client, prompt)
    for word in ("got", "expected", "Fix:", *words):
        assert word in message, f"{word!r} is not in: {message}"
    assert not ran, f"ran first: {ran}"
    assert client.version()  # it still answers, however late


def test_depth_that_needs_pickle(client, prompt, server_base):
    content = np.array([{"not": "numbers"}], dtype=object)
    np.savez(server_base.input / "pickled.npz", depth_m=content)
    check(client, change(prompt, "EgoXDepthAlign", depth_file="pickled.npz", camera_file=""))


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
    """At Run, by headers alone: no loader has run. What they tell: tests/core/wan."""
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
    without = change(prompt, "EgoXWanSampler", lambda_g=3.0)
    del of_type(without, "EgoXWanSampler")["depth"]
    check(client, without, "Depth Align")
