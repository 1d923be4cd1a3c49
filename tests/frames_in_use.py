"""Build selections of video frames for tests."""

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
    **more_fields: Any,
) -> FrameSelection:
    """Build a selection of source frames by index, at the source's frame rate and size."""
    frame_indices = torch.tensor(indices)
    selection_fields = dict(
        indices=frame_indices,
        times_s=frame_indices.double() / fps,
        rate=fps,
        fps=fps,
        source_size=size,
        size=size,
        resize="crop",
    )
    return kind(**selection_fields | more_fields)
