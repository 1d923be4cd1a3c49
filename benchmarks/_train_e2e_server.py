"""The trained LoRA in the real server: loaded by the pack's nodes, sampled, and compared at two strengths."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from devtools.base_dir import make_base_dir
from devtools.demo import DemoOptions, apply_options, stage_take
from devtools.environment import Environment
from devtools.host import find_host
from devtools.layout import Layout
from devtools.server import Server
from devtools.workflow import to_prompt
from egox_core.frame_selection import select_frames
from egox_core.video import probe_video, read_frames


def host_environment() -> Environment:
    """The host that tests and demo use, under this Python. Raises SetupError where there is none."""
    return Environment(find_host(), Path(sys.executable), Layout())


def sample_in_server(environment: Environment, work: Path, files: dict[str, Path], take: Path, *, frames: int,
                     size: int, steps: int) -> dict[str, Any]:
    """Runs the demo's graph with these weights on one take at LoRA strength 1 and 0.

    Args:
        files: ``base``, ``vae``, ``lora``: copied into the server's own model folders.

    Returns:
        What ran, and how far the two videos lie apart (mean absolute difference, 0...255).
    """
    base = make_base_dir(work / "server", environment.layout)
    names = {}
    for kind, folder in (("base", "diffusion_models"), ("vae", "vae"), ("lora", "loras")):
        names[kind] = f"egox_e2e_{kind}.safetensors"
        target = base.models / folder / names[kind]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[kind], target)
    staged = stage_take(take, base)
    videos = {}
    with Server(environment, base, work / "server.log", variables={"OMP_NUM_THREADS": "1"}) as server:
        saved = json.loads((environment.layout.repo / "workflows" / "egox_demo.json").read_text(encoding="utf-8"))
        prompt = to_prompt(saved, server.client.object_info())
        prompt = apply_options(prompt, DemoOptions(frames=frames, size=size, steps=steps), staged)
        for strength in (1.0, 0.0):
            _put(prompt, "UNETLoader", unet_name=names["base"])
            _put(prompt, "VAELoader", vae_name=names["vae"])
            _put(prompt, "EgoXLoadLora", lora_name=names["lora"], strength=strength)
            outcome = server.client.run(prompt)
            if outcome.status != "success":
                raise RuntimeError(f"the graph failed: {outcome.error_text}\n{server.log_tail(40)}")
            videos[strength] = _ego_video(outcome, prompt, base.output)
        version = server.client.version()
        log = server.log.read_text(encoding="utf-8", errors="replace")
    apart = float((videos[1.0].float() - videos[0.0].float()).abs().mean())
    matched = next((line[line.index("LoRA "):].strip() for line in log.splitlines() if "tensors matched" in line), "")
    return {"comfyui": version, "frames": len(videos[1.0]), "difference_of_strength_1_and_0": round(apart, 3),
            "lora_report": matched}


def _put(prompt: dict[str, Any], kind: str, **values: Any) -> None:
    for node in prompt.values():
        if node["class_type"] == kind:
            missing = set(values) - set(node["inputs"])
            if missing:
                raise RuntimeError(f"{kind} has no input {', '.join(sorted(missing))}: {sorted(node['inputs'])}")
            node["inputs"].update(values)


def _ego_video(outcome: Any, prompt: dict[str, Any], folder: Path) -> torch.Tensor:
    for node_id, output in outcome.outputs.items():
        if str(prompt[node_id]["inputs"].get("filename_prefix", "")).endswith("ego"):
            saved = output["images"][0]
            file = folder / saved.get("subfolder", "") / saved["filename"]
            info = probe_video(file)
            return read_frames(file, info, select_frames(info, frame_count=info.frame_count))
    raise RuntimeError("the graph saved no ego video")
