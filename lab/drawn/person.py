"""Draw the wearer as a jointed figure whose hands follow given paths.

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
FINGER_X_POSITIONS = (0.034, 0.0115, -0.0115, -0.034)  # index to little, to the side of the thumb


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
    shirt_colour, trouser_colour, skin_colour, hair_colour = (
        pick_colour(rng, SHIRTS),
        pick_colour(rng, TROUSERS),
        pick_colour(rng, SKIN),
        pick_colour(rng, HAIR),
    )
    forward_lean = rng.uniform(0.03, 0.07) if seated else rng.uniform(0.08, 0.12)
    hip_height = 0.53 if seated else 0.92
    trunk_length = rng.uniform(0.46, 0.50)  # hips to shoulders
    chest_positions = np.array([0.0, forward_lean, hip_height + trunk_length]) + sway
    body_parts = _trunk(hip_height, chest_positions, shirt_colour, trouser_colour) + _legs(
        seated, hip_height, trouser_colour
    )
    held_objects: list[tuple[str, Colour]] = []
    landmarks, marks, hand_joints = [], {}, []
    for side, palm in ((1.0, right_palm), (-1.0, left_palm)):
        shoulder_positions = chest_positions + np.array([side * 0.18, 0.0, -0.03])
        marks["right_shoulder" if side > 0 else "left_shoulder"] = shoulder_positions
        arm_parts, wrist_positions, hand_frame = _arm(
            side, shoulder_positions, palm, shirt_colour, skin_colour
        )
        joint_positions = [
            wrist_positions + hand_frame @ joint_offset for joint_offset in HAND_JOINTS
        ]
        body_parts += arm_parts + _hand_parts(
            wrist_positions, hand_frame, joint_positions, skin_colour
        )
        hand_joints.append(np.stack(joint_positions, axis=1))
        palm_centre = wrist_positions + WRIST_TO_PALM_M * hand_frame[..., 1]
        landmarks.append(palm_centre[0])
        if side > 0 or rng.random() < 0.5:
            name, held_part = _held_object(rng, palm_centre, hand_frame, held_scale)
            body_parts.append(held_part)
            held_objects.append((name, held_part.colour))
    head_positions = chest_positions + np.array([0.0, 0.05, 0.25])
    head_pose = _head_pose(head_positions, gaze)
    if form.drawn:
        body_parts += drawn_head_parts(form, head_pose, chest_positions, skin_colour, hair_colour)
    else:
        body_parts += _head_parts(head_pose, chest_positions, skin_colour, hair_colour)
    landmarks.insert(0, head_positions[0])
    marks["neck"] = (marks["right_shoulder"] + marks["left_shoulder"]) / 2
    marks |= {
        name: head_point(head_pose, *joint_offset) for name, joint_offset in form.marks.items()
    }
    return Person(
        parts=tuple(body_parts),
        ego_from_body=ego_from_pose(head_pose, form),
        landmarks=np.array(landmarks),
        shirt=shirt_colour,
        held=tuple(held_objects),
        body_from_eyes=eyes_pose(head_pose, form),
        marks=marks,
        hands=np.stack(hand_joints[::-1], axis=1),
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
    leg_parts = []
    for side in (-1, 1):
        leg_top_point = np.array([side * 0.085, 0.0, hip - 0.03])
        if seated:
            knee_point, ankle_point = (
                np.array([side * 0.14, 0.42, 0.50]),
                np.array([side * 0.14, 0.38, 0.09]),
            )
        else:
            knee_point, ankle_point = (
                np.array([side * 0.10, 0.03, 0.50]),
                np.array([side * 0.11, 0.0, 0.09]),
            )
        heel_point, toe_point = (
            ankle_point - np.array([0, 0.03, 0.04]),
            ankle_point + np.array([side * 0.02, 0.15, -0.04]),
        )
        leg_parts += [
            capsule("thigh", 0.075, leg_top_point, knee_point, trousers, "fabric", "body"),
            capsule("shin", 0.055, knee_point, ankle_point, trousers, "fabric", "body"),
            capsule("shoe", 0.045, heel_point, toe_point, (0.2, 0.2, 0.22), "paint", "body"),
        ]
    return leg_parts


def _arm(
    side: float, shoulder: np.ndarray, palm: np.ndarray, shirt: Colour, skin: Colour
) -> tuple[list[Part], np.ndarray, np.ndarray]:
    """Build the parts of an arm, its wrist [T, 3] and the hand's orientation [T, 3, 3].

    The columns of the orientation point to the thumb side, along the fingers, and out of the
    back of the hand."""
    finger_direction = np.array([-side * 0.30, 0.90, -0.30])
    finger_direction = np.broadcast_to(
        finger_direction / np.linalg.norm(finger_direction), palm.shape
    )
    wrist_positions = palm - WRIST_TO_PALM_M * finger_direction
    wrist_offset = wrist_positions - shoulder
    wrist_distance = np.linalg.norm(wrist_offset, axis=-1, keepdims=True)
    # A nearly straight arm turns its elbow wildly from frame to frame: stop at 97 % of the reach.
    arm_length = np.clip(wrist_distance, 0.2, 0.97 * (UPPER_ARM_M + FOREARM_M))
    wrist_direction = wrist_offset / wrist_distance
    wrist_positions = shoulder + wrist_direction * arm_length
    elbow_direction = np.array([side * 0.55, -0.25, -1.0])
    elbow_outward = elbow_direction - wrist_direction * (wrist_direction @ elbow_direction)[:, None]
    elbow_outward /= np.linalg.norm(elbow_outward, axis=-1, keepdims=True)
    elbow_distance = (UPPER_ARM_M**2 - FOREARM_M**2 + arm_length**2) / (2 * arm_length)
    elbow_positions = (
        shoulder
        + wrist_direction * elbow_distance
        + elbow_outward * np.sqrt(np.maximum(UPPER_ARM_M**2 - elbow_distance**2, 0))
    )
    cuff_position = elbow_positions + (wrist_positions - elbow_positions) * 0.72
    arm_parts = [
        capsule("upper arm", 0.052, shoulder, elbow_positions, shirt, "fabric", "body"),
        capsule("sleeve", 0.043, elbow_positions, cuff_position, shirt, "fabric", "body"),
        capsule(
            "forearm",
            0.032,
            elbow_positions + (wrist_positions - elbow_positions) * 0.5,
            wrist_positions,
            skin,
            "skin",
            "body",
        ),
    ]
    back_direction = np.broadcast_to(np.array([side * 0.25, 0.1, 1.0]), palm.shape)
    back_direction = back_direction - finger_direction * (back_direction * finger_direction).sum(
        -1, keepdims=True
    )
    back_direction = back_direction / np.linalg.norm(back_direction, axis=-1, keepdims=True)
    thumb_direction = -side * np.cross(finger_direction, back_direction)
    hand_frame = np.stack([thumb_direction, finger_direction, back_direction], axis=-1)
    return arm_parts, wrist_positions, hand_frame


def _hand_joints() -> np.ndarray:  # [21, 3]
    """Compute the joints of a hand in the hand's frame.

    Bones are drawn straight from the root of the thumb to its tip, and from a finger's middle joint
    to its tip; the joints between lie on them.
    """
    thumb_root, thumb_end = np.array([0.03, 0.03, -0.005]), np.array([0.06, 0.085, -0.035])
    joint_positions = [
        np.zeros(3),
        *(
            thumb_root + length_share * (thumb_end - thumb_root)
            for length_share in (0.0, 0.4, 0.7, 1.0)
        ),
    ]
    for x in FINGER_X_POSITIONS:
        finger_length = 0.05 if abs(x) > 0.02 else 0.06
        knuckle_point = np.array([x, 0.082, 0])
        middle_joint_point = np.array(
            [1.05 * x, 0.082 + 0.72 * finger_length, -0.5 * finger_length]
        )
        fingertip_point = np.array([1.05 * x, 0.082 + 0.95 * finger_length, -1.2 * finger_length])
        joint_positions += [
            knuckle_point,
            middle_joint_point,
            middle_joint_point + 0.55 * (fingertip_point - middle_joint_point),
            fingertip_point,
        ]
    return np.array(joint_positions)


HAND_JOINTS = _hand_joints()


def _hand_parts(
    wrist: np.ndarray, frame: np.ndarray, joints: list[np.ndarray], skin: Colour
) -> list[Part]:
    """Build the parts of a hand: palm, fingers and thumb."""
    hand_parts = []
    for x in (-0.024, 0.0, 0.024):
        palm_start, palm_end = (
            wrist + frame @ np.array(offset) for offset in ((0.7 * x, 0.01, 0), (x, 0.075, 0))
        )
        hand_parts.append(capsule("palm", 0.0175, palm_start, palm_end, skin, "skin", "body"))
    for first_joint in (17, 13, 9, 5):
        knuckle, joint, _, tip = joints[first_joint : first_joint + 4]
        hand_parts.append(capsule("finger", 0.0105, knuckle, joint, skin, "skin", "body"))
        hand_parts.append(capsule("finger", 0.0095, joint, tip, skin, "skin", "body"))
    hand_parts.append(capsule("thumb", 0.0125, joints[1], joints[4], skin, "skin", "body"))
    return hand_parts


def _held_object(
    rng: np.random.Generator, palm: np.ndarray, frame: np.ndarray, scale: float
) -> tuple[str, Part]:
    """Draw an object that the hand holds."""
    colour = THINGS[int(rng.integers(len(THINGS)))]
    if rng.random() < 0.5:
        half_sizes = tuple(
            scale * rng.uniform(*size_range)
            for size_range in ((0.025, 0.035), (0.04, 0.06), (0.018, 0.026))
        )
        object_centre = palm + frame @ np.array([0.012, 0.05, -0.018 - half_sizes[2]])
        return "block", Part(
            name="held block",
            kind="box",
            size=half_sizes,
            group="held",
            colour=colour,
            look="print",
            pose=np.concatenate([frame_rotation(frame), object_centre[..., None]], axis=-1),
        )
    radius, half_length = scale * rng.uniform(0.024, 0.032), scale * rng.uniform(0.05, 0.07)
    object_centre = palm + frame @ np.array([0.01, 0.05, -0.018 - radius])
    return "tube", Part(
        name="held tube",
        kind="cylinder",
        size=(radius, half_length, 0.0),
        group="held",
        colour=colour,
        look="print",
        pose=poses_along(frame[..., 0], object_centre),
    )


def frame_rotation(
    frame: np.ndarray,  # [T, 3, 3]
) -> np.ndarray:  # [T, 3, 3]
    """Convert a left or right hand's frame to a rotation matrix.

    The left hand's frame is mirrored, so one axis is flipped, because solids need rotations."""
    rotation = frame.copy()
    rotation[..., 0] *= np.sign(np.linalg.det(frame))[..., None]
    return rotation


def _head_pose(head: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Compute the pose body_from_head [T, 3, 4] of a head that faces the gaze direction."""
    forward_axis = gaze - head
    forward_axis /= np.linalg.norm(forward_axis, axis=-1, keepdims=True)
    right_axis = np.cross(forward_axis, np.array([0.0, 0.0, 1.0]))
    right_axis /= np.linalg.norm(right_axis, axis=-1, keepdims=True)
    up_axis = np.cross(right_axis, forward_axis)
    return np.concatenate(
        [np.stack([right_axis, forward_axis, up_axis], axis=-1), head[..., None]], axis=-1
    )


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

    dark_colour: Colour = (0.12, 0.12, 0.14)
    head_parts = [
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
            dark_colour,
            "paint",
            "head",
        ),
    ]
    for side in (-1, 1):
        head_parts.append(
            capsule(
                "glasses arm",
                0.007,
                position_on_head(side * 0.078, 0.075, 0.012),
                position_on_head(side * 0.102, -0.03, 0.012),
                dark_colour,
                "paint",
                "head",
            )
        )
        head_parts.append(
            ball("ear", 0.022, position_on_head(side * 0.096, -0.01, -0.015), skin, "skin")
        )
    return head_parts
