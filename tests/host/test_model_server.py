"""The model path on the real server in the forms that the shipped workflows don't have."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.host.gguf_file import write_gguf
from tools.rigs import standins as standins
from tools.setup.api_client import ApiClient, WebSocket
from tools.setup.base_dir import BaseDir

from .prompts import id_of, of_type, small, with_standins

SHARED_BY_PATCH = ("depth", "trajectory", "canvas", "lambda_g", "gga_mode", "rays", "recompute_exo")


def separate_nodes(prompt: dict[str, Any], sampler: str) -> dict[str, Any]:
    """The same graph with Wan EgoX Sampler taken apart: the model patch and the host's own sampling nodes."""
    prompt = copy.deepcopy(prompt)
    node_id = id_of(prompt, "EgoXWanSampler")
    inputs = prompt[node_id]["inputs"]
    prompt["patch"] = {"class_type": "EgoXModelPatch", "inputs": {
        "model": inputs["model"], "backend": "auto", **{name: inputs[name] for name in SHARED_BY_PATCH}}}
    if sampler == "released":
        prompt["released"] = {"class_type": "EgoXReleasedSampling", "inputs": {"steps": inputs["steps"], "shift": 3.0}}
        prompt["noise"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": inputs["seed"]}}
        prompt["guider"] = {"class_type": "CFGGuider", "inputs": {
            "model": ["patch", 0], "positive": inputs["positive"], "negative": inputs["negative"],
            "cfg": inputs["cfg"]}}
        prompt[node_id] = {"class_type": "SamplerCustomAdvanced", "inputs": {
            "noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["released", 0], "sigmas": ["released", 1],
            "latent_image": inputs["latent"]}}
    else:
        prompt[node_id] = {"class_type": "KSampler", "inputs": {
            "model": ["patch", 0], "seed": inputs["seed"], "steps": inputs["steps"], "cfg": inputs["cfg"],
            "sampler_name": sampler, "scheduler": "simple", "positive": inputs["positive"],
            "negative": inputs["negative"], "latent_image": inputs["latent"], "denoise": 1.0}}
    return prompt


@pytest.mark.parametrize("sampler", ["released", "euler"])
def test_the_graph_of_separate_nodes(client: ApiClient, load_workflow, sampler: str) -> None:
    outcome = client.run(separate_nodes(small(load_workflow("egox_demo")), sampler), timeout=300)
    assert outcome.status == "success", outcome.error_text


def test_gguf_weights_through_the_loader_pack(client: ApiClient, load_workflow, shared_dir: Path,
                                              server_base: BaseDir) -> None:
    """The quantised transformer of Wan 2.1's form, with LoRA, patch and released sampling on it."""
    pytest.importorskip("gguf", reason="the gguf package (extra: dev) quantises the stand-in")
    tensors, _ = standins.transformer(standins.WAN21_I2V, standins.SEED + 1)
    write_gguf(server_base.models / "diffusion_models" / "standin-Q8_0.gguf", tensors)
    prompt = with_standins(small(load_workflow("egox_basic")))
    loader = id_of(prompt, "UNETLoader")
    prompt[loader] = {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": "standin-Q8_0.gguf"}}
    of_type(prompt, "EgoXWanSampler")["recompute_exo"] = 0
    outcome = client.run(prompt, timeout=300)
    assert outcome.status == "success", outcome.error_text


def test_the_sampler_tells_the_time_that_is_left(client: ApiClient, load_workflow) -> None:
    prompt = small(load_workflow("egox_demo"))
    of_type(prompt, "EgoXWanSampler")["seed"] = 77  # so that it really runs
    texts = []
    with WebSocket(client.address, "listener") as listener:
        outcome = client.run(prompt, timeout=300)
        assert outcome.status == "success", outcome.error_text
        while (message := listener.receive(timeout=1.0)) is not None:
            if isinstance(message, bytes) and message[:4] == b"\x00\x00\x00\x03":  # the host's TEXT event
                texts.append(message[4:].decode("utf-8", errors="replace"))
    told = [text for text in texts if text.endswith(" left")]
    assert [text[-len("step 1/2, 0:00 left"):][:8] for text in told] == ["step 1/2", "step 2/2"], texts


def test_the_exo_cache_gives_all_back_on_the_server(client: ApiClient, load_workflow) -> None:
    """At the end, on cancel, on an error, and when another model takes its place."""
    base = small(load_workflow("egox_demo"), steps=5)
    sampler = id_of(base, "EgoXWanSampler")

    def run(seed: int, fail_at: int = 0, strength: float = 1.0, cancel_at: int = 0):
        prompt = copy.deepcopy(base)
        inputs = prompt[sampler]["inputs"]
        of_type(prompt, "EgoXLoadLora")["strength"] = strength
        prompt["watch"] = {"class_type": "EgoXTestsWatchExo",
                           "inputs": {"model": inputs["model"], "fail_at": fail_at}}
        inputs.update(model=["watch", 0], recompute_exo=4, seed=seed)

        def on_event(event) -> None:
            name, data = event
            if cancel_at and name == "progress" and data.get("node") == sampler and data["value"] == cancel_at:
                client.interrupt(data["prompt_id"])

        status = client.run(prompt, on_event, timeout=300).status
        seen = client.run({"memory": {"class_type": "EgoXTestsExoMemory", "inputs": {"number": seed}}}, timeout=60)
        return status, *seen.outputs["memory"]["bytes"]

    for expected, arguments in (("success", {}), ("error", {"fail_at": 3}), ("interrupted", {"cancel_at": 2}),
                                ("success", {"strength": 0.5})):
        status, most, now = run(900 + len(str(arguments)), **arguments)
        assert (status, now) == (expected, 0) and most > 0
