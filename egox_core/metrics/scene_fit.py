"""Fit an ego camera's pose, the size of its scene and the exo camera's focal length to an ego
video.

A turn, a shift, another size of the scene and another focal length look partly alike, so all of
them are fitted together. What is known of the size before is a prior, so that what it leaves open
is in the uncertainty of the others, and so is what the depth's parts may be off by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..frozen import frozen
from .frame_alignment import (
    COARSE,
    MAX_STEP,
    MIN_STEP,
    SHIFT,
    FrameEquations,
    FrameView,
    PictureMatch,
    Pose,
    frame_equations,
    rotation_matrices,
)

TURN, FOCAL, SIZE, VALUE_COUNT = slice(0, 3), 6, 7, 8
"""Places of the values that are fitted, with SHIFT, and how many they are."""
SHIFT_PRIOR_M = 1.0
"""Of a frame, so wide that it holds nothing but what no picture tells."""
START_ROUNDS, ROUNDS, FINALISTS = 4, 60, 3
CONVERGED_SDS = 0.1
"""A step that is shorter, in standard deviations, changes nothing."""
UNLIKELY = 0.01
"""Probability below which a fit is as good as the best by chance."""
START_STEP, MOST_START_SDS = 0.08, 1.5
"""Steps of the size's logarithm between starts, and how far they reach: the fit of a drawn room
finds its way over 5 %, not over 10."""
START_FRAMES = 3
TILES = 4
"""Tiles across and down of what exo sees, in each of which errors of depth go together."""
TILE_FACTOR = 2.0
"""True error of drawn rooms with a network's depth over what their tiles say
(``benchmarks/results/check.md``)."""


@frozen
class SizePrior:
    """Prior of the factor that makes a scene's size true: mean and sd of its logarithm."""

    sd: float  # 0: the size is known
    part_sd: float  # of a tile's own factor beside that
    log_size: float = 0.0


@frozen
class SceneFit:
    """Values with which a scene fits an ego video, and their covariance.

    Axes are the sensor's. A point p of an ordered camera is at ``rotation @ (p + shift_m)`` in the
    video's.
    """

    rotation: np.ndarray  # [3, 3]
    shift_m: np.ndarray  # [3]
    log_focal: float  # of the exo camera's true focal length over the stated one
    log_size: float  # of the scene's true size over the stated one
    covariance: np.ndarray  # [8, 8] of a small turn, the shift, log_focal and log_size
    score: float  # correlation of video and scene
    tile_errors: np.ndarray  # [TILES**2] mean squares of what they differ by, NaN: no pixel
    freedom: int  # by which the tiles that the covariance comes from outnumber what is fitted

    @property
    def focal_factor(self) -> float:
        """Factor by which the stated focal length is to be multiplied."""
        return math.exp(self.log_focal)

    def after(
        self,
        change: np.ndarray,  # [3, 4] found_from_ordered, metres
        scale: float,
    ) -> SceneFit:
        """Express a fit to a scene of another pose and size against the ordered pose."""
        turn, place = change[:, :3], change[:, 3]
        axes = np.eye(VALUE_COUNT)
        axes[TURN, TURN], axes[SHIFT, SHIFT] = turn.T, scale * turn.T
        return replace(
            self,
            rotation=self.rotation @ turn,
            shift_m=turn.T @ (place + scale * self.shift_m),
            log_size=self.log_size + math.log(scale),
            covariance=axes @ self.covariance @ axes.T,
        )

    def surely_fits_better(self, other: SceneFit) -> bool:
        """Tell if the tiles are surely more alike than another fit's."""
        from scipy.stats import ttest_rel

        # Of logarithms, since a tile's mean square is uncertain by a share of itself.
        log_errors = np.log(other.tile_errors), np.log(self.tile_errors)
        test = ttest_rel(*log_errors, nan_policy="omit", alternative="greater")
        return bool(test.pvalue < UNLIKELY)

    def among(self, fits: Sequence[SceneFit]) -> SceneFit:
        """Add to the covariance what lies between this fit and others that may be as good."""
        from scipy.spatial.transform import Rotation

        covariance = self.covariance.copy()
        for fit in fits:
            if not self.surely_fits_better(fit):
                turn = Rotation.from_matrix(self.rotation.T @ fit.rotation).as_rotvec()
                shape = fit.log_focal - self.log_focal, fit.log_size - self.log_size
                difference = np.concatenate((turn, fit.shift_m - self.shift_m, shape))
                covariance += np.outer(difference, difference) / len(fits)
        return replace(self, covariance=covariance)

    @property
    def focal_covariance(self) -> np.ndarray:  # [1, 1]
        """Covariance of the focal length's logarithm."""
        return self.covariance[FOCAL:SIZE, FOCAL:SIZE]


