"""Random weights in the host's own model class, patched without and with geometry, and sampled by its guider."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import random_geometry
from tools.rigs.model_rig import core
from tools.rigs.wan_shapes import IMAGE_FEATURES, IMAGE_TOKENS, TEXT_TOKENS, Clip, wan_model

LAMBDA_G = 3.0
WEIGHTS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float8": torch.float8_e4m3fn,
           "float32": torch.float32}


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
    """``plain`` and ``ours``, without and with geometry, on one model; both widen, so both see the whole canvas."""
    import importlib

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
    return {"plain": plain, "ours": ours}


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
