"""``bench gpu``: forwards of the full-size transformer with random weights, through the host's own
loader, patcher, sampler and memory management."""

import importlib
import importlib.util
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import random_geometry
from benchmarks.support.gpu_row import GB, Row
from tools.rigs.model_rig import core
from tools.rigs.pack_in_process import import_host, load_pack
from tools.rigs.wan_shapes import CLIPS, IMAGE_FEATURES, IMAGE_TOKENS, SIZES, TEXT_TOKENS, wan_model
from tools.setup.host import find_host

WEIGHTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
GEOMETRY_BAR = 1.08
"""Time with geometry, of the time without: attention is a little under half of a forward's work."""
FORWARDS_A_CLIP = 100  # as released: 50 steps, CFG takes two passes
_base = None


def start_host(total_bytes: int | None) -> str:
    """Imports the host as its main.py sets it up, and the pack; in words, which memory is managed.

    The host's dynamic memory is on where main.py turns it on: NVIDIA, torch from 2.8 on, not in
    WSL. ``total_bytes`` of the device, None without one: given, because the host's allocator wants
    to be loaded before anything asks the driver.
    """
    global _base
    torch_version = tuple(map(int, torch.__version__.split(".")[:2]))
    control = None
    if (
        total_bytes
        and torch_version >= (2, 8)
        and "microsoft" not in platform.release().lower()
        and importlib.util.find_spec("comfy_aimdo") is not None
    ):
        control = importlib.import_module("comfy_aimdo.control")
        control.init()
    _base = tempfile.TemporaryDirectory()
    import_host(find_host().root, Path(_base.name))
    dynamic = control is not None and control.init_devices([torch.cuda.current_device()])
    if dynamic:
        import comfy.memory_management
        import comfy.model_patcher

        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
    load_pack()
    return "dynamic memory" if dynamic else "no dynamic memory"


def host_rows(size: str, weights: str, total_bytes: int | None, limit_s: float) -> Iterator[Row]:
    """Plain and guided sampling of a few forwards; ``limit_s``: what one would take at the rate of
    one large matrix product."""
    import psutil

    name, shape = f"forward through the host, {weights}", SIZES[size]
    in_a_block = 10 * shape["dim"] ** 2 + 2 * shape["dim"] * shape["ffn_dim"]
    needed = 1.1 * shape["num_layers"] * in_a_block * WEIGHTS[weights].itemsize
    if (free := psutil.virtual_memory().available) < needed:
        yield Row(
            what=name,
            measured=f"not run: the weights need {needed / GB:.0f} GB of main "
            f"memory, {free / GB:.0f} GB are free",
        )
        return
    in_words = start_host(total_bytes)
    with torch.inference_mode():
        model = random_model(size, WEIGHTS[weights])
        schemes = patched_models(load_pack(), model, size)
        (plain, without), (guided, out) = (sampled(patched, size) for patched in schemes)
    judged, memory, peak = size == "14b", {"memory": in_words}, "not measured on a CPU"
    if total_bytes:  # torch keeps what it took, so afterwards the device is as full as it was
        memory |= {
            "tensors_gb": torch.cuda.max_memory_allocated() / GB,
            "device_gb": (total_bytes - torch.cuda.mem_get_info()[0]) / GB,
        }
        peak = "peak {tensors_gb:.1f} GB of tensors, {device_gb:.1f} GB of device".format(**memory)
    yield Row(
        what=f"{name}: guided over plain",
        bar=f"<= {GEOMETRY_BAR}" if judged else "",
        measured=f"{guided:.2f} s over {plain:.2f} s: {guided / plain:.3f}",
        held=guided <= GEOMETRY_BAR * plain if judged else None,
        numbers={"ratio": guided / plain, "seconds": guided},
    )
    # Not judged: what plain attention reaches of the limit is not ours.
    clip, limit = (FORWARDS_A_CLIP * value / 60 for value in (guided, limit_s))
    yield Row(
        what=f"{name}: 50 steps with CFG",
        numbers={"minutes": clip, "limit_minutes": limit},
        measured=f"{clip:.1f} min; FLOP limit {limit:.1f} min: {clip / limit:.2f}",
    )
    yield Row(
        what=f"{name}: result and memory",
        measured=f"{in_words}, {peak}",
        numbers=memory,
        bar="finite, geometry changes it",
        held=bool(out.isfinite().all()) and not torch.equal(out, without),
    )


def random_model(size: str, weights: torch.dtype) -> Any:
    """A ModelPatcher of the host; numbers are drawn on the compute device, kept on the other."""
    import comfy.model_management
    import comfy.model_patcher

    device = comfy.model_management.get_torch_device()
    # On a GPU 16-bit weights compute as they are; 8-bit ones in bfloat16.
    compute = weights if weights.itemsize == 2 else torch.bfloat16
    model = wan_model(size, "cpu", weights, compute if device.type == "cuda" else torch.float32)
    generator = torch.Generator(device=device).manual_seed(0)
    with torch.no_grad():
        for name, weight in model.diffusion_model.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            drawn = torch.randn(weight.shape, generator=generator, device=device)
            weight.copy_((drawn * 0.02 + mean).to(weight.dtype))
    return comfy.model_patcher.CoreModelPatcher(
        model, load_device=device, offload_device=torch.device("cpu")
    )


def patched_models(pack: Any, model: Any, size: str) -> tuple[Any, Any]:
    """Without and with geometry on one model; both widen, so both see the whole canvas."""
    clip, options = CLIPS[size], core(pack, "gga").GgaOptions
    t, h, w_exo, w_ego = clip.grid
    exo, prior = (torch.randn(1, 16, t, 2 * h, 2 * w) for w in (w_exo, w_ego))
    canvas = core(pack, "types").Canvas(
        exo_latent=exo,
        prior_latent=prior,
        frames=clip.frames,
        exo_size=(clip.exo_width, clip.height),
        ego_size=(clip.ego_width, clip.height),
    )
    patch = importlib.import_module(f"{pack.__name__}.nodes.patch.patch").patch_with_geometry
    geometry = random_geometry(
        (t, 2 * h, 2 * w_exo, 2 * w_ego),
        torch.Generator().manual_seed(0),
        core(pack, "gga").tokens_from_latents,
    )
    return (
        patch(model, canvas, None, options(mode="off"))[0],
        patch(model, canvas, geometry, options())[0],
    )


def sampled(patched: Any, size: str) -> tuple[float, Tensor]:
    """Seconds of the best of three forwards but the first (it loads, chooses kernels, compiles),
    and the ego latent; by the host's sampler."""
    import comfy.clip_vision
    import comfy.sample

    t, h, _, w_ego = CLIPS[size].grid
    torch.manual_seed(2)
    embedding = comfy.clip_vision.Output()
    embedding.penultimate_hidden_states = torch.randn(1, IMAGE_TOKENS, IMAGE_FEATURES)
    prior = torch.randn(1, 16, t, 2 * h, 2 * w_ego)
    prompt = [
        [
            torch.randn(1, TEXT_TOKENS, patched.model.diffusion_model.text_dim),
            {
                "concat_latent_image": prior,
                "concat_mask": torch.ones_like(prior[:, :1]),
                "clip_vision_output": embedding,
            },
        ]
    ]
    stamps = []

    def stamp(*_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())

    latent = comfy.sample.sample(
        patched,
        torch.randn_like(prior),
        3,
        1.0,
        "euler",
        "simple",
        prompt,
        prompt,
        torch.zeros_like(prior),
        callback=stamp,
        disable_pbar=True,
    )
    return min(b - a for a, b in zip(stamps, stamps[1:], strict=False)), latent.float().cpu()
