"""``run.py rehearse``: egox_basic with files of the real weights' size, of random numbers.

    python3 run.py rehearse [--save]

For whoever changes how weights are read, merged or kept: nothing here can be seen with small files.
Names, shapes and types are the real ones, so that sizes agree with docs/weights.md to a few KB. One
step of 5 frames at 112 x 64; the table says what each node took in seconds, memory (of the server,
without mapped files) and disk. The files go at the end, on Ctrl-C too."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .setup.api_client import Event, PromptRefused, read_prompt
from .setup.base_dir import BaseDir, make_base_dir
from .setup.demo import DemoOptions, apply_options, of_type
from .setup.environment import Environment, this_environment
from .setup.layout import Layout, SetupError
from .setup.server import Server

DISK_GB, MEMORY_GB = 32, 20
FRAMES, SIZE = 5, 64
RANK = 256
NORM = re.compile(r"gamma$|norm\w*\.weight$|img_emb\.proj\.[04]\.weight$")
TILE = 8_000_000  # random numbers, repeated
VARIABLES = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
"""Without it glibc's heap grows by half again while a LoRA is merged into float8."""
FLOAT8_GAIN = 100.0  # float8 has its numbers around 1 to 400; a scale brings them back
WIDE = ("shared.weight", "attention_bias.weight")  # matrices that stay in half precision

Shapes = Mapping[str, tuple[int, ...]]
Entries = dict[str, tuple[tuple[int, ...], Any]]


def umt5_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {"shared.weight": (256384, 4096), "encoder.final_layer_norm.weight": (4096,)}
    for block in (f"encoder.block.{i}.layer" for i in range(24)):
        for name in "qkvo":
            shapes[f"{block}.0.SelfAttention.{name}.weight"] = (4096, 4096)
        shapes[f"{block}.0.SelfAttention.relative_attention_bias.weight"] = (32, 64)
        shapes[f"{block}.0.layer_norm.weight"] = shapes[f"{block}.1.layer_norm.weight"] = (4096,)
        for name, shape in (
            ("wi_0", (10240, 4096)),
            ("wi_1", (10240, 4096)),
            ("wo", (4096, 10240)),
        ):
            shapes[f"{block}.1.DenseReluDense.{name}.weight"] = shape
    return shapes


def scaled_float8(shapes: Shapes) -> Entries:
    """Matrices in float8 with a scale each, all else in half precision."""
    import torch

    entries: Entries = {"scaled_fp8": ((2,), torch.float8_e4m3fn)}
    for name, shape in shapes.items():
        small = name.endswith(".weight") and len(shape) == 2 and not name.endswith(WIDE)
        entries[name] = (shape, torch.float8_e4m3fn if small else torch.float16)
        if small:
            entries[name.removesuffix("weight") + "scale_weight"] = ((), torch.float32)
    return entries


def gain_of(name: str, shape: tuple[int, ...]) -> float:
    """Standard deviation with which numbers neither vanish nor grow through the blocks."""
    if name.endswith("bias"):
        return 0.02
    if "lora_B" in name:
        return 0.02 / math.sqrt(shape[1])
    return 1 / math.sqrt(max(1, math.prod(shape[1:])))


