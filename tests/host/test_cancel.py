"""Cancel in the midst of each stage: nothing half-written, the server lives, the next prompt
runs."""

from pathlib import Path
from typing import Any

import pytest

from tools.setup.api_client import ApiClient, Outcome

from .prompts import SIZE, id_of, of_type, ran, small

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
"""Clips that a finished stage shows on its node, by the first part of their files' names in
temp/egox."""


def forget_results(client: ApiClient) -> None:
    """Unload models and drop cached results, so that the next prompt runs every node.

    The host's worker hears the wish when it waits for a prompt or has ended one, and says nothing of
    it: with a small prompt between, it has heard it before the next prompt begins.
    """
    client.post("/free", {"unload_models": True, "free_memory": True})
    image = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    ran(
        client,
        {
            "1": {"class_type": "EmptyImage", "inputs": image},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        },
    )


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def decoding_much(prompt: dict[str, Any]) -> dict[str, Any]:
    """Give the prompt a latent of many frames to decode and none to sample, because the stand-ins'
    own is decoded in less than a message takes."""
    decode = of_type(prompt, "EgoXDecodeEgoHalf")
    long = {"width": SIZE, "height": SIZE, "length": 241, "batch_size": 1}
    return {
        **prompt,
        "long": {"class_type": "EmptyHunyuanLatentVideo", "inputs": long},
        id_of(prompt, "EgoXDecodeEgoHalf"): {
            "class_type": "EgoXDecodeEgoHalf",
            "inputs": {**decode, "latent": ["long", 0]},
        },
    }


def cancel_in(client: ApiClient, prompt: dict[str, Any], kind: str) -> Outcome:
    """Run ``prompt`` and interrupt it as soon as the node of type ``kind`` has begun."""
    target = id_of(prompt, kind)

    def on_event(event) -> None:
        name, data = event
        if name == "executing" and data.get("node") == target:
            client.interrupt(data["prompt_id"])

    outcome = client.run(prompt, on_event, timeout=600)
    assert outcome.status == "interrupted" and target in outcome.ran, outcome
    return outcome


def finished(outcome: Outcome, prompt: dict[str, Any]) -> set[str]:
    """List the types of the nodes that had ended before the interrupt, by the host's record."""
    return {prompt[node]["class_type"] for node in outcome.error["executed"] if node in prompt}


@pytest.fixture(scope="module")
def prompt(load_workflow) -> dict[str, Any]:
    """Give the demo so many steps that it never ends before an interrupt."""
    return small(load_workflow("egox_demo"), steps=400)


@pytest.mark.parametrize("kind", STAGE_NODES)
def test_cancel_during(client, prompt, server_base, kind):
    forget_results(client)
    before = files(server_base.output), files(server_base.temp)
    outcome = cancel_in(
        client, decoding_much(prompt) if kind == "EgoXDecodeEgoHalf" else prompt, kind
    )
    # On a busy machine a short stage may have ended before the interrupt struck. Previews may stay of
    # finished stages, and of one that was struck while it wrote them; what follows left nothing.
    begun = {*finished(outcome, prompt), outcome.error["node_type"]}
    assert kind in begun
    assert files(server_base.output) == before[0]
    preview_names = {name for stage in begun for name in PREVIEWS.get(stage, ())}
    new_files = {name for name in files(server_base.temp) - before[1] if "egox" in name.lower()}
    assert {name.removeprefix("egox/").split("_")[0] for name in new_files} <= preview_names, (
        new_files
    )
    assert not [
        name for name in files(server_base.root) if ".part" in name or name.endswith(".tmp")
    ]
