"""Cancel in the midst of each stage: nothing half-written, the server lives, the next prompt
runs."""

from __future__ import annotations

import time
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
    "EgoXDepthAlign": {"depth"},
    "EgoXRenderEgoPrior": {"prior", "coverage", "depth", "exo", "geometry"},
}
"""Clips that a finished stage shows on its node, by the first part of their files' names in
temp/egox."""


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def decoding_much(prompt: dict[str, Any]) -> dict[str, Any]:
    """``prompt`` with a latent of many frames to decode: the stand-ins' own is decoded in less than
    a message takes."""
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
    sent: list[float] = []

    def on_event(event) -> None:
        name, data = event
        if name == "executing" and data.get("node") == target and not sent:
            sent.append(time.monotonic())
            client.interrupt(data["prompt_id"])

    outcome = client.run(prompt, on_event, timeout=300)
    assert sent, f"{kind} did not run: {outcome}"
    return outcome


@pytest.fixture(scope="module")
def prompt(load_workflow) -> dict[str, Any]:
    return small(load_workflow("egox_demo"), steps=4)


@pytest.mark.parametrize("kind", STAGE_NODES)
def test_cancel_during(client, prompt, server_base, kind):
    client.forget_results()
    before = files(server_base.output), files(server_base.temp)
    outcome = cancel_in(
        client, decoding_much(prompt) if kind == "EgoXDecodeEgoHalf" else prompt, kind
    )
    assert outcome.status == "interrupted", outcome.error_text
    assert id_of(prompt, kind) in outcome.ran
    # Previews of finished stages may stay; the cancelled one and what follows left nothing.
    assert files(server_base.output) == before[0]
    finished = STAGE_NODES[: STAGE_NODES.index(kind)]
    shown = {name for stage in finished for name in PREVIEWS.get(stage, ())}
    made = {name for name in files(server_base.temp) - before[1] if "egox" in name.lower()}
    assert {name.removeprefix("egox/").split("_")[0] for name in made} <= shown, made
    assert not [
        name for name in files(server_base.root) if ".part" in name or name.endswith(".tmp")
    ]


def test_the_next_prompt_runs_after_all_that(client, prompt, server_base):
    for kind in ("EgoXWanSampler", "EgoXBuildScene"):
        client.forget_results()
        assert cancel_in(client, prompt, kind).status == "interrupted"
        ran(client, prompt)


def test_cancel_in_the_sampler_does_not_wait_for_its_end(client, load_workflow):
    """With many steps ahead the interrupt takes effect between two of them."""
    long = small(load_workflow("egox_demo"), steps=400)
    client.forget_results()
    sampler = id_of(long, "EgoXWanSampler")
    steps: list[int] = []
    asked: list[float] = []

    def on_event(event) -> None:
        name, data = event
        state = data.get("nodes", {}).get(sampler) if name == "progress_state" else None
        if state and state["value"] >= 2 and not steps:
            steps.append(int(state["value"]))
            asked.append(time.monotonic())
            client.interrupt(data["prompt_id"])

    outcome = client.run(long, on_event, timeout=300)
    assert outcome.status == "interrupted" and steps and steps[0] < 100
    assert time.monotonic() - asked[0] < 30
