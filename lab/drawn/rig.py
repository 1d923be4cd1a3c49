"""Draw cameras and smooth random motion of hands, head and cameras.

A pinhole exo camera sees the hands, and an Aria-like fisheye is on the head. Times are in
seconds."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from egox_core.cameras import CameraModel, look_at
from egox_core.frozen import frozen
from egox_core.sizes import REFERENCE_SIZE

from .parts import Part
from .solids import distance, intersect

EGO_CAMERA = CameraModel(
    lens="aria_fisheye",
    width=REFERENCE_SIZE,
    height=REFERENCE_SIZE,
    fx=211.0,
    fy=211.0,
    cx=225.0,
    cy=228.0,
    max_angle_deg=89.0,
    quarter_turns=1,
)
"""Near the preset ``aria_released``, but not tied to it: ground truth must not move when the preset
is fitted anew."""
WORLD_UP = (0.0, 0.0, 1.0)
FLOOR_MARGIN_M = 0.05
WALL_MARGIN_M = 0.2
CLEARANCE_M = 0.35  # around a camera that is carried
HAND_SHAKE_SIZE = (0.012, 0.9)  # metres, degrees: of the hand that carries it
HAND_SHAKE_PERIODS = {"slowest_s": 2.5, "fastest_s": 0.35}
STEP_HEIGHT_M, STEPS_PER_SECOND = 0.015, 1.8


def smooth_motion(
    rng: np.random.Generator,
    times_s: np.ndarray,  # [T]
    *,
    size: float,
    slowest_s: float = 4.0,
    fastest_s: float = 1.2,
) -> np.ndarray:  # [T]
    """Draw a smooth random motion over time, zero on average."""
    motion = np.zeros_like(times_s)
    for _ in range(4):
        period_s = rng.uniform(fastest_s, slowest_s)
        motion += rng.normal() * np.sin(2 * np.pi * times_s / period_s + rng.uniform(0, 2 * np.pi))
    return motion * size / np.sqrt(2.0)


@frozen
class CameraRegion:
    """Region in which an exo camera may be placed, and its angle of view."""

    far_m: tuple[float, float]  # from what it looks at, along the floor
    above: Literal["floor", "target", "ceiling"]
    height_m: tuple[float, float]  # over that
    view_deg: tuple[float, float] = (56, 70)


CAMERA_REGIONS = {
    "usual": CameraRegion(far_m=(1.6, 2.7), above="target", height_m=(0.45, 1.1)),
    "low": CameraRegion(far_m=(0.9, 2.5), above="floor", height_m=(0.08, 0.5), view_deg=(60, 80)),
    "overhead": CameraRegion(
        far_m=(0.0, 0.25), above="target", height_m=(0.9, 1.4), view_deg=(50, 80)
    ),
    "ceiling": CameraRegion(
        far_m=(0.0, 1.2), above="ceiling", height_m=(-0.4, -0.21), view_deg=(80, 100)
    ),
}


def minimum_jerk(
    time_share: np.ndarray,  # [T] 0...1 of the time
) -> np.ndarray:  # [T] 0...1 of the way
    """Compute the smooth profile of a reaching hand from 0 to 1."""
    x = np.clip(time_share, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)


def reach_path(
    times_s: np.ndarray,  # [T]
    stops: np.ndarray,  # [K, 3] metres
    *,
    # Seconds of one move and one rest.
    period_s: float,
    offset_s: float,
    lift_m: float,
) -> np.ndarray:  # [T, 3] metres
    """Compute the path of a hand that moves from stop to stop in a loop."""
    stop_phase = (times_s + offset_s) / period_s
    stop_index = np.floor(stop_phase).astype(int)
    reach_share = minimum_jerk(
        (stop_phase - stop_index) / 0.7
    )  # it rests for the rest of the period
    begin_position, end_position = (
        stops[stop_index % len(stops)],
        stops[(stop_index + 1) % len(stops)],
    )
    path = begin_position + reach_share[:, None] * (end_position - begin_position)
    path[:, 2] += lift_m * np.sin(np.pi * reach_share) ** 2
    return path


def ego_camera(size: int) -> CameraModel:
    """Build the ego camera for a picture of ``size`` x ``size`` px."""
    return EGO_CAMERA.rescale(size, size)


def handheld(
    rng: np.random.Generator,
    camera_from_room: np.ndarray,  # [3, 4]
    target: np.ndarray,  # [3]
    times_s: np.ndarray,  # [T]
    *,
    # One of SyntheticSpec.exo_path.
    path: str,
    size_m: float,
    turn_deg: float,
    # Its corners [3], metres.
    room: tuple[np.ndarray, np.ndarray],
    parts: Iterable[Part],
) -> np.ndarray:  # [T, 3, 4]
    """Move an exo camera as if a person carried or turned it.

    Of several random paths the one farthest from obstacles is used."""
    shake_size = {"shake": (size_m, turn_deg), "pan": (size_m, 0.0)}.get(path, HAND_SHAKE_SIZE)
    hand_m, hand_motion = (
        np.stack(
            [smooth_motion(rng, times_s, size=s * 3**-0.5, **HAND_SHAKE_PERIODS) for _ in range(3)],
            -1,
        )
        for s in (shake_size[0], np.radians(shake_size[1]))
    )
    time_share = (times_s - times_s[0]) / max(times_s[-1] - times_s[0], 1e-9)
    time_share = (
        0.5 * (time_share + minimum_jerk(time_share))[:, None]
    )  # of the way: never quite at rest
    start_rotation = camera_from_room[:, :3]
    start_position = -camera_from_room[:, :3].T @ camera_from_room[:, 3]
    parts, direction_sign, candidate_paths = _furniture(parts), rng.choice((-1.0, 1.0)), []
    turn_angle = np.radians(turn_deg) if path in ("pan", "walk-around") else 0.0
    for start_share in (0.5, 0.0, 1.0):  # of the way: where the standing camera is
        for side in (direction_sign, -direction_sign):
            rotation_about_z = Rotation.from_euler(
                "z", side * turn_angle * (time_share - start_share)
            ).as_matrix()
            camera_position = start_position
            if path == "walk-around":
                camera_position = target + (rotation_about_z @ (start_position - target))
                camera_position[:, 2] += STEP_HEIGHT_M * np.cos(
                    2 * np.pi * STEPS_PER_SECOND * times_s
                )
            elif path == "dolly":
                walk_direction = side * 0.85 * start_rotation[0] + 0.5 * start_rotation[2]
                walk_direction[2] = 0.0
                camera_position = start_position + (time_share - start_share) * (
                    size_m * walk_direction / np.linalg.norm(walk_direction)
                )
            candidate_paths.append(
                (camera_position + hand_m, start_rotation @ rotation_about_z.transpose(0, 2, 1))
            )
    camera_position, rotation = max(
        candidate_paths, key=lambda way: _clearance_m(parts, way[0][::8], *room)
    )
    rotation = Rotation.from_rotvec(hand_motion).as_matrix() @ rotation
    return np.concatenate([rotation, -(rotation @ camera_position[..., None])], axis=-1)


def _clearance_m(
    parts: list[Part], positions: np.ndarray, low: np.ndarray, high: np.ndarray
) -> float:
    """Measure the distance from camera positions to the nearest wall or furniture."""
    wall_distance_m = min((positions - low).min(), (high - positions)[:, :2].min())
    return min(
        CLEARANCE_M,
        wall_distance_m,
        *(_nearest_distance(parts, camera_position) for camera_position in positions),
    )


def draw_exo(
    rng: np.random.Generator,
    width: int,
    height: int,
    *,
    low: Iterable[float],
    high: Iterable[float],
    parts: Iterable[Part],
    target: np.ndarray,  # [3] looked at
    landmarks: np.ndarray,  # [N, 3] that the camera should see
    heading: float,
    # Angles off the heading, to either side.
    azimuths_deg: tuple[float, float] = (35, 125),
    # One of SyntheticSpec.exo_place.
    place: str = "usual",
    # Distances from the target, along the floor, in place of the seat's.
    far_m: tuple[float, float] | None = None,
    # Standard deviation of its tilt.
    roll_deg: float = 1.5,
) -> tuple[CameraModel, np.ndarray]:  # pinhole, exo_from_room [3, 4]
    """Place an exo camera inside the room with a free view of the head and the hands.

    Of up to 60 draws the first is taken from which nothing hides a landmark, else the one that sees
    most."""
    parts, camera_region = _furniture(parts), CAMERA_REGIONS[place]
    low, high = np.asarray(list(low)), np.asarray(list(high))
    ground_height = {"floor": low[2], "target": target[2], "ceiling": high[2]}[camera_region.above]
    wall_margins = np.array([WALL_MARGIN_M, WALL_MARGIN_M, FLOOR_MARGIN_M])
    best_camera: tuple[int, CameraModel, np.ndarray] | None = None
    for _ in range(60):
        azimuth_rad = heading + rng.choice((-1.0, 1.0)) * np.radians(rng.uniform(*azimuths_deg))
        camera_distance = rng.uniform(*(far_m or camera_region.far_m))
        camera_position = target + camera_distance * np.array(
            [-np.sin(azimuth_rad), np.cos(azimuth_rad), 0.0]
        )
        camera_position[2] = min(
            ground_height + rng.uniform(*camera_region.height_m), high[2] - 1.05 * WALL_MARGIN_M
        )
        aim_point = target + rng.normal(size=3) * np.array([0.08, 0.08, 0.05])
        pose = look_at(
            camera_position, aim_point, WORLD_UP, roll_deg=rng.normal() * roll_deg
        ).numpy()
        focal_px = (
            0.5 * max(width, height) / np.tan(np.radians(rng.uniform(*camera_region.view_deg)) / 2)
        )
        if (camera_position < low + wall_margins).any() or (
            camera_position > high - WALL_MARGIN_M
        ).any():
            continue
        if _nearest_distance(parts, camera_position) < 0.35:
            continue
        # Where the released rule for take files puts the centre.
        camera = CameraModel.pinhole(width, height, float(focal_px))
        camera = replace(camera, cx=width / 2, cy=height / 2)
        visible_count = sum(
            _is_unobstructed(parts, camera_position, point) and _is_in_picture(camera, pose, point)
            for point in landmarks
        )
        if best_camera is None or visible_count > best_camera[0]:
            best_camera = (visible_count, camera, pose)
        if visible_count == len(landmarks):
            break
    if best_camera is None:
        raise RuntimeError("no place for the exo camera in the drawn room")
    return best_camera[1], best_camera[2]


def _furniture(parts: Iterable[Part]) -> list[Part]:
    return [part for part in parts if part.group == "furniture"]


def _to_part_frame(part: Part, points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((points - part.pose[:, 3]) @ part.pose[:, :3])


def _nearest_distance(parts: list[Part], eye: np.ndarray) -> float:
    distances = (distance(part.kind, part.size, _to_part_frame(part, eye[None])) for part in parts)
    return min(map(float, distances), default=np.inf)


def _is_unobstructed(parts: list[Part], eye: np.ndarray, point: np.ndarray) -> bool:
    """Check that no furniture hides a point from the camera."""
    point_distance = float(np.linalg.norm(point - eye))
    ray = (point - eye) / point_distance
    for part in parts:
        rays = torch.from_numpy((ray @ part.pose[:, :3])[None])
        if (
            float(intersect(part.kind, part.size, _to_part_frame(part, eye), rays)[0])
            < point_distance
        ):
            return False
    return True


def _is_in_picture(camera: CameraModel, pose: np.ndarray, point: np.ndarray) -> bool:
    """Check that a point is inside the camera's picture and not near its border."""
    x, y, z = pose[:, :3] @ point + pose[:, 3]
    if z <= 0.1:
        return False
    u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
    return (
        0.08 * camera.width < u < 0.92 * camera.width
        and 0.08 * camera.height < v < 0.92 * camera.height
    )
