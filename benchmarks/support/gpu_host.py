"""Run the full-size transformer and VAE with random weights in ComfyUI, for ``bench gpu``.

They go through the host's loader, patcher, sampler and memory management, all in one process, which
starts the host once.
"""

import functools
import gc
import importlib
import importlib.util
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import random_geometry
from benchmarks.support.gpu_row import GB, Row, judged_row
from tools.rigs.model_rig import import_core_module
from tools.rigs.pack_in_process import import_host, load_pack
from tools.rigs.wan_shapes import CLIPS, IMAGE_FEATURES, IMAGE_TOKENS, TEXT_TOKENS, wan_model
from tools.setup.host import find_host

WEIGHT_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
MOST_STEP_S, MOST_CACHED_RATIO = 7.0, 0.45
"""Most seconds of a guided step of the 14B in bf16 with CFG on a card of 9.0, and the largest share
of it that a step with exo kept may take."""
STEPS, CFG = 3, 5.0
FAST_STEPS, FAST_CFG = 6, 1.0
"""As workflows/egox_fast.json has them."""
STEPS_PER_CLIP, CACHE_INTERVAL = 50, 4
_base = None


@functools.cache
def start_host() -> str:
    """Import ComfyUI and the node pack, and describe ComfyUI's memory management.

    The host's dynamic memory is on where main.py turns it on: NVIDIA, torch from 2.8 on, not in
    WSL. Without a device the same switch is thrown: then modules have no weights until a state dict
    is loaded, and the host's patcher is its plain one.
    """
    global _base
    torch_version = tuple(map(int, torch.__version__.split(".")[:2]))
    is_memory_dynamic = (
        torch_version >= (2, 8)
        and "microsoft" not in platform.release().lower()
        and importlib.util.find_spec("comfy_aimdo") is not None
    )
    if is_memory_dynamic:
        aimdo_control = importlib.import_module("comfy_aimdo.control")
        aimdo_control.init()
    _base = tempfile.TemporaryDirectory()
    import_host(find_host().root, Path(_base.name))
    if is_memory_dynamic and torch.cuda.is_available():
        is_memory_dynamic = aimdo_control.init_devices([torch.cuda.current_device()])
    if is_memory_dynamic:
        import comfy.memory_management
        import comfy.model_patcher

        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
    load_pack()
    return "dynamic memory" if is_memory_dynamic else "no dynamic memory"


def host_rows(part_name: str, settings: dict[str, Any]) -> Iterator[Row]:
    """Measure one part of the benchmark in ComfyUI, optionally with a limit on the GPU's free
    memory."""
    weights_kind, _, memory_limit_gb = part_name.partition(" ")
    size, total_bytes, ballast_bytes = settings["size"], settings["total_bytes"], 0
    memory_management = start_host()
    name = f"{weights_kind}, {memory_limit_gb} GB" if memory_limit_gb else weights_kind
    if total_bytes:
        import comfy.model_management

        # An earlier part's model dies with its cycles, and gives its pages back; one that lives
        # would be copied to main memory.
        gc.collect()
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        torch.cuda.reset_peak_memory_stats()
        # Of the whole device, so that what is left over counts with what is held.
        ballast_bytes = total_bytes - int(memory_limit_gb) * 10**9 if memory_limit_gb else 0
    ballast_tensor = torch.empty(
        ballast_bytes, dtype=torch.uint8, device="cuda" if total_bytes else "cpu"
    )

    def memory() -> str:
        if not total_bytes:
            return f"{memory_management}, not measured on a CPU"
        # Torch keeps what it took, so afterwards the device is as full as it was.
        used_bytes = total_bytes - torch.cuda.mem_get_info()[0]
        peak_gb = [
            (x - ballast_tensor.nbytes) / GB
            for x in (torch.cuda.max_memory_allocated(), used_bytes)
        ]
        return "{}, peak {:.1f} GB of tensors, {:.1f} GB of device".format(
            memory_management, *peak_gb
        )

    with torch.inference_mode():
        if weights_kind == "fast":
            yield fast_row(size, name, memory)
        else:
            yield from step_rows(weights_kind, name, memory, settings, bool(memory_limit_gb))


