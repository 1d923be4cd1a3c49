"""Measure one optimizer step of the full-size training model with random weights."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import WanTransformer3DModel

from egox_core.errors import EgoXInputError
from egox_core.gga import GgaOptions
from egox_core.types import GgaGeometry
from egox_train.train.config import LoraSettings, TrainConfig, load_config, parse_config
from egox_train.train.lora import add_lora
from egox_train.train.memory import CANVASES, meta_model, predict, predict_main
from egox_train.train.model import make_optimizer
from egox_train.train.number_types import settle_types
from egox_train.train.offload import offload_blocks, offload_checkpoints, store_base
from egox_train.wan.diffusers_processor import install_gga
from egox_train.wan.transformer import cast_base

NORM_GAIN = 3.0
"""Of queries and keys, about as peaked as trained ones are: what a kernel's check must bear."""


SMALL_SIZES = {"num_attention_heads": 2, "attention_head_dim": 64, "ffn_dim": 256, "num_layers": 2}
SMALL_GRID, SMALL_RANK = (2, 4, 6, 4), 8
CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"


BASE_TYPES = {"bf16": "bfloat16", "fp8": "float8"}


def measure(kind: str, device: torch.device, small: bool) -> dict[str, Any]:
    """Measure the seconds and the memory of one optimizer step.

    ``kind`` is a type of weights, all on the card, or the card whose shipped configuration is
    taken, with blocks and checkpoints in main memory ("24 GB"). AdamW steps in for its 8-bit Adam
    where bitsandbytes is missing. ``small``: a few layers on whatever device there is.

    Raises:
        EgoXInputError: memory is short.
    """
    base_type = BASE_TYPES.get(kind)
    optimizer = "adamw8bit" if find_spec("bitsandbytes") is not None else "adamw"
    if base_type is None:
        settings = ["gradient_accumulation=1", f"optimizer.name={optimizer}"]
        config = load_config(CONFIGS / f"train_14b_{kind[:2]}gb.yaml", settings)
    else:
        folders = {"base": "", "cache": "", "output": "", "steps": 1}
        config = parse_config({**folders, "memory": {"base_dtype": base_type}})
    config = settle_types(config, torch.device("cuda"))
    t, h, w_exo, w_ego = canvas_size = CANVASES["704x256" if kind == "16 GB" else "1232x448"]
    gpu_estimate, main_estimate = (
        f(config, meta_model(), canvas_size) for f in (predict, predict_main)
    )
    assert gpu_estimate is not None and main_estimate is not None  # of a LoRA
    model, token_grid = meta_model(), (t, h // 2, w_exo // 2, w_ego // 2)
    lora_rank = config.lora.rank if base_type is None else 256
    if small:
        model, token_grid, lora_rank = meta_model(**SMALL_SIZES), SMALL_GRID, SMALL_RANK
    elif base_type is None:
        _check_memory("main memory", psutil.virtual_memory().available, main_estimate.total)
    elif device.type == "cuda":
        _check_memory("GPU memory", torch.cuda.mem_get_info(device)[0], gpu_estimate.total)
    bytes_before = psutil.Process().memory_info().rss
    offloaded = config if base_type is None else None
    step = make_step(base_type or "bfloat16", model, token_grid, lora_rank, device, offloaded)
    seconds, peak_gb = time_second_step(step, device)
    measurement = {
        "seconds": seconds,
        "peak_gb": peak_gb,
        "predicted_gb": gpu_estimate.total / 1e9,
    }
    if base_type is not None:
        return measurement
    main_bytes = psutil.Process().memory_info().rss - bytes_before
    return measurement | {
        "main_gb": main_bytes / 1e9,
        "predicted_main_gb": main_estimate.total / 1e9,
        "optimizer": optimizer,
    }


def _check_memory(subject: str, free_bytes: float, needed_bytes: float) -> None:
    if free_bytes < needed_bytes:
        raise EgoXInputError(
            subject,
            got=f"{free_bytes / 1e9:.1f} GB free",
            expected=f"{needed_bytes / 1e9:.1f} GB",
            fix="close other programs",
        )


def time_second_step(step: Callable[[], None], device: torch.device) -> tuple[float, float | None]:
    """Run a training step twice, and measure the seconds of the second and the peak GPU memory of
    both."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(2):  # the first step compiles kernels and makes the optimizer's state
        start_time_s = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start_time_s)
    peak_gb = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    return seconds[-1], peak_gb


def make_step(
    base: str,
    model: WanTransformer3DModel,  # on the meta device
    grid: tuple[int, int, int, int],  # t, h, w_exo, w_ego in tokens
    rank: int,
    device: torch.device,
    # Its optimizer, and its blocks and checkpoints in main memory; None: AdamW, all on the device.
    offloaded: TrainConfig | None = None,
) -> Callable[[], None]:
    """Build a function that runs one optimizer step of a training model with random weights.

    Inputs, and weights that aren't offloaded, are on the device.
    """
    t, h, w_exo, w_ego = grid
    model_config = model.config
    model.rope = type(model.rope)(model_config.attention_head_dim, model_config.patch_size, 1024)
    for layer_module in model.modules():  # layer by layer, so that the float32 whole never exists
        for name, parameter in list(layer_module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = torch.randn(parameter.shape, device=device, dtype=torch.bfloat16).mul_(0.02)
                if "Norm" in type(layer_module).__name__ and name == "weight":
                    value += NORM_GAIN
                setattr(layer_module, name, torch.nn.Parameter(value, requires_grad=False))
    cast_base(model, torch.bfloat16).to(device)
    store_base(model, base)
    parameters = add_lora(model, LoraSettings(rank=rank), seed=0)
    model.to(device)
    gga_scope = install_gga(model)
    model.enable_gradient_checkpointing()
    if offloaded is not None:
        offload_checkpoints(model)
        offload_blocks(model, device)
    tokens = t * h * (w_exo + w_ego)
    normalize_directions = torch.nn.functional.normalize
    gga_scope.set(
        [
            GgaGeometry(
                query_dirs=normalize_directions(
                    torch.randn(t, h * w_ego, 3, device=device), dim=-1
                ),
                key_dirs=normalize_directions(torch.randn(t, tokens, 3, device=device), dim=-1),
                key_trust=torch.ones(tokens, device=device),
                grid=grid,
            )
        ],
        GgaOptions(mode="released", lambda_g=3.0),
        alone_grid=grid if offloaded and offloaded.conditioning.exo == "alone" else None,
    )
    optimizer = (
        torch.optim.AdamW(parameters, lr=1e-4)
        if offloaded is None
        else make_optimizer(offloaded.optimizer, parameters)
    )
    packed_input = torch.randn(
        1, 36, t, 2 * h, 2 * (w_exo + w_ego), device=device, dtype=torch.bfloat16
    )
    text_embedding = torch.randn(1, 512, model_config.text_dim, device=device, dtype=torch.bfloat16)
    image_embedding = torch.randn(
        1, 257, model_config.image_dim, device=device, dtype=torch.bfloat16
    )

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            time_step = torch.full((1,), 500.0, device=device)
            model_output = model(
                packed_input, time_step, text_embedding, image_embedding, return_dict=False
            )[0]
        model_output[..., 2 * w_exo :].float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
