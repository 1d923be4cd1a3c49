"""Shrink shipped graphs for tests, and replace their models by stand-ins."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.setup.api_client import ApiClient, Event, Outcome
from tools.setup.base_dir import BaseDir
from tools.setup.demo import DemoOptions, apply_options, use_standins

FRAMES, SIZE, STEPS = 5, 64, 2

STANDIN_LOADERS = {
    "UNETLoader": (None, {"unet_name": "egox_standin_wan21_i2v.safetensors"}),
    "VAELoader": (None, {"vae_name": "egox_standin_wan_vae.safetensors"}),
    "CLIPLoader": ("EgoXTestsLoadTextEncoder", {"clip_name": "egox_standin_umt5.safetensors"}),
    "CLIPVisionLoader": (
        "EgoXTestsLoadClipVision",
        {"clip_name": "egox_standin_clip_vision.safetensors"},
    ),
    "EgoXLoadLora": (None, {"lora_name": "egox_standin_lora_wan21.safetensors"}),
}
"""Class that replaces each loader, with its inputs, where None keeps a loader that reads a small
file."""

SHARED_BY_PATCH = ("depth", "trajectory", "canvas", "lambda_g", "gga_mode", "recompute_exo")
"""Inputs that *Wan EgoX Sampler* has in common with *EgoX Model Patch*."""

DETECTORS = frozenset(
    {
        "CheckpointLoaderSimple",
        "CLIPTextEncode",
        "SAM3_VideoTrack",
        "SAM3_Detect",
        "SDPoseKeypointExtractor",
        "LoadMoGeModel",
        "MoGeInference",
        "LoadDA3Model",
        "DA3Inference",
        "TextGenerate",
    }
)
"""Types of nodes that tests/standin_nodes defines under another name."""


def shrink_graph(
    prompt: dict[str, Any], *, frames: int = FRAMES, size: int = SIZE, steps: int = STEPS
) -> dict[str, Any]:
    """Lower the frames, size and steps of a graph."""
    small_prompt = apply_options(
        copy.deepcopy(prompt), DemoOptions(frames=frames, size=size, steps=steps), None
    )
    return (
        use_standins(small_prompt)
        if "LotusConditioning" in {node["class_type"] for node in small_prompt.values()}
        else small_prompt
    )


def use_standin_loaders(prompt: dict[str, Any]) -> dict[str, Any]:
    """Replace the models of a graph by stand-ins that are available here."""
    for node in prompt.values():
        if node["class_type"] in STANDIN_LOADERS:
            kind, values = STANDIN_LOADERS[node["class_type"]]
            if kind is not None:
                node["class_type"] = kind
                node["inputs"] = {}
            node["inputs"].update(values)
    return prompt


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


def record_texts(texts: list[str]) -> Callable[[Event], None]:
    """Make a listener that records the texts that nodes show, after the name of the node."""

    def record_text(event: Event) -> None:
        message = event[1].get("bytes", b"")
        if message[:4] == b"\x00\x00\x00\x03":  # the host's TEXT event
            texts.append(message[4:].decode("utf-8", errors="replace"))

    return record_text


def run_successfully(client: ApiClient, prompt: dict[str, Any], *on_event: Any) -> Outcome:
    """Run a prompt on the server, and fail if it doesn't succeed."""
    outcome = client.run(prompt, *on_event, timeout=600)
    assert outcome.status == "success", outcome.error_text
    return outcome


def inputs_of_type(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    """Find the inputs of the prompt's only node of a type."""
    return prompt[node_id_of_type(prompt, kind)]["inputs"]


def node_id_of_type(prompt: dict[str, Any], kind: str) -> str:
    node_ids = [node_id for node_id, node in prompt.items() if node["class_type"] == kind]
    assert len(node_ids) == 1, f"{len(node_ids)} nodes of {kind}"
    return node_ids[0]


def end_at(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    """Keep what leads to the only node of a type, and show its first output instead of the rest."""
    end_id = node_id_of_type(prompt, kind)
    kept_ids, waiting_ids = set(), [end_id]
    while waiting_ids:
        kept_ids.add(node_id := waiting_ids.pop())
        sources = prompt[node_id]["inputs"].values()
        waiting_ids += {link[0] for link in sources if isinstance(link, list)} - kept_ids
    kept_prompt = {node_id: node for node_id, node in prompt.items() if node_id in kept_ids}
    return kept_prompt | {"end": {"class_type": "PreviewAny", "inputs": {"source": [end_id, 0]}}}


def saved_videos(outcome: Outcome, prompt: dict[str, Any], base: BaseDir) -> dict[str, Path]:
    """List the videos that a run saved, by the last part of their name prefix."""
    videos = {}
    for node_id, output in outcome.outputs.items():
        for entry in output.get("images", []):
            prefix = prompt[node_id]["inputs"]["filename_prefix"]
            videos[Path(prefix).name] = base.output / entry["subfolder"] / entry["filename"]
    return videos