def step_rows(
    weights: str,
    name: str,
    memory: Callable[[], str],
    settings: dict[str, Any],
    is_memory_limited: bool,
) -> Iterator[Row]:
    """Measure the time of sampling steps with geometry-guided attention and classifier-free
    guidance.

    Where memory isn't held, a text encoder stays beside them, and steps with exo kept and plain
    ones follow.
    """
    size, is_judged = settings["size"], settings["judged"] and weights == "bf16"
    text_encoder = None if is_memory_limited else resident_encoder(size)
    plain_model, guided_model, exo_keeping_model = patched_models(
        random_model(size, WEIGHT_TYPES[weights]), size
    )
    time_sampling(guided_model, size, 1, CFG)  # loads, chooses kernels
    step_s, guided_latent = time_sampling(guided_model, size, STEPS, CFG)
    (wrapper,) = guided_model.get_wrappers("diffusion_model", "egox")
    step_timer = wrapper.calls.seconds
    attention_share = step_timer.total("attention") / step_timer.total("full")
    sampling_minutes, minute_limit = (
        STEPS_PER_CLIP * s / 60 for s in (step_s, 2 * settings["forward_limit_s"])
    )
    yield judged_row(
        f"CFG step, {name}, guided",
        f"{step_s:.2f} s, {100 * attention_share:.0f} % of it in self-attention; "
        f"{STEPS_PER_CLIP} steps {sampling_minutes:.1f} min (FLOP limit {minute_limit:.1f})",
        {f"<= {MOST_STEP_S} s": step_s <= MOST_STEP_S},
        is_judged=is_judged,
        seconds=step_s,
        attention_share=attention_share,
    )
    memory_text, plain_latent = memory(), None
    if not is_memory_limited:
        plain_s, plain_latent = time_sampling(plain_model, size, STEPS, CFG)
        yield Row(
            what=f"CFG step, {name}, plain",
            measured=f"{plain_s:.2f} s; guided over plain {step_s / plain_s:.3f}",
            numbers={"seconds": plain_s},
        )
        cached_step_s = time_sampling(exo_keeping_model, size, STEPS, CFG)[0]
        cache_place = describe_kept_exo(exo_keeping_model, size)
        sampling_minutes *= (1 + (CACHE_INTERVAL - 1) * cached_step_s / step_s) / CACHE_INTERVAL
        yield judged_row(
            f"CFG step, {name}, exo kept",
            f"{cached_step_s:.2f} s, {cached_step_s / step_s:.3f} of a full step; "
            f"{STEPS_PER_CLIP} steps with recompute exo {CACHE_INTERVAL} "
            f"{sampling_minutes:.1f} min; kept {cache_place}, beside "
            f"{text_encoder.model_size() / GB:.1f} GB of a text encoder",
            {f"<= {MOST_CACHED_RATIO} of a full step": cached_step_s <= MOST_CACHED_RATIO * step_s},
            is_judged=is_judged,
            seconds=cached_step_s,
        )
    is_changed = plain_latent is None or not torch.equal(guided_latent, plain_latent)
    is_finite = bool(guided_latent.isfinite().all())
    yield judged_row(
        f"CFG step, {name}, result and memory",
        memory_text,
        {"finite": is_finite, "geometry changes it": is_changed},
    )


