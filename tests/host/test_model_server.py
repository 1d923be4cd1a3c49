"""Test sampling on a real server in graphs other than the shipped ones."""

from typing import Any

from tools.setup.api_client import Event

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


def test_a_graph_of_patch_and_comfyuis_sampler_runs(client, load_workflow):
    prompt = use_separate_nodes(shrink_graph(load_workflow("egox_demo")))
    run_successfully(client, end_at(prompt, "SamplerCustomAdvanced"))


def test_the_sampler_shows_the_time_that_is_left(client, load_workflow):
    prompt = end_at(shrink_graph(load_workflow("egox_demo"), steps=3), "EgoXWanSampler")
    inputs_of_type(prompt, "EgoXWanSampler")["seed"] = 77  # so that it really runs
    texts = []

    def record_text(event: Event) -> None:
        message = event[1].get("bytes", b"")
        if message[:4] == b"\x00\x00\x00\x03":  # the host's TEXT event
            texts.append(message[4:].decode("utf-8", errors="replace"))

    run_successfully(client, prompt, record_text)
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
