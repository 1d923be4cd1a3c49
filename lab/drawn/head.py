"""Define the shape of heads, the points that detectors find, and the position of the ego camera.

Drawn frame of a head: x to the wearer's right, y forward, z up, origin in the middle of the skull;
metres."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from egox_core.frozen import frozen

from .palettes import Colour
from .parts import Part, capsule

# The shape that is drawn where nothing else is asked for; its skull is a ball, broader than a
# person's.
DEFAULT_MARKS: Mapping[str, tuple[float, float, float]] = {
    "right_eye": (0.032, 0.0926, 0.0),
    "left_eye": (-0.032, 0.0926, 0.0),
    "right_ear": (0.112, -0.01, -0.015),
    "left_ear": (-0.112, -0.01, -0.015),
    "nose": (0.0, 0.120, -0.02),
}
DEFAULT_MOUNT = (-0.055, 0.105, 0.02)

# Drawn persons have the skull of the medium headform of ISO/TS 16976-2 (length 197, breadth 153
# mm).
SKULL_RADIUS, SKULL_HALF_LENGTH = 0.0765, 0.022
SKULL_POSITION = (0.0, -0.012, 0.032)
MOUNT_FROM_EYES = (-0.056, 0.013, 0.0075)
MOUNT_PITCH_DEG = -7.5
SIZE_SPAN, LENGTH_SPAN = 0.08, 0.05  # shares by which persons differ, each way
MOUNT_SPAN_M, MOUNT_SPAN_DEG = 0.004, 1.5


@frozen
class HeadForm:
    """Shape of one person's head, and the place of the ego camera on it."""

    marks: Mapping[str, tuple[float, float, float]]  # eyes, ears, nose
    mount: tuple[float, float, float]  # of the ego camera
    mount_pitch_deg: float  # upwards
    size: float = 1.0  # of the drawn parts
    drawn: bool = False  # as one of many people; else the usual figure

    @property
    def eyes(self) -> np.ndarray:  # [3]
        """Point between the eyes, in the head's frame."""
        return (np.array(self.marks["right_eye"]) + np.array(self.marks["left_eye"])) / 2


DEFAULT_HEAD = HeadForm(marks=DEFAULT_MARKS, mount=DEFAULT_MOUNT, mount_pitch_deg=0.0)


def draw_head(rng: np.random.Generator, wearer: str) -> HeadForm:
    """Draw the random shape of a person's head, and how the glasses sit on it."""
    if wearer == "usual":
        return DEFAULT_HEAD
    size = 1 + rng.uniform(-SIZE_SPAN, SIZE_SPAN)

    def varied_length(length: float) -> float:
        return size * length * (1 + rng.uniform(-LENGTH_SPAN, LENGTH_SPAN))

    # Lengths as the headform has them (nose 21 mm before the lip), eyes and ears where the
    # drawing's surfaces are; 94 % of the head's breadth are between the ears.
    eye_offset, eye_forward = varied_length(0.0315), varied_length(0.0785)
    ear_offset, ear_back, ear_down = (
        varied_length(0.0718),
        varied_length(0.006),
        varied_length(0.0135),
    )  # the tragus; down from the eyes
    nose_offset, nose_down = varied_length(0.0415), varied_length(0.035)
    head_marks = {
        "right_eye": (eye_offset, eye_forward, 0.0),
        "left_eye": (-eye_offset, eye_forward, 0.0),
        "right_ear": (ear_offset, -ear_back, -ear_down),
        "left_ear": (-ear_offset, -ear_back, -ear_down),
        "nose": (0.0, eye_forward + nose_offset, -nose_down),
    }
    mount_position = (
        np.array([0.0, eye_forward, 0.0])
        + np.array(MOUNT_FROM_EYES)
        + rng.uniform(-MOUNT_SPAN_M, MOUNT_SPAN_M, 3)
    )
    mount_pitch_deg = MOUNT_PITCH_DEG + rng.uniform(-MOUNT_SPAN_DEG, MOUNT_SPAN_DEG)
    return HeadForm(
        marks=head_marks,
        mount=(float(mount_position[0]), float(mount_position[1]), float(mount_position[2])),
        mount_pitch_deg=float(mount_pitch_deg),
        size=float(size),
        drawn=True,
    )


def head_point(
    pose: np.ndarray,  # [T, 3, 4] body_from_head
    x: float,
    y: float,
    z: float,
) -> np.ndarray:  # [T, 3]
    """Transform a point from the head's frame to the body's frame."""
    return pose[..., 3] + pose[..., :3] @ np.array([x, y, z])


