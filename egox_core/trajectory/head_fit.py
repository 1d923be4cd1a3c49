"""The head's way through a clip: all frames, the head's own lengths and the errors' size fitted together.

What is minimised: distances of the rigid head's points from their rays and from the surface there, how heads are held
against gravity, and accelerations. The last make it a smoother: gaps
close and noise goes, and since every frame sees all others, before and after alike, nothing lags. It is the estimate
that a Rauch-Tung-Striebel smoother of the same model gives, and works with several clips' worth of frames since the
normal equations are a narrow band.
"""

from collections.abc import Callable

import numpy as np
import scipy

from .head_evidence import HEAD_SURFACE_M, SURFACE_M, Evidence
from .head_search import (
    DISTANCE_SHARE,
    PITCH_SIGMA_DEG,
    ROLL_SIGMA_DEG,
    UNKNOWN_UP_DEG,
    habit_weight,
    in_sight,
    likelihoods,
)
from .head_template import (
    HEAD_CENTRE,
    HEAD_HALF,
    NORMAL_GAZE_DEG,
    SHAPE_SIGMA,
    placed_points,
    row_medians,
    turned_shares,
    unit,
)

# radians and metres per s: what is not seen at all does not run away
SPEEDS = np.array([*np.radians([60.0] * 3), 1.0, 1.0, 1.0])
# per s², of heads at everyday tasks; judged, gaze shifts have more, work has less; a walking head
# bobs by two centimetres, twice a second
ACCELERATIONS = np.array([*np.radians([300.0] * 3), 1.5, 1.5, 1.5])
DEPTH_SHARE = 0.10  # of depth's scale at the person: one object's depth against its scene's (see takes/body_scale.py)
CAUCHY = 2.0  # standard deviations at which a point loses half of its weight
NOISE_SPAN = (0.2, 3.0)  # how far the clip's own residuals may change the assumed noise of points
NOISE_FRAMES = 10.0  # how many numbers the assumed noise weighs as much as
ROUNDS, NOISE_ROUNDS = 14, (4, 7, 10)
STEP = 1e-5  # of numeric derivatives, radians and metres
POSE = 6


