"""One process of ``sample14b``: a model with random weights, three schemes of attention, one memory cap."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import random_geometry
from benchmarks.support.record import matrix_rate
from tools.rigs.model_rig import core
from tools.rigs.pack_in_process import import_host, load_pack
from tools.rigs.wan_shapes import CLIPS, IMAGE_FEATURES, IMAGE_TOKENS, TEXT_TOKENS, Clip, wan_model
from tools.setup.host import find_host

LAMBDA_G = 3.0
GB = 1e9
CAP_MARGIN_GIB = 1.0
"""What the device holds beside torch's tensors (context, libraries), which a card of that size would hold too."""
SCHEMES = ("plain", "ours", "released")
WEIGHTS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float8": torch.float8_e4m3fn,
           "float32": torch.float32}
RESULT = "EGOX_RESULT "


class ReleasedScheme:
    """The authors' way, as another DIFFUSION_MODEL wrapper: one float32 cosine map of all tokens a forward.

    In each block log(map + 1 + 1e-6) is cast to the model's dtype; ego queries attend with it as a mask, exo queries
    without, both through torch's attention.
    """

    def __init__(self, geometry: Any, plain: Callable[..., Tensor]) -> None:
        self.geometry, self.plain = geometry, plain

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, context: Tensor, clip_fea: Tensor | None = None,
                 time_dim_concat: Tensor | None = None, transformer_options: dict | None = None,
                 **kwargs: Any) -> Tensor:
        geometry = self.geometry.to(x.device)
        t, h, w_exo, w_ego = geometry.grid
        cosine = torch.zeros(geometry.tokens, geometry.tokens, device=x.device)
        rows = cosine.view(t, h, w_exo + w_ego, -1)
        for frame in range(t):
            rows[frame, :, w_exo:] = (geometry.query_dirs[frame] @ geometry.key_dirs[frame].T).view(h, w_ego, -1)
        cosine.clamp_(-1, 1)
        cosine = torch.where(cosine > 0, cosine * LAMBDA_G, cosine)
        is_ego = torch.arange(geometry.tokens, device=x.device) % (w_exo + w_ego) >= w_exo

        def attention(func: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None,
                      **options: Any) -> Tensor:
            if q.shape[1] != geometry.tokens or k.shape[1] != geometry.tokens:
                return func(q, k, v, heads, mask=mask, **options)
            bias = torch.log(cosine + 1 + 1e-6).to(q.dtype)
            out = torch.empty_like(q)
            out[:, ~is_ego] = self.plain(q[:, ~is_ego], k, v, heads)
            q_ego, k4, v4 = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (q[:, is_ego], k, v))
            biased = torch.nn.functional.scaled_dot_product_attention(q_ego, k4, v4, attn_mask=bias[is_ego][None, None])
            out[:, is_ego] = biased.transpose(1, 2).flatten(2)
            return out

        options = {**(transformer_options or {}), "optimized_attention_override": attention}
        return executor(x, timestep, context, clip_fea, time_dim_concat, options, **kwargs)


def random_model(size: str, weights: str) -> Any:
    """A ModelPatcher of the host; numbers are drawn on the compute device and kept on the offload device."""
    import comfy.model_management
    import comfy.model_patcher

    device = comfy.model_management.get_torch_device()
    # On a GPU 16-bit weights compute as they are; others in bfloat16.
    computes_itself = weights in ("bfloat16", "float16")
    compute = torch.float32 if device.type != "cuda" else WEIGHTS[weights] if computes_itself else torch.bfloat16
    model = wan_model(size, "cpu", WEIGHTS[weights], compute)
    generator = torch.Generator(device=device).manual_seed(0)
    with torch.no_grad():
        for name, weight in model.diffusion_model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator, device=device) * 0.02
            weight.copy_((drawn + 1 if "norm" in name and name.endswith("weight") else drawn).to(weight.dtype))
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def patched_models(pack: ModuleType, model: Any, clip: Clip) -> dict[str, Any]:
    """The three schemes on one model: all three widen, so all see the whole canvas."""
    import importlib

    from comfy.patcher_extension import WrappersMP

    t, h, w_exo, w_ego = clip.grid
    types, options = core(pack, "types"), core(pack, "gga.options").GgaOptions
    generator = torch.Generator().manual_seed(1)
    exo, prior = (torch.randn(1, 16, t, 2 * h, 2 * w, generator=generator) for w in (w_exo, w_ego))
    canvas = types.Canvas(exo_latent=exo, prior_latent=prior, frames=clip.frames,
                          exo_size=(clip.exo_width, clip.height), ego_size=(clip.ego_width, clip.height))
    patch = importlib.import_module(f"{pack.__name__}.nodes.patch.patch").patch_with_geometry
    geometry = random_geometry((t, 2 * h, 2 * w_exo, 2 * w_ego), torch.Generator().manual_seed(0),
                               core(pack, "gga.geometry").tokens_from_latents)
    plain, _ = patch(model, canvas, None, options(mode="off"))
    ours, _ = patch(model, canvas, geometry, options(lambda_g=LAMBDA_G))
    released, _ = patch(model, canvas, None, options(mode="off"))
    released.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "egox_released_scheme",
                                  ReleasedScheme(geometry, core(pack, "gga.attention").plain_attention))
    return dict(zip(SCHEMES, (plain, ours, released), strict=True))