def write_models(models: Path, prompt: Mapping[str, Any]) -> None:
    """A file for each loader of the graph, under the name that the graph gives."""
    import torch

    from egox_train.wan.streamed import write_streamed

    from .rigs import standin_shapes as rig
    from .rigs.standins import tokenizer_model

    form = rig.TransformerForm(dim=5120, ffn_dim=13824, layers=40, heads=40)
    model, vision = rig.transformer_shapes(form), rig.clip_vision_shapes(32, 1280, 5120)
    model, tokenizer = scaled_float8(model), tokenizer_model()
    text = scaled_float8(umt5_shapes()) | {"spiece_model": (tuple(tokenizer.shape), torch.uint8)}

    def plain(shapes: Shapes, dtype: torch.dtype) -> Entries:
        return {name: (shape, dtype) for name, shape in shapes.items()}

    files = (
        ("UNETLoader", "unet_name", "diffusion_models", model),
        ("CLIPLoader", "clip_name", "text_encoders", text),
        ("VAELoader", "vae_name", "vae", plain(rig.vae_shapes(96), torch.bfloat16)),
        ("CLIPVisionLoader", "clip_name", "clip_vision", plain(vision, torch.float16)),
        ("EgoXLoadLora", "lora_name", "loras", plain(rig.lora_shapes(form, RANK), torch.float32)),
    )
    tile = torch.randn(TILE, generator=torch.Generator().manual_seed(0))
    for loader, key, folder, entries in files:

        def tensor_of(name: str, entries: Entries = entries) -> Any:
            shape, dtype = entries[name]
            if name == "spiece_model":
                return tokenizer
            if name == "scaled_fp8":
                return torch.zeros(shape)
            if name.endswith("scale_weight"):
                whole = name.removesuffix("scale_weight") + "weight"
                return torch.tensor(gain_of(whole, entries[whole][0]) / FLOAT8_GAIN)
            if NORM.search(name):
                return torch.ones(shape)
            gain = FLOAT8_GAIN if dtype == torch.float8_e4m3fn else gain_of(name, shape)
            count = math.prod(shape)
            numbers = (tile[: min(count, TILE)] * gain).clamp(-448, 448).to(dtype)
            return numbers.repeat(-(-count // TILE))[:count]

        (inputs,) = of_type(prompt, loader)
        file = models / folder / inputs[key]
        write_streamed(file, entries, tensor_of, {"format": "pt"})
        print(f"{file.name}: {file.stat().st_size:,} bytes, random", flush=True)


@dataclass
class Usage:
    """Seconds, memory and disk of the server, node by node."""

    process: Any  # psutil's
    rows: dict[str, list[float]] = field(default_factory=dict)  # seconds, peak GB, GB read
    node: str = ""
    began: float = 0.0
    read: float = 0.0

    def on_event(self, event: Event) -> None:
        kind, data = event
        if kind == "executing":
            self.turn(data.get("node") or "")

    def turn(self, node: str) -> None:
        now, read = time.monotonic(), self._read()
        if self.node:
            row = self.rows.setdefault(self.node, [0.0, 0.0, 0.0])
            row[0] += now - self.began
            row[2] += read - self.read
        self.node, self.began, self.read = node, now, read

    @contextmanager
    def sampled(self) -> Iterator[None]:
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.25):
                if node := self.node:
                    row = self.rows.setdefault(node, [0.0, 0.0, 0.0])
                    row[1] = max(row[1], self._memory())

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.turn("")

    def _memory(self) -> float:
        memory = self.process.memory_info()
        return (memory.rss - getattr(memory, "shared", 0)) / 1e9

    def _read(self) -> float:
        counters = getattr(self.process, "io_counters", None)  # macOS has none
        return counters().read_bytes / 1e9 if counters else 0.0


def check_room(place: Path) -> None:
    """Refuse a machine that can't hold it."""
    import psutil

    disk, memory = shutil.disk_usage(place).free / 1e9, psutil.virtual_memory().available / 1e9
    if disk < DISK_GB or memory < MEMORY_GB:
        raise SetupError(
            f"The rehearsal wants {DISK_GB} GB of disk and {MEMORY_GB} GB of free memory; here are "
            f"{disk:.0f} and {memory:.0f}. Free some, or run it on another machine."
        )


def rehearse(environment: Environment, base: BaseDir, log: Path) -> tuple[str, bool]:
    """The table, and whether the graph ran to its end."""
    import psutil

    prompt = apply_options(
        read_prompt("egox_basic", environment.layout.repo),
        DemoOptions(frames=FRAMES, size=SIZE, steps=1),
        None,
    )
    of_type(prompt, "EgoXWanSampler")[0]["cfg"] = 1.0  # one forward
    write_models(base.models, prompt)
    with Server(environment, base, log, variables=VARIABLES) as server:
        usage = Usage(psutil.Process(server.process.pid))
        try:
            with usage.sampled():
                problem = server.client.run(prompt, usage.on_event, timeout=6 * 3600).error_text
        except (PromptRefused, ConnectionError, TimeoutError, psutil.NoSuchProcess) as error:
            problem = f"{error}; the end of the log:\n{server.log_tail()}"
    rows = [
        f"| {prompt.get(node, {}).get('class_type', node)} | {took:.1f} | {memory:.2f} | {read:.2f} |"
        for node, (took, memory, read) in usage.rows.items()
    ]
    head = ["| node | seconds | peak GB | GB read |", "| --- | --- | --- | --- |"]
    ended = problem or f"The graph ran to its end: {FRAMES} frames, 1 step, CFG 1."
    return "\n".join([*head, *rows, "", ended]), not problem


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/rehearsal.md")
    args = parser.parse_args(arguments)
    layout, root = Layout(), Layout().state / "rehearsal"
    environment = this_environment(layout)
    try:
        if environment is None:
            raise SetupError("there is no ComfyUI here; set COMFYUI_DIR")
        base = make_base_dir(root, layout)
        check_room(root)
        text, whole = rehearse(environment, base, layout.logs / "rehearsal.log")
    except SetupError as error:
        raise SystemExit(f"run.py rehearse: {error}") from None
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(text)
    if args.save:
        file = layout.repo / "benchmarks" / "results" / "rehearsal.md"
        file.write_text(
            f"# A dress rehearsal with files of true size\n\n{text}\n", encoding="utf-8"
        )
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
