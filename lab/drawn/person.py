"""Draw the wearer, a jointed figure of capsules and spheres whose arms reach for given palm paths.

Body frame: hips above the origin, facing +y, x to the wearer's right, z up, metres. The head turns
to a gaze point and carries the ego camera at the left temple, where such glasses have it."""

from functools import partial

import numpy as np

from egox_core.frozen import frozen

from .furniture import pick_colour
from .head import DEFAULT_HEAD, HeadForm, drawn_head_parts, ego_from_pose, eyes_pose, head_point
from .palettes import HAIR, SHIRTS, SKIN, THINGS, TROUSERS, Colour
from .parts import Part, capsule, poses_along

UPPER_ARM_M, FOREARM_M, WRIST_TO_PALM_M = 0.30, 0.27, 0.055
FINGERS_X = (0.034, 0.0115, -0.0115, -0.034)  # index to little, to the side of the thumb


@frozen
class Person:
    """Posed figure of the wearer, in the body frame, metres."""

    parts: tuple[Part, ...]
    ego_from_body: np.ndarray  # [T, 3, 4], camera frame of the unturned sensor from the body frame
    landmarks: (
        np.ndarray
    )  # [N, 3] head and both palms at the first frame: what an exo camera should see
    shirt: Colour
    held: tuple[tuple[str, Colour], ...]  # what the hands hold, for the prompt
    body_from_eyes: np.ndarray  # [T, 3, 4] the head, between the eyes: columns right, down, forward
    marks: dict[
        str, np.ndarray
    ]  # [T, 3] eyes, ears, nose, neck, shoulders: what a detector looks for
    hands: np.ndarray  # [T, 2, 21, 3] left and right, in the order of egox_core.hands.JOINT_NAMES


def draw_person(
    rng: np.random.Generator,
    *,
    seated: bool,
    right_palm: np.ndarray,  # [T, 3] where the palms should be (shortened to what the arms reach)
    left_palm: np.ndarray,  # [T, 3]
    gaze: np.ndarray,  # [T, 3] point looked at
    sway: np.ndarray,  # [T, 3] shift of shoulders and head
    held_scale: float = 1.0,
    form: HeadForm = DEFAULT_HEAD,
) -> Person:
    """Pose the wearer's figure for T frames."""
    shirt, trousers, skin, hair = (
        pick_colour(rng, SHIRTS),
        pick_colour(rng, TROUSERS),
        pick_colour(rng, SKIN),
        pick_colour(rng, HAIR),
    )
    forward_lean = rng.uniform(0.03, 0.07) if seated else rng.uniform(0.08, 0.12)
    hip = 0.53 if seated else 0.92
    trunk_length = rng.uniform(0.46, 0.50)  # hips to shoulders
    chest = np.array([0.0, forward_lean, hip + trunk_length]) + sway
    parts = _trunk(hip, chest, shirt, trousers) + _legs(seated, hip, trousers)
    objects: list[tuple[str, Colour]] = []
    landmarks, marks, hands = [], {}, []
    for side, palm in ((1.0, right_palm), (-1.0, left_palm)):
        shoulder = chest + np.array([side * 0.18, 0.0, -0.03])
        marks["right_shoulder" if side > 0 else "left_shoulder"] = shoulder
        arm, wrist, frame = _arm(side, shoulder, palm, shirt, skin)
        joints = [wrist + frame @ joint_offset for joint_offset in HAND]
        parts += arm + _hand_parts(wrist, frame, joints, skin)
        hands.append(np.stack(joints, axis=1))
        centre = wrist + WRIST_TO_PALM_M * frame[..., 1]
        landmarks.append(centre[0])
        if side > 0 or rng.random() < 0.5:
            name, part = _held_object(rng, centre, frame, held_scale)
            parts.append(part)
            objects.append((name, part.colour))
    head = chest + np.array([0.0, 0.05, 0.25])
    pose = _head_pose(head, gaze)
    if form.drawn:
        parts += drawn_head_parts(form, pose, chest, skin, hair)
    else:
        parts += _head_parts(pose, chest, skin, hair)
    landmarks.insert(0, head[0])
    marks["neck"] = (marks["right_shoulder"] + marks["left_shoulder"]) / 2
    marks |= {name: head_point(pose, *joint_offset) for name, joint_offset in form.marks.items()}
    return Person(
        parts=tuple(parts),
        ego_from_body=ego_from_pose(pose, form),
        landmarks=np.array(landmarks),
        shirt=shirt,
        held=tuple(objects),
        body_from_eyes=eyes_pose(pose, form),
        marks=marks,
        hands=np.stack(hands[::-1], axis=1),
    )


