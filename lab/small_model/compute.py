"""What a stage of the training has cost, how a training by ``train_egox.py`` yields to tests and benches, and attention
that is quick to train on a CPU."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

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


Shares = Callable[[Tensor, Tensor, Tensor, Tensor, float, Tensor | None], tuple[Tensor, Tensor]]


def attention_shares(
    logits: Tensor,  # (H, Q, K), queries times keys, unscaled
    value_gradients: Tensor,  # (H, Q, K), the output's gradient times the values
    log_sums: Tensor,  # (H, Q) float32, of the forward pass
    spread: Tensor,  # (H, Q) float32, the output's gradient times the output
    scale: float,
    bias: Tensor | None,  # broadcast to (H, Q, K)
) -> tuple[Tensor, Tensor]:  # the attention's weights and the logits' gradients, as ``logits``
    scaled = logits.float() * scale
    weights = torch.exp((scaled if bias is None else scaled + bias) - log_sums[..., None])
    gradients = weights * (value_gradients.float() - spread[..., None]) * scale
    return weights.to(logits.dtype), gradients.to(logits.dtype)


def attention_gradients(
    output_gradient: Tensor,  # (B, H, Q, D), as the output
    query: Tensor,  # (B, H, Q, D)
    key: Tensor,  # (B, H, K, D)
    value: Tensor,  # (B, H, K, D)
    output: Tensor,  # (B, H, Q, D)
    log_sums: Tensor,  # (B, H, Q) float32
    dropout: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,  # added to the logits, broadcast to (B, H, Q, K)
    scale: float | None = None,
    shares: Shares = attention_shares,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, one clip at a time so that its logits stay in the processor's cache.

    Takes what torch's own function for the CPU takes, and refuses (ValueError) dropout and a causal mask.
    """
    if dropout or is_causal:
        raise ValueError("got dropout or a causal mask, expected neither: leave quick_attention_backward out")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    spread = (output_gradient.float() * output.float()).sum(-1)
    gradients = tuple(torch.empty_like(part) for part in (query, key, value))
    for number in range(query.shape[0]):
        q, k, v, out = (part[number].contiguous() for part in (query, key, value, output_gradient))
        bias = None if attn_mask is None else attn_mask[number if attn_mask.shape[0] > 1 else 0]
        weights, by_logits = shares(q @ k.mT, out @ v.mT, log_sums[number], spread[number], scale, bias)
        for target, gradient in zip(gradients, (by_logits @ k, by_logits.mT @ q, weights.mT @ out), strict=True):
            target[number] = gradient
    return gradients


@contextmanager
def quick_attention_backward() -> Iterator[None]:
    """Attention's gradients on a CPU by `attention_gradients`, compiled, wherever torch would compute them inside.

    torch's own take eight times the forward pass (2.11, bfloat16, 528 tokens), two fifths of a training step; these a
    third of that.
    """
    compiled = torch.compile(attention_shares, dynamic=False)

    def gradients(*inputs: Any, **more: Any) -> tuple[Tensor, Tensor, Tensor]:
        return attention_gradients(*inputs, **more, shares=compiled)

    library = torch.library.Library("aten", "IMPL")
    library.impl("_scaled_dot_product_flash_attention_for_cpu_backward", gradients, "CPU")
    try:
        yield
    finally:
        library._destroy()  # torch has no public name for it
