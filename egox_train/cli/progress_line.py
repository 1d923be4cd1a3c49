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
        self.is_terminal = sys.stderr.isatty()
        self.total, self.count = -1, 0
        self.start_s, self.first_count, self.last_shown_s = 0.0, 0, 0.0

    def __call__(self, count: int, total: int, stage: str) -> None:
        now_s = time.monotonic()
        if total != self.total or count < self.count:
            self.total, self.start_s, self.first_count = total, now_s, max(count - 1, 0)
            self.last_shown_s = float("-inf") if self.is_terminal else now_s
        self.count = count
        is_finished = 0 < total <= count
        if not is_finished and now_s - self.last_shown_s < (0.2 if self.is_terminal else 15.0):
            return
        self.last_shown_s = now_s
        seconds_per_item = (now_s - self.start_s) / max(1, count - self.first_count)
        if total <= 0:  # nobody knows how much there is
            line = f"[{count}] {stage}"
        elif is_finished:
            line = f"[{count}/{total}] {stage} in {_format_duration(now_s - self.start_s)}"
        else:
            line = (
                f"[{count}/{total}] {stage}, "
                f"{_format_duration(seconds_per_item * (total - count))} left"
            )
        print(
            f"\r{line:<100}" if self.is_terminal else line,
            end="" if self.is_terminal and not is_finished else "\n",
            file=sys.stderr,
            flush=True,
        )


def _format_duration(seconds: float) -> str:
    seconds = round(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
