"""``bench gpu``: the full-size transformer and VAE with random weights, through the host's own
loader, patcher, sampler and memory management; all in one process, which starts the host once."""

import functools
import gc
import importlib
import importlib.util
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import random_geometry
from benchmarks.support.gpu_row import GB, Row
from tools.rigs.model_rig import core
from tools.rigs.pack_in_process import import_host, load_pack
from tools.rigs.wan_shapes import CLIPS, IMAGE_FEATURES, IMAGE_TOKENS, TEXT_TOKENS, wan_model
from tools.setup.host import find_host

WEIGHTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
STEP_BAR_S, KEPT_BAR = 7.0, 0.45
"""On a card of 9.0: a guided step with CFG of the 14B in bf16; a step with exo kept, of that."""
STEPS, CFG = 3, 5.0  # the first step loads, chooses kernels, compiles
FAST_STEPS, FAST_CFG = 6, 1.0
"""As workflows/egox_fast.json has them."""
STEPS_A_CLIP, KEPT_EVERY = 50, 4
_base = None


@functools.cache
def start_host(total_bytes: int | None, dynamic: bool) -> str:
    """Import the host as its main.py sets it up, and the pack; in words, which memory is managed.

    The host's dynamic memory is on where main.py turns it on: NVIDIA, torch from 2.8 on, not in
    WSL. ``total_bytes`` of the device, None without one: given, because the host's allocator wants
    to be loaded before anything asks the driver. Without a device the same switch is thrown: then
    modules have no weights until a state dict is loaded, and the host's patcher is its plain one.
    ``dynamic``: False leaves it off.
    """
    global _base
    torch_version = tuple(map(int, torch.__version__.split(".")[:2]))
    dynamic = (
        dynamic
        and torch_version >= (2, 8)
        and "microsoft" not in platform.release().lower()
        and importlib.util.find_spec("comfy_aimdo") is not None
    )
    if dynamic and total_bytes:
        control = importlib.import_module("comfy_aimdo.control")
        control.init()
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
    """Rows of one part: a type of weights, or ``fast``, perhaps with the GB to which the device's
    free memory is held."""
    kind, _, held_gb = which.partition(" ")
    size, total_bytes, ballast_bytes = given["size"], given["total_bytes"], 0
    words = start_host(total_bytes, given["dynamic"])
    name = f"{kind}, {held_gb} GB" if held_gb else kind
    if total_bytes:
        import comfy.model_management

        # An earlier part's model dies with its cycles, and gives its pages back; one that lives
        # would be copied to main memory.
        gc.collect()
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        torch.cuda.reset_peak_memory_stats()
        # Of the whole device, so that what is left over counts with what is held.
        ballast_bytes = total_bytes - int(held_gb) * 10**9 if held_gb else 0
    ballast = torch.empty(ballast_bytes, dtype=torch.uint8, device="cuda" if total_bytes else "cpu")

    def memory() -> str:
        if not total_bytes:
            return f"{words}, not measured on a CPU"
        # Torch keeps what it took, so afterwards the device is as full as it was.
        full = total_bytes - torch.cuda.mem_get_info()[0]
        peaks = [(x - ballast.nbytes) / GB for x in (torch.cuda.max_memory_allocated(), full)]
        return "{}, peak {:.1f} GB of tensors, {:.1f} GB of device".format(words, *peaks)

    with torch.inference_mode():
        if kind == "fast":
            yield fast_row(size, name, memory)
        else:
            yield from step_rows(kind, name, memory, given, bool(held_gb))


