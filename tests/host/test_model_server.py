"""The model path on the real server in the forms that the shipped workflows don't have."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tools.rigs import standins as standins
from tools.setup.api_client import WebSocket

from .prompts import id_of, of_type, ran, small

SHARED_BY_PATCH = ("depth", "trajectory", "canvas", "lambda_g", "gga_mode", "rays", "recompute_exo")


def separate_nodes(prompt: dict[str, Any], sampler: str) -> dict[str, Any]:
    """The same graph with Wan EgoX Sampler taken apart: the model patch and the host's own sampling
    nodes."""
    prompt = copy.deepcopy(prompt)
    node_id = id_of(prompt, "EgoXWanSampler")
    inputs = prompt[node_id]["inputs"]
    prompt["patch"] = {
        "class_type": "EgoXModelPatch",
        "inputs": {
            "model": inputs["model"],
            "backend": "auto",
            **{name: inputs[name] for name in SHARED_BY_PATCH},
        },
    }
    if sampler == "released":
        prompt["released"] = {
            "class_type": "EgoXReleasedSampling",
            "inputs": {"steps": inputs["steps"], "shift": 3.0},
        }
        prompt["noise"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": inputs["seed"]}}
        prompt["guider"] = {
            "class_type": "CFGGuider",
            "inputs": {
                "model": ["patch", 0],
                "positive": inputs["positive"],
                "negative": inputs["negative"],
                "cfg": inputs["cfg"],
            },
        }
        prompt[node_id] = {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["released", 0],
                "sigmas": ["released", 1],
                "latent_image": inputs["latent"],
            },
        }
    else:
        prompt[node_id] = {
            "class_type": "KSampler",
            "inputs": {
                "model": ["patch", 0],
                "seed": inputs["seed"],
                "steps": inputs["steps"],
                "cfg": inputs["cfg"],
                "sampler_name": sampler,
                "scheduler": "simple",
                "positive": inputs["positive"],
                "negative": inputs["negative"],
                "latent_image": inputs["latent"],
                "denoise": 1.0,
            },
        }
    return prompt


@pytest.mark.parametrize("sampler", ["released", "euler"])
def test_the_graph_of_separate_nodes(client, load_workflow, sampler):
    ran(client, separate_nodes(small(load_workflow("egox_demo")), sampler))


def test_the_sampler_tells_the_time_that_is_left(client, load_workflow):
    prompt = small(load_workflow("egox_demo"))
    of_type(prompt, "EgoXWanSampler")["seed"] = 77  # so that it really runs
    texts = []
    with WebSocket(client.address, "listener") as listener:
        ran(client, prompt)
        while (message := listener.receive(timeout=1.0)) is not None:
            if (
                isinstance(message, bytes) and message[:4] == b"\x00\x00\x00\x03"
            ):  # the host's TEXT event
                texts.append(message[4:].decode("utf-8", errors="replace"))
    told = [text for text in texts if text.endswith(" left")]
    assert [text[-len("step 1/2, 0:00 left") :][:8] for text in told] == ["step 1/2", "step 2/2"], (
        texts
    )