def resident_encoder(size: str) -> Any:
    """Load a model of 8.2 GB that stays in memory, to simulate the encoders of a real workflow."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.ops

    width, layers = (16384, 15) if size == "14b" else (64, 2)
    device = comfy.model_management.get_torch_device()
    make_linear = partial(comfy.ops.manual_cast.Linear, width, width, dtype=torch.bfloat16)
    encoder_module = torch.nn.Sequential(*(make_linear() for _ in range(layers)))
    encoder_module.load_state_dict(
        random_state(encoder_module, torch.bfloat16, device), assign=True
    )
    cpu_device = torch.device("cpu")
    model_patcher = comfy.model_patcher.CoreModelPatcher(
        encoder_module, load_device=device, offload_device=cpu_device
    )
    comfy.model_management.load_models_gpu([model_patcher])
    encoder_module(torch.zeros(1, width, dtype=torch.bfloat16, device=device))
    return model_patcher


def describe_kept_exo(model_caching_exo: Any, size: str) -> str:
    """Describe where a sampling run stored the cached activations of the exo tokens, and in which
    precision."""
    (wrapper,) = model_caching_exo.get_wrappers("diffusion_model", "egox")
    exo_cache, cache_places = wrapper.calls.exo_cache, set()

    def record_cache_places(executor: Any, *args: Any, **kwargs: Any) -> Any:
        step_output = executor(*args, **kwargs)
        cache_places.update(
            (entry.cache_device.type, entry.packed) for entry in exo_cache._entries.values()
        )
        return step_output

    watched_model = model_caching_exo.clone()
    watched_model.add_wrapper_with_key("apply_model", "look", record_cache_places)
    time_sampling(watched_model, size, 1, CFG)
    descriptions = [
        f"{'in 8 bits' if is_packed else 'exactly'} on {cache_place}"
        for cache_place, is_packed in sorted(cache_places)
    ]
    return ", ".join(descriptions) or "nowhere"


def fast_row(size: str, name: str, memory: Callable[[], str]) -> Row:
    """Measure a complete run of the workflow egox_fast: VAE encoding, sampling and VAE decoding."""
    clip, vae = CLIPS[size], random_vae(size)
    guided_model, time_stamps = patched_models(random_model(size, WEIGHT_TYPES["fp8"]), size)[1], []
    time_stamps.append(time.perf_counter())
    for width in (clip.exo_width, clip.ego_width):
        latent = vae.encode(torch.rand(clip.frames, clip.height, width, 3))
        time_stamps.append(time.perf_counter())
    step_s, sampled_latent = time_sampling(guided_model, size, FAST_STEPS, FAST_CFG)
    time_stamps.append(time.perf_counter())
    vae.decode(latent)
    time_stamps.append(time.perf_counter())
    exo_s, prior_s, sampling_s, ego_s = (
        b - a for a, b in zip(time_stamps, time_stamps[1:], strict=False)
    )
    return judged_row(
        f"egox_{name}, stand-in weights",
        f"{time_stamps[-1] - time_stamps[0]:.1f} s: VAE of exo {exo_s:.2f}, of the prior "
        f"{prior_s:.2f}, loading and {FAST_STEPS} steps {sampling_s:.1f} ({step_s:.2f} per "
        f"step), VAE of ego {ego_s:.2f}; {memory()}",
        {"finite": bool(sampled_latent.isfinite().all())},
        seconds=time_stamps[-1] - time_stamps[0],
        step_s=step_s,
    )


def random_model(size: str, weights: torch.dtype) -> Any:
    """Build a full-size Wan model with random weights in ComfyUI's ModelPatcher."""
    import comfy.model_management
    import comfy.model_patcher

    device = comfy.model_management.get_torch_device()
    # On a GPU 16-bit weights compute as they are; 8-bit ones in bfloat16.
    compute_dtype = weights if weights.itemsize == 2 else torch.bfloat16
    model = wan_model(size, weights, compute_dtype if device.type == "cuda" else torch.float32)
    model_patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=device, offload_device=torch.device("cpu")
    )
    # Assigned, as under dynamic memory: else layers wouldn't share their tensors.
    model.load_model_weights(random_state(model.diffusion_model, weights, device), "", assign=True)
    model_patcher.cached_patcher_init = random_model, (size, weights)
    return model_patcher


def random_vae(size: str) -> Any:
    """Build ComfyUI's Wan VAE with random weights."""
    import comfy.ldm.wan.vae
    import comfy.model_management
    import comfy.sd

    width, time_downsampling = 96 if size == "14b" else 8, [False, True, True]
    with torch.device("meta"):
        vae_module = comfy.ldm.wan.vae.WanVAE(width, 16, temperal_downsample=time_downsampling)
    device = comfy.model_management.get_torch_device()
    return comfy.sd.VAE(sd=random_state(vae_module, torch.bfloat16, device))


