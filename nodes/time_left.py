"""Time left, written on the sampling node while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

CALLBACK = 4  # place of the step callback among outer_sample's arguments after the noise


class TimeLeft:
    """An OUTER_SAMPLE wrapper: listens to the step callback and tells the running node; changes no number."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id

    def __call__(self, executor: WrapperExecutor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.node_id is None or len(args) <= CALLBACK:
            return executor(noise, *args, **kwargs)
        inner, started = args[CALLBACK], time.monotonic()

        def callback(step: int, x0: Tensor, x: Tensor, total: int) -> None:
            if inner is not None:
                inner(step, x0, x, total)
            self.tell(time_left_text(step + 1, total, time.monotonic() - started))

        return executor(noise, *args[:CALLBACK], callback, *args[CALLBACK + 1:], **kwargs)

    def tell(self, text: str) -> None:
        """Show a line on the node. Without a server (tests, scripts) nobody is listening."""
        from server import PromptServer

        server = getattr(PromptServer, "instance", None)
        if server is not None:
            server.send_progress_text(text, self.node_id)


def time_left_text(done: int, total: int, elapsed_s: float) -> str:
    """``step 3/50, 4:10 left``: the mean step so far, times what remains."""
    left = round(elapsed_s / done * (total - done))
    return f"step {done}/{total}, {left // 60}:{left % 60:02d} left"
