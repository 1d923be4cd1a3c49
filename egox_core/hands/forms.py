"""Detect the unit of ``hands.json`` and refuse joints that can't be hands, by proportions common to
all hands."""

import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..facts import FACTS, UNITS_M
from .track import BONES, bone_lengths, complete_hands

SIZES_M = (0.3, 1.6)  # of the sum of a hand's bones: a grown-up's is 0.8
SIZES = {"m": SIZES_M, "cm": (39.4, 160), "mm": (300, 1600)}
"""The same in a file that states no unit: numbers of 25 to 39 may be inches as well."""
SHARES = torch.tensor(
    [0.054, 0.057, 0.039, 0.027]  # thumb
    + [0.115, 0.049, 0.028, 0.020]  # index
    + [0.109, 0.055, 0.032, 0.021]  # middle
    + [0.105, 0.051, 0.032, 0.021]  # ring
    + [0.103, 0.040, 0.022, 0.020],  # little
    dtype=torch.float64,
)
"""Of each bone in the sum: from the wrist as :data:`.track.PALMS` has them, then mean lengths of
"Proportions of hand segments" (Int. J. Morphol. 28, 2010)."""
NEAREST_WRIST_M = 0.1
"""Least distance along z of most wrists: no camera that films somebody is nearer to a hand."""
MAX_SHAPE_ERROR = 0.22
"""Distance of a clip's median shares from :data:`SHARES`, of their own length, for many hands; one
hand alone may have twice as much (``benchmarks/results/constants.md``)."""


def without_collapsed(joints: Tensor) -> Tensor:  # [T, 2, 21, 3]
    """Mark hands whose joints are all at one place as unknown."""
    is_collapsed = (joints == joints[:, :, :1]).flatten(2).all(-1)
    return joints.masked_fill(is_collapsed[..., None, None], torch.nan)


def hands_unit(
    joints: Tensor,  # [T, 2, 21, 3] in our order
    # Metres; None: not stated.
    stated_m: float | None,
    believed: Tensor,  # [T, 2] bool, hands that aren't doubted already
    label: str,
) -> float:
    """Check a stated unit of joints in metres by the hands' own size, or find it there.

    Raises:
        EgoXInputError: joints that can't be hands: relative to one of the hand's own, in another
            order or unit, behind the camera or at its lens.
    """
    centres = joints.nanmedian(2).values
    spread = (joints - centres[:, :, None]).norm(dim=-1).nanmedian(-1).values
    if (centres.norm(dim=-1) < 3 * spread)[torch.isfinite(spread)].double().mean() > 0.5:
        raise EgoXInputError(
            label,
            got="joints about the hand's own root",
            expected="places in the camera's axes",
            fix="add the network's translation to them: pred_cam_t, or the root's place",
        )
    known_hands = joints[complete_hands(joints) & believed]
    if not len(known_hands):
        return stated_m or 1.0
    _check_camera_z(known_hands, label)
    lengths_per_hand = bone_lengths(known_hands)
    bone_shares = (lengths_per_hand / lengths_per_hand.sum(-1, keepdim=True)).median(0).values
    shape_error = (bone_shares / bone_shares.sum() - SHARES).norm() / SHARES.norm()
    if not shape_error < MAX_SHAPE_ERROR * (1 + 1 / len(known_hands)):
        odd_bone = int((bone_shares / SHARES).log().abs().argmax())
        raise EgoXInputError(
            f"order of joints of {label}",
            got=(
                f"bones of lengths that no hand has: joint {BONES[odd_bone][1]} is "
                f"{bone_shares[odd_bone] / SHARES[odd_bone]:.1f} times as far from joint "
                f"{BONES[odd_bone][0]}"
            ),
            expected="wrist, then thumb to little finger, each from its root to its tip",
            fix=(
                "list all 21 joints as 'names' in the order that the file has, or write them in "
                "ours"
            ),
        )
    hand_size = float(lengths_per_hand.sum(-1).median())
    own_units = (
        UNITS_M[name] for name, bounds in SIZES.items() if bounds[0] < hand_size < bounds[1]
    )
    unit_m = next(own_units, None) if stated_m is None else stated_m
    unit_text = "a unit not stated" if unit_m is None else FACTS["hands.unit"].show(unit_m)
    if unit_m is None or not SIZES_M[0] < hand_size * unit_m < SIZES_M[1]:
        raise EgoXInputError(
            f"unit of {label}",
            got=f"hands whose bones are {hand_size:.3g} long together, in {unit_text}",
            expected="0.8 m",
            fix=f"state the joints' unit as 'unit': {', '.join(UNITS_M)}; or declare hands.unit"
            "; or where x and y are a picture's, write x = (u - cx) z / fx, of shares "
            "(u W - cx) z / fx",
        )
    behind_mask = known_hands[:, 0, 2] <= 0
    if behind_mask.double().mean() > 0.5:
        raise EgoXInputError(
            label,
            got=f"{int(behind_mask.sum())} of {len(known_hands)} hands behind the camera",
            expected="OpenCV's axes: x right, y down, z forward",
            fix="declare hands.axes=opengl if y is up and z back; joints about a body's root need "
            "its translation",
        )
    wrist_z_m = known_hands[:, 0, 2] * unit_m
    near_mask = wrist_z_m < NEAREST_WRIST_M
    if near_mask.double().mean() > 0.5:
        raise EgoXInputError(
            label,
            got=f"wrists {100 * float(wrist_z_m.median()):.2g} cm before the lens, and so in "
            f"{int(near_mask.sum())} of {len(known_hands)} hands",
            expected=f"all three numbers in one unit, {100 * NEAREST_WRIST_M:.0f} cm or farther",
            fix="pixels beside metres? write x = (u - cx) z / fx and y = (v - cy) z / fy",
        )
    return unit_m


def _check_camera_z(known_hands: Tensor, label: str) -> None:  # [N, 21, 3]
    """Refuse joints whose z counts from one of the hand's own.

    Raises:
        EgoXInputError: a joint with z 0 in most hands.
    """
    zero_shares = (known_hands[..., 2] == 0).double().mean(0)
    root = int(zero_shares.argmax())
    if zero_shares[root] > 0.5:
        unit = (
            "shares of the picture" if bool((known_hands[..., :2].abs() <= 1).all()) else "pixels"
        )
        raise EgoXInputError(
            label,
            got=f"z from joint {root} on, whose own is 0, beside x and y that may be {unit}",
            expected="places in the camera's axes, all three numbers in one unit",
            fix="a picture's x and y say no distance: give the network's joints in metres with its "
            "translation, or add a wrist's depth to z and write x = (u - cx) z / fx",
        )
