"""``bench gpu``: the full-size transformer and VAE with random weights, through the host's own
loader, patcher, sampler and memory management; all in one process, which starts the host once."""

import functools
import importlib
import importlib.util
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import random_geometry
from benchmarks.support.gpu_row import GB, Row
from tools.rigs.model_rig import core
from tools.rigs.pack_in_process import import_host, load_pack
from tools.rigs.wan_shapes import (
    CLIPS,
    IMAGE_FEATURES,
    IMAGE_TOKENS,
    SIZES,
    TEXT_TOKENS,
    Clip,
    wan_model,
)
from tools.setup.api_client import read_prompt
from tools.setup.host import find_host

WEIGHTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
STEP_BAR_S, KEPT_BAR = 7.0, 0.45
"""On a card of 9.0: a guided step with CFG of the 14B in bf16; a step with exo kept, of that."""
STEPS, CFG = 3, 5.0  # the first loads, chooses kernels, compiles
STEPS_A_CLIP, KEPT_EVERY = 50, 4
VAE_WIDTH = {"14b": 96, "small": 8}
_base = None


@functools.cache
def start_host(total_bytes: int | None) -> str:
    """Import the host as its main.py sets it up, and the pack; in words, which memory is managed.

    The host's dynamic memory is on where main.py turns it on: NVIDIA, torch from 2.8 on, not in
    WSL. ``total_bytes`` of the device, None without one: given, because the host's allocator wants
    to be loaded before anything asks the driver. Without a device the same switch is thrown: then
    modules have no weights until a state dict is loaded, and the host's patcher is its plain one.
    """
    global _base
    torch_version = tuple(map(int, torch.__version__.split(".")[:2]))
    control, dynamic = None, False
    if (
        torch_version >= (2, 8)
        and "microsoft" not in platform.release().lower()
        and importlib.util.find_spec("comfy_aimdo") is not None
    ):
        control = importlib.import_module("comfy_aimdo.control")
        dynamic = total_bytes is None or control.init()
    _base = tempfile.TemporaryDirectory()
    import_host(find_host().root, Path(_base.name))
    if dynamic and total_bytes:
        dynamic = control.init_devices([torch.cuda.current_device()])
    if dynamic:
        import comfy.memory_management
        import comfy.model_patcher

        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
    load_pack()
    return "dynamic memory" if dynamic else "no dynamic memory"


def host_rows(which: str, given: dict[str, Any]) -> Iterator[Row]:
    """Rows of one part: ``bf16`` or another type of weights, ``vae``, ``fast``; each perhaps with
    the GB to which the device's free memory is held."""
    kind, _, held_gb = which.partition(" ")
    size, total_bytes = given["size"], given["total_bytes"]
    words = start_host(total_bytes)
    import comfy.model_management
    import psutil

    if held_gb and total_bytes and total_bytes < 0.95 * GB * int(held_gb):
        yield Row(what=f"host {which}", measured="not run: the device has less memory")
        return
    weights, shape = "fp8" if kind == "fast" else kind, SIZES[size]
    if words.startswith("no") and kind != "vae":  # else a block's, which all share
        in_a_block = 10 * shape["dim"] ** 2 + 2 * shape["dim"] * shape["ffn_dim"]
        needed = 1.1 * shape["num_layers"] * in_a_block * WEIGHTS[weights].itemsize
        if (free := psutil.virtual_memory().available) < needed:
            text = f"not run: weights need {needed / GB:.0f} GB of main memory, {free / GB:.0f} are"
            yield Row(what=f"host {which}", measured=f"{text} free")
            return
    device = Device(total_bytes, int(held_gb or 0))
    try:
        with torch.inference_mode():
            if kind == "vae":
                yield vae_row(size)
            elif kind == "fast":
                yield from fast_rows(size, device, words)
            else:
                yield from step_rows(size, weights, device, words, given)
    finally:
        device.ballast = None
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()


class Device:
    """The device's memory while a part runs: held to some GB, and its peak."""

    def __init__(self, total_bytes: int | None, held_gb: int) -> None:
        self.total_bytes, self.held_gb, self.ballast = total_bytes, held_gb, None
        self.ballast_bytes = 0
        if total_bytes and held_gb:
            self.ballast_bytes = max(0, torch.cuda.mem_get_info()[0] - int(held_gb * GB))
            self.ballast = torch.empty(self.ballast_bytes, dtype=torch.uint8, device="cuda")
        if total_bytes:
            torch.cuda.reset_peak_memory_stats()

    def where(self) -> str:
        return f", {self.held_gb} GB" if self.held_gb else ""

    def memory(self) -> tuple[str, dict[str, float]]:
        """The peak so far, in words and numbers; torch keeps what it took, so afterwards the device
        is as full as it was."""
        if not self.total_bytes:
            return "not measured on a CPU", {}
        tensors = torch.cuda.max_memory_allocated() - self.ballast_bytes
        device = self.total_bytes - torch.cuda.mem_get_info()[0] - self.ballast_bytes
        words = f"peak {tensors / GB:.1f} GB of tensors, {device / GB:.1f} GB of device"
        return words, {"tensors_gb": tensors / GB, "device_gb": device / GB}


