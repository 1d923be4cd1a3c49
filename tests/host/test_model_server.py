"""The model path on the real server in the forms that the shipped workflows don't have."""

from typing import Any

from tools.setup.api_client import Event

from .prompts import id_of, of_type, ran, small, with_standins

SHARED_BY_PATCH = ("depth", "trajectory", "canvas", "lambda_g", "gga_mode", "recompute_exo")


def separate_nodes(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace Wan EgoX Sampler in a graph by the model patch and the host's own sampling nodes."""
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
    return prompt


def test_the_graph_of_separate_nodes(client, load_workflow):
    ran(client, separate_nodes(small(load_workflow("egox_demo"))))


def test_the_sampler_tells_the_time_that_is_left(client, load_workflow):
    prompt = small(load_workflow("egox_demo"))
    of_type(prompt, "EgoXWanSampler").update(seed=77, steps=3)  # so that it really runs
    texts = []

    def listen(event: Event) -> None:
        message = event[1].get("bytes", b"")
        if message[:4] == b"\x00\x00\x00\x03":  # the host's TEXT event
            texts.append(message[4:].decode("utf-8", errors="replace"))

    ran(client, prompt, listen)
    sampler_texts = [text.split(id_of(prompt, "EgoXWanSampler"), 1)[-1] for text in texts]
    begun = next(
        i for i, text in enumerate(sampler_texts) if text.startswith("loading the model (")
    )
    assert sampler_texts[begun].endswith("GB), then step 1 of 3")
    steps = [
        text for text in sampler_texts[begun + 1 :] if text.startswith("step ") and ";" not in text
    ]
    assert steps[:2] == ["step 1 of 3", "step 2 of 3"], texts
    assert steps[2].startswith("step 3 of 3, 0:0") and steps[2].endswith(" left")


def test_a_change_runs_only_what_depends_on_it(client, load_workflow):
    """Loaders, text, video and prior are none of it."""
    prompt = with_standins(small(load_workflow("egox_basic"), steps=1))
    ran(client, prompt)
    last = {"EgoXWanSampler", "EgoXDecodeEgoHalf"}
    lora = {"EgoXLoadLora", "EgoXConditioning"}  # the latter by what it remembers
    for kind, name, value, expected in (
        ("EgoXWanSampler", "lambda_g", 1.5, last),
        ("EgoXLoadLora", "strength", 0.9, last | lora),
        ("EgoXText", "negative", "blurred", last | {"EgoXText", "EgoXConditioning"}),
    ):
        of_type(prompt, kind)[name] = value
        kinds = {prompt[node]["class_type"] for node in ran(client, prompt).ran}
        egox = {kind for kind in kinds if kind.startswith("EgoX")}
        assert egox == expected and not any("Loader" in kind for kind in kinds), (name, kinds)
