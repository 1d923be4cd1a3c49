"""Compare frames of a video with renders of its path at each turn of a grid.

Three features (local contrast, length and direction of gradients) are correlated, summed over
frames.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch

from ..cameras import CameraModel, sensor_from_upright
from .frame_alignment import GRID_PIXELS, PathRenders, PictureMatch, rotation_matrices

YAW_PITCH_DEG, ROLL_DEG = range(-24, 25, 4), range(-20, 21, 5)
DISK = 0.9
"""Part of a lens' disk that is compared: its rim would be matched with the render's."""
LEAST_OVERLAP = 0.35
GREY = np.array([0.299, 0.587, 0.114], np.float32)
BLUR_PX, EDGE_BLUR_PX, CONTRAST_PX, EDGE_CONTRAST_PX = 1.45, 1.1, 8.0, 10.0
LEAST_CONTRAST, LEAST_EDGE_CONTRAST, LEAST_GRADIENT = 0.03, 0.15, 0.02


class _Features(NamedTuple):
    """Pictures that are compared on the grid."""

    contrast: np.ndarray  # [S, S] even
    edges: np.ndarray  # [S, S] even logarithm of the gradient's length
    directions: np.ndarray  # [S, S] complex: twice the gradient's angle, whichever its sign


class FramePair(NamedTuple):
    """Features of a video frame, which is drawn into the map of the renders, and of its render."""

    number: int  # of the render
    video: _Features
    video_mask: np.ndarray  # [S, S] float
    scene: _Features


class TurnGrid(NamedTuple):
    """Turns that are tried, and where each draws the pixels of a map that are compared."""

    rotations: np.ndarray  # [G, 3, 3]
    roll: np.ndarray  # [G] complex, by which directions are turned
    pixel_indices: np.ndarray  # [G, n] int32, in the turned map
    valid: np.ndarray  # [G, n] bool


@lru_cache(maxsize=2)  # 12 MB each, the same for all clips whose sensor is turned alike
def turn_grid(map_camera: CameraModel) -> TurnGrid:
    """Turn the grid's pixels of a map by each turn of the grid."""
    upright_axes = sensor_from_upright(map_camera.quarter_turns).numpy()
    grid_deg = np.array(np.meshgrid(YAW_PITCH_DEG, YAW_PITCH_DEG, ROLL_DEG)).reshape(3, -1).T
    rotations = rotation_matrices(np.deg2rad(grid_deg) @ upright_axes.T)
    rays = map_camera.pixel_rays()[0].numpy()[GRID_PIXELS].reshape(-1, 3)
    points = rays @ rotations.astype(np.float32).transpose(0, 2, 1)
    _, pixel_indices, valid = map_camera.look_up(torch.from_numpy(points))
    return TurnGrid(
        rotations=rotations,
        roll=np.exp(2j * np.deg2rad(grid_deg[:, 2])).astype(np.complex64),
        pixel_indices=pixel_indices.int().numpy(),
        valid=valid.numpy(),
    )


class GridSums(NamedTuple):
    """Sums over a frame's pixels for each turn of the grid."""

    products: np.ndarray  # [3, G] of video and scene, of each feature
    scene: np.ndarray  # [3, G] squared
    video: np.ndarray  # [3, G] squared
    overlap: np.ndarray  # [G] count of pixels that both have, less what is asked for


def compare_on_grid(views: PathRenders, pair: FramePair, grid: TurnGrid) -> GridSums:
    """Compare the features of a frame with its render at each turn of the grid."""
    rotations, roll, pixel_indices, valid = grid
    products, scene_sums, video_sums = np.zeros((3, 3, len(rotations)))
    covered_mask = views.masks[pair.number][GRID_PIXELS].ravel() > 0
    indices = pixel_indices[:, covered_mask]
    seen_mask = valid[:, covered_mask] & (pair.video_mask.ravel()[indices] > 0)
    for k, (scene, video) in enumerate(zip(pair.scene, pair.video, strict=True)):
        scene_values = scene[GRID_PIXELS].ravel()[covered_mask]
        video_values = video.ravel()[indices] * seen_mask
        product = video_values @ scene_values.conj()
        products[k] = (product * roll.conj()).real if np.iscomplexobj(scene) else product
        scene_sums[k] = seen_mask @ np.square(np.abs(scene_values))
        video_sums[k] = np.square(np.abs(video_values)).sum(1)
    overlap = seen_mask.sum(1) - LEAST_OVERLAP * covered_mask.sum()
    return GridSums(products, scene_sums, video_sums, overlap)


