"""``bench gpu``: a forward of the whole transformer in plain torch, and one training step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.attention_case import LATENTS, random_geometry
from benchmarks.support.forward_bars import FLOP_BAR, GEOMETRY_BAR, clip_minutes
from benchmarks.support.gpu_attention import SHAPES
from benchmarks.support.gpu_memory import DeviceMemory, capped, free_bytes
from benchmarks.support.gpu_model import RandomWan, Storage, VisitingBlocks, block_bytes, text_shape
from benchmarks.support.gpu_row import Row, why
from egox_core.errors import EgoXInputError
from egox_core.gga.attention import gga_attention, plain_attention
from egox_core.gga.options import GgaOptions
from egox_core.sizes import MODEL_CHANNELS
from egox_core.types import GgaGeometry
from egox_core.wan.step_memory import ModelSize, TrainSetting, estimate
from tools.rigs.wan_shapes import CLIPS, IMAGE_FEATURES, IMAGE_TOKENS, RELEASED_RANK, SIZES, forward_flops

WEIGHTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
ACTIVATIONS = 6.5e9
"""What a forward needs beside its blocks at the released size: the embeddings' weights (0.5 GB), the residual stream
and what one block makes of it (each feed-forward activation is 0.8 GB), with room for the allocator's gaps."""
SECOND_LOOK_S = 20.0
"""A forward that takes longer is timed once."""
OFFLOADED_BLOCKS = 8
"""How many different blocks a forced offload keeps in main memory: what is copied is that of all of them in turn."""
TRAINING_SLACK = 1.1
"""How far above the prediction a training step's peak may be."""


def forward_rows(size: str, weights: str, device: torch.device, matrix_rate: float | None,
                 cap_gb: float | None = None) -> Iterator[Row]:
    """Guided and plain forward with the blocks in the device's memory."""
    name = f"forward in plain torch, {weights}" + (f", {cap_gb:g} GB cap" if cap_gb else "")
    with torch.inference_mode(), capped(device, cap_gb):
        held = blocks_that_fit(size, WEIGHTS[weights], device, cap_gb)
        with DeviceMemory(device) as memory:
            model = random_model(size, weights, device, held)
            inputs = model_inputs(size, device)
            geometry = random_geometry(LATENTS[SHAPES[size][0]], torch.Generator().manual_seed(0)).to(device)
            seconds, outs = timed({"guided": lambda: model(*inputs, guided_by(geometry)),
                                   "plain": lambda: model(*inputs)}, device)
    numbers = {"blocks_held": held, "blocks": model.layers, "peak_tensors_gb": memory.tensors_gb,
               "peak_device_gb": memory.device_gb, **{f"{key}_seconds": value for key, value in seconds.items()}}
    blocks = f"{held} of {SIZES[size]['num_layers']} blocks in memory"
    yield speed_row(name, size, seconds["guided"], seconds["plain"], device, numbers)
    if matrix_rate:
        yield flop_row(name, size, seconds["guided"], matrix_rate, device)
    fits = cap_gb is None or memory.tensors_gb is None or memory.tensors_gb <= cap_gb
    yield Row(what=f"{name}: result and memory", measured=f"{memory.text()}; {blocks}",
              bar="finite, geometry changes it" + (f", within {cap_gb:g} GB" if cap_gb else ""),
              held=fits and right(outs["guided"], outs["plain"]))