def _trunk(hip: float, chest: np.ndarray, shirt: Colour, trousers: Colour) -> list[Part]:
    def shifted(x: float, z: float) -> np.ndarray:  # [T, 3]
        return chest + np.array([x, 0.0, z])

    return [
        capsule(
            "shoulders",
            0.078,
            shifted(-0.125, -0.04),
            shifted(0.125, -0.04),
            shirt,
            "fabric",
            "body",
        ),
        *(
            capsule(
                "side",
                0.112,
                np.array([x, 0.0, hip + 0.06]),
                shifted(x, -0.095),
                shirt,
                "fabric",
                "body",
            )
            for x in (0.062, -0.062)
        ),
        capsule(
            "hips",
            0.115,
            np.array([[-0.07, 0.0, hip]]).repeat(len(chest), 0),
            np.array([0.07, 0.0, hip]),
            trousers,
            "fabric",
            "body",
        ),
    ]


def _legs(seated: bool, hip: float, trousers: Colour) -> list[Part]:
    parts = []
    for side in (-1, 1):
        leg_top = np.array([side * 0.085, 0.0, hip - 0.03])
        if seated:
            knee, ankle = np.array([side * 0.14, 0.42, 0.50]), np.array([side * 0.14, 0.38, 0.09])
        else:
            knee, ankle = np.array([side * 0.10, 0.03, 0.50]), np.array([side * 0.11, 0.0, 0.09])
        heel, toe = ankle - np.array([0, 0.03, 0.04]), ankle + np.array([side * 0.02, 0.15, -0.04])
        parts += [
            capsule("thigh", 0.075, leg_top, knee, trousers, "fabric", "body"),
            capsule("shin", 0.055, knee, ankle, trousers, "fabric", "body"),
            capsule("shoe", 0.045, heel, toe, (0.2, 0.2, 0.22), "paint", "body"),
        ]
    return parts


def _arm(
    side: float, shoulder: np.ndarray, palm: np.ndarray, shirt: Colour, skin: Colour
) -> tuple[list[Part], np.ndarray, np.ndarray]:
    """Build an arm: its parts, the wrist [T, 3], and the hand frame [T, 3, 3], whose columns point
    to the thumb side, along the fingers, and out of the back of the hand."""
    fingers = np.array([-side * 0.30, 0.90, -0.30])
    fingers = np.broadcast_to(fingers / np.linalg.norm(fingers), palm.shape)
    wrist = palm - WRIST_TO_PALM_M * fingers
    to_wrist = wrist - shoulder
    wrist_distance = np.linalg.norm(to_wrist, axis=-1, keepdims=True)
    # A nearly straight arm turns its elbow wildly from frame to frame: stop at 97 % of the reach.
    arm_length = np.clip(wrist_distance, 0.2, 0.97 * (UPPER_ARM_M + FOREARM_M))
    direction = to_wrist / wrist_distance
    wrist = shoulder + direction * arm_length
    elbow_direction = np.array([side * 0.55, -0.25, -1.0])
    outward = elbow_direction - direction * (direction @ elbow_direction)[:, None]
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    elbow_distance = (UPPER_ARM_M**2 - FOREARM_M**2 + arm_length**2) / (2 * arm_length)
    elbow = (
        shoulder
        + direction * elbow_distance
        + outward * np.sqrt(np.maximum(UPPER_ARM_M**2 - elbow_distance**2, 0))
    )
    cuff_position = elbow + (wrist - elbow) * 0.72
    parts = [
        capsule("upper arm", 0.052, shoulder, elbow, shirt, "fabric", "body"),
        capsule("sleeve", 0.043, elbow, cuff_position, shirt, "fabric", "body"),
        capsule("forearm", 0.032, elbow + (wrist - elbow) * 0.5, wrist, skin, "skin", "body"),
    ]
    back_direction = np.broadcast_to(np.array([side * 0.25, 0.1, 1.0]), palm.shape)
    back_direction = back_direction - fingers * (back_direction * fingers).sum(-1, keepdims=True)
    back_direction = back_direction / np.linalg.norm(back_direction, axis=-1, keepdims=True)
    thumb = -side * np.cross(fingers, back_direction)
    frame = np.stack([thumb, fingers, back_direction], axis=-1)
    return parts, wrist, frame


def _hand_joints() -> np.ndarray:  # [21, 3]
    """Compute the joints of a hand in the hand's frame (thumb side, fingers, back).

    Bones are drawn straight from the root of the thumb to its tip, and from a finger's middle joint
    to its tip; the joints between lie on them.
    """
    root, end = np.array([0.03, 0.03, -0.005]), np.array([0.06, 0.085, -0.035])
    joint_positions = [
        np.zeros(3),
        *(root + share * (end - root) for share in (0.0, 0.4, 0.7, 1.0)),
    ]
    for x in FINGERS_X:
        length = 0.05 if abs(x) > 0.02 else 0.06
        knuckle = np.array([x, 0.082, 0])
        joint = np.array([1.05 * x, 0.082 + 0.72 * length, -0.5 * length])
        tip = np.array([1.05 * x, 0.082 + 0.95 * length, -1.2 * length])
        joint_positions += [knuckle, joint, joint + 0.55 * (tip - joint), tip]
    return np.array(joint_positions)


