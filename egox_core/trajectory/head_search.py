"""Search an initial head path over a grid of head rotations in every frame.

A few points fit several heads (an ear from the front or from behind, a left one that is called
right); which of them is right shows over time. The fit (:mod:`.head_fit`) starts here and stays
near.
"""

import numpy as np
import scipy

from ..frames import Frames
from .head_evidence import HEAD_SURFACE_M, Evidence
from .head_template import (
    NORMAL_GAZE_DEG,
    normalised,
    row_medians,
    template_points,
    turned_shares,
)

YAWS_DEG = np.arange(0, 360, 15)
PITCHES_DEG = np.arange(-60, 31, 15)
ROLLS_DEG = np.array([-20, 0, 20])
LEAN_SIGMAS_DEG = (20.0, 12.0)
"""Spread of heads' pitch and roll: judged, wide enough for all that people do standing or
sitting."""
SIGMAS_OF_90_PERCENT = 2.15
"""Standard deviations of an error in two directions within which nine of ten are."""
HABIT_S = 1.0
"""Time over which a head's habit changes: within it frames repeat each other and count once."""
DISTANCE_SHARE = 0.3  # of a distance that is told by size alone
MISS_RATE = 0.12  # share of points in sight that detectors don't report
MIN_PROBABILITY = 0.03  # of a point's being in sight, or hidden, by a pose
BLUR_M = 0.015  # by which a grid of 15 degrees moves points, and detectors all through a clip
OUTLINE_M2 = 0.04  # of a head in the picture, anywhere on which a hidden point may be made up
SURFACE_SHARE = 0.2  # of depth's own distance, whose scale may be off
FRAME_WEIGHT = (
    0.5  # of an independent observation: what a frame's points say beside their neighbours'
)
STEP_DEG, STEP_MOST = (
    30.0,
    12.0,
)  # a head's turn from frame to frame, and the most that a jump costs


