"""Hands as a network gives them, brought to the scene's metres, and which of them can be believed.

A network sees a body as large or near as it likes: along each line of sight its joints are right up
to one factor, which the depth at the wrists tells. What can't be believed is not filled from other
frames."""

import torch
from torch import Tensor

from ..cameras import CameraModel
from .track import BONES, FINGERS, JOINT_NAMES, HandTrack, whole, wrist_turns

WRIST_M = 0.033
"""From what depth sees to the joint. Judged: a mean wrist has a radius of 2.6 cm (ANSUR II's
circumferences), rays meet it aslant, and cuffs and watches lie on it."""
HAND_WIDTH_M = 0.09
MIN_LOOKS = 3  # at wrists, for a scale
SIZES = (0.7, 1.4)  # of the sum of a hand's bones against the clip's median
FASTEST = 6.0  # metres a second of a wrist; reaching is under 2, throwing over 10
BENT_BACK_M = 0.025
"""Fingertips behind the palm, on average in a frame, or half as far in the whole clip: a hand of the
other side, since none bends so far."""
TIPS = [JOINT_NAMES.index(f"{finger}_tip") for finger in FINGERS]


def judged_hands(
    joints: Tensor | None,  # [T, 2, 21, 3] metres up to a factor, exo camera frame; None: no hands
    camera: CameraModel,  # exo, of the depth's and mask's pixels
    *,
    times_s: Tensor,  # [T] seconds
    depth_m: Tensor | None = None,  # [T, H, W] metric z depth of exo
    mask: Tensor | None = None,  # [T, H, W] bool, the wearer
    source: str = "body model",
) -> tuple[HandTrack, str]:
    """Bring hands to the scene's metres, and judge each in each frame.

    Returns:
        The hands, and a note on them for people, empty without hands.
    """
    if joints is None:
        return HandTrack.unknown(len(times_s), source), ""
    joints = joints.double()
    given, doubts = whole(joints), {}
    _, pixels, inside = camera.look_up(joints)
    wanted = inside if mask is None else inside & (_looked_up(mask, pixels) > 0)
    note = "their distance is the network's own: no depth at the wrists"
    if depth_m is not None:
        wrist_z = _looked_up(depth_m, pixels[..., 0]) + WRIST_M
        looks = (wrist_z / joints[..., 0, 2])[given & wanted[..., 0] & torch.isfinite(wrist_z)]
        if len(looks) >= MIN_LOOKS:
            joints = joints * looks.median()
            note = f"scaled by {looks.median():.3f}, from the depth at the wrists in {len(looks)} looks"
        doubts[4] = ~((wrist_z - joints[..., 0, 2]).abs() < HAND_WIDTH_M)
    start, end = joints[:, :, torch.tensor(BONES).T].unbind(2)
    bones = (end - start).norm(dim=-1).sum(-1)
    size = bones / bones.nanmedian(0).values
    bent_back = ((joints - joints[:, :, :1]) @ wrist_turns(joints))[:, :, TIPS, 2].mean(-1)
    doubts |= {
        5: ~((size > SIZES[0]) & (size < SIZES[1])),
        7: (bent_back > BENT_BACK_M) | (bent_back.nanmedian(0).values > BENT_BACK_M / 2),
        3: wanted.double().mean(-1) < 0.5,
        2: ~inside[..., 0] | (inside.double().mean(-1) < 0.5),
        1: ~given,
    }
    reason = torch.zeros_like(given, dtype=torch.int64)
    for number, doubt in doubts.items():  # the last one counts
        reason[doubt] = number
    steps = torch.where((reason == 0)[..., None], joints[:, :, 0], torch.nan).diff(dim=0)
    fast = steps.norm(dim=-1) > FASTEST * times_s.double().diff()[:, None]
    reason[:-1][fast] = reason[1:][fast] = 6
    track = HandTrack(joints=joints, reason=reason, source=source)
    return track, f"hands: {note}; {track.text()}"


def _looked_up(maps: Tensor, pixels: Tensor) -> Tensor:
    """Values of maps [T, H, W] at pixels [T, ...]; a frame at a time, since long clips are on disk."""
    return torch.stack([maps[t].flatten()[at].double() for t, at in enumerate(pixels)])