def drawn_head_parts(
    form: HeadForm,
    pose: np.ndarray,  # [T, 3, 4] body_from_head, columns right, forward, up
    chest: np.ndarray,  # [T, 3]
    skin: Colour,
    hair: Colour,
) -> list[Part]:
    """Build the solids of a person's head and neck."""
    s, position_on_head = form.size, partial(head_point, pose)
    dark_colour: Colour = (0.12, 0.12, 0.14)
    x, y, z = (s * value for value in SKULL_POSITION)
    nose_point, ear_point = form.marks["nose"], form.marks["right_ear"]
    eye_point = form.marks["right_eye"]
    glasses_y = eye_point[1] + 0.012
    head_parts = [
        capsule(
            "head",
            s * SKULL_RADIUS,
            position_on_head(x, y - s * SKULL_HALF_LENGTH, z),
            position_on_head(x, y + s * SKULL_HALF_LENGTH, z),
            skin,
            "skin",
            "head",
        ),
        capsule(
            "jaw",
            0.052 * s,
            position_on_head(0, 0.012 * s, -0.045 * s),
            position_on_head(0, 0.032 * s, -0.075 * s),
            skin,
            "skin",
            "head",
        ),
        capsule(
            "hair",
            1.06 * s * SKULL_RADIUS,
            position_on_head(x, y - 1.6 * s * SKULL_HALF_LENGTH, z + 0.012 * s),
            position_on_head(x, y - 0.2 * s * SKULL_HALF_LENGTH, z + 0.016 * s),
            hair,
            "fabric",
            "head",
        ),
        capsule(
            "nose",
            0.011 * s,
            position_on_head(0, nose_point[1] - 0.011 * s, nose_point[2]),
            position_on_head(0, eye_point[1] - 0.002, -0.002),
            skin,
            "skin",
            "head",
        ),
        capsule(
            "neck",
            0.055,
            chest + np.array([0.0, 0.0, -0.02]),
            position_on_head(0, -0.02, -0.06),
            skin,
            "skin",
            "head",
        ),
        capsule(
            "glasses",
            0.006,
            position_on_head(-0.066 * s, glasses_y, 0.014),
            position_on_head(0.066 * s, glasses_y, 0.014),
            dark_colour,
            "paint",
            "head",
        ),
    ]
    for side in (-1, 1):
        head_parts.append(
            capsule(
                "glasses arm",
                0.004,
                position_on_head(side * 0.07 * s, glasses_y - 0.01, 0.014),
                position_on_head(side * ear_point[0], ear_point[1] + 0.01, 0.014),
                dark_colour,
                "paint",
                "head",
            )
        )
        head_parts.append(
            capsule(
                "ear",
                0.009 * s,
                position_on_head(
                    side * (ear_point[0] - 0.004), ear_point[1] - 0.012, ear_point[2] + 0.022
                ),
                position_on_head(
                    side * (ear_point[0] - 0.004), ear_point[1] - 0.008, ear_point[2] - 0.022
                ),
                skin,
                "skin",
                "head",
            )
        )
    return head_parts


def eyes_pose(
    pose: np.ndarray,  # [T, 3, 4] body_from_head, columns right, forward, up
    form: HeadForm,
) -> np.ndarray:  # [T, 3, 4] body_from_eyes, columns right, down, forward, between the eyes
    """Compute the pose of an upright camera between the eyes."""
    rotation = np.stack([pose[..., 0], -pose[..., 2], pose[..., 1]], axis=-1)
    return np.concatenate([rotation, head_point(pose, *form.eyes)[..., None]], axis=-1)


def ego_from_pose(
    pose: np.ndarray,  # [T, 3, 4] body_from_head, columns right, forward, up
    form: HeadForm,
) -> np.ndarray:  # [T, 3, 4]
    """Compute the ego camera's pose from the head's pose.

    The camera is tilted and its sensor lies on its side (the sensor's x is down in the
    stored picture, its -y is right)."""
    mount_pitch_rad = np.radians(form.mount_pitch_deg)
    right_axis, forward_axis, up_axis = pose[..., 0], pose[..., 1], pose[..., 2]
    camera_forward = np.cos(mount_pitch_rad) * forward_axis + np.sin(mount_pitch_rad) * up_axis
    camera_up = np.cos(mount_pitch_rad) * up_axis - np.sin(mount_pitch_rad) * forward_axis
    camera = head_point(pose, *form.mount)
    rotation = np.stack([-camera_up, -right_axis, camera_forward], axis=-2)
    return np.concatenate([rotation, -(rotation @ camera[..., None])], axis=-1)
