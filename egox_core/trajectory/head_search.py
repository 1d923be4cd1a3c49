"""A first answer: all ways in which a head can look are tried in every frame, and the best way through time is taken.

A few points fit several heads (an ear from the front or from behind, a left one that is called right); which of them
is right shows over time. The fit (:mod:`.head_fit`) starts here and stays near.
"""

import numpy as np
import scipy

from ..frames import Frames
from .head_evidence import HEAD_SURFACE_M, Evidence
from .head_template import (
    NORMAL_GAZE_DEG,
    row_medians,
    template_points,
    turned_shares,
    unit,
)

YAWS_DEG = np.arange(0, 360, 15)
PITCHES_DEG = np.arange(-60, 31, 15)
ROLLS_DEG = np.array([-20, 0, 20])
LEAN_SIGMAS_DEG = (20.0, 12.0)
"""Spread of heads' pitch and roll: judged, wide enough for all that people do standing or sitting."""
WITHIN = 2.15
"""Standard deviations of an error in two directions within which nine of ten are."""
HABIT_S = 1.0
"""Time over which a head's habit changes: within it frames repeat each other and count once."""
DISTANCE_SHARE = 0.3  # of a distance that is told by size alone
MISSED = 0.12  # share of points in sight that detectors don't report
DOUBT = 0.03  # of a point's being in sight, or hidden, by a pose
BLUR_M = 0.015  # by which a grid of 15 degrees moves points, and detectors all through a clip
OUTLINE_M2 = 0.04  # of a head in the picture, anywhere on which a hidden point may be made up
SURFACE_SHARE = 0.2  # of depth's own distance, whose scale may be off
REPEAT = 0.5  # of an independent observation: what a frame's points say beside their neighbours'
STEP_DEG, STEP_MOST = (
    30.0,
    12.0,
)  # a head's turn from frame to frame, and the most that a jump costs