class _Values(NamedTuple):
    """Values that are fitted: the ego camera's pose against its path, and the scene's shape."""

    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3] metres
    log_focal: float = 0.0
    log_size: float = 0.0
    tile_logs: np.ndarray = np.zeros(TILES**2)  # of each tile's own size beside log_size

    def step(self, change: np.ndarray, tile_change: np.ndarray) -> _Values:  # [8], [TILES**2]
        turn = rotation_matrices(change[TURN])
        return _Values(
            rotation=self.rotation @ turn,
            shift=turn.T @ (self.shift + change[SHIFT]),
            log_focal=self.log_focal + change[FOCAL],
            log_size=self.log_size + change[SIZE],
            tile_logs=self.tile_logs + tile_change,
        )


class _ExoFrame(NamedTuple):
    """Frame and render with the scene's points as exo sees them."""

    view: FrameView
    ego_from_exo: np.ndarray  # [3, 4]
    exo_points: np.ndarray  # [n, 3]
    tiles: np.ndarray  # [n] number of the tile of exo's picture

    def shaped_view(self, values: _Values) -> FrameView:
        """Give the view points of the fitted focal length and size, which then are fitted, too."""
        rotation, place = self.ego_from_exo[:, :3], self.ego_from_exo[:, 3]
        narrowing = np.array([math.exp(-values.log_focal)] * 2 + [1.0])
        sizes = np.exp(values.log_size + values.tile_logs[self.tiles])
        points = self.exo_points * narrowing * sizes[:, None]
        by_focal, by_size = points * (-1, -1, 0) @ rotation.T, points @ rotation.T
        by_shift = self.view.slope[..., SHIFT]  # [n, 2, 3]
        by_shape = by_shift @ np.stack((by_focal, by_size), -1)
        return replace(
            self.view,
            points=by_size + place,
            slope=np.concatenate((self.view.slope, by_shape), -1),
        )


