"""``bench gpu``: forwards of the full-size transformer through the host's own loader, patcher, guider and memory."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.forward_bars import GEOMETRY_BAR
from benchmarks.support.gpu_forward import WEIGHTS, flop_row, right, speed_row
from benchmarks.support.gpu_memory import GB, DeviceMemory, empty
from benchmarks.support.gpu_model import block_bytes
from benchmarks.support.gpu_row import Row
from tools.rigs.wan_shapes import CLIPS, SIZES

FULL_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp8": "float8"}
CAP_MARGIN_GIB = 1.0
"""What a card's driver and libraries take beside tensors."""
SAME = 0.02
"""How far apart two runs of one model may be, of the result's spread: the attention kernel is chosen anew by time in
each process, and two kernels round bfloat16 differently over 40 blocks and two steps."""
DYNAMIC = "dynamic memory"
_base = None


def start_host(*, dynamic: bool, cap_gb: float | None, no_vram: bool, total_bytes: int | None) -> str:
    """Imports the host as its main.py sets it up, and the pack; in words, which memory management is on.

    ``dynamic`` turns the host's dynamic memory on where it can, as main.py does on NVIDIA cards. A cap is torch's share
    of the device, and for the host's own allocator what it is told to leave free. ``total_bytes``: of the device, None
    without one; given, because the host's allocator wants to be loaded before anything asks the driver.
    """
    global _base
    from tools.rigs.pack_in_process import import_host, load_pack
    from tools.setup.host import find_host

    options: dict[str, Any] = {"novram": no_vram}
    if cap_gb is not None and total_bytes:
        options["reserve_vram"] = max(0.0, (total_bytes - cap_gb * GB) / 2**30) + CAP_MARGIN_GIB
    control = None
    if dynamic and total_bytes and importlib.util.find_spec("comfy_aimdo") is not None:
        import comfy_aimdo.control as control

        headroom = options.get("reserve_vram")
        try:  # newer releases; older ones take nothing
            control.init(simple_vram_headroom=None if headroom is None else int(headroom * 2**30))
        except TypeError:
            control.init()
    if cap_gb is not None and total_bytes:
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * GB / total_bytes))
    _base = tempfile.TemporaryDirectory()
    import_host(find_host().root, Path(_base.name), **options)
    in_words = "no dynamic memory"
    if control is not None and control.init_devices([torch.cuda.current_device()]):
        import comfy.memory_management
        import comfy.model_patcher

        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
        in_words = DYNAMIC
    load_pack()
    return in_words


def host_rows(size: str, weights: str, memory_in_words: str, keep: Path, matrix_rate: float | None,
              cap_gb: float | None = None, note: str = "") -> Iterator[Row]:
    """Plain and guided sampling of a few forwards. The first setting's results are kept for the others to compare."""
    from benchmarks.support import gpu_sampling
    from tools.rigs.pack_in_process import load_pack

    name = f"forward through the host, {weights}{note}"
    needed = SIZES[size]["num_layers"] * block_bytes(size, WEIGHTS[weights]) * 1.1
    if (available := main_memory()) is not None and available < needed:
        yield Row(what=name, measured=f"not run: the weights need {needed / 1e9:.0f} GB of main memory, "
                  f"{available / 1e9:.0f} GB are free")
        return
    with torch.inference_mode():
        model = gpu_sampling.random_model(size, FULL_NAMES[weights])
        if memory_in_words == DYNAMIC:
            import comfy.model_patcher

            model = comfy.model_patcher.CoreModelPatcher(model.model, load_device=model.load_device,
                                                         offload_device=model.offload_device)
        device = model.load_device
        schemes = gpu_sampling.patched_models(load_pack(), model, CLIPS[size])
        seconds, outs, memories = {}, {}, {}
        for scheme in ("plain", "ours"):
            with DeviceMemory(device) as memories[scheme]:
                seconds[scheme], outs[scheme] = _sampled(schemes[scheme], size)
    import comfy.model_management

    comfy.model_management.unload_all_models()
    del model, schemes
    empty(device)
    memory = memories["ours"]
    yield speed_row(name, size, seconds["ours"], seconds["plain"], device, {
        "peak_tensors_gb": memory.tensors_gb, "peak_device_gb": memory.device_gb, "memory": memory_in_words})
    if matrix_rate and cap_gb is None:
        yield flop_row(name, size, seconds["ours"], matrix_rate, device)
    kept, apart = keep / f"{weights}.pt", None
    if kept.is_file():
        before = torch.load(kept, weights_only=True)
        apart = float((outs["ours"] - before).square().mean().sqrt() / before.std())
    else:
        torch.save(outs["ours"], kept)
    fits = cap_gb is None or memory.tensors_gb is None or memory.tensors_gb <= cap_gb
    yield Row(what=f"{name}: result and memory", measured=f"{memory_in_words}, {memory.text()}"
              + ("" if apart is None else f"; {apart:.1e} from the run without a cap"),
              bar="finite, geometry changes it" + (f", within {cap_gb:g} GB" if cap_gb else "")
              + ("" if apart is None else f", <= {SAME} apart"),
              held=fits and right(outs["ours"], outs["plain"]) and (apart is None or apart <= SAME),
              numbers={"apart": apart, "geometry_bar": GEOMETRY_BAR})


def main_memory() -> int | None:
    """Bytes of main memory that are free; None where nobody can tell."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil.virtual_memory().available


def _sampled(patched: Any, size: str) -> tuple[float, Tensor]:
    """Seconds of the last of three forwards (the first loads, chooses kernels and compiles) and the latent."""
    from benchmarks.support import gpu_sampling

    stamps: list[float] = []

    def stamp(*_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())

    latent = gpu_sampling.sample(patched, CLIPS[size], 3, stamp).float().cpu()
    return min(after - before for before, after in zip(stamps, stamps[1:], strict=False)), latent
