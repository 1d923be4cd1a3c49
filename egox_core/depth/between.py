"""Fill in the depth of frames between those that a network has seen.

Where a pixel has nearly one depth in both, it is interpolated (1 / z, which is linear for a surface
that moves evenly). Elsewhere it takes the depth of the frame that is nearer in time, so that no
surface appears between two others."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .resample import SAME_EDGE


def depth_between(
    # Z depth of frames 0, ``step``, 2 ``step``, ...; invalid where it isn't finite.
    key_maps: Tensor,  # [K, H, W]
    step: int,
    # Number of frames of the clip.
    count: int,
) -> Iterator[Tensor]:  # of [H, W]
    """Yield the depth map of each frame of a clip from those of every ``step``-th frame."""
    for frame in range(count):
        place, share = divmod(frame, step)
        share /= step
        before = key_maps[place]
        if share == 0 or place + 1 == len(key_maps):
            yield before
            continue
        after = key_maps[place + 1]
        ratio = after / before
        is_one_surface = (ratio < SAME_EDGE) & (ratio > 1 / SAME_EDGE)
        interpolated = 1 / ((1 - share) / before + share / after)
        yield torch.where(is_one_surface, interpolated, before if share <= 0.5 else after)