def in_sight(sight: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Compute the chance [...] of each point of being in sight."""
    return np.clip((1 + sight - hidden) / 2, DOUBT, 1 - DOUBT)


def likelihoods(
    evidence: Evidence,
    off_m: np.ndarray,  # [T, N, P] of the points from their rays
    share: np.ndarray,  # [T, N, P] see in_sight
    distance: np.ndarray,  # [T] metres
) -> tuple[np.ndarray, np.ndarray]:
    """Rate points [T, N, P] that are reported, per square metre: each is where it is seen, or each
    is made up."""
    sigma = np.where(evidence.seen, evidence.sigma, 1.0) * distance[:, None]
    variance = (sigma**2 + BLUR_M**2)[:, None]
    honest = share * (1 - DOUBT)
    seen_points = evidence.seen[evidence.seen.any(1)]
    reported = np.clip(
        seen_points.mean() ** 2 if len(seen_points) else 0.5, DOUBT, 1 - DOUBT
    )  # of hidden points
    return (
        honest * np.exp(-(off_m**2) / (2 * variance)) / (2 * np.pi * variance),
        (1 - honest) * reported / OUTLINE_M2,
    )


def lean_sigmas_deg(evidence: Evidence) -> np.ndarray:  # [2]
    """Spread of pitch and roll against what is taken to be upwards."""
    return np.hypot(LEAN_SIGMAS_DEG, evidence.up.within_deg / WITHIN)


def habit_weight(telling: np.ndarray, frames: Frames) -> np.ndarray:
    """Weigh frames [T] as shares of an independent observation, by the time to their neighbours
    among those that tell something ([T] bool).

    This is for all that stays the same for a while and would be wrong alike: how a head is
    held, how depth is off, what hides an eye. Errors of detected points are new in every frame
    and need none of this.
    """
    weight, moments = np.zeros(len(telling)), np.nonzero(telling)[0]
    if len(moments) > 1:
        gaps = np.pad(np.diff(frames.times_s.numpy()[moments]), 1, "edge")
        weight[moments] = (gaps[1:] + gaps[:-1]) / 2 / HABIT_S
    else:
        weight[moments] = 1.0
    return np.clip(weight, 1e-3, 1.0) * telling


def search(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Find the best way through time over a grid of rotations.

    Returns:
        world_from_head [T, 3, 3], and the places [T, 3] between the eyes, world.
    """
    up = evidence.up.direction.numpy()
    helper = np.eye(3)[int(np.abs(up).argmin())]
    forward = unit(helper - (helper @ up) * up)
    level = np.stack([np.cross(-up, forward), -up, forward], axis=-1)  # of some upright head
    angles: np.ndarray = np.stack(
        np.meshgrid(YAWS_DEG, PITCHES_DEG, ROLLS_DEG, indexing="ij"), -1
    ).reshape(-1, 3)
    turns = (
        level @ scipy.spatial.transform.Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    )  # [N, 3, 3] world_from_head
    lean = (angles[:, 1:] - [NORMAL_GAZE_DEG, 0]) / lean_sigmas_deg(evidence)
    cost, place = _costs(evidence, turns)
    all_frames = np.full(len(cost), True)
    cost += habit_weight(all_frames, evidence.frames)[:, None] * (lean**2).sum(1)
    turn_deg = np.degrees(
        2
        * np.arcsin(
            np.clip(np.linalg.norm(turns[:, None] - turns[None], axis=(-2, -1)) / np.sqrt(8), 0, 1)
        )
    )
    step = np.minimum((turn_deg / STEP_DEG) ** 2, STEP_MOST)
    way = _best_way(cost, step)
    return turns[way], place[np.arange(len(way)), way]


def _best_way(cost: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Find the rows [T] of least cost [T, N] and of least steps between them [N, N]."""
    total, origins = cost[0], []
    for own_cost in cost[1:]:
        sums = total[:, None] + step
        origin = sums.argmin(0)
        origins.append(origin)
        total = sums[origin, np.arange(len(origin))] + own_cost
    way = [int(total.argmin())]
    for origin in reversed(origins):
        way.append(int(origin[way[-1]]))
    return np.array(way[::-1])


def _costs(evidence: Evidence, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the cost [T, N] of every rotation, and the best place of each [T, N, 3]."""
    arms = (turns @ template_points().T).transpose(
        0, 2, 1
    )  # [N, P, 3] from between the eyes, world
    seen_mask = evidence.seen
    rays = np.where(seen_mask[..., None], evidence.rays, 0.0)
    flat = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # [T, P, 3, 3] across the ray
    # Normal equations of the place: across the rays, and weakly along them where depth or size says.
    toward, surface_m = unit(rays.sum(1)), row_medians(evidence.reach)
    distances = np.where(np.isfinite(surface_m), surface_m, evidence.distance)
    sigma = (
        np.where(np.isfinite(surface_m), SURFACE_SHARE, DISTANCE_SHARE) * distances + HEAD_SURFACE_M
    )
    far_weight = toward.any(1) / sigma**2
    share = in_sight(*turned_shares(turns[None], toward[:, None, None]))
    variance = (evidence.sigma * distances[:, None]) ** 2 + BLUR_M**2
    weight = share * evidence.scores[:, None] / variance[:, None]
    weak = 1e-3
    left = (
        np.einsum("tnp,tpij->tnij", weight, flat)
        + (far_weight[:, None, None] * toward[:, :, None] * toward[:, None, :] + weak * np.eye(3))[
            :, None
        ]
    )
    right = (((far_weight + weak) * distances)[:, None] * toward)[:, None] - np.einsum(
        "tnp,tpij,npj->tni", weight, flat, arms, optimize=True
    )
    place = np.linalg.solve(left, right[..., None])[..., 0]  # [T, N, 3] from the exo camera
    at = place[:, :, None] + arms[None]  # [T, N, P, 3]
    off_ray_m = np.linalg.norm(np.einsum("tpij,tnpj->tnpi", flat, at), axis=-1)
    likelihood = np.where(
        seen_mask[:, None],
        sum(likelihoods(evidence, off_ray_m, share, distances)),
        1 - (1 - MISSED) * share,
    )
    off_distance = np.einsum("tni,ti->tn", place, toward) - distances[:, None]
    cost = (
        far_weight[:, None] * off_distance**2
        - 2 * np.log(likelihood).sum(-1) * np.any(seen_mask, 1)[:, None]
    )
    return REPEAT * cost, place + evidence.origin[:, None]
