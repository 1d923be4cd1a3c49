"""The adjustment of an exo camera's poses: sightings agree, and points stay near their depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from ..progress import Progress, no_progress
from .exo_tracks import FloatArray, Tracks

DEPTH_SIGMA = 0.08  # of the logarithm of a point's depth
NOISE_PX, CAUCHY = 0.7, 2.5  # of a sighting; times the noise, where it counts half
DEPTH_CAUCHY = 2.0
MAX_STEPS, ENOUGH = 25, 1e-4  # relative change of the cost at which it is done
SHUTTER_RIDGE = 100.0  # px², what the rows' times must explain before they count
SHUTTER_ROUNDS, SHUTTER_LEAST = 3, 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """Poses and points that agree best."""

    rotation: FloatArray  # [T, 3, 3] of frame t from frame 0
    place: FloatArray  # [T, 3] metres; zero where only rotations were allowed
    depth_m: FloatArray  # [N] of the points in their key frames
    seen_m: FloatArray  # [M] z depth of each sighting
    off_px: FloatArray  # [M]
    known: FloatArray  # [N] 0...1, how far the sightings alone tell the depth
    # of a frame's time, that the last row and the last column are read after the first
    shutter: FloatArray  # [2]
    cost: float


def adjust(
    tracks: Tracks,
    size: tuple[int, int],  # px, of the picture
    *,
    turns: bool,  # rotations alone, points infinitely far
    held: bool = False,  # the poses are known
    sigma: float = DEPTH_SIGMA,
    progress: Progress = no_progress,
) -> Adjusted:
    """Adjust poses and points by Levenberg and Marquardt, the points eliminated.

    The lens is held. Rotations alone may be sheared by a picture that isn't read at once (rolling
    shutter): travel would explain that, too."""
    state = (
        tracks.rotation.copy(),
        np.zeros_like(tracks.place) if turns else tracks.place.copy(),
        -np.log(tracks.depth_m),
    )
    shutter = np.zeros(2)
    seen = _Sightings(tracks, turns, sigma)
    for number in range(SHUTTER_ROUNDS):
        progress(number, SHUTTER_ROUNDS, "the exo camera's motion: adjustment")
        state, cost = _minimise(seen, state, held)
        if not turns or held or number == SHUTTER_ROUNDS - 1:
            break
        found = shutter + _shutter_step(tracks, seen, state, shutter, size)
        found = found.clip(-1, 1)
        if np.abs(found - shutter).max() < SHUTTER_LEAST:
            break
        shutter = found
        seen = _Sightings(tracks, turns, sigma, *_unrolled(tracks, state[0], shutter, size))
    points, _, off = seen.residuals(*state)
    known = np.zeros(len(tracks.depth_m))
    if held and not turns:
        known = 1 - seen.pull(state[2])[0] / seen.normal(*state)[3]
    return Adjusted(
        rotation=state[0],
        place=state[1],
        depth_m=np.exp(-state[2]),
        seen_m=points[:, 2],
        off_px=NOISE_PX * np.linalg.norm(off, axis=1),
        known=known,
        shutter=shutter,
        cost=cost,
    )


class _Sightings:
    """Residuals of sightings and their derivatives, in units of the noise."""

    def __init__(
        self,
        tracks: Tracks,
        turns: bool,
        sigma: float = DEPTH_SIGMA,
        ray: FloatArray | None = None,  # [N, 3], [M, 2] in place of the tracks' own
        plane: FloatArray | None = None,
    ) -> None:
        self.turns, self.sigma = turns, sigma
        self.frame, self.point = tracks.frame, tracks.point
        self.home, self.count = tracks.home[tracks.point], len(tracks.rotation)
        self.ray = (tracks.ray if ray is None else ray)[tracks.point]
        self.plane = tracks.plane if plane is None else plane
        self.weight = tracks.px / NOISE_PX
        self.given = -np.log(tracks.depth_m)

    def residuals(
        self, rotation: FloatArray, place: FloatArray, inverse: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(points in their frame [M, 3] and in their key frame [M, 3], residuals [M, 2])."""
        across = rotation[self.frame] @ rotation[self.home].transpose(0, 2, 1)
        own = self.ray if self.turns else self.ray * np.exp(-inverse[self.point])[:, None]
        points = np.einsum("nij,nj->ni", across, own - place[self.home]) + place[self.frame]
        seen = points[:, :2] / np.maximum(points[:, 2:], 1e-3)
        return points, own, (seen - self.plane) * self.weight[:, None]

    def cost(self, off: FloatArray, inverse: FloatArray) -> float:
        """Cauchy's of the sightings and of the depth."""
        total = CAUCHY**2 * np.log1p((off**2).sum(1) / CAUCHY**2).sum()
        if not self.turns:
            pull = (inverse - self.given) / self.sigma
            total += DEPTH_CAUCHY**2 * np.log1p(pull**2 / DEPTH_CAUCHY**2).sum()
        return float(total)

    def pull(self, inverse: FloatArray) -> tuple[FloatArray, FloatArray]:  # [N], [N]
        """Weight and gradient of the depth."""
        pull = (inverse - self.given) / self.sigma
        weight = 1 / (1 + pull**2 / DEPTH_CAUCHY**2) / self.sigma**2
        return weight, weight * pull * self.sigma

    def normal(
        self, rotation: FloatArray, place: FloatArray, inverse: FloatArray
    ) -> tuple[sp.csr_matrix, FloatArray, sp.csr_matrix, FloatArray, FloatArray]:
        """The normal equations' parts: poses' matrix and gradient, the mixed matrix, points'
        diagonal and gradient."""
        points, own, off = self.residuals(rotation, place, inverse)
        rows = len(points)
        robust = np.sqrt(1 / (1 + (off**2).sum(1) / CAUCHY**2))
        scale = robust * self.weight / np.maximum(points[:, 2], 1e-3)
        seen = points[:, :2] / np.maximum(points[:, 2:], 1e-3)
        by_point = np.zeros((rows, 2, 3))
        by_point[:, 0, 0] = by_point[:, 1, 1] = scale
        by_point[:, :, 2] = -scale[:, None] * seen
        # A step of a pose is a turn and a shift in the camera's frame, taken after it.
        of_frame = -by_point @ _cross(points)
        across = rotation[self.frame] @ rotation[self.home].transpose(0, 2, 1)
        of_home = by_point @ across @ _cross(own)
        if not self.turns:
            of_frame = np.concatenate([of_frame, by_point], 2)
            of_home = np.concatenate([of_home, -by_point @ across], 2)
        poses = self._block(of_frame, self.frame) + self._block(of_home, self.home)
        gradient = poses.T @ (off * robust[:, None]).ravel()
        matrix = (poses.T @ poses).tocsr()
        if self.turns:
            return matrix, gradient, sp.csr_matrix((len(gradient), 1)), np.ones(1), np.zeros(1)
        along = -(by_point @ across @ own[:, :, None])[:, :, 0]
        cells = np.arange(2 * rows), np.repeat(self.point, 2)
        of_points = sp.csr_matrix((along.ravel(), cells), shape=(2 * rows, len(inverse)))
        weight, pull = self.pull(inverse)
        diagonal = np.bincount(self.point, (along**2).sum(1), len(inverse))
        down = np.bincount(self.point, (along * off * robust[:, None]).sum(1), len(inverse))
        return (
            matrix,
            gradient,
            (poses.T @ of_points).tocsr(),
            diagonal + weight,
            down + pull,
        )

    def _block(self, values: FloatArray, frames: FloatArray) -> sp.csr_matrix:
        """[2 M, side (T - 1)] with [M, 2, side] at the frames; frame 0 is held."""
        side, use = values.shape[2], frames > 0
        rows = np.arange(2 * len(values)).reshape(-1, 2, 1)[use]
        columns = (frames[use, None, None] - 1) * side + np.arange(side)
        rows, columns = (np.broadcast_to(a, values[use].shape).ravel() for a in (rows, columns))
        shape = (2 * len(values), side * (self.count - 1))
        return sp.csr_matrix((values[use].ravel(), (rows, columns)), shape=shape)