def random_state(
    module: torch.nn.Module, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Draw random weights for ``module``, with one shared tensor for all weights of equal shape.

    No time depends on their values.
    """
    generator, drawn_tensors, state_dict = torch.Generator(device=device).manual_seed(0), {}, {}
    for module_name, submodule in module.named_modules():
        parameter_shapes = {
            name: value.shape for name, value in submodule.named_parameters(recurse=False)
        }
        if isinstance(submodule, torch.nn.Linear):  # of the host, which may have none yet
            parameter_shapes = {
                "weight": (submodule.out_features, submodule.in_features),
                "bias": (submodule.out_features,),
            }
        for name, shape in parameter_shapes.items():
            mean = float(name == "gamma" or ("norm" in module_name and name == "weight"))
            if (key := (tuple(shape), mean)) not in drawn_tensors:
                values = torch.randn(shape, generator=generator, device=device) * 0.02 + mean
                drawn_tensors[key] = values.to(dtype).cpu()
            state_dict[f"{module_name}.{name}" if module_name else name] = drawn_tensors[key]
    return state_dict


def patched_models(model: Any, size: str) -> tuple[Any, Any, Any]:
    """Patch a model in three ways: plain, with guided attention, and with guided attention and
    cached exo activations.

    All widen, so all see the whole canvas.
    """
    pack_module, clip = load_pack(), CLIPS[size]
    options = import_core_module(pack_module, "gga").GgaOptions
    t, h, w_exo, w_ego = clip.grid
    exo_latent, prior_latent = (torch.randn(1, 16, t, 2 * h, 2 * w) for w in (w_exo, w_ego))
    canvas = import_core_module(pack_module, "types").Canvas(
        exo_latent=exo_latent,
        prior_latent=prior_latent,
        frames=clip.frames,
        exo_size=(clip.exo_width, clip.height),
        ego_size=(clip.ego_width, clip.height),
    )
    patch_function = importlib.import_module(
        f"{pack_module.__name__}.nodes.patch.patch"
    ).patch_with_geometry
    geometry = random_geometry(
        (t, 2 * h, 2 * w_exo, 2 * w_ego),
        torch.Generator().manual_seed(0),
        import_core_module(pack_module, "gga").tokens_from_latents,
    )
    return (
        patch_function(model, canvas, None, options(mode="off"))[0],
        patch_function(model, canvas, geometry, options())[0],
        patch_function(model, canvas, geometry, options(), recompute_exo=CACHE_INTERVAL)[0],
    )


def time_sampling(patched: Any, size: str, steps: int, cfg: float) -> tuple[float, Tensor]:
    """Sample in ComfyUI, and return the seconds of the fastest step and the latent.

    With the time comes the ego latent.
    """
    import comfy.clip_vision
    import comfy.sample

    t, h, _, w_ego = CLIPS[size].grid
    torch.manual_seed(2)
    image_embedding = comfy.clip_vision.Output()
    image_embedding.penultimate_hidden_states = torch.randn(1, IMAGE_TOKENS, IMAGE_FEATURES)
    prior_latent = torch.randn(1, 16, t, 2 * h, 2 * w_ego)
    values = {
        "concat_latent_image": prior_latent,
        "concat_mask": torch.ones_like(prior_latent[:, :1]),
        "clip_vision_output": image_embedding,
    }
    width = patched.model.diffusion_model.text_dim
    positive, negative = ([[torch.randn(1, TEXT_TOKENS, width), values]] for _ in range(2))
    time_stamps = []

    def stamp(*_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        time_stamps.append(time.perf_counter())

    latent = comfy.sample.sample(
        patched,
        torch.randn_like(prior_latent),
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        torch.zeros_like(prior_latent),
        callback=stamp,
        disable_pbar=True,
    )
    step_seconds = (b - a for a, b in zip(time_stamps, time_stamps[1:], strict=False))
    return min(step_seconds, default=float("nan")), latent.float().cpu()
