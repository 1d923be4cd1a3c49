"""A clip's camera error against its stated poses, and how well that is known.

The path meter gives a turn and a shift for each frame. Wrong depth pulls at them, too, and it is wrong
alike in every frame. It shows in what is left: patches of the picture that no single turn and shift
brings together. So the covariance is that of a fit to the patches' own displacements."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from egox_core.cameras import sensor_from_upright
from egox_core.frozen import frozen
from egox_core.metrics import PathError, PathViews, PictureMatch
from egox_core.types import CameraTrajectory

PATCH, REACH = 16, 6
"""Side of a patch, and how far it is searched, px of the compared pictures (about a degree each)."""
LEAST_FILLED, LEAST_TEXTURE, LEAST_ALIKE = 0.6, 0.3, 0.6
"""Of a patch: share that both pictures show, its contrast, its correlation where it is found."""
FEWEST = 8
TOGETHER = 8.0
"""Patches that are off together: each overlaps its neighbours by half, and depth is off slowly."""
HELD_M = 0.3
"""A shift that is larger is no small one; it keeps the fit from running off."""
SURE = 3.5
"""Standard deviations from which on a camera or a clock is called wrong."""
LEAST_DEG, LEAST_M = 1.0, 0.02
"""A fault that is smaller doesn't matter."""
FLOOR_RAD, FLOOR_M = math.radians(0.1), 0.003
"""What the meter itself is off with exact depth."""


@frozen
class Deviation:
    """From the stated camera to the video's, in the axes of the upright picture."""

    # [6]: rotation vector, radians; from the video's camera to the stated one, metres
    value: np.ndarray
    covariance: np.ndarray  # [6, 6]

    @property
    def sigmas(self) -> float:
        """The camera's error in standard deviations, all six numbers together."""
        chi_square = float(self.value @ np.linalg.solve(self.covariance, self.value))
        return math.sqrt(chi_square / 6)

    @property
    def turn_deg(self) -> float:
        """Angle of the turn."""
        return math.degrees(float(np.linalg.norm(self.value[:3])))

    @property
    def turn_sd_deg(self) -> float:
        """Its standard deviation."""
        return math.degrees(math.sqrt(float(np.trace(self.covariance[:3, :3]))))

    @property
    def shift_m(self) -> float:
        """Length of the shift."""
        return float(np.linalg.norm(self.value[3:]))

    @property
    def shift_sd_m(self) -> float:
        """Its standard deviation."""
        return math.sqrt(float(np.trace(self.covariance[3:, 3:])))


@torch.inference_mode()
def path_deviation(
    views: PathViews,
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    # Of the same views and video.
    found: PathError,
    # The path that the views are of, with the exo camera.
    trajectory: CameraTrajectory,
) -> Deviation | None:
    """Combine a clip's frames, None if too few of them could be judged."""
    match = PictureMatch.of(video, views)
    exo_at = trajectory.ego.seen_from(trajectory.known_exo)[:: views.step, :, 3].numpy()
    upright = sensor_from_upright(views.camera.quarter_turns).numpy()
    both = np.kron(np.eye(2), upright)
    values, covariances = [], []
    for t in torch.nonzero(found.judged)[:, 0].tolist():
        turn = np.radians(found.turn_deg[t].numpy()) @ upright.T
        shift = found.shift_m[t].numpy() @ upright.T
        patches = _patches(match, t, Rotation.from_rotvec(turn).as_matrix(), shift, exo_at[t])
        if len(patches[0]) < FEWEST:
            continue
        values.append(np.concatenate([np.radians(found.turn_deg[t].numpy()), found.shift_m[t]]))
        covariances.append(both.T @ _covariance(*patches) @ both)
    if not values:
        return None
    measured = np.stack(values)
    # What all frames share doesn't shrink with their number, what differs from frame to frame does.
    differs = np.cov(measured.T, ddof=0) * 4 / len(measured)
    floor = np.diag([FLOOR_RAD**2] * 3 + [FLOOR_M**2] * 3)
    return Deviation(
        value=np.median(measured, axis=0),
        covariance=np.mean(covariances, axis=0) + differs + floor,
    )


