"""Pictures of Depth Align."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from egox_core.depth.align import align_depth
from egox_core.depth.report import AlignOptions
from egox_core.previews.maps import depth_preview, depth_scale

from .room import FRAMES, NOW, Room
from .sheet import curves, sheet

FLICKER = 0.12
"""How far the scale of the metric depth is off, frame by frame: about what single-picture models do on such rooms."""
VIDEO_ALPHA, VIDEO_BETA = 2.2, 0.05
"""What of the video depth is unknown: 1 / D = alpha / D_video + beta."""


def depth_align(room: Room) -> np.ndarray:
    """A metric depth that flickers and a steady one without scale; together, and how far each frame's scale is off."""
    true = room.take.depth
    generator = torch.Generator().manual_seed(7)
    scale = 1 + FLICKER * (2 * torch.rand(FRAMES, 1, 1, generator=generator) - 1)
    metric = replace(true, depth_m=true.depth_m * scale)
    video = replace(true, kind="relative z", depth_m=VIDEO_ALPHA / (1 / true.depth_m - VIDEO_BETA).clamp_min(1e-3))
    moves = torch.stack([room.scene.moving.mask(t) for t in range(FRAMES)])
    aligned, _ = align_depth(metric, video, moves, options=AlignOptions(momentum=0.9))
    colours = depth_scale(true.depth_m)

    def shown(depth_m: torch.Tensor) -> torch.Tensor:
        return depth_preview(depth_m[None], colours)[0]

    off = {name: (100 * ((depth_m / true.depth_m).nanmedian(dim=2).values.nanmedian(dim=1).values - 1)).tolist()
           for name, depth_m in (("metric depth", metric.depth_m), ("aligned", aligned.depth_m))}
    low, high = (int(n) for n in (scale.flatten().argmin(), scale.flatten().argmax()))
    return sheet(
        [("exo frame", room.exo[NOW]),
         ("what moves: left out", room.exo[NOW] * torch.where(moves[NOW], 1.0, 0.25)[..., None])],
        [("in: metric, a frame", shown(metric.depth_m[low])), ("another: flickers", shown(metric.depth_m[high]))],
        [("in: video, no scale", depth_preview(video.depth_m[NOW:NOW + 1])[0]),
         ("out: steady metres", shown(aligned.depth_m[NOW]))],
        [("", curves(off, "scale, % off, over the frames", (-15, 0, 15)))])
