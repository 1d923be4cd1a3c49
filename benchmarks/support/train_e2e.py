"""Both ends of the end-to-end training: its data (small synthetic takes, a stand-in VAE whose latents have Wan's
statistics), and the trained LoRA in the real server (loaded by the pack's nodes, sampled, compared at two strengths).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from egox_core.data.clip_files import read_clip
from egox_core.data.manifest import ClipRecord
from egox_core.file_names import META
from egox_core.sizes import CHANNELS
from egox_core.video.reader import probe_video, read_frames
from egox_core.video.selection import select_frames
from egox_core.wan.latents import LATENT_MEAN, LATENT_STD, denormalise_latent
from egox_core.wan.vae import VaeEncoder
from lab.drawn import SyntheticSpec, make_take, write_take
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir
from tools.setup.demo import DemoOptions, apply_options, stage_take
from tools.setup.environment import Environment
from tools.setup.server import Server

SMALLEST_SPREAD = 0.05  # of the largest; channels that vary less would be amplified noise
TAKE_FRAMES, HEIGHT, WIDTH = 17, 64, 112


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
        prompt = apply_options(read_prompt("egox_demo"), DemoOptions(frames=frames, size=size, steps=steps), staged)
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


def write_takes(folder: Path, count: int) -> None:
    """``count`` calm, plainly coloured takes of 17 frames; those that are there stay."""
    for seed in range(count):
        target = folder / f"synthetic_{seed:03d}"
        if (target / META).is_file():  # written last
            continue
        spec = SyntheticSpec(seed=seed, frames=TAKE_FRAMES, exo_width=WIDTH, exo_height=HEIGHT, ego_size=HEIGHT,
                             texture="plain", clutter="calm", edge_samples=1)
        write_take(make_take(spec), target)


def calibrate_vae(source: Path, target: Path, root: Path, records: list[ClipRecord]) -> None:
    """The stand-in VAE with its last encoder layer changed so that latents have Wan's mean and spread.

    Its weights are random; untouched, most of its latents would be a constant, and a loss on them would say nothing.
    The 16 channels are whitened over training clips and given the statistics that every Wan model expects. Nothing is
    trained, and its decoder's pictures are noise.
    """
    encoder = VaeEncoder(source)
    raw = torch.cat([_raw(encoder, read_clip(root, r).exo) for r in records]
                    + [_raw(encoder, read_clip(root, r).ego) for r in records])  # [samples, 16]
    mean = raw.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((raw - mean).T))
    # Directions with almost no spread would be amplified noise: their gain is capped.
    gain = 1 / values.clamp_min(float(values.max()) * SMALLEST_SPREAD).sqrt()
    whiten = vectors @ torch.diag(gain) @ vectors.T
    change = torch.diag(torch.tensor(LATENT_STD, dtype=torch.float64)) @ whiten
    weights = {k: v.float() for k, v in load_file(source).items()}
    weight, bias = weights["conv1.weight"].double(), weights["conv1.bias"].double()
    weight[:CHANNELS] = torch.einsum("ij,jabcd->iabcd", change, weight[:CHANNELS])
    bias[:CHANNELS] = change @ (bias[:CHANNELS] - mean) + torch.tensor(LATENT_MEAN, dtype=torch.float64)
    weights["conv1.weight"], weights["conv1.bias"] = weight.float(), bias.float()
    save_file(weights, target, metadata={"format": "pt"})


def _raw(encoder: VaeEncoder, frames: Tensor) -> Tensor:  # [samples, 16] float64
    return denormalise_latent(encoder.encode(frames)[None])[0].flatten(1).T.double()
