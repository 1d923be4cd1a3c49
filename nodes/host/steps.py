"""A sampler's steps, followed without changing a number: time per part, and the time left, shown on
the node."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

CALLBACK = 4  # place of the step callback among outer_sample's arguments after the noise


class PartSeconds:
    """Seconds per named part of a run; on CUDA by events that are read at the end, so nothing
    waits.

    Other devices than CUDA and CPU work in the background without such events: nothing is measured.
    """

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[Any, Any]]] = {}

    def clear(self) -> None:
        """A run begins."""
        self._spans.clear()

    @contextmanager
    def of(self, part: str, device: torch.device) -> Generator[None]:
        """Measure what is done in this block."""
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(torch.cuda.current_stream(device))
            yield
            end.record(torch.cuda.current_stream(device))
        elif device.type == "cpu":
            begin = time.perf_counter()
            yield
            end = time.perf_counter()
        else:
            yield
            return
        self._spans.setdefault(part, []).append((begin, end))

    def total(self, *parts: str) -> float:
        """Seconds of these parts together; waits for the device."""
        return sum(_span_seconds(*span) for part in parts for span in self._spans.get(part, ()))

    def mean(self, part: str) -> float:
        """Seconds per span of a part; 0 where there is none."""
        return self.total(part) / max(1, len(self._spans.get(part, ())))


def _span_seconds(begin: Any, end: Any) -> float:
    if isinstance(end, float):
        return end - begin
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class StepListener:
    """An OUTER_SAMPLE wrapper; subclasses say in :meth:`after_step` what they do with a step."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id

    def __call__(
        self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.node_id is None or len(args) <= CALLBACK:
            return executor(noise, *args, **kwargs)
        inner, started = args[CALLBACK], time.monotonic()
        latent_format = executor.class_obj.model_patcher.get_model_object("latent_format")

        def callback(step: int, x0: Tensor, x: Tensor, total: int) -> None:
            if inner is not None:
                inner(step, x0, x, total)
            self.after_step(step + 1, total, time.monotonic() - started, x0, latent_format)

        return executor(noise, *args[:CALLBACK], callback, *args[CALLBACK + 1 :], **kwargs)

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        """``x0`` [B, 16, t, h, w]: what the model now thinks the clip is, in model space."""
        raise NotImplementedError


def running_server() -> Any | None:
    """The host's server. Without one (tests, scripts) nobody is listening."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def tell_on_node(text: str, node_id: str | None) -> None:
    """Show a line on a node while it runs and until its next run."""
    server = running_server()
    if server is not None:
        server.send_progress_text(text, node_id)


class TimeLeft(StepListener):
    """Tells the running node after each step how long the rest will take.

    Args:
        part: said before it, for a run of several samplings.
    """

    def __init__(self, node_id: str | None, part: str = "") -> None:
        super().__init__(node_id)
        self.part = part

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        self.show(self.part + time_left_text(step, total, elapsed_s))

    def show(self, text: str) -> None:
        """Show a line on the node."""
        tell_on_node(text, self.node_id)


def time_left_text(steps: int, total: int, elapsed_s: float) -> str:
    """``step 3/50, 4:10 left``: the mean step so far, times what remains."""
    left = round(elapsed_s / steps * (total - steps))
    return f"step {steps}/{total}, {left // 60}:{left % 60:02d} left"
