"""Exo pictures of a phone's sensor: rows read one after another, each exposed for a while."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .spec import SyntheticSpec
from .take import SyntheticTake, make_take


def shuttered_take(
    spec: SyntheticSpec,
    *,
    readout: float = 0.5,  # of a frame's time, from the first row to the last
    exposure: float = 0.5,  # of a frame's time
    steps: int = 6,  # pictures per frame that are drawn, and mixed row by row
) -> SyntheticTake:
    """The take of ``spec`` whose exo picture is smeared by motion; depth and poses are those of the
    middle row at half of the exposure."""
    fine = replace(
        spec,
        frames=(spec.frames - 1) * steps + 1,
        fps=spec.fps * steps,
        ego_size=16,
        edge_samples=1,
    )
    drawn = make_take(fine).exo_rgb.float()
    height = drawn.shape[1]
    row = readout * ((np.arange(height) + 0.5) / height - 0.5)
    open_at = exposure * (np.arange(2 * steps) + 0.5 - steps) / (2 * steps)
    pictures = []
    for frame in range(spec.frames):
        at = ((frame + row[:, None] + open_at) * steps).clip(0, fine.frames - 1)
        before = np.floor(at).astype(int)
        rows = torch.arange(height)
        total = torch.zeros_like(drawn[0])
        for moment, later in zip(before.T, (at - before).T, strict=True):
            share = torch.from_numpy(later).float()[:, None, None]
            after = np.minimum(moment + 1, fine.frames - 1)
            total += (1 - share) * drawn[moment, rows] + share * drawn[after, rows]
        pictures.append((total / len(open_at) + 0.5).to(torch.uint8))
    return replace(make_take(spec), exo_rgb=torch.stack(pictures))
