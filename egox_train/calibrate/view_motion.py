"""The turns of a head camera from frame to frame, by its pictures and by its stated poses: when the
poses are, whether they are another recording's, whether one of the two is mirrored."""

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from egox_core.cameras import CameraModel
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress

from .frames import tracked

SIDE = 448
"""Longest side, px, of the pictures that are compared."""
MOST_POINTS, FEWEST_POINTS = 250, 20
ROUNDS = 6
STEP_FRAMES = 0.25
LONGEST_S, SHARE = 1.0, 0.25
"""Lags that are tried, to both sides: seconds, and share of the clip."""
FEWEST_TURNS = 8
LEAST_SEEN = 4.0
"""The turns of a clip against their own noise, below which they tell nothing."""
SAME, STRANGE = 0.7, 4.0
"""Share of the pictures' turns that poses explain if they are theirs, and what others leave of them
against the noise: theirs leave 0.8 to 1.4 of it in drawn and real takes, others 8 and more."""
LAG_FLOOR_FRAMES = 0.25
"""A head that turns also moves, and a shutter rolls: both look like a turn."""
MIRROR = (1.0, -1.0, -1.0)
"""Signs of a turn's axes (right, down, ahead) where left and right are exchanged in pictures or poses."""


@frozen
class Turns:
    """Turns of the upright camera between neighbouring frames, by its pictures."""

    vectors: np.ndarray  # [T - 1, 3] rotation vectors, radians, NaN where they aren't known
    # [T - 1] radians, of each axis: what the picture's upper and lower half tell apart. Hands and
    # what else moves near the camera are in the lower one.
    noise: np.ndarray


@frozen
class Motion:
    """Findings from the turns on stated poses."""

    lag_s: float  # the poses that belong to a picture are stated so much later
    lag_sd_s: float
    frame_s: float
    explained: float  # share of the pictures' turns, at that lag
    seen: float  # the pictures' turns against their noise
    mirrored: bool  # what is stated so, explains them
    strange_sigmas: float  # what the poses as stated leave of the turns, against their noise

    @property
    def told(self) -> bool:
        """True where the head turned enough to tell something."""
        return self.seen >= LEAST_SEEN

    @property
    def others(self) -> bool:
        """True where the poses are not those of the pictures."""
        return self.told and self.explained < SAME and self.strange_sigmas >= STRANGE

    @property
    def lag_known(self) -> bool:
        """True where pictures and poses turn alike, so that their lag means something."""
        return self.told and self.explained >= SAME and math.isfinite(self.lag_sd_s)

    @property
    def lag_sigmas(self) -> float:
        """By how many standard deviations the lag is not chance."""
        return abs(self.lag_s) / self.lag_sd_s


def picture_turns(
    pictures: Iterable[np.ndarray],  # [H, W, 3] uint8 RGB, upright
    camera: CameraModel,  # upright, of these pictures
    progress: Progress = no_progress,
) -> Turns:
    """Track points from each picture to the next, and fit the camera's turn to their rays."""
    factor = min(1.0, SIDE / max(camera.width, camera.height))
    size = round(camera.width * factor), round(camera.height * factor)
    small = camera.rescale(*size)
    vectors, noise, before = [], [], None
    for number, picture in enumerate(pictures):
        grey = cv2.cvtColor(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        if before is not None:
            vector, off = _turn(before, grey, small)
            vectors.append(vector)
            noise.append(off)
        before = grey
        progress(number + 1, 0, "turns of the head camera")
    return Turns(vectors=np.array(vectors).reshape(-1, 3), noise=np.array(noise))


def _turn(before: np.ndarray, now: np.ndarray, camera: CameraModel) -> tuple[np.ndarray, float]:
    """Track points from one picture to the next, and measure their turn and by how much its halves
    differ."""
    unknown = np.full(3, np.nan), math.nan
    corners = cv2.goodFeaturesToTrack(before, MOST_POINTS, 0.01, 5)
    if corners is None:
        return unknown
    start = corners[:, 0].astype(np.float32)
    end, rows = tracked(before, now, start, np.arange(len(start)))
    rays = []
    for uv in (start[rows], end):
        each, valid = camera.unproject(torch.from_numpy(uv.astype(np.float64)))
        rays.append(np.where(valid.numpy()[:, None], each.numpy(), np.nan))
    good = np.isfinite(rays[0]).all(1) & np.isfinite(rays[1]).all(1)
    first, second = rays[0][good], rays[1][good]
    lower = first[:, 1] > np.median(first[:, 1]) if len(first) else np.zeros(0, bool)
    if len(first) < FEWEST_POINTS:
        return unknown
    halves = [_fitted(first[half], second[half]) for half in (lower, ~lower)]
    differ = float(np.linalg.norm(halves[0] - halves[1])) / 2 / math.sqrt(3)
    return _fitted(first, second), differ


def _fitted(first: np.ndarray, second: np.ndarray) -> np.ndarray:  # [N, 3], [N, 3] -> [3]
    """Fit a turn, and a way among points of one distance, with Cauchy's weights."""
    turn, weight = Rotation.identity(), np.ones(len(first))
    for _ in range(ROUNDS):
        moved = turn.apply(first)
        across = np.eye(3) - moved[:, :, None] * moved[:, None]
        skew = np.zeros((len(moved), 3, 3))
        x, y, z = moved.T
        skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 0] = z, -y, -z
        skew[:, 1, 2], skew[:, 2, 0], skew[:, 2, 1] = x, y, -x
        jacobian = np.concatenate([skew, across], axis=2)
        off = second - moved
        weighted = jacobian * weight[:, None, None]
        normal = np.einsum("nij,nik->jk", weighted, jacobian) + 1e-6 * np.eye(6)
        step = np.linalg.solve(normal, np.einsum("nij,ni->j", weighted, off))
        rest = np.square(off - jacobian @ step).sum(1)
        width = 1.2 * math.sqrt(float(np.median(rest))) + 1e-6
        weight = 1 / (1 + rest / (3 * width) ** 2)
        turn = Rotation.from_rotvec(step[:3]) * turn
    return turn.as_rotvec()