def _minimise(
    seen: _Sightings, state: tuple[FloatArray, FloatArray, FloatArray], held: bool
) -> tuple[tuple[FloatArray, FloatArray, FloatArray], float]:
    damping, cost = 1e-4, seen.cost(seen.residuals(*state)[2], state[2])
    for _ in range(MAX_STEPS):
        matrix, gradient, mixed, diagonal, down = seen.normal(*state)
        while damping < 1e3:
            left = matrix + sp.diags(damping * matrix.diagonal() + 1e-9)
            by_point = mixed.multiply(1 / (diagonal * (1 + damping))[None]).tocsr()
            step = np.zeros_like(gradient)
            if not held:
                step = -spsolve((left - by_point @ mixed.T).tocsc(), gradient - by_point @ down)
            step = step.reshape(len(state[0]) - 1, -1)
            stretch = -(down + mixed.T @ step.ravel()) / (diagonal * (1 + damping))
            tried = _moved(state, step, stretch, seen.turns)
            new = seen.cost(seen.residuals(*tried)[2], tried[2])
            if new < cost:
                break
            damping *= 10
        else:
            break
        state, gain, cost = tried, cost - new, new
        damping = max(damping / 5, 1e-7)
        if gain < ENOUGH * cost:
            break
    return state, cost


