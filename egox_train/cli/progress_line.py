"""Print the progress of a command on the console."""

import sys
import time


class ProgressLine:
    """Progress callback that prints the stage, the count and the remaining time on one line of the
    console.

    Where the output is no terminal, a line of its own now and then. Time is counted anew for every
    piece of work: one that steps back or has another total.
    """

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.total, self.count = -1, 0
        self.started, self.first, self.shown = 0.0, 0, 0.0

    def __call__(self, count: int, total: int, stage: str) -> None:
        now_s = time.monotonic()
        if total != self.total or count < self.count:
            self.total, self.started, self.first = total, now_s, max(count - 1, 0)
            self.shown = float("-inf") if self.terminal else now_s
        self.count = count
        is_finished = 0 < total <= count
        if not is_finished and now_s - self.shown < (0.2 if self.terminal else 15.0):
            return
        self.shown = now_s
        seconds_per_item = (now_s - self.started) / max(1, count - self.first)
        if total <= 0:  # nobody knows how much there is
            line = f"[{count}] {stage}"
        elif is_finished:
            line = f"[{count}/{total}] {stage} in {_span(now_s - self.started)}"
        else:
            line = f"[{count}/{total}] {stage}, {_span(seconds_per_item * (total - count))} left"
        print(
            f"\r{line:<100}" if self.terminal else line,
            end="" if self.terminal and not is_finished else "\n",
            file=sys.stderr,
            flush=True,
        )


def _span(seconds: float) -> str:
    seconds = round(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