def fit_scene(
    match: PictureMatch,
    ego_from_exo: np.ndarray,  # [N, 3, 4] of the drawn frames
    size: SizePrior,
    starts: Sequence[Pose],
    *,
    is_focal_known: bool,
) -> SceneFit | None:
    """Fit a scene to an ego video from each start and each likely size, and return the best fit.

    None: the video doesn't show enough of the scene, or the best fit doesn't settle."""
    frames = _exo_frames(match, ego_from_exo)
    if not frames:
        return None
    free = [*range(FOCAL)] + [FOCAL] * (not is_focal_known) + [SIZE] * (size.sd > 0)
    reach = math.ceil(MOST_START_SDS * size.sd / START_STEP)
    rough_fits = [
        _fit_from(
            frames[:: max(1, len(frames) // START_FRAMES)],
            _Values(start.rotation, start.shift, log_size=size.log_size + n * START_STEP),
            size,
            free,
            START_ROUNDS,
        )[0]
        for start in starts
        for n in range(-reach, reach + 1)
    ]
    finalists = sorted(filter(None, rough_fits), key=lambda fit: -fit.score)[:FINALISTS]
    fits = [
        _fit_from(
            frames,
            _Values(fit.rotation, fit.shift_m, fit.log_focal, fit.log_size),
            size,
            free,
            ROUNDS,
        )
        for fit in finalists
    ]
    best_fit, has_settled = max(
        fits, key=lambda fit: fit[0].score if fit[0] else -math.inf, default=(None, False)
    )
    if best_fit is None or not has_settled:
        return None
    return best_fit.among([fit for fit, has_settled in fits if fit and has_settled])


def _exo_frames(match: PictureMatch, ego_from_exo: np.ndarray) -> list[_ExoFrame]:
    """Prepare the drawn frames, their points divided into tiles of what exo sees in all of them."""
    views, exo_points = [], []
    for t, pose in enumerate(ego_from_exo):
        if match.views.masks[t].any():
            view = FrameView.of(match, t, COARSE)
            views.append((view, pose))
            exo_points.append((view.points - pose[:, 3]) @ pose[:, :3])
    if not views:
        return []
    slants = [points[:, :2] / points[:, 2:] for points in exo_points]
    borders = np.quantile(np.concatenate(slants), np.arange(1, TILES) / TILES, axis=0)
    return [
        _ExoFrame(
            view,
            pose,
            points,
            tiles=TILES * np.searchsorted(borders[:, 1], slant[:, 1])
            + np.searchsorted(borders[:, 0], slant[:, 0]),
        )
        for (view, pose), points, slant in zip(views, exo_points, slants, strict=True)
    ]


def _fit_from(
    frames: list[_ExoFrame], values: _Values, size: SizePrior, free: list[int], rounds: int
) -> tuple[SceneFit | None, bool]:
    """Fit by Gauss-Newton steps over the free values, and tell if the fit has settled."""
    freedom = TILES**2 - len(free)
    spread_factor = TILE_FACTOR**2 * TILES**2 / freedom
    for round_number in range(rounds):
        views = [frame.shaped_view(values) for frame in frames]
        all_equations = frame_equations(
            views, values.rotation, values.shift, COARSE, shift_prior_m=SHIFT_PRIOR_M
        )
        fitted = [
            (frame, equations)
            for frame, equations in zip(frames, all_equations, strict=True)
            if equations is not None
        ]
        if 2 * len(fitted) < len(frames):
            return None, False
        matrix = np.sum([x.matrix for _, x in fitted], 0)
        slope = np.sum([x.slope for _, x in fitted], 0)
        gradients, by_size, errors = _tile_sums(fitted)
        spread = spread_factor * gradients.T @ gradients
        noise = np.trace(np.linalg.solve(matrix, spread)) / VALUE_COUNT
        # Each tile's own size follows a step of the others.
        part_variance = size.part_sd**2
        stiffness = noise + part_variance * by_size[:, SIZE]
        tile_step = part_variance * gradients[:, SIZE] + noise * values.tile_logs
        tile_step /= -stiffness
        tile_answer = part_variance * by_size / -stiffness[:, None]
        matrix += by_size.T @ tile_answer
        slope += by_size.T @ tile_step
        gradients += tile_step[:, None] * by_size
        spread = spread_factor * gradients.T @ gradients
        if size.sd > 0:
            weight = noise / size.sd**2
            matrix[SIZE, SIZE] += weight
            slope[SIZE] += weight * (values.log_size - size.log_size)
            spread[SIZE, SIZE] += (weight * size.sd) ** 2
        among_free = np.ix_(free, free)
        inverse_normal = np.linalg.inv(matrix[among_free])
        covariance = inverse_normal @ spread[among_free] @ inverse_normal
        step = -inverse_normal @ slope[free]
        step_length = np.linalg.norm(step)
        has_settled = bool(
            step_length < MIN_STEP or step @ np.linalg.solve(covariance, step) < CONVERGED_SDS**2
        )
        if has_settled or round_number == rounds - 1:
            break
        change = np.zeros(VALUE_COUNT)
        shortening = MAX_STEP / max(step_length, MAX_STEP)
        change[free] = step * shortening
        values = values.step(change, tile_step * shortening + tile_answer @ change)
    product, video_sum, scene_sum = np.sum([x.sums for _, x in fitted], 0)
    full_covariance = np.zeros((VALUE_COUNT, VALUE_COUNT))
    full_covariance[among_free] = covariance
    return SceneFit(
        rotation=values.rotation,
        shift_m=values.shift,
        log_focal=values.log_focal,
        log_size=values.log_size,
        covariance=full_covariance,
        score=float(product / max(math.sqrt(video_sum * scene_sum), 1e-9)),
        tile_errors=errors,
        freedom=freedom,
    ), has_settled


def _tile_sums(
    fitted: list[tuple[_ExoFrame, FrameEquations]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # [TILES**2, 8] twice, [TILES**2]
    """Sum what is left, which goes together within a tile of exo's picture in all frames, how it
    grows with the tile's size, and the mean squares of what its pictures differ by."""
    tiles = np.concatenate([f.tiles[x.inner_mask[f.view.covered_mask]] for f, x in fitted])

    def sums(values: Sequence[np.ndarray]) -> np.ndarray:  # of [n, k] -> [TILES**2, k]
        columns = np.concatenate(values).reshape(len(tiles), -1).T
        return np.stack([np.bincount(tiles, column, TILES**2) for column in columns], -1)

    counts = np.bincount(tiles, minlength=TILES**2).astype(float)
    counts[counts == 0] = math.nan
    return (
        sums([x.gradients for _, x in fitted]),
        sums([x.last_slopes for _, x in fitted]),
        sums([x.errors for _, x in fitted])[:, 0] / counts,
    )