def _patches(
    match: PictureMatch, t: int, rotation: np.ndarray, shift: np.ndarray, exo_at: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find where the patches of the scene's picture lie in the video, which is drawn into it.

    How far off [N, 2] px, px per radian and metre [N, 2, 6], px that all of exo's depth makes [N, 2].
    """
    views = match.views
    seen, scene, used = match.drawn_over(t, rotation, shift)
    side, half = used.shape[0], PATCH // 2
    off, slope, by_depth = [], [], []
    for y in range(REACH, side - PATCH - REACH + 1, half):
        for x in range(REACH, side - PATCH - REACH + 1, half):
            here = slice(y, y + PATCH), slice(x, x + PATCH)
            wider = (
                slice(y - REACH, y + PATCH + REACH),
                slice(x - REACH, x + PATCH + REACH),
            )
            patch = scene[here]
            if used[here].mean() < LEAST_FILLED or np.square(patch).mean() < LEAST_TEXTURE**2:
                continue
            alike = cv2.matchTemplate(seen[wider], patch, cv2.TM_CCORR_NORMED)
            place = _peak(np.where(np.isfinite(alike), alike, -1.0))
            if place is None:
                continue
            metres = float(np.median(views.metres[t][here][used[here] > 0]))
            middle = y + half, x + half
            by_point = views.by_point[middle] / metres
            off.append(place - REACH)
            slope.append(np.concatenate([views.by_turn[middle], by_point], -1))
            by_depth.append(by_point @ (metres * views.rays[middle] - exo_at))
    count = len(off)
    return (
        np.array(off).reshape(count, 2),
        np.array(slope).reshape(count, 2, 6),
        np.array(by_depth).reshape(count, 2),
    )


def _peak(alike: np.ndarray) -> np.ndarray | None:  # [2], across and down
    """Find the best place between pixels, None if there is none, or at the border."""
    row, column = np.unravel_index(alike.argmax(), alike.shape)
    height, width = alike.shape
    inside = 0 < row < height - 1 and 0 < column < width - 1
    if not inside or alike[row, column] < LEAST_ALIKE:
        return None
    across = _vertex(*alike[row, column - 1 : column + 2])
    down = _vertex(*alike[row - 1 : row + 2, column])
    return np.array([column + across, row + down])


def _vertex(before: float, at: float, after: float) -> float:
    """Find the top of a parabola through three values, from the middle one on."""
    bend = before - 2 * at + after
    return 0.0 if bend >= 0 else float(0.5 * (before - after) / bend)


def _covariance(
    off: np.ndarray,  # [N, 2]
    slope: np.ndarray,  # [N, 2, 6]
    by_depth: np.ndarray,  # [N, 2]
) -> np.ndarray:  # [6, 6]
    """Fit a turn and a shift to the patches, with Cauchy's weights, and return their covariance."""
    hold = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) / HELD_M**2
    weight = np.ones(len(off))
    for _ in range(8):
        weighted = slope * weight[:, None, None]
        normal = np.einsum("nij,nik->jk", weighted, slope) + hold
        move = np.linalg.solve(normal, np.einsum("nij,ni->j", weighted, off))
        rest = off - slope @ move
        square = np.square(rest).sum(1)
        width = 1.26 * math.sqrt(float(np.median(square))) + 0.05
        weight = 1 / (1 + square / (3 * width) ** 2)
    inverse = np.linalg.inv(normal)
    variance = float((weight * square).sum() / (2 * weight.sum()))
    # A fit takes up most of what depth is off by as a whole: as much of it as differs may be common.
    strength = np.square(by_depth).sum(1)
    depth_off = (rest * by_depth).sum(1) / np.maximum(strength, 1e-9)
    share = float((weight * strength * depth_off**2).sum() / (weight * strength).sum())
    common = inverse @ np.einsum("nij,ni->j", weighted, by_depth)
    return inverse * variance * TOGETHER + share * np.outer(common, common)


def _matrix(value: np.ndarray) -> np.ndarray:  # [6] -> [4, 4]
    """Give the transform of a deviation's turn and shift."""
    turn = Rotation.from_rotvec(value[:3]).as_matrix()
    return np.block([[turn, (turn @ value[3:])[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


def moved(w2c: np.ndarray, value: np.ndarray) -> np.ndarray:  # [T, 3, 4]
    """Put a camera's poses where a deviation says that they are."""
    by = _matrix(value)
    turned = by[:3, :3] @ w2c
    turned[:, :, 3] += by[:3, 3]
    return turned


def composed(first: np.ndarray, then: np.ndarray) -> np.ndarray:  # [6]
    """Give the deviation of two, one after the other."""
    both = _matrix(then) @ _matrix(first)
    turn = both[:3, :3]
    return np.concatenate([Rotation.from_matrix(turn).as_rotvec(), turn.T @ both[:3, 3]])


def inverse(value: np.ndarray) -> np.ndarray:  # [6]
    """Give the way back."""
    back = np.linalg.inv(_matrix(value))
    turn = back[:3, :3]
    return np.concatenate([Rotation.from_matrix(turn).as_rotvec(), turn.T @ back[:3, 3]])


def size_of(off: Deviation) -> float:
    """Compare a turn with a shift: the least of each that matters."""
    return math.hypot(off.turn_deg / LEAST_DEG, off.shift_m / LEAST_M)


def as_exo(off: Deviation, path: CameraTrajectory) -> Deviation:
    """Turn a deviation of the head camera into that of the exo camera, in exo's own axes."""
    ego_from_exo = path.ego.upright.seen_from(path.known_exo.upright).mean(0).numpy()
    left, _, right = np.linalg.svd(ego_from_exo[:, :3])
    back = (left @ right).T
    x, y, z = ego_from_exo[:, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    change = np.block([[back, np.zeros((3, 3))], [-back @ cross, back]])
    return Deviation(value=change @ off.value, covariance=change @ off.covariance @ change.T)


def matters(off: Deviation) -> bool:
    """Check whether a deviation is large enough to mend."""
    return off.turn_deg >= LEAST_DEG or off.shift_m >= LEAST_M