def offload_rows(size: str, weights: str, device: torch.device, cap_gb: float | None) -> Iterator[Row]:
    """The same forward with every block copied from main memory for each use: the result must be the same."""
    name = f"forward in plain torch, {weights}, offload forced" + (f", {cap_gb:g} GB cap" if cap_gb else "")
    with torch.inference_mode(), capped(device, cap_gb):
        held = min(OFFLOADED_BLOCKS, blocks_that_fit(size, WEIGHTS[weights], device, cap_gb))
        model, inputs = random_model(size, weights, device, held), model_inputs(size, device)
        geometry = random_geometry(LATENTS[SHAPES[size][0]], torch.Generator().manual_seed(0)).to(device)
        resident = model(*inputs, guided_by(geometry))
        visiting = VisitingBlocks(model, device)
        with DeviceMemory(device) as memory:
            seconds, outs = timed({"guided": lambda: model(*inputs, guided_by(geometry), visiting.order)}, device)
    same = bool(torch.equal(outs["guided"], resident))
    yield Row(what=name, measured=f"{seconds['guided']:.2f} s, {memory.text()}, the result is "
              + ("the same" if same else "ANOTHER"), bar="the same to the bit", held=same,
              numbers={"seconds": seconds["guided"], "peak_tensors_gb": memory.tensors_gb,
                       "peak_device_gb": memory.device_gb, "different_blocks": held})


def training_rows(size: str, base: str, device: torch.device) -> Iterator[Row]:
    """One step of the trainer's model where diffusers and PEFT are installed, else of the plain one."""
    setting = TrainSetting(base={"bf16": "bfloat16", "fp8": "float8"}[base])
    if estimate(ModelSize(), setting).total <= free_bytes(device):
        try:
            yield _trainer_row(size, base, setting, device)
            return
        except (EgoXInputError, ImportError) as error:  # no diffusers or PEFT; no torchao for fp8
            yield Row(what=f"training step, {base}, diffusers and PEFT", measured=f"not run: {why(error)}")
    yield _plain_training_row(size, base, setting, device)


def _trainer_row(size: str, base: str, setting: TrainSetting, device: torch.device) -> Row:
    from benchmarks.support.training_step import measure

    with DeviceMemory(device) as memory:
        result = measure(setting.base, size == "small")
    predicted = estimate(ModelSize(), setting).total / 1e9
    return _training_row(f"training step, {base}, diffusers and PEFT", size, result["seconds_a_step"], memory,
                         predicted, 40, True)


def _plain_training_row(size: str, base: str, setting: TrainSetting, device: torch.device) -> Row:
    shape, rank = dict(SIZES[size]), RELEASED_RANK if size == "14b" else 8
    free = free_bytes(device)
    while shape["num_layers"] > 1 and size == "14b" and _predicted(shape, setting) > free:
        shape["num_layers"] -= 1
    storage = Storage(weights=WEIGHTS[base], compute=torch.bfloat16, device=device, lora_rank=rank)
    with DeviceMemory(device) as memory:
        model = RandomWan(shape, storage)
        inputs = model_inputs(size, device)
        geometry = random_geometry(LATENTS[SHAPES[size][0]], torch.Generator().manual_seed(0)).to(device)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        ego = geometry.grid[3] * 2
        for _ in range(2):  # the first compiles kernels and makes the optimizer's state
            start = now(device)
            out = model(*inputs, guided_by(geometry, backend="steady", recompute=True))
            loss = out[..., -ego:].float().square().mean()
            loss.backward()
            moved = all(p.grad is not None and bool(p.grad.isfinite().all()) for p in parameters)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds = now(device) - start
    return _training_row(f"training step, {base}, plain torch", size, seconds, memory,
                         _predicted(shape, setting) / 1e9, shape["num_layers"], moved and bool(loss.isfinite()))


def _predicted(shape: dict[str, int], setting: TrainSetting) -> float:
    """Bytes of a step at the real size with as many layers as ``shape`` has."""
    return estimate(ModelSize(layers=shape["num_layers"]), setting).total


def _training_row(what: str, size: str, seconds: float, memory: DeviceMemory, predicted_gb: float, layers: int,
                  finite: bool) -> Row:
    judged = size == "14b" and memory.tensors_gb is not None
    return Row(what=what, measured=f"{seconds:.2f} s, {memory.text()}" + (
                   f" (predicted {predicted_gb:.1f}), {layers} of 40 blocks" if judged else ""),
               bar="gradients finite" + (f", peak <= {TRAINING_SLACK} of the prediction" if judged else ""),
               held=finite and (not judged or memory.tensors_gb <= TRAINING_SLACK * predicted_gb),
               numbers={"seconds": seconds, "peak_tensors_gb": memory.tensors_gb, "peak_device_gb": memory.device_gb,
                        "predicted_gb": predicted_gb, "layers": layers})


