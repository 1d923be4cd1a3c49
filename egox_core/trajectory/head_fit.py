"""Fit the head's pose in all frames together with the head's size and the noise of its points.

What is minimised: distances of the rigid head's points from their rays and from the surface there,
how heads are held against gravity, and accelerations. The last make it a smoother: gaps
close and noise goes, and since every frame sees all others, before and after alike, nothing lags.
It is the estimate that a Rauch-Tung-Striebel smoother of the same model gives, and works with
several clips' worth of frames since the normal equations are a narrow band.
"""

from typing import NamedTuple

import numpy as np
import scipy

from .head_evidence import HEAD_SURFACE_M, SURFACE_M, Evidence, ExoView, with_middle
from .head_search import (
    DISTANCE_SHARE,
    habit_weight,
    lean_sigmas_deg,
    likelihoods,
    sight_probabilities,
)
from .head_template import (
    HEAD_CENTRE,
    HEAD_HALF,
    HEAD_POINTS,
    MEAN_SHAPE,
    NORMAL_GAZE_DEG,
    SHAPE_SIGMA,
    normalised,
    placed_points,
    row_medians,
    turned_shares,
)

# radians and metres per s: what is not seen at all does not run away
SPEEDS = np.array([*np.radians([60.0] * 3), 1.0, 1.0, 1.0])
# per s², of heads at everyday tasks; judged, gaze shifts have more, work has less; a walking head
# bobs by two centimetres, twice a second
ACCELERATIONS = np.array([*np.radians([300.0] * 3), 1.5, 1.5, 1.5])
# of depth's scale at the person: one object's depth against its scene's (see takes/body_scale.py)
DEPTH_SHARE = 0.10
CAUCHY = 2.0  # standard deviations at which a point loses half of its weight
NOISE_SPAN = (0.2, 3.0)  # how far the clip's own residuals may change the assumed noise of points
NOISE_FRAMES = 10.0  # how many numbers the assumed noise weighs as much as
ROUNDS = 14
LOOK_ROUNDS = (0, 3, 6)
NOISE_ROUNDS = (4, 7, 10)
STEP = 1e-5  # of numeric derivatives, radians and metres
POSE = 6
POINT_RESIDUALS = 2 * len(HEAD_POINTS)  # residuals of a frame: across the rays of the points;
ROBUST = (
    POINT_RESIDUALS + 2
)  # then of the surface at the points and at the middle; others aren't robust