def compare_turns(
    turns: Turns,
    times_s: np.ndarray,  # [T] of the pictures
    w2c: np.ndarray,  # [T, 3, 4] upright, as stated for them
) -> Motion | None:
    """Find the lag at which stated poses turn as the pictures do, None for too short a clip."""
    known = np.isfinite(w2c).all(axis=(1, 2))
    if known.sum() < FEWEST_TURNS + 1 or len(times_s) != len(turns.vectors) + 1:
        return None
    first, last = times_s[known][[0, -1]]
    path = Slerp(times_s[known], Rotation.from_matrix(w2c[known][:, :, :3]))
    frame_s = float(np.median(np.diff(times_s)))
    most = min(LONGEST_S, SHARE * (last - first)) // frame_s * frame_s
    inside = (times_s[:-1] - most >= first) & (times_s[1:] + most <= last)
    inside &= np.isfinite(turns.noise)
    if inside.sum() < FEWEST_TURNS:
        return None
    seen = turns.vectors[inside]
    begin, end = times_s[:-1][inside], times_s[1:][inside]

    def stated(lag: float) -> np.ndarray:  # [N, 3]
        return (path(end + lag) * path(begin + lag).inv()).as_rotvec()

    lags = np.arange(-most, most + frame_s / 8, STEP_FRAMES * frame_s)
    signs, mirrored = np.ones(3), False
    costs = np.array([_cost(seen, stated(lag)) for lag in lags])
    lag_as_stated = float(lags[costs.argmin()])
    power = _cost(seen, np.zeros(3))
    exchanged = np.array([_cost(seen, stated(lag) * MIRROR) for lag in lags])
    if exchanged.min() < min(costs.min(), (1 - SAME) * power):
        signs, mirrored, costs = np.array(MIRROR), True, exchanged
    place = int(costs.argmin())
    lag = float(lags[place])
    if 0 < place < len(lags) - 1:
        before, at, after = costs[place - 1 : place + 2]
        lag += STEP_FRAMES * frame_s * 0.5 * (before - after) / max(before - 2 * at + after, 1e-30)
    rest = seen - stated(lag) * signs
    moved = (stated(lag + frame_s / 2) - stated(lag - frame_s / 2)) / frame_s
    sd = math.inf
    if (strength := float(np.square(moved).sum())) > 0:
        sd = math.sqrt(_lasting(rest) * float(np.square(rest).sum()) / (3 * len(rest)) / strength)
    noise = max(math.sqrt(float(np.square(turns.noise[inside]).mean())), 1e-9)
    left = _cost(seen, stated(lag_as_stated))
    return Motion(
        lag_s=float(lag),
        lag_sd_s=math.hypot(sd, LAG_FLOOR_FRAMES * frame_s),
        frame_s=frame_s,
        explained=1 - _cost(rest, np.zeros(3)) / max(power, 1e-30),
        seen=math.sqrt(power / 3) / noise,
        mirrored=mirrored,
        strange_sigmas=math.sqrt(left / 3) / noise,
    )


def _cost(seen: np.ndarray, stated: np.ndarray) -> float:
    return float(np.square(seen - stated).sum(1).mean())


def _lasting(rest: np.ndarray) -> float:
    """Find how many neighbouring errors [N, 3] count as one."""
    power = max(float((rest * rest).sum()), 1e-30)
    lasting = 1.0
    for step in range(1, max(2, len(rest) // 3)):
        share = float((rest[step:] * rest[:-step]).sum()) / power
        if share < 0.05:
            break
        lasting += 2 * share
    return lasting
