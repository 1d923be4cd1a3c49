"""A sampling, followed without changing a number: loading, steps and the time left, shown on the
node, and time per part."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from torch import Tensor

from .progress import host_progress

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

SIGMAS, CALLBACK = 2, 4  # places among outer_sample's arguments after the noise


class PartSeconds:
    """Seconds per named part of a run, on CUDA by events that are read at the end, so that nothing
    waits.

    Other devices than CUDA and CPU work in the background without such events: nothing is measured.
    """

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[Any, Any]]] = {}

    def clear(self) -> None:
        """Forget the steps of the run before."""
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
        """Add up the seconds of these parts, waiting for the device."""
        return sum(_span_seconds(*span) for part in parts for span in self._spans.get(part, ()))

    def mean(self, part: str) -> float:
        """Average the seconds per span of a part, 0 without any."""
        return self.total(part) / max(1, len(self._spans.get(part, ())))


def _span_seconds(begin: Any, end: Any) -> float:
    if isinstance(end, float):
        return end - begin
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class StepListener:
    """An OUTER_SAMPLE wrapper, whose subclasses say in :meth:`after_step` what they do with a step."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id

    def __call__(
        self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.node_id is None or len(args) <= CALLBACK:
            return executor(noise, *args, **kwargs)
        host_callback, start_s = args[CALLBACK], time.monotonic()
        latent_format = executor.class_obj.model_patcher.get_model_object("latent_format")

        def callback(step: int, x0: Tensor, x: Tensor, total: int) -> None:
            if host_callback is not None:
                host_callback(step, x0, x, total)
            self.after_step(step + 1, total, time.monotonic() - start_s, x0, latent_format)

        return executor(noise, *args[:CALLBACK], callback, *args[CALLBACK + 1 :], **kwargs)

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        """Handle a finished step.

        ``x0`` [B, 16, t, h, w]: what the model now thinks the clip is, in model space.
        """
        raise NotImplementedError


def running_server() -> Any | None:
    """Find the host's server. Without one (tests, scripts) nobody is listening."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def tell_on_node(text: str, node_id: str | None) -> None:
    """Show a line on a node while it runs and until its next run."""
    server = running_server()
    if server is not None:
        server.send_progress_text(text, node_id)


class TimeLeft(StepListener):
    """Tells the running node what a sampling is at: loading, merging, which step, and from the
    second on how long the rest will take.

    Args:
        part: said before it, for a run of several samplings.
        warning: gives what to say with it, once the run has begun.
    """

    def __init__(
        self, node_id: str | None, part: str = "", warning: Callable[[], str] = str
    ) -> None:
        super().__init__(node_id)
        self.part, self.warning = part, warning
        self.total, self.first_s, self.text = 0, 0.0, ""

    def __call__(
        self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.node_id is None or len(args) <= CALLBACK:
            return executor(noise, *args, **kwargs)
        model, self.total = executor.class_obj.model_patcher, len(args[SIGMAS]) - 1
        host_progress(self.total)(0, self.total, "sampling")  # not the bar of what was before
        self.show(
            f"loading the model ({model.model_size() / 1e9:.0f} GB), then step 1 of {self.total}"
        )
        with told_merging(model, self.show):
            return super().__call__(executor, noise, *args, **kwargs)

    def loaded(self, *_: object) -> None:
        """Note that the model is where it computes, as the host's callback."""
        self.show(f"step 1 of {self.total}")

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        if step == 1:
            self.first_s = elapsed_s
        self.show(time_left_text(step, total, elapsed_s - self.first_s))

    def show(self, text: str) -> None:
        """Show a line on the node."""
        warning = self.warning()
        self.text = self.part + text + (f"; {warning}" if warning else "")
        tell_on_node(self.text, self.node_id)

    def aside(self, words: str) -> None:
        """Show what is done meanwhile after the last line."""
        tell_on_node(f"{self.text}; {words}", self.node_id)


def time_left_text(done: int, total: int, seconds: float) -> str:
    """Write ``step 4 of 50, 4:10 left``, of steps that are done.

    The mean of those after the first, which reads the model's file, times what remains.
    """
    if done == total:
        return f"{total} of {total} steps"
    words = f"step {done + 1} of {total}"
    if done < 2:
        return words
    left = round(seconds / (done - 1) * (total - done))
    return f"{words}, {left // 60}:{left % 60:02d} left"


@contextmanager
def told_merging(model: ModelPatcher, show: Callable[[str], None]) -> Generator[None]:
    """Show how far the host is in merging LoRAs into weights, by its own order (the largest first),
    and let Cancel end it: with a file of 28 GB and no GPU it takes half an hour."""
    merge, total, count = model.patch_weight_to_device, len(model.patches), 0

    def told(key: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        if key in model.patches:
            try:
                comfy.model_management.throw_exception_if_processing_interrupted()
            except BaseException:
                model.detach()  # the host would take half merged weights for whole
                raise
            count += 1
            show(f"merging the LoRA, weight {count} of {total}")
        return merge(key, *args, **kwargs)

    model.patch_weight_to_device = told
    try:
        yield
    finally:
        del model.patch_weight_to_device