def fit(
    evidence: Evidence,
    rotation: np.ndarray,
    place: np.ndarray,
    distance: np.ndarray,
    times_s: np.ndarray,
    refresh: Callable[[Evidence, np.ndarray, np.ndarray], Evidence] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit all frames: (rotation [T, 3, 3] world_from_head, place [T, 3] between the eyes, world).

    Args:
        rotation, place: a first answer, [T, 3, 3] and [T, 3].
        distance: [T] metres from the exo camera by apparent size.
        times_s: [T] rising.
        refresh: looks the head's middle up again where the head has come to be.
    """
    count, shape, noise = len(place), np.zeros(len(SHAPE_SIGMA)), 1.0
    step_s = float(np.median(np.diff(times_s))) if count > 1 else 1.0
    for number in range(ROUNDS):
        if refresh is not None and number in (0, 3, 6):
            evidence = refresh(evidence, rotation, place)
        model = _Model(evidence, distance, noise, times_s)
        rotation, place, shape = _advance(model, rotation, place, shape, step_s)
        if number in NOISE_ROUNDS:
            noise = _noise(model, rotation, place, shape)
    return rotation, place


class _Model:
    """Residuals of single frames, in standard deviations, and which of them are robust."""

    def __init__(
        self,
        evidence: Evidence,
        distance: np.ndarray,
        noise: float,
        times_s: np.ndarray,
    ) -> None:
        self.evidence, self.noise = evidence, noise

        def habit(telling: np.ndarray) -> np.ndarray:  # [T, 1]
            return np.sqrt(habit_weight(telling, times_s))[:, None]

        self.habit = habit(np.ones(len(times_s), dtype=bool))
        seen = evidence.seen
        rays = np.where(seen[..., None], evidence.rays, np.array([0.0, 0.0, 1.0]))
        helper = np.where(np.abs(rays[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
        first = unit(np.cross(rays, helper))
        self.tangents = np.stack([first, np.cross(rays, first)], axis=-2)  # [T, P, 2, 3]
        self.point = np.where(seen, 1 / np.where(seen, evidence.sigma * noise, 1.0), 0.0)
        self.has = np.isfinite(evidence.reach)
        self.reach = np.nan_to_num(evidence.reach)
        by_size = ~self.has.any(1) & seen.any(1)
        self.far_weight = np.where(by_size, 1 / (DISTANCE_SHARE * distance), 0.0)
        self.middle = np.isfinite(evidence.middle)
        # Heads come out flat, hair and glasses stand before the points: alike in neighbouring frames. Were each frame's
        # surface an observation of its own, the head would turn until points and middle agree with it.
        self.depth_habit = habit(self.has.any(1) | self.middle)
        self.middle_reach = np.nan_to_num(evidence.middle)
        tilt = 0.0 if evidence.up_known else UNKNOWN_UP_DEG
        self.distance = distance
        self.pitch = np.radians(np.hypot(PITCH_SIGMA_DEG, tilt))
        self.roll = np.radians(np.hypot(ROLL_SIGMA_DEG, tilt))

    def residuals(
        self, rotation: np.ndarray, place: np.ndarray, shape: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """([T, M] in standard deviations, how many of them, the first, are robust)."""
        e = self.evidence
        from_camera = place - e.origin
        at = placed_points(rotation, from_camera, shape)
        far = np.linalg.norm(at, axis=-1)
        across = np.einsum("tpki,tpi->tpk", self.tangents, at / np.maximum(far, 1e-6)[..., None])
        # Depth tells where the head is, not how it is turned: models melt heads flat.
        # What is seen over a point that looks away is the head's other side.
        hidden = turned_shares(rotation, at)[1]
        solid = self.has & (hidden < 0.5)
        gap = np.nan_to_num(
            row_medians(np.where(solid, far - self.reach, np.nan))
        )  # a wall behind one moves it little
        parts = [
            (across * self.point[..., None]).reshape(len(at), -1),
            self.depth_habit * gap[:, None] / SURFACE_M,
        ]
        centre = np.einsum("tij,j->ti", rotation, HEAD_CENTRE * np.exp(shape[0])) + from_camera
        out = np.linalg.norm(centre, axis=-1)
        look = np.einsum("tji,tj->ti", rotation, centre / np.maximum(out, 1e-6)[:, None])
        half = np.exp(shape[0]) / np.linalg.norm(look / HEAD_HALF, axis=-1)
        off = np.where(self.middle, out - half - self.middle_reach, 0.0)
        parts.append(self.depth_habit * off[:, None] / HEAD_SURFACE_M)
        robust = sum(p.shape[1] for p in parts)
        off = np.linalg.norm(from_camera, axis=-1) - self.distance
        parts.append((off * self.far_weight)[:, None])
        pitch = np.arcsin(np.clip(rotation[..., 2] @ e.up, -1, 1)) - np.radians(NORMAL_GAZE_DEG)
        roll = np.arcsin(np.clip(rotation[..., 0] @ e.up, -1, 1))
        parts.append(self.habit * np.stack([pitch / self.pitch, roll / self.roll], axis=-1))
        return np.concatenate(parts, axis=1), robust

    def jacobian(
        self, rotation: np.ndarray, place: np.ndarray, shape: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(residuals [T, M], derivatives by pose [T, M, 6] and by shape [T, M, 7]), robust ones already weighted."""
        base, robust = self.residuals(rotation, place, shape)
        by_pose = np.empty((*base.shape, POSE))
        for axis in range(3):
            turn = np.zeros(3)
            turn[axis] = STEP
            by_pose[..., axis] = (
                self.residuals(
                    rotation @ scipy.spatial.transform.Rotation.from_rotvec(turn).as_matrix(),
                    place,
                    shape,
                )[0]
                - base
            ) / STEP
            by_pose[..., 3 + axis] = (
                self.residuals(rotation, place + turn, shape)[0] - base
            ) / STEP
        by_shape = np.empty((*base.shape, len(shape)))
        for number in range(len(shape)):
            moved = shape.copy()
            moved[number] += STEP
            by_shape[..., number] = (self.residuals(rotation, place, moved)[0] - base) / STEP
        weight = np.ones_like(base)
        pairs = 2 * self.point.shape[1]
        points = np.linalg.norm(base[:, :pairs].reshape(len(base), -1, 2), axis=-1).repeat(
            2, axis=1
        )
        at = placed_points(rotation, place - self.evidence.origin, shape)
        off = points[:, ::2] / np.maximum(self.point, 1e-9) * self.distance[:, None]
        share = in_sight(*turned_shares(rotation, at))
        true, made_up = likelihoods(self.evidence, off[:, None], share[:, None], self.distance)
        weight[:, :pairs] = np.sqrt(true / (true + made_up))[:, 0].repeat(2, axis=1) / np.sqrt(
            1 + (points / CAUCHY) ** 2
        )
        weight[:, pairs:robust] = 1 / np.sqrt(1 + (base[:, pairs:robust] / CAUCHY) ** 2)
        return base * weight, by_pose * weight[..., None], by_shape * weight[..., None]


def _noise(model: _Model, rotation: np.ndarray, place: np.ndarray, shape: np.ndarray) -> float:
    """Size of the points' errors, in units of the first assumption.

    Only what a pose leaves over tells: three points always fit. Some frames' worth of the assumption stays in.
    """
    points = model.point.shape[1]
    residuals = model.residuals(rotation, place, shape)[0][:, : 2 * points].reshape(-1, points, 2)
    squares = np.minimum((residuals**2).sum(-1), 9.0)
    over = np.maximum(2 * (model.point > 0).sum(1) - POSE, 0)
    now = squares[over > 0].sum() * model.noise**2
    return float(np.clip(np.sqrt((NOISE_FRAMES + now) / (NOISE_FRAMES + over.sum())), *NOISE_SPAN))


def _normal(
    model: _Model, rotation: np.ndarray, place: np.ndarray, shape: np.ndarray, step_s: float
) -> tuple[scipy.sparse.csc_matrix, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The normal equations: (poses, their right side, poses by shape, shape, its right side)."""
    residual, by_pose, by_shape = model.jacobian(rotation, place, shape)
    count = len(place)
    blocks = np.einsum("tmi,tmj->tij", by_pose, by_pose) + 1e-9 * np.eye(POSE)
    poses = scipy.sparse.block_diag(blocks, "csc")
    right = -np.einsum("tmi,tm->ti", by_pose, residual)
    for stencil, sizes in (
        ((-1.0, 1.0), SPEEDS * np.sqrt(step_s)),
        ((1.0, -2.0, 1.0), ACCELERATIONS * step_s**2),
    ):
        order = len(stencil) - 1
        if count > order:
            turns = scipy.spatial.transform.Rotation.from_matrix(
                rotation[:-1].transpose(0, 2, 1) @ rotation[1:]
            ).as_rotvec()
            steps = np.concatenate([turns, np.diff(place, axis=0)], axis=1)
            change = scipy.sparse.diags(stencil, range(order + 1), (count - order, count))
            poses += scipy.sparse.kron(change.T @ change, np.diag(sizes**-2), "csc")
            right -= change.T @ (np.diff(steps, order - 1, axis=0) * sizes**-2)
    stiff = 1 / SHAPE_SIGMA**2
    if (
        model.has.any()
    ):  # the place is then that of the scene's own scale, and so is the head's size
        sigma = np.hypot(SHAPE_SIGMA[0], DEPTH_SHARE)
        stiff[0] = 1 / (sigma**2 + (shape[0] / CAUCHY) ** 2)
    return (
        poses,
        right.reshape(-1),
        np.einsum("tmi,tmk->tik", by_pose, by_shape).reshape(count * POSE, -1),
        np.einsum("tmi,tmk->ik", by_shape, by_shape) + np.diag(stiff),
        -np.einsum("tmi,tm->i", by_shape, residual) - shape * stiff,
    )


def _advance(
    model: _Model, rotation: np.ndarray, place: np.ndarray, shape: np.ndarray, step_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of Gauss and Newton, its rotations no longer than 30 degrees."""
    normal, right, mixed, own, own_right = _normal(model, rotation, place, shape, step_s)
    solved = scipy.sparse.linalg.spsolve(normal, np.column_stack([right, mixed]))
    change = np.linalg.solve(own - mixed.T @ solved[:, 1:], own_right - mixed.T @ solved[:, 0])
    poses = (solved[:, 0] - solved[:, 1:] @ change).reshape(-1, POSE)
    longest = max(float(np.linalg.norm(poses[:, :3], axis=-1).max()), 1e-9)
    share = min(1.0, np.radians(30) / longest)
    turns = scipy.spatial.transform.Rotation.from_rotvec(share * poses[:, :3]).as_matrix()
    return rotation @ turns, place + share * poses[:, 3:], shape + share * change
