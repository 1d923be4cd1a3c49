"""Define heads (the one of all figures, or one drawn for a person), the points that detectors find,
and the place of the ego camera.

Drawn frame of a head: x to the wearer's right, y forward, z up, origin in the middle of the skull;
metres."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from egox_core.frozen import frozen

from .palettes import Colour
from .parts import Part, between

# The shape that is drawn where nothing else is asked for; its skull is a ball, broader than a
# person's.
USUAL_MARKS: Mapping[str, tuple[float, float, float]] = {
    "right_eye": (0.032, 0.0926, 0.0),
    "left_eye": (-0.032, 0.0926, 0.0),
    "right_ear": (0.112, -0.01, -0.015),
    "left_ear": (-0.112, -0.01, -0.015),
    "nose": (0.0, 0.120, -0.02),
}
USUAL_MOUNT = (-0.055, 0.105, 0.02)

# Drawn persons have the skull of the medium headform of ISO/TS 16976-2 (length 197, breadth 153
# mm).
SKULL_RADIUS, SKULL_HALF = 0.0765, 0.022
SKULL_AT = (0.0, -0.012, 0.032)
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
        """Point between the eyes."""
        return (np.array(self.marks["right_eye"]) + np.array(self.marks["left_eye"])) / 2


USUAL_HEAD = HeadForm(marks=USUAL_MARKS, mount=USUAL_MOUNT, mount_pitch_deg=0.0)


def draw_head(rng: np.random.Generator, wearer: str) -> HeadForm:
    """Draw a person's head: its size, each of its lengths, and how the glasses sit. The wearer
    ``usual`` has a fixed head."""
    if wearer == "usual":
        return USUAL_HEAD
    size = 1 + rng.uniform(-SIZE_SPAN, SIZE_SPAN)

    def own(length: float) -> float:
        return size * length * (1 + rng.uniform(-LENGTH_SPAN, LENGTH_SPAN))

    # Lengths as the headform has them (nose 21 mm before the lip), eyes and ears where the drawing's
    # surfaces are; 94 % of the head's breadth are between the ears.
    eye, ahead = own(0.0315), own(0.0785)
    ear, back, down = own(0.0718), own(0.006), own(0.0135)  # the tragus; down from the eyes
    nose, under = own(0.0415), own(0.035)
    marks = {
        "right_eye": (eye, ahead, 0.0),
        "left_eye": (-eye, ahead, 0.0),
        "right_ear": (ear, -back, -down),
        "left_ear": (-ear, -back, -down),
        "nose": (0.0, ahead + nose, -under),
    }
    place = (
        np.array([0.0, ahead, 0.0])
        + np.array(MOUNT_FROM_EYES)
        + rng.uniform(-MOUNT_SPAN_M, MOUNT_SPAN_M, 3)
    )
    pitch = MOUNT_PITCH_DEG + rng.uniform(-MOUNT_SPAN_DEG, MOUNT_SPAN_DEG)
    return HeadForm(
        marks=marks,
        mount=(float(place[0]), float(place[1]), float(place[2])),
        mount_pitch_deg=float(pitch),
        size=float(size),
        drawn=True,
    )


def on_head(
    pose: np.ndarray,  # [T, 3, 4] body_from_head
    x: float,
    y: float,
    z: float,
) -> np.ndarray:  # [T, 3]
    """Transform a point from the head's frame to the body's."""
    return pose[..., 3] + pose[..., :3] @ np.array([x, y, z])


def drawn_head_parts(
    form: HeadForm,
    pose: np.ndarray,  # [T, 3, 4] body_from_head, columns right, forward, up
    chest: np.ndarray,  # [T, 3]
    skin: Colour,
    hair: Colour,
) -> list[Part]:
    """Build the solids of a drawn person's head and neck."""
    s, spot = form.size, partial(on_head, pose)
    dark: Colour = (0.12, 0.12, 0.14)
    x, y, z = (s * value for value in SKULL_AT)
    nose, ear = form.marks["nose"], form.marks["right_ear"]
    eye = form.marks["right_eye"]
    glasses = eye[1] + 0.012
    parts = [
        between(
            "head",
            s * SKULL_RADIUS,
            spot(x, y - s * SKULL_HALF, z),
            spot(x, y + s * SKULL_HALF, z),
            skin,
            "skin",
            "head",
        ),
        between(
            "jaw",
            0.052 * s,
            spot(0, 0.012 * s, -0.045 * s),
            spot(0, 0.032 * s, -0.075 * s),
            skin,
            "skin",
            "head",
        ),
        between(
            "hair",
            1.06 * s * SKULL_RADIUS,
            spot(x, y - 1.6 * s * SKULL_HALF, z + 0.012 * s),
            spot(x, y - 0.2 * s * SKULL_HALF, z + 0.016 * s),
            hair,
            "fabric",
            "head",
        ),
        between(
            "nose",
            0.011 * s,
            spot(0, nose[1] - 0.011 * s, nose[2]),
            spot(0, eye[1] - 0.002, -0.002),
            skin,
            "skin",
            "head",
        ),
        between(
            "neck",
            0.055,
            chest + np.array([0.0, 0.0, -0.02]),
            spot(0, -0.02, -0.06),
            skin,
            "skin",
            "head",
        ),
        between(
            "glasses",
            0.006,
            spot(-0.066 * s, glasses, 0.014),
            spot(0.066 * s, glasses, 0.014),
            dark,
            "paint",
            "head",
        ),
    ]
    for side in (-1, 1):
        parts.append(
            between(
                "glasses arm",
                0.004,
                spot(side * 0.07 * s, glasses - 0.01, 0.014),
                spot(side * ear[0], ear[1] + 0.01, 0.014),
                dark,
                "paint",
                "head",
            )
        )
        parts.append(
            between(
                "ear",
                0.009 * s,
                spot(side * (ear[0] - 0.004), ear[1] - 0.012, ear[2] + 0.022),
                spot(side * (ear[0] - 0.004), ear[1] - 0.008, ear[2] - 0.022),
                skin,
                "skin",
                "head",
            )
        )
    return parts


def eyes_pose(
    pose: np.ndarray,  # [T, 3, 4] body_from_head, columns right, forward, up
    form: HeadForm,
) -> np.ndarray:  # [T, 3, 4] body_from_eyes, columns right, down, forward, between the eyes
    """Compute the pose of an upright camera between the eyes from the head's pose."""
    rotation = np.stack([pose[..., 0], -pose[..., 2], pose[..., 1]], axis=-1)
    return np.concatenate([rotation, on_head(pose, *form.eyes)[..., None]], axis=-1)


def ego_from_pose(
    pose: np.ndarray,  # [T, 3, 4] body_from_head, columns right, forward, up
    form: HeadForm,
) -> np.ndarray:  # [T, 3, 4]
    """Compute the ego camera's pose from the head's. The camera is tilted and its sensor lies on
    its side (the sensor's x is down in the stored picture, its -y is right)."""
    pitch = np.radians(form.mount_pitch_deg)
    right, forward, up = pose[..., 0], pose[..., 1], pose[..., 2]
    ahead = np.cos(pitch) * forward + np.sin(pitch) * up
    above = np.cos(pitch) * up - np.sin(pitch) * forward
    camera = on_head(pose, *form.mount)
    rotation = np.stack([-above, -right, ahead], axis=-2)
    return np.concatenate([rotation, -(rotation @ camera[..., None])], axis=-1)
