"""Scale a network's hands to the scene's metres, and judge which of them are credible.

A network sees a body as large or near as it likes: along each line of sight its joints are right up
to one factor, which the depth at the wrists tells. What can't be believed is not filled from other
frames."""

import torch
from torch import Tensor

from ..cameras import CameraModel
from ..frames import Frames
from .track import (
    FINGERS,
    JOINT_NAMES,
    MIN_LOOKS,
    PALM,
    PALMS,
    WRIST_M,
    HandTrack,
    bone_lengths,
    complete_hands,
    look_up_per_frame,
    wrist_turns,
)

HAND_WIDTH_M = 0.09
SIZES = (0.7, 1.4)  # of the sum of a hand's bones against the clip's median
FASTEST = 6.0  # metres a second of a wrist; reaching is under 2, throwing over 10
MAX_BENT_BACK_M, MAX_TURNED_M = 0.025, 0.06
"""Fingertips behind the palm, on average in a frame, and by how much more than in the clip: a hand
of the other side in this frame alone, since none bends so far."""
OTHER_PALM_M, PER_BENT = 0.003, 0.15
"""Medians over a clip by which a palm is more like one of the other side, with this share of how
far the fingertips are behind it (``benchmarks/results/constants.md``)."""
TIPS = [JOINT_NAMES.index(f"{finger}_tip") for finger in FINGERS]


def judged_hands(
    joints: Tensor | None,  # [T, 2, 21, 3] metres up to a factor, exo camera frame; None: no hands
    # The exo camera, in pixels of depth and mask.
    camera: CameraModel,
    *,
    frames: Frames,
    depth_m: Tensor | None = None,  # [T, H, W] metric z depth of exo
    mask: Tensor | None = None,  # [T, H, W] bool, the wearer
    source: str = "body model",
) -> tuple[HandTrack, str]:
    """Scale hands to the scene's metres, and judge each hand in each frame.

    Returns:
        The hands, and a note on them for people, empty without hands.
    """
    if joints is None:
        return HandTrack.unknown(len(frames), source), ""
    joints = joints.double()
    complete_mask = complete_hands(joints)
    doubt_masks: list[tuple[int, Tensor]] = []  # by reason; the last one that applies counts
    mask = mask if mask is not None and bool(mask.any()) else None  # an empty one tells nothing
    _, pixels, in_picture = camera.look_up(joints)
    on_wearer = in_picture if mask is None else in_picture & (look_up_per_frame(mask, pixels) > 0)
    note = "their distance is the network's own: no depth at the wrists"
    if depth_m is not None:
        wrist_z = look_up_per_frame(depth_m, pixels[..., 0]) + WRIST_M
        scales_at_wrists = (wrist_z / joints[..., 0, 2])[
            complete_mask & on_wearer[..., 0] & torch.isfinite(wrist_z)
        ]
        if len(scales_at_wrists) >= MIN_LOOKS:
            scale = scales_at_wrists.median()
            joints = joints * scale
            note = (
                f"scaled by {scale:.3f}, from the depth at the wrists in "
                f"{len(scales_at_wrists)} looks"
            )
        doubt_masks.append((4, ~((wrist_z - joints[..., 0, 2]).abs() < HAND_WIDTH_M)))
    doubt_masks += [
        (5, odd_sizes(joints)),
        (7, mirrored(joints)),
        (3, on_wearer.double().mean(-1) < 0.5),
        (2, ~in_picture[..., 0] | (in_picture.double().mean(-1) < 0.5)),
        (1, ~complete_mask),
    ]
    reason = torch.zeros_like(complete_mask, dtype=torch.int64)
    for number, doubt_mask in doubt_masks:
        reason[doubt_mask] = number
    wrist_steps = torch.where((reason == 0)[..., None], joints[:, :, 0], torch.nan).diff(dim=0)
    too_fast = wrist_steps.norm(dim=-1) > FASTEST * frames.times_s.diff()[:, None]
    reason[:-1][too_fast] = reason[1:][too_fast] = 6
    track = HandTrack(joints=joints, reason=reason, source=source)
    return track, f"hands: {note}; {track.text()}"


def odd_sizes(joints: Tensor) -> Tensor:  # [T, 2, 21, 3] -> [T, 2] bool
    """Mark hands whose size is unknown or differs from the rest of the clip."""
    hand_lengths = bone_lengths(joints).sum(-1)
    relative_sizes = hand_lengths / hand_lengths.nanmedian(0).values
    return ~((relative_sizes > SIZES[0]) & (relative_sizes < SIZES[1]))


def mirrored(joints: Tensor) -> Tensor:  # [T, 2, 21, 3] metres -> [T, 2] bool
    """Mark hands that belong to the other side, by the palm's shape and the bend of the fingers."""
    wrist_rotations = wrist_turns(joints)
    usual_palms = PALMS - PALMS.mean(1, keepdim=True)
    bent_back = ((joints - joints[:, :, :1]) @ wrist_rotations)[:, :, TIPS, 2].mean(-1)
    palm = joints[:, :, PALM] - joints[:, :, PALM].mean(2, keepdim=True)
    same_side_error, other_side_error = (
        (palm - reference_palms @ turn.mT).flatten(2).norm(dim=-1)
        for reference_palms, turn in (
            (usual_palms, wrist_rotations),
            (usual_palms.flip(0), wrist_turns(joints.flip(1)).flip(1)),
        )
    )
    usual_bend = bent_back.nanmedian(0).values
    is_mirrored_clip = (same_side_error - other_side_error).nanmedian(
        0
    ).values + PER_BENT * usual_bend > OTHER_PALM_M
    return is_mirrored_clip | (
        (bent_back > MAX_BENT_BACK_M) & (bent_back - usual_bend > MAX_TURNED_M)
    )
