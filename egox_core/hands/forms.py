"""Forms in which other networks give a hand's 21 joints, told by what all hands have in common.

A hand's size tells its unit, and its bones the order of its joints: read in another order, they are
longer. Neither is told by the scene."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import EgoXInputError
from .track import BONES, whole

OWN = "that of names"
TIGHT = [(1, 5), (5, 9), (9, 13), (13, 17), (0, 1), (0, 1)]
"""Joints of the palm that are near each other in no other order: the thumb's root and the wrist."""
WEIGHTS = torch.tensor([1.0, 1.0, 2.0, 3.0] * 5 + [1.0] * len(TIGHT), dtype=torch.float64)
"""Of each finger's bones from the palm on, since those get shorter, and of :data:`TIGHT`."""
SHORTER = 0.97
"""Of the length in our order, from which on another one is right: of hands that are stretched, bent
or clenched and off by 1 cm a joint, none has a lower share."""
SIZES_M = (0.3, 1.6)  # of the sum of a hand's bones: a grown-up's is 0.8
UNITS = {"metres": 1, "centimetres": 100, "millimetres": 1000}
ODD_UNITS = {"feet": 1 / 0.3048, "inches": 1 / 0.0254}
GROWN_M = (0.64, 1.0)
"""Of a grown-up's sum, by a quarter; the same number of inches as centimetres would be a baby's."""
ABSENT = (0, -1)  # written as x, y and z of a joint that wasn't found


def orders() -> Iterator[tuple[str, list[int]]]:
    """Orders that networks have: a name, and for each of our joints its place there."""
    for fingers, words in (
        (range(5), ""),
        (range(4, -1, -1), ", the little finger first"),
        ((4, 0, 1, 2, 3), ", the thumb last"),
        ((4, 0, 1, 3, 2), ", fingers as MANO has them"),
    ):
        for joints, direction in ((range(4), "roots"), (range(3, -1, -1), "tips")):
            for first in (1, 0):
                places = [first + 4 * finger + joint for finger in fingers for joint in joints]
                name = f"{direction} first, the wrist {'first' if first else 'last'}{words}"
                ours = places == list(range(1, 21))
                yield OWN if ours else name, [0 if first else 20, *places]
    for tips, words in ((range(16, 21), "thumb"), ((20, 16, 17, 19, 18), "index")):
        roots = zip((13, 1, 4, 10, 7), tips, strict=True)
        places = [place for root, tip in roots for place in (*range(root, root + 3), tip)]
        yield f"MANO's, then the tips from the {words} on", [0, *places]
    yield "all roots, then all next ones", [0, *(f + 5 * j for f in range(1, 6) for j in range(4))]
    yield (
        "all roots, then finger by finger",
        [0, *(p for f in range(5) for p in (f + 1, *range(6 + 3 * f, 9 + 3 * f)))],
    )


ORDERS = dict(orders())


def in_metres(joints: Tensor, what: str) -> tuple[Tensor, str]:  # [T, 2, 21, 3]
    """The same joints in metres, unknown where a number stands for "absent", and a note on the unit.

    Raises:
        EgoXInputError: joints relative to one of the hand's own, in another order, of no hand's size,
            behind the camera.
    """
    joints = joints.clone()
    joints[(joints == joints[:, :, :1]).flatten(2).all(-1)] = torch.nan
    middle = joints.nanmedian(2).values
    spread = (joints - middle[:, :, None]).norm(dim=-1).nanmedian(-1).values
    if (middle.norm(dim=-1) < 3 * spread)[torch.isfinite(spread)].double().mean() > 0.5:
        raise EgoXInputError(
            what,
            got="joints about the hand's own root",
            expected="places in the camera's axes",
            fix="add the network's translation to them: pred_cam_t, or the root's place",
        )
    for number in ABSENT:
        joints[(joints == number).all(-1)] = torch.nan
    hands = joints[whole(joints)]
    if not len(hands):
        return joints, ""
    lengths = {
        name: float((_lengths(hands[:, order], BONES + TIGHT) @ WEIGHTS).median())
        for name, order in ORDERS.items()
    }
    best = min(lengths, key=lengths.__getitem__)
    if lengths[best] < SHORTER * lengths[OWN]:
        raise EgoXInputError(
            f"order of joints of {what}",
            got=f"{best}: as it is, bones are {lengths[OWN] / lengths[best]:.1f} times as long",
            expected="wrist, then thumb to little finger, each from its root to its tip",
            fix=f"write the joints {ORDERS[best]} of yours",
        )
    size = float(_lengths(hands, BONES).sum(-1).median())
    odd = next((u for u, n in ODD_UNITS.items() if GROWN_M[0] < size / n < GROWN_M[1]), None)
    unit = next((u for u, n in UNITS.items() if SIZES_M[0] < size / n < SIZES_M[1]), None)
    if unit is None or odd is not None:
        raise EgoXInputError(
            what,
            got=f"hands whose bones are {size:.3g} long together" + (f": {odd}?" if odd else ""),
            expected="0.8 m, or that in millimetres or centimetres",
            fix="give the joints in metres",
        )
    behind = hands[:, 0, 2] <= 0
    if behind.double().mean() > 0.5:
        raise EgoXInputError(
            what,
            got=f"{int(behind.sum())} of {len(hands)} hands behind the camera",
            expected="OpenCV's axes: x right, y down, z forward",
            fix="turn the signs of y and z if they are OpenGL's (y up, z back); joints about a "
            "body's root need its translation",
        )
    note = "" if unit == "metres" else f"given in {unit}, by the hands' own size"
    return joints / UNITS[unit], note


def _lengths(hands: Tensor, pairs: list[tuple[int, int]]) -> Tensor:  # [N, 21, 3] -> [N, pairs]
    start, end = hands[:, torch.tensor(pairs).T].unbind(1)
    return (end - start).norm(dim=-1)