def score_turns(grid_sums: list[GridSums]) -> np.ndarray:  # [G]
    """Correlate each feature over some frames, and sum the features, each by its own spread."""
    products, scene_sums, video_sums, overlap = (
        np.sum(values, 0) for values in zip(*grid_sums, strict=True)
    )
    correlations = products / np.sqrt(np.maximum(scene_sums * video_sums, 1e-9))
    enough_mask = overlap > 0
    if not enough_mask.any():
        return np.zeros(len(overlap))
    scores = np.full(len(overlap), -1e9)
    compared = correlations[:, enough_mask]
    centred = compared - np.median(compared, 1, keepdims=True)
    scores[enough_mask] = (centred / (compared.std(1, keepdims=True) + 1e-9)).sum(0)
    return scores


def frame_pairs(match: PictureMatch, numbers: list[int]) -> list[FramePair]:
    """Draw video frames into the map of the renders, and compute the features of both."""
    views = match.views
    uv, valid = (values.numpy() for values in match.camera.project(torch.from_numpy(views.rays)))
    height, width = match.lens.shape
    valid &= (uv >= 0).all(-1) & (uv <= (width - 1, height - 1)).all(-1)
    if match.camera.lens != "pinhole":
        centre = (width - 1) / 2, (height - 1) / 2
        valid &= np.linalg.norm(uv - centre, axis=-1) < DISK * min(height, width) / 2
    positions = np.where(valid[..., None], uv, -9.0).astype(np.float32)
    mask = valid.astype(np.float32)
    pairs = []
    for t in numbers:
        # OpenCV takes None for the second map, which its stubs don't know.
        picture = cv2.remap(  # ty: ignore[no-matching-overload]
            match.video[t], positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        scene = _features(views.pictures[t], views.masks[t])
        pairs.append(FramePair(t, _features(picture, mask), mask, scene))
    return pairs


def _features(
    picture: np.ndarray,  # [S, S, 3]
    mask: np.ndarray,  # [S, S] float
) -> _Features:
    grey = (picture @ GREY).astype(np.float32)
    soft = _blur(grey, mask, BLUR_PX)
    inner = cv2.erode(mask, np.ones((5, 5), np.uint8), borderValue=0)
    across, down = _gradient(_blur(grey, mask, EDGE_BLUR_PX))
    edges = np.log(np.hypot(across, down) + LEAST_GRADIENT)
    innermost = cv2.erode(mask, np.ones((7, 7), np.uint8), borderValue=0)
    across, down = _gradient(soft)
    length = np.hypot(across, down)
    doubled = (across + 1j * down) ** 2 / np.maximum(length * (length + LEAST_GRADIENT), 1e-9)
    return _Features(
        contrast=_even(soft, mask, CONTRAST_PX, LEAST_CONTRAST),
        edges=_even(_blur(edges, inner, BLUR_PX), inner, EDGE_CONTRAST_PX, LEAST_EDGE_CONTRAST),
        directions=(doubled * innermost).astype(np.complex64),
    )


def _gradient(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute Sobel's gradient, across and down, of a scale that LEAST_GRADIENT was found at."""
    return 0.725 * cv2.Sobel(picture, cv2.CV_32F, 1, 0), 0.725 * cv2.Sobel(
        picture, cv2.CV_32F, 0, 1
    )


def _blur(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur one channel within a mask."""
    blurred_sum = cv2.GaussianBlur(values * mask, (0, 0), sigma)
    return blurred_sum / np.maximum(cv2.GaussianBlur(mask, (0, 0), sigma), 1e-3)


def _even(values: np.ndarray, mask: np.ndarray, sigma: float, least: float) -> np.ndarray:
    """Normalise local mean and contrast within a mask."""
    deviations = (values - _blur(values, mask, sigma)) * mask
    return deviations / np.sqrt(_blur(deviations * deviations, mask, sigma) + least**2) * mask