def blocks_that_fit(size: str, weights: torch.dtype, device: torch.device, cap_gb: float | None = None) -> int:
    """As many as the memory holds beside what a forward needs; at least one."""
    layers, free = SIZES[size]["num_layers"], free_bytes(device, cap_gb)
    if free == float("inf"):
        return layers
    return max(1, min(layers, int((free - ACTIVATIONS) // block_bytes(size, weights))))


def random_model(size: str, weights: str, device: torch.device, held: int) -> RandomWan:
    compute = WEIGHTS[weights] if WEIGHTS[weights].itemsize > 1 else torch.bfloat16
    torch.manual_seed(0)
    return RandomWan(SIZES[size], Storage(weights=WEIGHTS[weights], compute=compute, device=device), held)


def model_inputs(size: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Canvas, timestep, text and picture of one clip."""
    t, h, w_exo, w_ego = LATENTS[SHAPES[size][0]]
    generator = torch.Generator().manual_seed(1)
    canvas, text, image = (torch.randn(shape, generator=generator).to(device) for shape in (
        (1, MODEL_CHANNELS, t, h, w_exo + w_ego), text_shape(size), (1, IMAGE_TOKENS, IMAGE_FEATURES)))
    return canvas, torch.tensor([500.0], device=device), text, image


def guided_by(geometry: GgaGeometry, **how: Any) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """Attention with this geometry, as released."""
    return lambda q, k, v, heads: gga_attention(q, k, v, heads, geometry, GgaOptions(), plain=plain_attention, **how)


def timed(works: dict[str, Callable[[], Tensor]], device: torch.device) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Best seconds and the result of each; once to warm up, then in turns, twice unless they take long."""
    outs, first = {}, {}
    for name, work in works.items():
        start = now(device)
        outs[name] = work()
        first[name] = now(device) - start
    best: dict[str, float] = {}
    for _ in range(2 if max(first.values()) < SECOND_LOOK_S else 1):
        for name, work in works.items():
            start = now(device)
            work()
            best[name] = min(best.get(name, float("inf")), now(device) - start)
    return best, outs


def now(device: torch.device) -> float:
    """Seconds on a clock, when all work that was begun is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def right(guided: Tensor, plain: Tensor) -> bool:
    """Whether a pair of results can be one with geometry and one without."""
    return bool(guided.isfinite().all()) and bool(plain.isfinite().all()) and not torch.equal(guided, plain)


def speed_row(name: str, size: str, guided: float, plain: float, device: torch.device,
              numbers: dict[str, Any] | None = None) -> Row:
    """Geometry's share of a forward."""
    judged = size == "14b" and device.type == "cuda"
    return Row(what=f"{name}: guided over plain", measured=f"{guided:.2f} s over {plain:.2f} s: {guided / plain:.3f}",
               bar=f"<= {GEOMETRY_BAR}" if judged else "", held=guided <= GEOMETRY_BAR * plain if judged else None,
               numbers={"ratio": guided / plain, **(numbers or {})})


def flop_row(name: str, size: str, guided: float, matrix_rate: float, device: torch.device) -> Row:
    """A forward, and a clip as released, beside what the device's rate of multiplications allows."""
    limit = forward_flops(size, CLIPS[size].tokens) / matrix_rate
    judged = size == "14b" and device.type == "cuda"
    return Row(what=f"{name}: 50 steps with CFG", measured=f"{clip_minutes(guided):.1f} min; FLOP limit "
               f"{clip_minutes(limit):.1f} min: {guided / limit:.2f}", bar=f"<= {FLOP_BAR}" if judged else "",
               held=guided <= FLOP_BAR * limit if judged else None,
               numbers={"minutes": clip_minutes(guided), "limit_minutes": clip_minutes(limit)})