def step_rows(
    weights: str, name: str, memory: Callable[[], str], given: dict[str, Any], held: bool
) -> Iterator[Row]:
    """Steps with CFG: guided, plain, with exo kept (these two only where memory isn't held)."""
    size, judged = given["size"], given["judged"] and weights == "bf16"
    plain, guided, kept = patched_models(random_model(size, WEIGHTS[weights]), size)
    step_s, out = sampled(guided, size, STEPS, CFG)
    (wrapper,) = guided.get_wrappers("diffusion_model", "egox")
    clock = wrapper.calls.seconds
    share = clock.total("attention") / clock.total("full")
    minutes, limit = (STEPS_A_CLIP * s / 60 for s in (step_s, 2 * given["forward_limit_s"]))
    yield Row(
        what=f"CFG step, {name}, guided",
        bar=f"<= {STEP_BAR_S} s" if judged else "",
        held=step_s <= STEP_BAR_S if judged else None,
        measured=f"{step_s:.2f} s, {100 * share:.0f} % of it in self-attention; {STEPS_A_CLIP} "
        f"steps {minutes:.1f} min (FLOP limit {limit:.1f})",
        numbers={"seconds": step_s, "attention_share": share},
    )
    peak, without = memory(), None
    if not held:
        plain_s, without = sampled(plain, size, STEPS, CFG)
        yield Row(
            what=f"CFG step, {name}, plain",
            measured=f"{plain_s:.2f} s; guided over plain {step_s / plain_s:.3f}",
            numbers={"seconds": plain_s},
        )
        kept_s = sampled(kept, size, STEPS, CFG)[0]
        minutes *= (1 + (KEPT_EVERY - 1) * kept_s / step_s) / KEPT_EVERY
        yield Row(
            what=f"CFG step, {name}, exo kept",
            bar=f"<= {KEPT_BAR} of a full step" if judged else "",
            held=kept_s <= KEPT_BAR * step_s if judged else None,
            measured=f"{kept_s:.2f} s, {kept_s / step_s:.3f} of a full step; {STEPS_A_CLIP} steps "
            f"with recompute exo {KEPT_EVERY} {minutes:.1f} min",
            numbers={"seconds": kept_s},
        )
    yield Row(
        what=f"CFG step, {name}, result and memory",
        measured=peak,
        bar="finite, geometry changes it",
        held=bool(out.isfinite().all()) and (without is None or not torch.equal(out, without)),
    )


def fast_row(size: str, name: str, memory: Callable[[], str]) -> Row:
    """A whole run of the workflow egox_fast with random weights: VAE, steps, VAE."""
    clip, vae = CLIPS[size], random_vae(size)
    guided, stamps = patched_models(random_model(size, WEIGHTS["fp8"]), size)[1], []
    stamps.append(time.perf_counter())
    for width in (clip.exo_width, clip.ego_width):
        latent = vae.encode(torch.rand(clip.frames, clip.height, width, 3))
        stamps.append(time.perf_counter())
    step_s, out = sampled(guided, size, FAST_STEPS, FAST_CFG)
    stamps.append(time.perf_counter())
    vae.decode(latent)
    stamps.append(time.perf_counter())
    exo, prior, sampling, ego = (b - a for a, b in zip(stamps, stamps[1:], strict=False))
    return Row(
        what=f"egox_{name}, stand-in weights",
        measured=f"{stamps[-1] - stamps[0]:.1f} s: VAE of exo {exo:.2f}, of the prior {prior:.2f}, "
        f"loading and {FAST_STEPS} steps {sampling:.1f} ({step_s:.2f} per step), VAE of ego "
        f"{ego:.2f}; {memory()}",
        bar="finite",
        held=bool(out.isfinite().all()),
        numbers={"seconds": stamps[-1] - stamps[0], "step_s": step_s},
    )


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
    # Assigned, as under dynamic memory: else layers wouldn't share their tensors.
    model.load_model_weights(random_state(model.diffusion_model, weights, device), "", assign=True)
    return patcher


def random_vae(size: str) -> Any:
    """The host's VAE, from the shapes of its own module."""
    import comfy.ldm.wan.vae
    import comfy.model_management
    import comfy.sd

    width, halved_in_time = 96 if size == "14b" else 8, [False, True, True]
    with torch.device("meta"):
        module = comfy.ldm.wan.vae.WanVAE(width, 16, temperal_downsample=halved_in_time)
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


def patched_models(model: Any, size: str) -> tuple[Any, Any, Any]:
    """One model without geometry, with it, and with it and exo kept; all widen, so all see the
    whole canvas."""
    pack, clip = load_pack(), CLIPS[size]
    options = core(pack, "gga").GgaOptions
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


def sampled(patched: Any, size: str, steps: int, cfg: float) -> tuple[float, Tensor]:
    """Seconds of the best step but the first, and the ego latent; by the host's sampler."""
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
    return min(b - a for a, b in zip(stamps, stamps[1:], strict=False)), latent.float().cpu()
