"""One optimizer step of the trainer's own model at full size, with random weights made on the
device."""

import time
from collections.abc import Callable

import torch
from diffusers import WanTransformer3DModel

from egox_core.gga import GgaOptions
from egox_core.types import GgaGeometry
from egox_train.train.config import LoraSettings, parse_config
from egox_train.train.lora import add_lora
from egox_train.train.memory import meta_model, predict
from egox_train.train.offload import store_base
from egox_train.wan.diffusers_processor import install_gga
from egox_train.wan.transformer import cast_base

RELEASED_GRID = (13, 28, 49, 28)  # (t, h, w_exo, w_ego) in tokens of the released clip
NORM_GAIN = 3.0
"""Of queries and keys, about as peaked as trained ones are: what a kernel's check must bear."""


def measure(base: str, small: bool) -> tuple[float, float]:
    """Seconds of one optimizer step, and GB of tensors at its worst moment (NaN without a GPU);
    ``small``: a few layers on whatever device there is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = meta_model(num_attention_heads=2, attention_head_dim=64, ffn_dim=256, num_layers=2)
    grid, rank = (2, 4, 6, 4), 8
    if not small:
        model, grid, rank = meta_model(), RELEASED_GRID, 256
    step = make_step(base, model, grid, rank, device)
    seconds = []
    for _ in range(2):  # the first step compiles kernels and makes the optimizer's state
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    return seconds[-1], peak


def predicted_bytes(base: str) -> float:
    """Peak memory that the trainer predicts for a step of 14B at the released size."""
    t, h, w_exo, w_ego = RELEASED_GRID
    memory = {"base_dtype": base}
    config = parse_config({"base": "", "cache": "", "output": "", "steps": 1, "memory": memory})
    predicted = predict(config, meta_model(), (t, 2 * h, 2 * w_exo, 2 * w_ego))
    assert predicted is not None  # of a LoRA
    return predicted.total


def make_step(
    base: str,
    model: WanTransformer3DModel,  # on the meta device
    grid: tuple[int, int, int, int],  # t, h, w_exo, w_ego in tokens
    rank: int,
    device: torch.device,
) -> Callable[[], None]:
    """A step of the trainer's model; weights and inputs are on the device."""
    t, h, w_exo, w_ego = grid
    sizes = model.config
    model.rope = type(model.rope)(sizes.attention_head_dim, sizes.patch_size, 1024)
    for module in model.modules():  # layer by layer, so that the float32 whole never exists
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = torch.randn(parameter.shape, device=device, dtype=torch.bfloat16).mul_(0.02)
                if "Norm" in type(module).__name__ and name == "weight":
                    value += NORM_GAIN
                setattr(module, name, torch.nn.Parameter(value, requires_grad=False))
    cast_base(model, torch.bfloat16).to(device)
    store_base(model, base)
    parameters = add_lora(model, LoraSettings(rank=rank), seed=0)
    model.to(device)
    scope = install_gga(model)
    model.enable_gradient_checkpointing()
    tokens = t * h * (w_exo + w_ego)
    dirs = torch.nn.functional.normalize
    scope.set(
        [
            GgaGeometry(
                query_dirs=dirs(torch.randn(t, h * w_ego, 3, device=device), dim=-1),
                key_dirs=dirs(torch.randn(t, tokens, 3, device=device), dim=-1),
                key_trust=torch.ones(tokens, device=device),
                grid=grid,
            )
        ],
        GgaOptions(mode="released", lambda_g=3.0),
    )
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    packed = torch.randn(1, 36, t, 2 * h, 2 * (w_exo + w_ego), device=device, dtype=torch.bfloat16)
    text = torch.randn(1, 512, sizes.text_dim, device=device, dtype=torch.bfloat16)
    image = torch.randn(1, 257, sizes.image_dim, device=device, dtype=torch.bfloat16)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            time_step = torch.full((1,), 500.0, device=device)
            out = model(packed, time_step, text, image, return_dict=False)[0]
        out[..., 2 * w_exo :].float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