HAND = _hand_joints()


def _hand_parts(
    wrist: np.ndarray, frame: np.ndarray, joints: list[np.ndarray], skin: Colour
) -> list[Part]:
    """Build the parts of a hand: palm, fingers starting with the little one, and thumb."""
    parts = []
    for x in (-0.024, 0.0, 0.024):
        low, high = (
            wrist + frame @ np.array(offset) for offset in ((0.7 * x, 0.01, 0), (x, 0.075, 0))
        )
        parts.append(capsule("palm", 0.0175, low, high, skin, "skin", "body"))
    for first_joint in (17, 13, 9, 5):
        knuckle, joint, _, tip = joints[first_joint : first_joint + 4]
        parts.append(capsule("finger", 0.0105, knuckle, joint, skin, "skin", "body"))
        parts.append(capsule("finger", 0.0095, joint, tip, skin, "skin", "body"))
    parts.append(capsule("thumb", 0.0125, joints[1], joints[4], skin, "skin", "body"))
    return parts


def _held_object(
    rng: np.random.Generator, palm: np.ndarray, frame: np.ndarray, scale: float
) -> tuple[str, Part]:
    """Draw a thing in the hand, which is under the palm and turns with it."""
    colour = THINGS[int(rng.integers(len(THINGS)))]
    if rng.random() < 0.5:
        half_sizes = tuple(
            scale * rng.uniform(*size_range)
            for size_range in ((0.025, 0.035), (0.04, 0.06), (0.018, 0.026))
        )
        centre = palm + frame @ np.array([0.012, 0.05, -0.018 - half_sizes[2]])
        return "block", Part(
            name="held block",
            kind="box",
            size=half_sizes,
            group="held",
            colour=colour,
            look="print",
            pose=np.concatenate([frame_rotation(frame), centre[..., None]], axis=-1),
        )
    radius, length = scale * rng.uniform(0.024, 0.032), scale * rng.uniform(0.05, 0.07)
    centre = palm + frame @ np.array([0.01, 0.05, -0.018 - radius])
    return "tube", Part(
        name="held tube",
        kind="cylinder",
        size=(radius, length, 0.0),
        group="held",
        colour=colour,
        look="print",
        pose=poses_along(frame[..., 0], centre),
    )


def frame_rotation(
    frame: np.ndarray,  # [T, 3, 3]
) -> np.ndarray:  # [T, 3, 3]
    """Convert a hand frame to a rotation by flipping an axis of the left hand's, which is mirrored,
    because solids need rotations."""
    rotation = frame.copy()
    rotation[..., 0] *= np.sign(np.linalg.det(frame))[..., None]
    return rotation


def _head_pose(head: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Compute body_from_head [T, 3, 4] so that the head faces the gaze, with columns right,
    forward, up."""
    forward = gaze - head
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    up = np.cross(right, forward)
    return np.concatenate([np.stack([right, forward, up], axis=-1), head[..., None]], axis=-1)


def _head_parts(pose: np.ndarray, chest: np.ndarray, skin: Colour, hair: Colour) -> list[Part]:
    position_on_head = partial(head_point, pose)

    def ball(
        name: str, radius: float, centre: np.ndarray, colour: Colour, look: str
    ) -> Part:  # centre [T, 3]
        return Part(
            name=name,
            kind="sphere",
            size=(radius, 0.0, 0.0),
            group="head",
            colour=colour,
            look=look,
            pose=np.concatenate([pose[..., :3], centre[..., None]], axis=-1),
        )

    dark: Colour = (0.12, 0.12, 0.14)
    parts = [
        ball("head", 0.098, position_on_head(0, 0, 0), skin, "skin"),
        ball("jaw", 0.072, position_on_head(0, 0.03, -0.065), skin, "skin"),
        ball("hair", 0.108, position_on_head(0, -0.025, 0.028), hair, "fabric"),
        ball("nose", 0.017, position_on_head(0, 0.104, -0.02), skin, "skin"),
        capsule(
            "neck",
            0.052,
            chest + np.array([0.0, 0.0, -0.02]),
            position_on_head(0, -0.01, -0.06),
            skin,
            "skin",
            "head",
        ),
        capsule(
            "glasses",
            0.013,
            position_on_head(-0.065, 0.085, 0.012),
            position_on_head(0.065, 0.085, 0.012),
            dark,
            "paint",
            "head",
        ),
    ]
    for side in (-1, 1):
        parts.append(
            capsule(
                "glasses arm",
                0.007,
                position_on_head(side * 0.078, 0.075, 0.012),
                position_on_head(side * 0.102, -0.03, 0.012),
                dark,
                "paint",
                "head",
            )
        )
        parts.append(
            ball("ear", 0.022, position_on_head(side * 0.096, -0.01, -0.015), skin, "skin")
        )
    return parts