def step_rows(
    size: str, weights: str, device: Device, words: str, given: dict[str, Any]
) -> Iterator[Row]:
    """Steps with CFG: guided, plain, with exo kept (these two only where memory isn't held)."""
    name, judged = f"CFG step, {weights}{device.where()}", given["judged"] and weights == "bf16"
    model = random_model(size, WEIGHTS[weights])
    plain, guided, kept = patched_models(load_pack(), model, size)
    steps, out = sampled(guided, size, STEPS, CFG)
    guided_s, share = min(steps), attention_share(guided)
    clip_min, limit = (STEPS_A_CLIP * s / 60 for s in (guided_s, 2 * given["forward_limit_s"]))
    yield Row(
        what=f"{name}, guided",
        bar=f"<= {STEP_BAR_S} s" if judged else "",
        held=guided_s <= STEP_BAR_S if judged else None,
        measured=f"{guided_s:.2f} s, {100 * share:.0f} % of it in self-attention; {STEPS_A_CLIP} "
        f"steps {clip_min:.1f} min (FLOP limit {limit:.1f})",
        numbers={"seconds": guided_s, "attention_share": share, "limit_minutes": limit},
    )
    memory, numbers = device.memory()
    without = None
    if not device.held_gb:
        steps, without = sampled(plain, size, STEPS, CFG)
        ratio = guided_s / min(steps)
        yield Row(
            what=f"{name}, plain",
            measured=f"{min(steps):.2f} s; guided over plain {ratio:.3f}",
            numbers={"seconds": min(steps), "ratio": ratio},
        )
        steps, _ = sampled(kept, size, STEPS, CFG)
        ratio = min(steps) / guided_s
        yield Row(
            what=f"{name}, exo kept",
            bar=f"<= {KEPT_BAR} of a full step" if judged else "",
            held=ratio <= KEPT_BAR if judged else None,
            measured=f"{min(steps):.2f} s, {ratio:.3f} of a full step; with recompute exo "
            f"{KEPT_EVERY} a clip's steps {clip_min * (1 + (KEPT_EVERY - 1) * ratio) / KEPT_EVERY:.1f} min",
            numbers={"seconds": min(steps), "ratio": ratio},
        )
    yield Row(
        what=f"{name}, result and memory",
        measured=f"{words}, {memory}",
        numbers=numbers,
        bar="finite, geometry changes it",
        held=bool(out.isfinite().all()) and (without is None or not torch.equal(out, without)),
    )


def attention_share(patched: Any) -> float:
    """Self-attention's share of a run's forwards, by the patch's own clock."""
    nodes = f"{load_pack().__name__}.nodes.patch"
    checks = importlib.import_module(f"{nodes}.checks")
    seconds = importlib.import_module(f"{nodes}.patch").patch_calls(patched).seconds
    return seconds.total(checks.ATTENTION) / seconds.total(checks.FULL)


def fast_rows(size: str, device: Device, words: str) -> Iterator[Row]:
    """A whole run of the workflow egox_fast with random weights: VAE, its steps, VAE."""
    (sampler,) = (
        node["inputs"]
        for node in read_prompt("egox_fast").values()
        if node["class_type"] == "EgoXWanSampler"
    )
    start = time.perf_counter()
    model, vae = random_model(size, WEIGHTS["fp8"]), random_vae(size)
    loaded = time.perf_counter()
    encoded, decoded = vae_seconds(vae, CLIPS[size])
    _, guided, _ = patched_models(load_pack(), model, size)
    began = time.perf_counter()
    steps, out = sampled(guided, size, sampler["steps"], sampler["cfg"])
    sampling, whole = time.perf_counter() - began, time.perf_counter() - loaded
    memory, numbers = device.memory()
    yield Row(
        what=f"egox_fast with stand-in weights{device.where()}",
        measured=f"{whole:.1f} s: {sum(encoded):.1f} s to encode, {sampling:.1f} s to load and "
        f"sample ({min(steps):.2f} s per step), {decoded:.1f} s to decode; {words}, {memory}",
        held=bool(out.isfinite().all()),
        bar="finite",
        numbers={**numbers, "seconds": whole, "weights_s": loaded - start, "step_s": min(steps)},
    )