def sample(patched: Any, clip: Clip, steps: int, callback: Callable[..., None] | None = None) -> Tensor:
    """The ego latent after ``steps`` forwards of one prompt, through the host's guider and Euler sampler."""
    import comfy.clip_vision
    import comfy.samplers

    t, h, w_exo, w_ego = clip.grid
    generator = torch.Generator().manual_seed(2)
    embedding = comfy.clip_vision.Output()
    embedding.penultimate_hidden_states = torch.randn(1, IMAGE_TOKENS, IMAGE_FEATURES, generator=generator)
    prior = torch.randn(1, 16, t, 2 * h, 2 * w_ego, generator=generator)
    conditions = {"concat_latent_image": prior, "concat_mask": torch.ones(1, 1, t, 2 * h, 2 * w_ego),
                  "clip_vision_output": embedding}
    text = torch.randn(1, TEXT_TOKENS, patched.model.diffusion_model.text_dim, generator=generator)
    guider = comfy.samplers.CFGGuider(patched)
    guider.set_conds([[text, conditions]], [[text, conditions]])
    guider.set_cfg(1.0)
    return guider.sample(torch.randn(prior.shape, generator=generator), torch.zeros_like(prior),
                         comfy.samplers.sampler_object("euler"), torch.linspace(0.99, 0.5, steps + 1),
                         callback=callback, disable_pbar=True)


def timed_run(patched: Any, clip: Clip, steps: int) -> dict[str, Any]:
    """Seconds a forward (median of ``steps`` after one) and peak memory."""
    device = patched.load_device
    on_gpu = device.type == "cuda"
    stamps: list[float] = []

    def stamp(*_: Any) -> None:
        if on_gpu:
            torch.cuda.synchronize(device)
        stamps.append(time.perf_counter())

    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    out = sample(patched, clip, steps + 1, stamp)
    forwards = [after - before for before, after in zip(stamps, stamps[1:], strict=False)]
    return {"seconds": statistics.median(forwards), "all_seconds": forwards, "finite": bool(out.isfinite().all()),
            "peak_gb": torch.cuda.max_memory_allocated(device) / GB if on_gpu else None,
            "reserved_gb": torch.cuda.max_memory_reserved(device) / GB if on_gpu else None}


def decode_seconds(size: str) -> dict[str, float]:
    """The host's Wan VAE with random weights: the ego half as ours decodes it, and both halves as the authors do."""
    import comfy.ldm.wan.vae
    import comfy.sd

    dim = 96 if size == "14b" else 8
    weights = comfy.ldm.wan.vae.WanVAE(dim=dim, z_dim=16).state_dict()
    vae = comfy.sd.VAE(sd=weights)
    vae.throw_exception_if_invalid()
    t, h, w_exo, w_ego = CLIPS[size].grid
    halves = {name: torch.randn(1, 16, t, 2 * h, 2 * w) for name, w in (("exo", w_exo), ("ego", w_ego))}
    seconds = {}
    for name, latent in halves.items():
        vae.decode(latent)
        start = time.perf_counter()
        vae.decode(latent)
        seconds[name] = time.perf_counter() - start
    return {"ego": seconds["ego"], "both": seconds["ego"] + seconds["exo"]}


def cap_memory(cap_gb: float | None) -> dict[str, float]:
    """Limits torch's share of the device; the option that makes the host keep to it (it asks the device how much is
    free, which knows nothing of the share)."""
    if cap_gb is None or not torch.cuda.is_available():
        return {}
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * GB / total))
    return {"reserve_vram": (total - cap_gb * GB) / 2**30 + CAP_MARGIN_GIB}


def main() -> int:
    call = json.loads(sys.argv[1])
    size, weights, steps = call["size"], call["weights"], call["steps"]
    clip = CLIPS[size]
    reserve = cap_memory(call["cap_gb"])
    host = find_host()
    with tempfile.TemporaryDirectory() as base, torch.inference_mode():
        import_host(host.root, Path(base), **reserve)
        import comfy.model_management

        pack = load_pack()
        model = random_model(size, weights)
        result: dict[str, Any] = {"weights": weights, "cap_gb": call["cap_gb"],
                                  "matrix_flops_per_second": matrix_rate(model.load_device), "schemes": {}}
        for name, patched in patched_models(pack, model, clip).items():
            try:
                result["schemes"][name] = timed_run(patched, clip, steps)
            except torch.OutOfMemoryError as error:
                result["schemes"][name] = {"failed": f"out of memory: {str(error).splitlines()[0]}"}
            comfy.model_management.unload_all_models()
            gc.collect()
        del model
        result["decode_seconds"] = decode_seconds(size)
    print(RESULT + json.dumps(result), flush=True)
    return 0

if __name__ == "__main__":
    sys.exit(main())
