"""Cancel runs during each stage, and check that no partial file stays."""

from pathlib import Path
from typing import Any

import pytest

from tests.prompts import SIZE, inputs_of_type, node_id_of_type, run_successfully, shrink_graph
from tools.setup.api_client import ApiClient, Outcome

STAGE_NODES = (
    "EgoXLoadExoVideo",
    "EgoXDepthAlign",
    "EgoXEgoPoseInput",
    "EgoXBuildScene",
    "EgoXRenderEgoPrior",
    "EgoXConditioning",
    "EgoXWanSampler",
    "EgoXDecodeEgoHalf",
)

PREVIEWS = {
    "EgoXDepthAlign": {"depth", "plot"},
    "EgoXRenderEgoPrior": {"prior", "coverage", "depth", "exo", "geometry"},
    "EgoXDecodeEgoHalf": {"ego"},
}
"""Clips that a finished stage shows on its node, by the first part of their file names in
temp/egox."""


def forget_results(client: ApiClient) -> None:
    """Unload models and drop cached results, so that the next prompt runs every node.

    ComfyUI's worker frees memory when it waits for a prompt or has ended one, without an answer:
    a small prompt makes sure that it has done so before the next one.
    """
    client.post("/free", {"unload_models": True, "free_memory": True})
    image_inputs = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    run_successfully(
        client,
        {
            "1": {"class_type": "EmptyImage", "inputs": image_inputs},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        },
    )


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def add_long_decoding(prompt: dict[str, Any]) -> dict[str, Any]:
    """Add a decoding to the prompt that takes long enough to be interrupted."""
    decode_inputs = inputs_of_type(prompt, "EgoXDecodeEgoHalf")
    latent_inputs = {"width": SIZE, "height": SIZE, "length": 241, "batch_size": 1}
    return {
        **prompt,
        "long": {"class_type": "EmptyHunyuanLatentVideo", "inputs": latent_inputs},
        node_id_of_type(prompt, "EgoXDecodeEgoHalf"): {
            "class_type": "EgoXDecodeEgoHalf",
            "inputs": {**decode_inputs, "latent": ["long", 0]},
        },
    }


def cancel_during(client: ApiClient, prompt: dict[str, Any], class_type: str) -> Outcome:
    """Run a prompt, and interrupt it when a node of the given type begins."""
    target_id = node_id_of_type(prompt, class_type)

    def on_event(event) -> None:
        name, data = event
        if name == "executing" and data.get("node") == target_id:
            client.interrupt(data["prompt_id"])

    outcome = client.run(prompt, on_event, timeout=600)
    assert outcome.status == "interrupted" and target_id in outcome.executed_nodes, outcome
    return outcome


def list_finished_types(outcome: Outcome, prompt: dict[str, Any]) -> set[str]:
    """List the types of the nodes that had ended before the interrupt."""
    return {prompt[node]["class_type"] for node in outcome.error["executed"] if node in prompt}


@pytest.fixture(scope="module")
def prompt(load_workflow) -> dict[str, Any]:
    """Build the demo prompt with enough sampling steps to be interrupted."""
    return shrink_graph(load_workflow("egox_demo"), steps=400)


@pytest.mark.parametrize("class_type", STAGE_NODES)
def test_a_cancelled_stage_leaves_no_files(client, prompt, server_base, class_type):
    forget_results(client)
    files_before = list_files(server_base.output), list_files(server_base.temp)
    outcome = cancel_during(
        client,
        add_long_decoding(prompt) if class_type == "EgoXDecodeEgoHalf" else prompt,
        class_type,
    )
    # On a busy machine a short stage may have ended before the interrupt struck. Previews may stay
    # of finished stages, and of one that was struck while it wrote them; what follows left nothing.
    begun_types = {*list_finished_types(outcome, prompt), outcome.error["node_type"]}
    assert class_type in begun_types
    assert list_files(server_base.output) == files_before[0]
    preview_names = {name for stage in begun_types for name in PREVIEWS.get(stage, ())}
    new_files = {
        name for name in list_files(server_base.temp) - files_before[1] if "egox" in name.lower()
    }
    assert {name.removeprefix("egox/").split("_")[0] for name in new_files} <= preview_names, (
        new_files
    )
    assert not [
        name for name in list_files(server_base.root) if ".part" in name or name.endswith(".tmp")
    ]