def vae_row(size: str) -> Row:
    """The VAE at the clip's size, in its second run."""
    vae, clip = random_vae(size), CLIPS[size]
    for _ in range(2):
        (exo, prior), ego = vae_seconds(vae, clip)
    return Row(
        what="VAE with random weights",
        measured=f"encode exo {exo:.2f} s, prior {prior:.2f} s, decode ego {ego:.2f} s",
        numbers={"exo_s": exo, "prior_s": prior, "decode_s": ego},
    )


def vae_seconds(vae: Any, clip: Clip) -> tuple[list[float], float]:
    """Seconds to encode exo and prior, and to decode ego."""
    encoded = []
    for width in (clip.exo_width, clip.ego_width):
        start = time.perf_counter()
        latent = vae.encode(torch.rand(clip.frames, clip.height, width, 3))  # of the ego half last
        encoded.append(time.perf_counter() - start)
    start = time.perf_counter()
    vae.decode(latent)
    return encoded, time.perf_counter() - start


def random_model(size: str, weights: torch.dtype) -> Any:
    """A ModelPatcher of the host that its own loading has filled."""
    import comfy.model_management
    import comfy.model_patcher

    device = comfy.model_management.get_torch_device()
    # On a GPU 16-bit weights compute as they are; 8-bit ones in bfloat16.
    compute = weights if weights.itemsize == 2 else torch.bfloat16
    model = wan_model(size, "cpu", weights, compute if device.type == "cuda" else torch.float32)
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=device, offload_device=torch.device("cpu")
    )
    state = random_state(model.diffusion_model, weights, device)
    model.load_model_weights(state, "", assign=patcher.is_dynamic())
    return patcher


def random_vae(size: str) -> Any:
    """The host's VAE, from the shapes of its own module."""
    import comfy.ldm.wan.vae
    import comfy.model_management
    import comfy.sd

    shape = {"dim": VAE_WIDTH[size], "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    shape |= {"attn_scales": [], "temperal_downsample": [False, True, True], "dropout": 0.0}
    with torch.device("meta"):
        module = comfy.ldm.wan.vae.WanVAE(**shape)
    device = comfy.model_management.get_torch_device()
    return comfy.sd.VAE(sd=random_state(module, torch.bfloat16, device))


def random_state(
    module: torch.nn.Module, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """A state dict for ``module``; one tensor of each shape, drawn on ``device``, that all of its
    shape share, since no time depends on their values."""
    generator, drawn, state = torch.Generator(device=device).manual_seed(0), {}, {}
    for place, part in module.named_modules():
        shapes = {name: value.shape for name, value in part.named_parameters(recurse=False)}
        if isinstance(part, torch.nn.Linear):  # of the host, which may have none yet
            shapes = {"weight": (part.out_features, part.in_features), "bias": (part.out_features,)}
        for name, shape in shapes.items():
            mean = float(name == "gamma" or ("norm" in place and name == "weight"))
            if (key := (tuple(shape), mean)) not in drawn:
                values = torch.randn(shape, generator=generator, device=device) * 0.02 + mean
                drawn[key] = values.to(dtype).cpu()
            state[f"{place}.{name}" if place else name] = drawn[key]
    return state


def patched_models(pack: Any, model: Any, size: str) -> Sequence[Any]:
    """One model without geometry, with it, and with it and exo kept; all widen, so all see the
    whole canvas."""
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
        patch(model, canvas, geometry, options(), recompute_exo=KEPT_EVERY)[0],
    )


def sampled(patched: Any, size: str, steps: int, cfg: float) -> tuple[list[float], Tensor]:
    """Seconds of the steps after the first, and the ego latent; by the host's sampler."""
    import comfy.clip_vision
    import comfy.sample

    t, h, _, w_ego = CLIPS[size].grid
    torch.manual_seed(2)
    embedding = comfy.clip_vision.Output()
    embedding.penultimate_hidden_states = torch.randn(1, IMAGE_TOKENS, IMAGE_FEATURES)
    prior = torch.randn(1, 16, t, 2 * h, 2 * w_ego)
    values = {
        "concat_latent_image": prior,
        "concat_mask": torch.ones_like(prior[:, :1]),
        "clip_vision_output": embedding,
    }
    width = patched.model.diffusion_model.text_dim
    positive, negative = ([[torch.randn(1, TEXT_TOKENS, width), values]] for _ in range(2))
    stamps = []

    def stamp(*_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())

    latent = comfy.sample.sample(
        patched,
        torch.randn_like(prior),
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros_like(prior),
        callback=stamp,
        disable_pbar=True,
    )
    return [b - a for a, b in zip(stamps, stamps[1:], strict=False)], latent.float().cpu()
