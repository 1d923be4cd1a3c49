"""Frames in use of a made-up source, for tests of what follows them."""

from collections.abc import Sequence
from typing import Any

import torch

from egox_core.types import FrameSelection


def frames_in_use(
    indices: Sequence[int],
    size: tuple[int, int],
    *,
    fps: float = 20.0,
    kind: type[FrameSelection] = FrameSelection,
    **more: Any,
) -> FrameSelection:
    """Select frames by their indices, at the source's own rate and size, with ``more`` for other
    fields."""
    places = torch.tensor(indices)
    values = dict(
        indices=places,
        times_s=places.double() / fps,
        rate=fps,
        fps=fps,
        source_size=size,
        size=size,
        resize="crop",
    )
    return kind(**values | more)
