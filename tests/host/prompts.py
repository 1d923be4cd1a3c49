"""The shipped graphs made small enough for tests, and with loaders that read stand-ins."""

import copy
from pathlib import Path
from typing import Any

from tools.setup.api_client import ApiClient, Outcome
from tools.setup.base_dir import BaseDir
from tools.setup.demo import DemoOptions, apply_options, use_standins

FRAMES, SIZE, STEPS = 9, 64, 2

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
"""Loader -> (the class that stands in for it, its values). Stock loaders are kept where they read a
small file."""


def small(
    prompt: dict[str, Any], *, frames: int = FRAMES, size: int = SIZE, steps: int = STEPS
) -> dict[str, Any]:
    """Shrink a graph of the stand-ins, whose pictures aren't tested."""
    small_prompt = apply_options(
        copy.deepcopy(prompt), DemoOptions(frames=frames, size=size, steps=steps), None
    )
    return (
        use_standins(small_prompt)
        if "LotusConditioning" in {node["class_type"] for node in small_prompt.values()}
        else small_prompt
    )


def with_standins(prompt: dict[str, Any]) -> dict[str, Any]:
    """Change a graph of this test's own to models that are available here."""
    for node in prompt.values():
        if node["class_type"] in STANDIN_LOADERS:
            kind, values = STANDIN_LOADERS[node["class_type"]]
            if kind is not None:
                node["class_type"], node["inputs"] = kind, {}
            node["inputs"].update(values)
    return prompt


def ran(client: ApiClient, prompt: dict[str, Any], *on_event: Any) -> Outcome:
    """Run a prompt, which must succeed."""
    outcome = client.run(prompt, *on_event, timeout=600)
    assert outcome.status == "success", outcome.error_text
    return outcome


def of_type(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    """Find the inputs of the one node of a type."""
    return prompt[id_of(prompt, kind)]["inputs"]


def id_of(prompt: dict[str, Any], kind: str) -> str:
    node_ids = [node_id for node_id, node in prompt.items() if node["class_type"] == kind]
    assert len(node_ids) == 1, f"{len(node_ids)} nodes of {kind}"
    return node_ids[0]


def saved_videos(outcome: Outcome, prompt: dict[str, Any], base: BaseDir) -> dict[str, Path]:
    """List the files of every SaveVideo that ran, by the prefix's last part."""
    videos = {}
    for node_id, output in outcome.outputs.items():
        for entry in output.get("images", []):
            prefix = prompt[node_id]["inputs"]["filename_prefix"]
            videos[Path(prefix).name] = base.output / entry["subfolder"] / entry["filename"]
    return videos