def _moved(
    state: tuple[FloatArray, FloatArray, FloatArray],
    step: FloatArray,
    stretch: FloatArray,
    turns: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    rotation, place, inverse = state[0].copy(), state[1].copy(), state[2]
    turn = Rotation.from_rotvec(step[:, :3]).as_matrix()
    rotation[1:] = turn @ rotation[1:]
    if not turns:
        place[1:] = np.einsum("nij,nj->ni", turn, place[1:]) + step[:, 3:]
        inverse = inverse + stretch.clip(-1, 1)
    return rotation, place, inverse


def _unrolled(
    tracks: Tracks, rotation: FloatArray, shutter: FloatArray, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:  # [N, 3], [M, 2]
    """Rays and sightings as they were in the middle of their frame's time."""
    before, after = np.r_[rotation[:1], rotation[:-1]], np.r_[rotation[1:], rotation[-1:]]
    spin = Rotation.from_matrix(after @ before.transpose(0, 2, 1)).as_rotvec()
    spin[1:-1] /= 2  # a frame's time

    def middle(rays: FloatArray, uv: FloatArray, frame: FloatArray) -> FloatArray:
        late = ((uv[:, ::-1] + 0.5) / np.array(size[::-1]) - 0.5) @ shutter
        rays = Rotation.from_rotvec(-late[:, None] * spin[frame]).apply(rays)
        return rays / np.maximum(rays[:, 2:], 1e-3)

    seen = np.c_[tracks.plane, np.ones(len(tracks.plane))]
    return (
        middle(tracks.ray, tracks.home_uv, tracks.home),
        middle(seen, tracks.uv, tracks.frame)[:, :2],
    )


def _shutter_step(
    tracks: Tracks,
    seen: _Sightings,
    state: tuple[FloatArray, FloatArray, FloatArray],
    shutter: FloatArray,
    size: tuple[int, int],
) -> FloatArray:  # [2]
    """Solve for the change of the rows' and the columns' times, the poses held."""
    off, step = seen.residuals(*state)[2], 0.05
    robust = 1 / (1 + (off**2).sum(1) / CAUCHY**2)
    change = []
    for which in np.eye(2):
        other = _Sightings(
            tracks,
            seen.turns,
            seen.sigma,
            *_unrolled(tracks, state[0], shutter + step * which, size),
        )
        change.append((other.residuals(*state)[2] - off) / step)
    slopes = np.stack(change, -1) * np.sqrt(robust)[:, None, None]
    slopes, off = slopes.reshape(-1, 2), (off * np.sqrt(robust)[:, None]).ravel()
    ridge = SHUTTER_RIDGE * np.eye(2)
    return -np.linalg.solve(slopes.T @ slopes + ridge, slopes.T @ off + ridge @ shutter)


def _cross(vectors: FloatArray) -> FloatArray:  # [n, 3] -> [n, 3, 3]
    zero = np.zeros(len(vectors))
    x, y, z = vectors.T
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
