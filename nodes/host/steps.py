"""Show a sampling's steps and remaining time on its node, and measure the time of each part."""

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

SIGMAS, CALLBACK = 2, 4  # indices among outer_sample's arguments after the noise


class PartSeconds:
    """Measure the seconds of named parts of a run, on CUDA without waiting for the device.

    Devices other than CUDA and CPU work in the background without such events, so nothing is
    measured there."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[Any, Any]]] = {}

    def clear(self) -> None:
        """Delete the time measurements of the last run."""
        self._spans.clear()

    @contextmanager
    def measure(self, part: str, device: torch.device) -> Generator[None]:
        """Measure the time of a ``with`` block for a named part of the run."""
        if device.type == "cuda":
            span_begin, span_end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            span_begin.record(torch.cuda.current_stream(device))
            yield
            span_end.record(torch.cuda.current_stream(device))
        elif device.type == "cpu":
            span_begin = time.perf_counter()
            yield
            span_end = time.perf_counter()
        else:
            yield
            return
        self._spans.setdefault(part, []).append((span_begin, span_end))

    def total(self, *parts: str) -> float:
        """Add up the seconds of these parts, after waiting for the device."""
        return sum(_span_seconds(*span) for part in parts for span in self._spans.get(part, ()))

    def mean(self, part: str) -> float:
        """Compute the mean seconds of a part's spans, 0 if there are none."""
        return self.total(part) / max(1, len(self._spans.get(part, ())))


def _span_seconds(begin: Any, end: Any) -> float:
    if isinstance(end, float):
        return end - begin
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class StepListener:
    """Call :meth:`after_step` after each sampling step, as a wrapper of ComfyUI's sampler."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id

    def __call__(
        self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self.node_id is None or len(args) <= CALLBACK:
            return executor(noise, *args, **kwargs)
        host_callback = args[CALLBACK]
        start_s = time.monotonic()
        latent_format = executor.class_obj.model_patcher.get_model_object("latent_format")

        def callback(step: int, x0: Tensor, x: Tensor, total: int) -> None:
            if host_callback is not None:
                host_callback(step, x0, x, total)
            self.after_step(step + 1, total, time.monotonic() - start_s, x0, latent_format)

        return executor(noise, *args[:CALLBACK], callback, *args[CALLBACK + 1 :], **kwargs)

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        """Report a finished sampling step to the user, as subclasses define it.

        ``x0`` [B, 16, t, h, w] is the model's current estimate of the clip, in model space.
        """
        raise NotImplementedError


def running_server() -> Any | None:
    """Find ComfyUI's server, None in tests and scripts without one."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def show_on_node(text: str, node_id: str | None) -> None:
    """Show a line on a node while it runs and until its next run."""
    server = running_server()
    if server is not None:
        server.send_progress_text(text, node_id)


class TimeLeft(StepListener):
    """Show on the running node which step is computed and how much time is left.

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
        model = executor.class_obj.model_patcher
        self.total = len(args[SIGMAS]) - 1
        host_progress(self.total)(0, self.total, "sampling")  # not the bar of what was before
        self.show(
            f"loading the model ({model.model_size() / 1e9:.0f} GB), then step 1 of {self.total}"
        )
        with show_merging(model, self.show):
            return super().__call__(executor, noise, *args, **kwargs)

    def loaded(self, *_: object) -> None:
        """Show the first sampling step once ComfyUI reports that the model is on its device."""
        self.show(f"step 1 of {self.total}")

    def after_step(
        self, step: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any
    ) -> None:
        if step == 1:
            self.first_s = elapsed_s
        self.show(time_left_text(step, total, elapsed_s - self.first_s))

    def show(self, text: str) -> None:
        """Show a line of text on the node."""
        warning = self.warning()
        self.text = self.part + text + (f"; {warning}" if warning else "")
        show_on_node(self.text, self.node_id)

    def show_after_last_line(self, words: str) -> None:
        """Append to the text on the node what is being computed now."""
        show_on_node(f"{self.text}; {words}", self.node_id)


def time_left_text(done: int, total: int, seconds: float) -> str:
    """Write ``step 4 of 50, 4:10 left`` from the steps done.

    The time left is the mean of the steps after the first, which reads the model's file, times
    the remaining steps.
    """
    if done == total:
        return f"{total} of {total} steps"
    step_text = f"step {done + 1} of {total}"
    if done < 2:
        return step_text
    seconds_left = round(seconds / (done - 1) * (total - done))
    return f"{step_text}, {seconds_left // 60}:{seconds_left % 60:02d} left"


@contextmanager
def show_merging(model: ModelPatcher, show: Callable[[str], None]) -> Generator[None]:
    """Report on the node how many weights are merged with LoRAs, and let Cancel stop it.

    ComfyUI merges the largest weights first. With a file of 28 GB and no GPU it takes half an
    hour."""
    merge_weight = model.patch_weight_to_device
    total = len(model.patches)
    count = 0

    def merge_and_show(key: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        if key in model.patches:
            try:
                comfy.model_management.throw_exception_if_processing_interrupted()
            except BaseException:
                model.detach()  # the host would take half merged weights for whole
                raise
            count += 1
            show(f"merging the LoRA, weight {count} of {total}")
        return merge_weight(key, *args, **kwargs)

    model.patch_weight_to_device = merge_and_show
    try:
        yield
    finally:
        del model.patch_weight_to_device
