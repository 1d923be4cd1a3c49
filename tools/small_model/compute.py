"""What a stage of the training has cost, and how a training by ``train_egox.py`` yields to tests and benches."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from tools.setup import at_work

from .vae_model import decode, encode, new_vae, whole_clips


def cost(seconds: float, processor_seconds: float, device: str) -> dict[str, Any]:
    """Seconds, threads, their product in hours, what the processor really gave (on a busy machine far less), and the
    seconds of one reference step, by which the cores of two machines are compared."""
    threads = torch.get_num_threads() if device == "cpu" else 1
    return {"seconds": round(seconds), "threads": threads, "core_hours": round(seconds * threads / 3600, 2),
            "processor_hours": round(processor_seconds / 3600, 2),
            "reference_step_seconds": round(reference_step(device), 2)}


@torch.enable_grad()
def reference_step(device: str) -> float:
    """Seconds (of the processor, on a CPU) of one forward and backward pass of a new VAE of 16 channels over two pieces
    of 9 x 64 x 64 px, the quickest of three."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    model = whole_clips(new_vae(16, 0)).to(device)
    video, times = torch.zeros(2, 3, 9, 64, 64, device=device), []
    for _ in range(3):
        started = clock()
        with torch.autocast(device, torch.bfloat16):
            loss = decode(model, encode(model, video)).float().square().mean()
        loss.backward()
        loss.item()
        times.append(clock() - started)
    return min(times)


@contextmanager
def yielding() -> Iterator[threading.Event]:
    """Asks the training inside to save and stop, as SIGTERM does, as soon as somebody tests or measures; the event says
    that this was why."""
    yielded, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(at_work.LOOK_SECONDS):
            if at_work.somebody_at_work():
                yielded.set()
                signal.raise_signal(signal.SIGTERM)

    def asked(number: int, frame: FrameType | None) -> None:
        if not yielded.is_set():
            raise KeyboardInterrupt

    watcher = threading.Thread(target=watch, daemon=True)
    before = signal.signal(signal.SIGTERM, asked)  # heard before the training is ready to hear it, ours is nothing
    watcher.start()
    try:
        yield yielded
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)
