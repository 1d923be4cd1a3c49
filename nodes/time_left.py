"""Time left, written on the sampling node while it runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .step_listener import StepListener, running_server


class TimeLeft(StepListener):
    """Tells the running node after each step how long the rest will take."""

    def after_step(self, done: int, total: int, elapsed_s: float, x0: Tensor, latent_format: Any) -> None:
        self.tell(time_left_text(done, total, elapsed_s))

    def tell(self, text: str) -> None:
        """Show a line on the node."""
        server = running_server()
        if server is not None:
            server.send_progress_text(text, self.node_id)


def time_left_text(done: int, total: int, elapsed_s: float) -> str:
    """``step 3/50, 4:10 left``: the mean step so far, times what remains."""
    left = round(elapsed_s / done * (total - done))
    return f"step {done}/{total}, {left // 60}:{left % 60:02d} left"