def fit_heads(
    evidence: Evidence,
    rotation: np.ndarray,
    place: np.ndarray,
    view: ExoView | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a head rotation and position in every frame to the collected evidence.

    Args:
        rotation, place: a first answer, [T, 3, 3] and [T, 3].
        view: where the head's middle is looked up again as the head comes to be elsewhere.
    """
    heads = _Heads(rotation, place)
    noise = 1.0
    for number in range(ROUNDS):
        if view is not None and number in LOOK_ROUNDS:
            evidence = with_middle(view, evidence, heads.rotation, heads.place)
        model = _Model(evidence, noise)
        heads = _gauss_newton_step(model, heads)
        if number in NOISE_ROUNDS:
            noise = _estimate_noise(model, heads)
    return heads.rotation, heads.place


class _Heads(NamedTuple):
    """Head poses of all frames and the head's shape, as the optimiser changes them."""

    rotation: np.ndarray  # [T, 3, 3] world_from_head
    place: np.ndarray  # [T, 3] metres, between the eyes, world
    shape: np.ndarray = MEAN_SHAPE  # see template_points

    def updated(
        self,
        poses: np.ndarray,  # [6] or [T, 6] rotation vector in the head's frame, metres in the world
        shape: np.ndarray,  # [7]
    ) -> "_Heads":
        turns = scipy.spatial.transform.Rotation.from_rotvec(poses[..., :3]).as_matrix()
        return _Heads(self.rotation @ turns, self.place + poses[..., 3:], self.shape + shape)


class _Model:
    """Residuals of each frame [T, M] of the head fit, in standard deviations."""

    def __init__(self, evidence: Evidence, noise: float) -> None:
        self.evidence = evidence
        self.noise = noise
        seen_mask = evidence.seen
        rays = np.where(seen_mask[..., None], evidence.rays, np.array([0.0, 0.0, 1.0]))
        least_axis = np.where(np.abs(rays[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
        tangent = normalised(np.cross(rays, least_axis))
        self.tangents = np.stack([tangent, np.cross(rays, tangent)], axis=-2)  # [T, P, 2, 3]
        self.point_weights = 1 / (evidence.sigma * noise)
        surface_mask = np.isfinite(evidence.surface_m).any(1)
        size_only_mask = ~surface_mask & seen_mask.any(1)
        self.far_weight = np.where(size_only_mask, 1 / (DISTANCE_SHARE * evidence.distance), 0.0)
        # Heads come out flat, hair and glasses stand before the points: alike in neighbouring
        # frames. Were each frame's surface an observation of its own, the head would turn until
        # points and middle agree with it.
        self.habit, self.depth_habit = (
            np.sqrt(habit_weight(has_evidence, evidence.frames))
            for has_evidence in (
                np.full(len(seen_mask), True),
                surface_mask | np.isfinite(evidence.middle_surface_m),
            )
        )

    def residuals(self, heads: _Heads) -> np.ndarray:
        rotation, place, shape = heads
        from_camera = place - self.evidence.exo_centres
        evidence = self.evidence
        points = placed_points(rotation, from_camera, shape)
        off_ray = np.einsum("tpki,tpi->tpk", self.tangents, normalised(points))
        # Depth tells where the head is, not how it is turned: models melt heads flat.
        # What is seen over a point that looks away is the head's other side.
        hidden_shares = turned_shares(rotation, points)[1]
        gaps = np.where(
            hidden_shares < 0.5, np.linalg.norm(points, axis=-1) - evidence.surface_m, np.nan
        )
        median_gap = np.nan_to_num(row_medians(gaps))  # a wall behind one point moves it little
        head_centre = np.einsum("tij,j->ti", rotation, HEAD_CENTRE * np.exp(shape[0])) + from_camera
        exo_direction = np.einsum("tji,tj->ti", rotation, normalised(head_centre))
        half_depth = np.exp(shape[0]) / np.linalg.norm(exo_direction / HEAD_HALF, axis=-1)
        middle_gap = np.nan_to_num(
            np.linalg.norm(head_centre, axis=-1) - half_depth - evidence.middle_surface_m
        )
        up = evidence.up.direction.numpy()
        lean = np.stack([rotation[..., axis] @ up for axis in (2, 0)], axis=-1)  # pitch, roll
        lean = np.arcsin(np.clip(lean, -1, 1)) - np.radians([NORMAL_GAZE_DEG, 0])
        return np.column_stack(
            [
                (off_ray * self.point_weights[..., None]).reshape(len(points), -1),
                self.depth_habit * median_gap / SURFACE_M,
                self.depth_habit * middle_gap / HEAD_SURFACE_M,
                (np.linalg.norm(from_camera, axis=-1) - evidence.distance) * self.far_weight,
                self.habit[:, None] * (lean / np.radians(lean_sigmas_deg(evidence))),
            ]
        )

    def jacobian(self, heads: _Heads) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the weighted residuals and their derivatives by head pose and head shape."""
        base_residuals = self.residuals(heads)
        evidence = self.evidence
        steps = STEP * np.eye(POSE + len(SHAPE_SIGMA))
        moved_residuals = (
            self.residuals(heads.updated(step[:POSE], step[POSE:])) for step in steps
        )
        slopes = np.stack(
            [(residuals_after - base_residuals) / STEP for residuals_after in moved_residuals],
            axis=-1,
        )
        weight = np.ones_like(base_residuals)
        ray_errors = np.linalg.norm(
            base_residuals[:, :POINT_RESIDUALS].reshape(len(base_residuals), -1, 2), axis=-1
        )
        head_points = placed_points(heads.rotation, heads.place - evidence.exo_centres, heads.shape)
        ray_errors_m = (
            ray_errors / np.maximum(self.point_weights, 1e-9) * evidence.distance[:, None]
        )
        sight_probability = sight_probabilities(*turned_shares(heads.rotation, head_points))
        likelihood_real, likelihood_invented = likelihoods(
            evidence, ray_errors_m[:, None], sight_probability[:, None], evidence.distance
        )
        point_weights = np.sqrt(likelihood_real / (likelihood_real + likelihood_invented))[
            :, 0
        ] / np.sqrt(1 + (ray_errors / CAUCHY) ** 2)
        weight[:, :POINT_RESIDUALS] = point_weights.repeat(2, axis=1)
        weight[:, POINT_RESIDUALS:ROBUST] = 1 / np.sqrt(
            1 + (base_residuals[:, POINT_RESIDUALS:ROBUST] / CAUCHY) ** 2
        )
        slopes *= weight[..., None]
        return base_residuals * weight, slopes[..., :POSE], slopes[..., POSE:]


def _estimate_noise(model: _Model, heads: _Heads) -> float:
    """Estimate the noise of the detected points, relative to the assumed noise.

    Only what a pose leaves over tells: three points always fit. Some frames' worth of the
    assumption stays in.
    """
    residuals = model.residuals(heads)[:, :POINT_RESIDUALS].reshape(-1, len(HEAD_POINTS), 2)
    squares = np.minimum((residuals**2).sum(-1), 9.0)
    surplus = np.maximum(2 * model.evidence.seen.sum(1) - POSE, 0)
    error_sum = squares[surplus > 0].sum() * model.noise**2
    return float(
        np.clip(np.sqrt((NOISE_FRAMES + error_sum) / (NOISE_FRAMES + surplus.sum())), *NOISE_SPAN)
    )


def _gauss_newton_step(model: _Model, heads: _Heads) -> _Heads:
    """Take one Gauss-Newton step of the head fit, with rotations of at most 30 degrees."""
    residual, pose_jacobian, shape_jacobian = model.jacobian(heads)
    count = len(residual)
    blocks = np.einsum("tmi,tmj->tij", pose_jacobian, pose_jacobian) + 1e-9 * np.eye(POSE)
    normal_matrix = scipy.sparse.block_diag(blocks, "csc")
    right_side = -np.einsum("tmi,tm->ti", pose_jacobian, residual)
    if count > 1:
        step_s = float(np.median(np.diff(model.evidence.frames.times_s)))
        turns = scipy.spatial.transform.Rotation.from_matrix(
            heads.rotation[:-1].transpose(0, 2, 1) @ heads.rotation[1:]
        ).as_rotvec()
        steps = np.concatenate([turns, np.diff(heads.place, axis=0)], axis=1)
        for stencil, sizes in (
            ((-1.0, 1.0), SPEEDS * np.sqrt(step_s)),
            ((1.0, -2.0, 1.0), ACCELERATIONS * step_s**2),
        )[: count - 1]:
            derivative_order = len(stencil) - 1
            difference_matrix = scipy.sparse.diags(
                stencil, range(derivative_order + 1), (count - derivative_order, count)
            )
            normal_matrix += scipy.sparse.kron(
                difference_matrix.T @ difference_matrix, np.diag(sizes**-2), "csc"
            )
            right_side -= difference_matrix.T @ (
                np.diff(steps, derivative_order - 1, axis=0) * sizes**-2
            )
    shape_stiffness = 1 / SHAPE_SIGMA**2
    # With depth the place is that of the scene's own scale, and so is the head's size.
    if np.isfinite(model.evidence.surface_m).any():
        sigma = np.hypot(SHAPE_SIGMA[0], DEPTH_SHARE)
        shape_stiffness[0] = 1 / (sigma**2 + (heads.shape[0] / CAUCHY) ** 2)
    pose_by_shape = np.einsum("tmi,tmk->tik", pose_jacobian, shape_jacobian).reshape(
        count * POSE, -1
    )
    shape_normal = np.einsum("tmi,tmk->ik", shape_jacobian, shape_jacobian) + np.diag(
        shape_stiffness
    )
    shape_right = -np.einsum("tmi,tm->i", shape_jacobian, residual) - heads.shape * shape_stiffness
    solution = scipy.sparse.linalg.spsolve(
        normal_matrix, np.column_stack([right_side.reshape(-1), pose_by_shape])
    )
    shape = np.linalg.solve(
        shape_normal - pose_by_shape.T @ solution[:, 1:],
        shape_right - pose_by_shape.T @ solution[:, 0],
    )
    poses = (solution[:, 0] - solution[:, 1:] @ shape).reshape(-1, POSE)
    largest_turn = max(float(np.linalg.norm(poses[:, :3], axis=-1).max()), 1e-9)
    step_share = min(1.0, np.radians(30) / largest_turn)
    return heads.updated(step_share * poses, step_share * shape)
