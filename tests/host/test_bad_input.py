"""Check that a real server refuses bad input with advice before sampling."""

from typing import Any

import pytest

from tests.prompts import inputs_of_type, shrink_graph, use_standin_loaders
from tools.setup.api_client import ApiClient, PromptRefused


@pytest.fixture(scope="module")
def prompt(load_workflow) -> dict[str, Any]:
    return load_workflow("egox_demo")


def run_refused(client: ApiClient, prompt: dict[str, Any]) -> tuple[str, list[str]]:
    """Run a bad prompt, and return the error message and the executed nodes."""
    try:
        outcome = client.run(prompt, timeout=300)
    except PromptRefused as error:
        return str(error), []
    assert outcome.status == "error", f"accepted: {outcome.status}"
    return outcome.error_text, [prompt[node_id]["class_type"] for node_id in outcome.executed_nodes]


def change_inputs(prompt: dict[str, Any], class_type: str, **values: Any) -> dict[str, Any]:
    changed_prompt = shrink_graph(prompt)
    inputs_of_type(changed_prompt, class_type).update(values)
    return changed_prompt


def check_refused(client: ApiClient, prompt: dict[str, Any], *words: str) -> None:
    """Check that a prompt is refused with these words before a node runs."""
    message, executed_types = run_refused(client, prompt)
    for word in ("got", "expected", "Fix:", *words):
        assert word in message, f"{word!r} is not in: {message}"
    assert not executed_types, f"ran first: {executed_types}"
    assert client.version()  # it still answers, however late


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
def test_files_that_are_not_the_expected_weights_are_refused(
    client, load_workflow, server_base, loader, key, folder, content, word
):
    """Check that wrong weights are refused by the file's header, before a loader runs."""
    if content == "wide":
        from safetensors.torch import save

        from tools.rigs.standins import TransformerForm, draw_tensors, lora_shapes

        content = save(draw_tensors(lora_shapes(TransformerForm(dim=256), 4), 1))
    elif isinstance(content, str):
        content = next((server_base.models / content).glob("egox_standin_*")).read_bytes()
    (server_base.models / folder / "bad.safetensors").write_bytes(content)
    changed_prompt = use_standin_loaders(shrink_graph(load_workflow("egox_basic")))
    inputs_of_type(changed_prompt, loader)[key] = "bad.safetensors"
    check_refused(client, changed_prompt, "bad.safetensors", word)


def test_guidance_without_depth_is_refused(client, prompt):
    prompt_without_depth = change_inputs(prompt, "EgoXWanSampler", lambda_g=3.0)
    del inputs_of_type(prompt_without_depth, "EgoXWanSampler")["depth"]
    check_refused(client, prompt_without_depth, "Depth Align")
