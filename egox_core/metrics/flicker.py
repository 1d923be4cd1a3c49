"""Temporal flickering by its definition, which needs no weights."""

from __future__ import annotations

from torch import Tensor

from ..errors import EgoXInputError


def temporal_flickering(frames: Tensor) -> float:
    """[T, H, W, 3] float 0...1 -> 1 - mean |following frame - frame|, in 0...1; 1: nothing changes.

    vbench's measure (255 - mean difference) / 255. It is meant for still scenes: a moving head lowers it as flicker
    does, so it only means something beside the true video's own value.

    Raises:
        EgoXInputError: fewer than two frames.
    """
    if len(frames) < 2:
        raise EgoXInputError("temporal flickering", got=f"{len(frames)} frames", expected="at least 2",
                             fix="evaluate a video, not a picture")
    return 1.0 - float((frames[1:] - frames[:-1]).abs().double().mean())
