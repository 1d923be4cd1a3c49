"""Measure by what factor an exo camera's focal length is wrong, by an ego video of its scene.

The scene is then too narrow or too wide about the exo camera's axis. A turn, a shift and another
size of the scene look partly like that, so all of them are fitted together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..frozen import frozen
from .frame_alignment import (
    COARSE,
    MAX_STEP,
    MIN_STEP,
    SHIFT,
    SPREAD_FACTOR,
    FrameEquations,
    FrameView,
    PictureMatch,
    frame_equations,
    rotation_matrices,
)

ROUNDS = 24
"""Steps until it is given up: right cameras take 2 to 16, a focal length x 1.3 some 8 to 11."""
TILES = 4
"""Tiles across and down of what exo sees, in each of which errors of depth go together."""


@frozen
class ExoLens:
    """Logarithm of an exo camera's true focal length over the stated one, and its standard
    deviation."""

    log_factor: float  # NaN: the video doesn't show enough of the scene
    log_sd: float

    @property
    def factor(self) -> float:
        """Factor by which the stated focal length is to be multiplied."""
        return math.exp(self.log_factor)


class _Fit(NamedTuple):
    """Values that are fitted: the ego camera's pose against its path, and the scene's shape."""

    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3] metres
    log_focal: float = 0.0
    log_size: float = 0.0

    def step(self, change: np.ndarray) -> _Fit:  # [8]
        turn = rotation_matrices(change[:3])
        return _Fit(
            rotation=self.rotation @ turn,
            shift=turn.T @ (self.shift + change[SHIFT]),
            log_focal=self.log_focal + change[6],
            log_size=self.log_size + change[7],
        )


class _ExoFrame(NamedTuple):
    """Frame and render with the scene's points as exo sees them."""

    view: FrameView
    ego_from_exo: np.ndarray  # [3, 4]
    exo_points: np.ndarray  # [n, 3]

    def equations(self, fit: _Fit) -> FrameEquations | None:
        """Set up a step over turn, shift, focal length and size, or return None for too little."""
        rotation, place = self.ego_from_exo[:, :3], self.ego_from_exo[:, 3]
        narrowing = np.array([math.exp(-fit.log_focal)] * 2 + [1.0])
        points = self.exo_points * narrowing * math.exp(fit.log_size)
        by_focal, by_size = points * (-1, -1, 0) @ rotation.T, points @ rotation.T
        by_shift = self.view.slope[..., SHIFT]  # [n, 2, 3]
        by_shape = by_shift @ np.stack((by_focal, by_size), -1)
        view = replace(
            self.view,
            points=by_size + place,
            slope=np.concatenate((self.view.slope, by_shape), -1),
        )
        return frame_equations(view, fit.rotation, fit.shift, COARSE)


def fit_exo_lens(
    match: PictureMatch,
    ego_from_exo: np.ndarray,  # [N, 3, 4] of the drawn frames
) -> ExoLens:
    """Fit the exo camera's focal length to an ego video of its scene."""
    frames = []
    for t, pose in enumerate(ego_from_exo):
        if match.views.masks[t].any():
            view = FrameView.of(match, t, COARSE)
            frames.append(_ExoFrame(view, pose, (view.points - pose[:, 3]) @ pose[:, :3]))
    fit = _Fit(rotation=np.eye(3), shift=np.zeros(3))
    for _ in range(ROUNDS):
        fitted = [
            (frame, equations)
            for frame in frames
            if (equations := frame.equations(fit)) is not None
        ]
        if 2 * len(fitted) < len(frames) or not fitted:
            break
        matrix = np.sum([x.matrix for _, x in fitted], 0)
        change = -np.linalg.solve(matrix, np.sum([x.slope for _, x in fitted], 0))
        step_length = np.linalg.norm(change)
        if step_length < MIN_STEP:
            return ExoLens(log_factor=fit.log_focal, log_sd=_focal_sd(fitted, matrix))
        fit = fit.step(change * MAX_STEP / max(step_length, MAX_STEP))
    return ExoLens(log_factor=math.nan, log_sd=math.nan)


def _focal_sd(fitted: list[tuple[_ExoFrame, FrameEquations]], matrix: np.ndarray) -> float:
    """Estimate the standard deviation of a focal length's logarithm from what is left, which goes
    together within a tile of exo's picture in all frames."""
    exo_points = np.concatenate(
        [
            frame.exo_points[equations.inner_mask[frame.view.covered_mask]]
            for frame, equations in fitted
        ]
    )
    gradients = np.concatenate([equations.gradients for _, equations in fitted])
    slants = exo_points[:, :2] / exo_points[:, 2:]
    borders = np.quantile(slants, np.arange(1, TILES) / TILES, axis=0)
    column, row = (np.searchsorted(borders[:, k], slants[:, k]) for k in range(2))
    tile_sums = np.stack([np.bincount(row * TILES + column, values) for values in gradients.T], -1)
    inverse_normal = np.linalg.inv(matrix)
    covariance = inverse_normal @ (tile_sums.T @ tile_sums) @ inverse_normal
    return SPREAD_FACTOR * math.sqrt(max(covariance[6, 6], 0.0))
