"""Draw persons who lie, bend or climb, and the furniture that supports them.

Body frame of ``person.py``: hips above the origin, facing +y, z up, metres."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from egox_core.frozen import frozen

from .furniture import pick_colour
from .palettes import THINGS, WOODS
from .parts import Part, ball, box, place_parts
from .person import Person
from .workspace import Workspace

HIP_POSITION = np.array([0.0, 0.0, 0.92])
LEG_PART_NAMES = ("hips", "thigh", "shin", "shoe")
HALF_TRUNK_THICKNESS_M = 0.14  # half of a trunk, with clothes
PROMPTS = {
    "lying": "lies, lifting both hands",
    "bent": "bends over, both hands near the floor",
    "climbing": "hangs on a climbing wall, both hands on its holds",
}


@frozen
class Posture:
    """Drawn posture of a person, in the body frame, metres."""

    parts: tuple[Part, ...]  # what carries the body
    body_from_trunk: np.ndarray  # [3, 4], of the figure as it stands
    body_from_legs: np.ndarray  # [3, 4]
    target: np.ndarray  # [3] what an exo camera looks at


def draw_posture(rng: np.random.Generator, kind: str, ceiling_m: float) -> Posture:
    """Draw a posture (``lying``, ``bent`` or ``climbing``) and the furniture that supports the
    body."""
    return {"lying": _draw_lying, "bent": _draw_bent, "climbing": _draw_climbing}[kind](
        rng, ceiling_m
    )


def _draw_lying(rng: np.random.Generator, _ceiling_m: float) -> Posture:
    """Draw a person lying on the back or a side, on a mat or a bed, with the head in any
    direction."""
    bed_height, yaw_rad, side_angle_deg = (
        rng.uniform(0.06, 0.6),
        rng.uniform(-np.pi, np.pi),
        rng.uniform(-100, 100),
    )
    body_rotation = Rotation.from_euler(
        "ZXZ", [np.degrees(yaw_rad), 90, side_angle_deg], degrees=True
    ).as_matrix()
    hip_position = body_rotation @ np.array([0.0, 0.0, 0.05]) + np.array(
        [0.0, 0.3, bed_height + HALF_TRUNK_THICKNESS_M]
    )
    pose = np.column_stack((body_rotation, hip_position - body_rotation @ HIP_POSITION))
    bed_part = box(
        "bed",
        (1.1, 2.1, bed_height),
        (0.0, 0.0, bed_height / 2),
        pick_colour(rng, THINGS),
        "fabric",
    )
    return Posture(
        parts=tuple(place_parts([bed_part], yaw_rad, (0.0, 0.3, 0.0))),
        body_from_trunk=pose,
        body_from_legs=pose,
        target=np.array([0.0, 0.3, bed_height + 0.25]),
    )


def _draw_bent(rng: np.random.Generator, _ceiling_m: float) -> Posture:
    """Draw a person who bends forward from the hips over a box on the floor."""
    trunk_rotation = Rotation.from_euler("x", -rng.uniform(45, 85), degrees=True).as_matrix()
    height = rng.uniform(0.1, 0.3)
    crate_part = box(
        "crate", (0.5, 0.35, height), (0, 0.85, height / 2), pick_colour(rng, WOODS), "wood"
    )
    return Posture(
        parts=(crate_part,),
        body_from_trunk=np.column_stack(
            (trunk_rotation, HIP_POSITION - trunk_rotation @ HIP_POSITION)
        ),
        body_from_legs=np.eye(3, 4),
        target=np.array([0.0, 0.5, 0.8]),
    )


def _draw_climbing(rng: np.random.Generator, ceiling_m: float) -> Posture:
    """Draw a person who climbs a wall with holds, above the floor."""
    lift_pose = np.eye(3, 4)
    lift_pose[2, 3] = rng.uniform(0.15, ceiling_m - 1.95)
    wall_part = box(
        "wall", (2.2, 0.1, ceiling_m), (0, 0.62, ceiling_m / 2), pick_colour(rng, WOODS), "wood"
    )
    hold_positions = zip(rng.uniform(-1, 1, 14), rng.uniform(0.2, ceiling_m - 0.2, 14), strict=True)
    hold_parts = [
        ball(
            "hold",
            rng.uniform(0.03, 0.07),
            (x, 0.56, z),
            pick_colour(rng, THINGS),
            "paint",
            "furniture",
        )
        for x, z in hold_positions
    ]
    return Posture(
        parts=(wall_part, *hold_parts),
        body_from_trunk=lift_pose,
        body_from_legs=lift_pose,
        target=np.array([0.0, 0.2, 1.2 + lift_pose[2, 3]]),
    )


def workspace_for_posture(rng: np.random.Generator, workspace: Workspace, kind: str) -> Workspace:
    """Change a standing person's workspace to one without a table, as a posture requires."""
    height = rng.uniform(1.7, 2.2) if kind == "climbing" else rng.uniform(0.75, 1.1)
    height_offset = np.array([0.0, 0.0, height - workspace.table_height])
    return replace(
        workspace,
        seated=False,
        parts=(),
        objects=(),
        table_height=height,
        right_stops=workspace.right_stops + height_offset,
        left_stops=workspace.left_stops + height_offset,
    )


def apply_posture(person: Person, posture: Posture) -> Person:
    """Turn the standing figure into a posture."""
    trunk_rotation, trunk_shift = posture.body_from_trunk[:, :3], posture.body_from_trunk[:, 3]

    def moved(points: np.ndarray) -> np.ndarray:  # [..., 3]
        return points @ trunk_rotation.T + trunk_shift

    def turned(pose: np.ndarray, by: np.ndarray) -> np.ndarray:  # [..., 3, 4], [3, 4]
        rotation, centre = by[:, :3] @ pose[..., :3], pose[..., 3] @ by[:, :3].T + by[:, 3]
        return np.concatenate([rotation, centre[..., None]], axis=-1)

    rotation = person.ego_from_body[..., :3] @ trunk_rotation.T
    centre = person.ego_from_body[..., 3] - rotation @ trunk_shift
    turned_parts = tuple(
        replace(
            part,
            pose=turned(
                part.pose,
                posture.body_from_legs if part.name in LEG_PART_NAMES else posture.body_from_trunk,
            ),
        )
        for part in person.parts
    )
    return replace(
        person,
        parts=turned_parts,
        ego_from_body=np.concatenate([rotation, centre[..., None]], axis=-1),
        landmarks=moved(person.landmarks),
        body_from_eyes=turned(person.body_from_eyes, posture.body_from_trunk),
        marks={name: moved(points) for name, points in person.marks.items()},
        hands=moved(person.hands),
    )
