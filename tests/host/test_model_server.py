"""Test sampling on a real server in graphs other than the shipped ones."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from tools.setup.api_client import Event
from tools.setup.base_dir import BaseDir

from .prompts import (
    end_at,
    inputs_of_type,
    node_id_of_type,
    run_successfully,
    shrink_graph,
    use_standin_loaders,
)

SHARED_BY_PATCH = ("depth", "trajectory", "canvas", "lambda_g", "gga_mode", "recompute_exo")


def use_separate_nodes(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace Wan EgoX Sampler in a graph by EgoX Model Patch and ComfyUI's own sampling nodes."""
    node_id = node_id_of_type(prompt, "EgoXWanSampler")
    sampler_inputs = prompt[node_id]["inputs"]
    prompt["patch"] = {
        "class_type": "EgoXModelPatch",
        "inputs": {
            "model": sampler_inputs["model"],
            "backend": "auto",
            **{name: sampler_inputs[name] for name in SHARED_BY_PATCH},
        },
    }
    prompt["released"] = {
        "class_type": "EgoXReleasedSampling",
        "inputs": {"steps": sampler_inputs["steps"], "shift": 3.0},
    }
    prompt["noise"] = {
        "class_type": "RandomNoise",
        "inputs": {"noise_seed": sampler_inputs["seed"]},
    }
    prompt["guider"] = {
        "class_type": "CFGGuider",
        "inputs": {
            "model": ["patch", 0],
            "positive": sampler_inputs["positive"],
            "negative": sampler_inputs["negative"],
            "cfg": sampler_inputs["cfg"],
        },
    }
    prompt[node_id] = {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["noise", 0],
            "guider": ["guider", 0],
            "sampler": ["released", 0],
            "sigmas": ["released", 1],
            "latent_image": sampler_inputs["latent"],
        },
    }
    return prompt


NODE_SETTINGS = {
    "SkipLayerGuidanceDiT": {
        "double_layers": "0",
        "single_layers": "",
        "scale": 3.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "rescaling_scale": 0.0,
    },
    "EasyCache": {
        "reuse_threshold": 3.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "verbose": False,
    },
    "EgoXTestsHalveModel": {},
}


@pytest.mark.parametrize(
    ("exo", "class_type", "expected"),
    [
        ("other", "SkipLayerGuidanceDiT", "exo computed in 4 of 8 forwards"),
        ("alone", "EasyCache", "add the node of ComfyUI's nodes_easycache before the"),
        (
            "other",
            "EgoXTestsHalveModel",
            "exo computed in 4 of 4 forwards; egox_standin_nodes needs the whole canvas",
        ),
    ],
)
def test_other_nodes_beside_the_patch_on_a_server(
    client, load_workflow, server_base, exo, class_type, expected
):
    """Check whose a node is where ComfyUI's server loads it, by three rows of the table that
    test_model_exo_company.py has whole."""
    prompt = use_separate_nodes(shrink_graph(load_workflow("egox_demo"), frames=1, steps=4))
    prompt["patch"]["inputs"]["recompute_exo"] = 2
    lora_inputs = inputs_of_type(prompt, "EgoXLoadLora")
    if exo == "alone":
        lora_inputs["lora_name"] = write_lora_of_exo_alone(server_base, lora_inputs["lora_name"])
    target = prompt["guider"]["inputs"]
    prompt["other"] = {
        "class_type": class_type,
        "inputs": {**NODE_SETTINGS[class_type], "model": target["model"]},
    }
    target["model"] = ["other", 0]
    texts = []
    outcome = client.run(end_at(prompt, "SamplerCustomAdvanced"), record_texts(texts), timeout=600)
    answer = outcome.error_text if outcome.status == "error" else texts[-1]
    assert outcome.status == ("success" if expected.startswith("exo") else "error"), answer
    assert expected in answer and "geometry acted in" not in answer
    assert not re.search(r"\w[\\/]\w", answer), "no path"


def write_lora_of_exo_alone(base: BaseDir, name: str) -> str:
    """Write a shipped LoRA again, as if it had been trained with exo alone."""
    with safe_open(base.models / "loras" / name, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    save_file(
        tensors, base.models / "loras" / "alone.safetensors", {**metadata, "egox.exo": "alone"}
    )
    return "alone.safetensors"


def record_texts(texts: list[str]) -> Callable[[Event], None]:
    """Make a listener that records the texts that nodes show, after the name of the node."""

    def record_text(event: Event) -> None:
        message = event[1].get("bytes", b"")
        if message[:4] == b"\x00\x00\x00\x03":  # the host's TEXT event
            texts.append(message[4:].decode("utf-8", errors="replace"))

    return record_text


def test_the_sampler_shows_the_time_that_is_left(client, load_workflow):
    prompt = end_at(shrink_graph(load_workflow("egox_demo"), steps=3), "EgoXWanSampler")
    inputs_of_type(prompt, "EgoXWanSampler")["seed"] = 77  # so that it really runs
    texts = []
    run_successfully(client, prompt, record_texts(texts))
    sampler_texts = [text.split(node_id_of_type(prompt, "EgoXWanSampler"), 1)[-1] for text in texts]
    first_index = next(
        i for i, text in enumerate(sampler_texts) if text.startswith("loading the model (")
    )
    assert sampler_texts[first_index].endswith("GB), then step 1 of 3")
    step_texts = [
        text
        for text in sampler_texts[first_index + 1 :]
        if text.startswith("step ") and ";" not in text
    ]
    assert step_texts[:2] == ["step 1 of 3", "step 2 of 3"], texts
    assert step_texts[2].startswith("step 3 of 3, 0:0")
    assert step_texts[2].endswith(" left")


def test_a_changed_input_runs_only_the_nodes_that_depend_on_it(client, load_workflow):
    prompt = use_standin_loaders(shrink_graph(load_workflow("egox_basic"), steps=1))
    prompt = end_at(prompt, sampler := "EgoXWanSampler")
    run_successfully(client, prompt)
    for class_type, name, value, expected in (
        (sampler, "lambda_g", 1.5, {sampler}),
        # Conditioning by what it remembers.
        ("EgoXLoadLora", "strength", 0.9, {sampler, "EgoXLoadLora", "EgoXConditioning"}),
        ("EgoXText", "negative", "blurred", {sampler, "EgoXText", "EgoXConditioning"}),
    ):
        inputs_of_type(prompt, class_type)[name] = value
        executed_types = {
            prompt[node]["class_type"] for node in run_successfully(client, prompt).executed_nodes
        }
        executed_egox_types = {each for each in executed_types if each.startswith("EgoX")}
        assert executed_egox_types == expected and not any(
            "Loader" in class_type for class_type in executed_types
        ), (name, executed_types)
