"""Pictures of how an exo camera moves: the points it was followed by, and its path from above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..scene.background import to_uint8
from ..scene.exo_motion import AGREES_PX, Sightings
from ..trajectory.poses import camera_centre, compose, invert
from .maps import STOPS, colour_table
from .sheets import Drawn

SIDE, MARGIN, LEAST_M = 384, 40, 0.05  # px; px; of the square that is shown
GAZE_PX, GAZES = 18, 12
RED, GREEN = 0.88, 0.45  # places in the colour map
LENGTHS_M = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def agreement_colour(share: float) -> tuple[float, float, float]:
    """RGB 0...1: green where a point agrees wholly, red where it doesn't at all."""
    red, green, blue = colour_table()[
        round(255 * (RED + (GREEN - RED) * min(max(share, 0.0), 1.0)))
    ]
    return float(red), float(green), float(blue)


def residual_legend() -> dict[str, Any]:
    """Colours from no residual to one that no longer agrees."""
    colours = [agreement_colour(1 - step / (STOPS - 1)) for step in range(STOPS)]
    stops = ["#" + "".join(f"{round(255 * c):02x}" for c in colour) for colour in colours]
    ticks = [{"at": at, "label": f"{at * AGREES_PX:.1f} px"} for at in (0.0, 0.5, 1.0)]
    return {"colours": stops, "ticks": ticks}


def sightings_picture(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8
    sightings: Sightings | None,
) -> Drawn:
    """The frames with the points that were found again, in the colour of their residual."""

    def draw(frame: int) -> Tensor:
        picture = to_uint8(exo_frames[frame]).numpy().copy()
        if sightings is not None:
            at = sightings.frame == frame
            radius = max(1, round(picture.shape[0] / 200))
            for (x, y), off in zip(sightings.uv[at], sightings.off_px[at], strict=True):
                colour = [round(255 * c) for c in agreement_colour(1 - off / AGREES_PX)]
                cv2.circle(picture, (round(x), round(y)), radius, colour, -1, cv2.LINE_AA)
        return torch.from_numpy(picture).float() / 255

    height, width = exo_frames[0].shape[:2]
    return Drawn(shape=(len(exo_frames), height, width, 3), draw=draw)


def path_from_above(
    exo_w2c: Tensor | None,  # [T, 3, 4]; None or [3, 4]: it stands
) -> Tensor:  # [1, SIDE, SIDE, 3] 0...1
    """The camera's way as seen from above frame 0's picture, which looks upwards in it."""
    poses = torch.eye(3, 4, dtype=torch.float64)[None] if exo_w2c is None else exo_w2c.double()
    poses = poses if poses.ndim == 3 else poses[None]
    poses = compose(poses, invert(poses[0]))
    places, looks = (v[:, [0, 2]].numpy() for v in (camera_centre(poses), poses[:, 2, :3]))
    low, high = places.min(0), places.max(0)
    side = max(LEAST_M, float((high - low).max()))
    scale = (SIDE - 2 * MARGIN) / side
    spots = (places - (low + high) / 2) * scale * [1, -1] + SIDE / 2
    picture = np.full((SIDE, SIDE, 3), 24, np.uint8)
    for t in np.unique(np.linspace(0, len(spots) - 1, GAZES).round().astype(int)):
        ahead = spots[t] + GAZE_PX * looks[t] * [1, -1]
        ends = (tuple(map(round, spots[t])), tuple(map(round, ahead)))
        cv2.line(picture, *ends, (120, 120, 130), 1, cv2.LINE_AA)
    for t, (here, there) in enumerate(zip(spots[:-1], spots[1:], strict=True)):
        colour = (255, 150 - 90 * t // len(spots), 60 + 180 * t // len(spots))
        ends = (tuple(map(round, here)), tuple(map(round, there)))
        cv2.line(picture, *ends, colour, 2, cv2.LINE_AA)
    cv2.circle(picture, tuple(map(round, spots[0])), 5, (255, 255, 255), -1, cv2.LINE_AA)
    length = max((m for m in LENGTHS_M if m * scale < SIDE / 2), default=LENGTHS_M[0])
    end = round(MARGIN / 2 + length * scale), SIDE - MARGIN // 2
    cv2.line(picture, (MARGIN // 2, end[1]), end, (255, 255, 255), 2)
    where, white = (MARGIN // 2, end[1] - 8), (255, 255, 255)
    cv2.putText(
        picture, f"{length:g} m", where, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA
    )
    return torch.from_numpy(picture)[None].float() / 255
