"""Draw an exo camera's tracked points, and its path seen from above."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import as_uint8
from ..cameras import CameraPath, camera_centre
from ..scene import AGREES_PX
from .maps import colour_stops, colour_table
from .sheets import Drawn

SIDE, MARGIN, MIN_M = 384, 40, 0.05  # px; px; of the square that is shown
GAZE_PX, GAZES = 18, 12


def sightings_picture(
    exo_frames: Sequence[Tensor] | Tensor,  # [T, H, W, 3] 0...1 or uint8
    # See :class:`..scene.exo_motion.ExoMotion`.
    sightings: np.ndarray | None,
) -> tuple[Drawn, dict[str, Any]]:
    """Draw tracked points into the exo frames, coloured by their residual."""
    points = np.zeros((0, 4)) if sightings is None else sightings

    def draw(frame: int) -> Tensor:
        picture = as_uint8(exo_frames[frame]).numpy().copy()
        radius = max(1, round(picture.shape[0] / 200))
        for _, x, y, off_px in points[points[:, 0] == frame]:
            colour = 255.0 * colour_table()[round(255 * min(off_px / AGREES_PX, 1.0))]
            cv2.circle(picture, (round(x), round(y)), radius, colour.tolist(), -1, cv2.LINE_AA)
        return torch.from_numpy(picture).float() / 255

    height, width = exo_frames[0].shape[:2]
    ticks = [
        {"at": position, "label": f"{position * AGREES_PX:.1f} px"} for position in (0.0, 0.5, 1.0)
    ]
    legend = {"colours": colour_stops(), "ticks": ticks}
    return Drawn(shape=(len(exo_frames), height, width, 3), draw=draw), legend


def path_from_above(exo: CameraPath) -> Tensor:  # [1, SIDE, SIDE, 3] 0...1
    """Draw the camera's path from above, with the view direction of frame 0 upwards."""
    poses = exo.seen_from(exo.one(0))
    positions, directions = (
        vectors[:, [0, 2]].numpy() for vectors in (camera_centre(poses), poses[:, 2, :3])
    )
    lowest, highest = positions.min(0), positions.max(0)
    extent_m = max(MIN_M, float((highest - lowest).max()))
    scale = (SIDE - 2 * MARGIN) / extent_m
    path_px = (positions - (lowest + highest) / 2) * scale * [1, -1] + SIDE / 2
    step = -(-len(path_px) // GAZES)
    gaze_lines = np.stack([path_px, path_px + GAZE_PX * directions * [1, -1]], 1)[::step]
    bar_m = 10.0 ** math.floor(math.log10(extent_m))
    scale_bar = np.array([[0, 0], [bar_m * scale, 0]]) + [MARGIN / 2, SIDE - MARGIN / 2]
    picture = np.full((SIDE, SIDE, 3), 24, np.uint8)
    white = (255, 255, 255)
    for lines, colour, width in (
        (gaze_lines, (120, 120, 130), 1),
        ([path_px], (255, 150, 60), 2),
        ([scale_bar], white, 2),
    ):
        lines = [line.round().astype(np.int32) for line in lines]
        cv2.polylines(picture, lines, False, colour, width, cv2.LINE_AA)
    cv2.circle(picture, path_px[0].round().astype(int).tolist(), 5, white, -1, cv2.LINE_AA)
    label_position = MARGIN // 2, SIDE - MARGIN // 2 - 8
    cv2.putText(picture, f"{bar_m:g} m", label_position, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white)
    return torch.from_numpy(picture)[None].float() / 255
