"""Find the up direction and the metric scale of a reconstruction."""

import numpy as np

from egox_core.frozen import frozen

STANDING_EYES_M = 1.6
FLOOR_SD = 0.03
"""Share: the floor under a standing wearer's eyes, by the highest places of the path."""
LEVEL_TOLERANCE = 0.01
"""Mean square by which the cameras' x axes may leave one plane, for the plane to be level."""
MOST_TILT_RAD = np.radians(25)
FLOOR_THICKNESS = 0.025  # of the depth under the eyes, by which points of the floor are off it
MOST_SHARE_BELOW = 0.06
"""Of the points, how many may be below the floor: what was triangulated wrongly."""


@frozen
class Scale:
    """Up direction of a reconstruction, and the factor from its units to metres."""

    metres_per_unit: float | None
    sd: float  # share
    up: np.ndarray  # [3] unit
    how_found: str


def find_head_up(x_axes: np.ndarray, y_axes: np.ndarray) -> np.ndarray:  # each [N, 3], world -> [3]
    """Find the up direction from a head camera's axes, because heads seldom roll."""
    eigenvalues, eigenvectors = np.linalg.eigh(x_axes.T @ x_axes / len(x_axes))
    mean_up = -y_axes.mean(axis=0)
    mean_up /= np.linalg.norm(mean_up)
    up_direction = eigenvectors[:, 0] * np.sign(eigenvectors[:, 0] @ mean_up)
    # Of a head that never turned to a side, all x axes are one.
    is_known = eigenvalues[1] > 0.03 and eigenvalues[0] < max(LEVEL_TOLERANCE, 0.2 * eigenvalues[1])
    return up_direction if is_known else mean_up


def floor_scale(
    points: np.ndarray,  # [P, 3]
    centres: np.ndarray,  # [N, 3] of the head camera
    up: np.ndarray,
    eyes_m: float = STANDING_EYES_M,
    seed: int = 0,
) -> Scale:
    """Find the floor below the head camera's path, and derive the metric scale from the height of
    the eyes."""
    eye_height = float(np.quantile(centres @ up, 0.9))
    points_below = points[points @ up < np.quantile(centres @ up, 0.1)]
    unknown_scale = Scale(
        metres_per_unit=None, sd=1.0, up=up, how_found="not known: no floor was found"
    )
    if len(points_below) < 100:
        return unknown_scale
    depth_below_eyes = eye_height - points_below @ up
    depth_extent = float(np.quantile(depth_below_eyes, 1 - MOST_SHARE_BELOW / 2))
    floor_tolerance = FLOOR_THICKNESS * depth_extent
    random_generator = np.random.default_rng(seed)
    best_plane = (0.0, up, 0.0)
    for _ in range(2000):
        a, b, c = points_below[random_generator.choice(len(points_below), 3, replace=False)]
        plane_normal = np.cross(b - a, c - a)
        normal_length = np.linalg.norm(plane_normal)
        if normal_length < 1e-9:
            continue
        plane_normal *= np.sign(plane_normal @ up) / normal_length
        if plane_normal @ up < np.cos(MOST_TILT_RAD):
            continue
        point_heights = points_below @ plane_normal
        floor_height = float(a @ plane_normal)
        is_on_floor = np.abs(point_heights - floor_height) < floor_tolerance
        share_below = float((point_heights < floor_height - 4 * floor_tolerance).mean())
        # A table has the floor's points under it.
        plane_score = float(is_on_floor.mean()) * max(0.0, 1 - share_below / MOST_SHARE_BELOW)
        if plane_score > best_plane[0]:
            best_plane = plane_score, plane_normal, floor_height
    plane_score, plane_normal, floor_height = best_plane
    if plane_score < 0.05:
        return unknown_scale
    floor_points = points_below[
        np.abs(points_below @ plane_normal - floor_height) < floor_tolerance
    ]
    mean_point = floor_points.mean(axis=0)
    refined_normal = np.linalg.svd(floor_points - mean_point, full_matrices=False)[2][2]
    refined_normal *= np.sign(refined_normal @ plane_normal)
    head_height = float(np.quantile(centres @ refined_normal, 0.9) - mean_point @ refined_normal)
    return Scale(
        metres_per_unit=eyes_m / head_height,
        sd=FLOOR_SD,
        up=refined_normal,
        how_found=(
            f"floor {eyes_m:g} m under the eyes ({len(floor_points)} of {len(points_below)} points)"
        ),
    )


def similarity(
    source: np.ndarray,  # [N, 3]
    target: np.ndarray,  # [N, 3]
) -> tuple[float, np.ndarray, np.ndarray]:  # scale, [3, 3], [3]
    """Fit the similarity target = scale · rotation · source + shift to point pairs (Umeyama)."""
    centred_source, centred_target = source - source.mean(0), target - target.mean(0)
    left_vectors, singular_values, right_vectors = np.linalg.svd(centred_target.T @ centred_source)
    sign_matrix = np.diag([1.0, 1.0, np.sign(np.linalg.det(left_vectors @ right_vectors))])
    rotation = left_vectors @ sign_matrix @ right_vectors
    scale = float((singular_values * np.diag(sign_matrix)).sum() / (centred_source**2).sum())
    return scale, rotation, target.mean(0) - scale * rotation @ source.mean(0)


def robust_similarity(
    source: np.ndarray,  # [N, 3]
    target: np.ndarray,  # [N, 3]
) -> tuple[float, np.ndarray, np.ndarray]:  # scale, [3, 3], [3]
    """Fit a similarity transform to point pairs with outliers."""
    centre_distances = np.linalg.norm(source - np.median(source, axis=0), axis=1)
    inlier_mask = centre_distances <= np.median(centre_distances)
    for _ in range(5):
        scale, rotation, translation = similarity(source[inlier_mask], target[inlier_mask])
        point_errors = np.linalg.norm(scale * source @ rotation.T + translation - target, axis=1)
        inlier_mask = point_errors <= np.median(point_errors)
    return scale, rotation, translation