def sight_probabilities(sight: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Compute the probability [...] that each point of the head is visible to the exo camera."""
    return np.clip((1 + sight - hidden) / 2, MIN_PROBABILITY, 1 - MIN_PROBABILITY)


def likelihoods(
    evidence: Evidence,
    ray_errors_m: np.ndarray,  # [T, N, P] of the points from their rays
    sight_probability: np.ndarray,  # [T, N, P] see sight_probabilities
    distance: np.ndarray,  # [T] metres
) -> tuple[np.ndarray, np.ndarray]:
    """Compute for each detected point the likelihoods that it is a real detection and that it is
    false."""
    sigma = np.where(evidence.seen, evidence.sigma, 1.0) * distance[:, None]
    variance = (sigma**2 + BLUR_M**2)[:, None]
    real_probability = sight_probability * (1 - MIN_PROBABILITY)
    seen_points = evidence.seen[evidence.seen.any(1)]
    report_rate = np.clip(
        seen_points.mean() ** 2 if len(seen_points) else 0.5,
        MIN_PROBABILITY,
        1 - MIN_PROBABILITY,
    )  # of hidden points
    return (
        real_probability * np.exp(-(ray_errors_m**2) / (2 * variance)) / (2 * np.pi * variance),
        (1 - real_probability) * report_rate / OUTLINE_M2,
    )


def lean_sigmas_deg(evidence: Evidence) -> np.ndarray:  # [2]
    """Compute the standard deviations of the head's pitch and roll, including the uncertainty of
    the upward direction."""
    return np.hypot(LEAN_SIGMAS_DEG, evidence.up.within_deg / SIGMAS_OF_90_PERCENT)


def habit_weight(has_evidence: np.ndarray, frames: Frames) -> np.ndarray:
    """Weigh frames by their distance in time, since many close frames aren't independent
    observations.

    This is for all that stays the same for a while and would be wrong alike: how a head is
    held, how depth is off, what hides an eye. Errors of detected points are new in every frame
    and need none of this.
    """
    weight = np.zeros(len(has_evidence))
    evidence_frames = np.nonzero(has_evidence)[0]
    if len(evidence_frames) > 1:
        gaps = np.pad(np.diff(frames.times_s.numpy()[evidence_frames]), 1, "edge")
        weight[evidence_frames] = (gaps[1:] + gaps[:-1]) / 2 / HABIT_S
    else:
        weight[evidence_frames] = 1.0
    return np.clip(weight, 1e-3, 1.0) * has_evidence


def search_heads(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Search the best sequence of head rotations on a grid.

    Returns:
        world_from_head [T, 3, 3], and the places [T, 3] between the eyes, world.
    """
    up = evidence.up.direction.numpy()
    least_axis = np.eye(3)[int(np.abs(up).argmin())]
    forward = normalised(least_axis - (least_axis @ up) * up)
    level_axes = np.stack([np.cross(-up, forward), -up, forward], axis=-1)  # of some upright head
    angles: np.ndarray = np.stack(
        np.meshgrid(YAWS_DEG, PITCHES_DEG, ROLLS_DEG, indexing="ij"), -1
    ).reshape(-1, 3)
    turns = (
        level_axes
        @ scipy.spatial.transform.Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    )  # [N, 3, 3] world_from_head
    lean_deviation = (angles[:, 1:] - [NORMAL_GAZE_DEG, 0]) / lean_sigmas_deg(evidence)
    cost, place = _rotation_costs(evidence, turns)
    all_frames = np.full(len(cost), True)
    cost += habit_weight(all_frames, evidence.frames)[:, None] * (lean_deviation**2).sum(1)
    turn_deg = np.degrees(
        2
        * np.arcsin(
            np.clip(np.linalg.norm(turns[:, None] - turns[None], axis=(-2, -1)) / np.sqrt(8), 0, 1)
        )
    )
    step = np.minimum((turn_deg / STEP_DEG) ** 2, STEP_MOST)
    best_rows = _best_sequence(cost, step)
    return turns[best_rows], place[np.arange(len(best_rows)), best_rows]


def _best_sequence(cost: np.ndarray, step_cost: np.ndarray) -> np.ndarray:
    """Find the cheapest sequence of grid rows over time by dynamic programming."""
    total_cost = cost[0]
    previous_rows = []
    for frame_cost in cost[1:]:
        candidate_costs = total_cost[:, None] + step_cost
        previous_row = candidate_costs.argmin(0)
        previous_rows.append(previous_row)
        total_cost = candidate_costs[previous_row, np.arange(len(previous_row))] + frame_cost
    best_rows = [int(total_cost.argmin())]
    for previous_row in reversed(previous_rows):
        best_rows.append(int(previous_row[best_rows[-1]]))
    return np.array(best_rows[::-1])


def _rotation_costs(evidence: Evidence, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the cost [T, N] of every rotation, and the best head position for each [T, N, 3]."""
    point_offsets = (turns @ template_points().T).transpose(
        0, 2, 1
    )  # [N, P, 3] from between the eyes, world
    seen_mask = evidence.seen
    rays = np.where(seen_mask[..., None], evidence.rays, 0.0)
    ray_projection = (
        np.eye(3) - rays[..., :, None] * rays[..., None, :]
    )  # [T, P, 3, 3] across the ray
    # Normal equations of the place: across the rays, and weakly along them where depth or size
    # says.
    head_direction = normalised(rays.sum(1))
    surface_m = row_medians(evidence.surface_m)
    distances = np.where(np.isfinite(surface_m), surface_m, evidence.distance)
    sigma = (
        np.where(np.isfinite(surface_m), SURFACE_SHARE, DISTANCE_SHARE) * distances + HEAD_SURFACE_M
    )
    far_weight = head_direction.any(1) / sigma**2
    sight_probability = sight_probabilities(
        *turned_shares(turns[None], head_direction[:, None, None])
    )
    variance = (evidence.sigma * distances[:, None]) ** 2 + BLUR_M**2
    weight = sight_probability * evidence.scores[:, None] / variance[:, None]
    regularisation = 1e-3
    left_side = (
        np.einsum("tnp,tpij->tnij", weight, ray_projection)
        + (
            far_weight[:, None, None] * head_direction[:, :, None] * head_direction[:, None, :]
            + regularisation * np.eye(3)
        )[:, None]
    )
    right_side = (((far_weight + regularisation) * distances)[:, None] * head_direction)[
        :, None
    ] - np.einsum("tnp,tpij,npj->tni", weight, ray_projection, point_offsets, optimize=True)
    place = np.linalg.solve(left_side, right_side[..., None])[
        ..., 0
    ]  # [T, N, 3] from the exo camera
    points = place[:, :, None] + point_offsets[None]  # [T, N, P, 3]
    off_ray_m = np.linalg.norm(np.einsum("tpij,tnpj->tnpi", ray_projection, points), axis=-1)
    likelihood = np.where(
        seen_mask[:, None],
        sum(likelihoods(evidence, off_ray_m, sight_probability, distances)),
        1 - (1 - MISS_RATE) * sight_probability,
    )
    off_distance = np.einsum("tni,ti->tn", place, head_direction) - distances[:, None]
    cost = (
        far_weight[:, None] * off_distance**2
        - 2 * np.log(likelihood).sum(-1) * np.any(seen_mask, 1)[:, None]
    )
    return FRAME_WEIGHT * cost, place + evidence.exo_centres[:, None]
