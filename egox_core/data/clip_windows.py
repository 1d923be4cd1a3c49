"""Where clips start in a take: full windows of frames whose poses are all known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipWindow:
    """One clip: source frames ``start``, ``start + step``, ... (``frames`` of them)."""

    start: int
    frames: int
    step: int

    @property
    def indices(self) -> Tensor:  # [frames] int64
        return torch.arange(self.start, self.start + self.frames * self.step, self.step)


def clip_windows(pose_known: Tensor, available: int, *, frames: int, stride: int, step: int = 1,
                 limit: int = 0) -> tuple[list[ClipWindow], list[int]]:
    """Windows of a take, and the starts that were skipped because a pose is lost inside.

    Starts stay on the stride's grid whatever is lost, so that clips keep their names when a hole is mended.

    Args:
        pose_known: [T] bool.
        available: frames that all videos of the take have.
        stride: source frames from one clip's start to the next.
        limit: at most so many clips, 0: all.
    """
    length = min(available, len(pose_known))
    windows: list[ClipWindow] = []
    skipped: list[int] = []
    for start in range(0, length - (frames - 1) * step, stride):
        window = ClipWindow(start=start, frames=frames, step=step)
        if bool(pose_known[window.indices].all()):
            windows.append(window)
            if limit and len(windows) == limit:
                break
        else:
            skipped.append(start)
    return windows, skipped


def longest_known(pose_known: Tensor) -> int:
    """Length of the longest run of known poses; says how many frames a clip of this take may have at most."""
    best = run = 0
    for known in torch.as_tensor(pose_known).tolist():
        run = run + 1 if known else 0
        best = max(best, run)
    return best
