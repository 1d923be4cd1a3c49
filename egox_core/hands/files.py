"""Read and write ``hands.json``, the hands of a video in a format for any network's output."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_tensor
from ..errors import EgoXInputError, check_choice
from ..facts import NOTHING_DECLARED, UNITS_M, Declared, Statement, settle, unread_fields
from ..frames import UNTIMED_FPS, Frames
from ..safe_files import read_json_object, write_json
from .forms import hands_unit, without_collapsed
from .judge import mirrored, odd_sizes
from .track import JOINT_NAMES, MIRRORED, ODD_SIZE, REASONS, SIDES, HandTrack, complete_hands

FORMAT_FIELDS = {"format": "egox_hands", "version": 1}
"""Fields that name the form of a file."""
DEFAULT_FIELDS = {"unit": "m", "names": list(JOINT_NAMES)}
"""Fields that a file may leave out: of each joint its name, in the file's own order."""
MAX_BYTES = 256 * 2**20
"""Of a file: some 1.5 kB a frame."""
FARTHEST = 1e9
"""Metres; farther numbers are damage."""
OWN_SIZE = "the hands' own size"
"""Source of the unit of joints whose file states none."""
SHAPE = (len(SIDES), len(JOINT_NAMES), 3)
ALIASES = {"names": "joint_names", "unit": "units"}
"""Names of other programs for fields of ours."""
READ_FIELDS = {
    *FORMAT_FIELDS,
    *ALIASES,
    *ALIASES.values(),
    *("joints", "source", "reason", "axes", "sides", "frame_idx"),
}


def read_hands(path: Path, declared: Declared = NOTHING_DECLARED) -> HandTrack:
    """Read ``hands.json``, which has one entry per frame of the exo video from frame 0 on.

    ``frame_idx`` numbers its entries by frame, ``sides`` names its two hands in their order.

    Hands of the other side, which are swapped or mirrored, aren't valid, nor are those of another
    size than in the rest of the clip.

    Args:
        declared: what the user says of axes, unit and names of the joints, and of their frames.

    Raises:
        EgoXInputError: no file, no JSON, another format or version, joints of another count, names
            that aren't a hand's, text or infinite numbers, an unknown reason or side, what
            :func:`.forms.hands_unit` refuses.
    """
    content = read_json_object(path, "hands", MAX_BYTES)
    file_label = f"hands {path.name!r}"
    for key, value in FORMAT_FIELDS.items():
        if content.get(key) != value:
            raise EgoXInputError(
                f"{key} of {file_label}",
                got=repr(content.get(key)),
                expected=value,
                fix="write it as hands.write_hands does, or update the pack",
            )
    frames = content.get("joints")
    if not isinstance(frames, list) or not frames:
        raise EgoXInputError(
            f"joints of {file_label}",
            got=repr(frames),
            expected="a list with one entry per frame: [left, right], each of 21 [x, y, z] or null",
            fix="write it as hands.write_hands does",
        )
    joints = torch.tensor(
        [
            _flat_numbers(frame, SHAPE, f"joints of {file_label}, frame {t}")
            for t, frame in enumerate(frames)
        ],
        dtype=torch.float64,
    ).reshape(-1, *SHAPE)
    for key, alias in ALIASES.items():
        content.setdefault(key, content.get(alias))
    unit = content.get("unit")
    if unit is not None:
        check_choice(f"unit of {file_label}", unit, [*UNITS_M])
    names_label = f"names of {file_label}"
    _joint_order(content.get("names"), names_label)
    statements = [
        Statement(fact, value, path.name)
        for fact, value in (
            ("hands.names", content.get("names")),
            ("hands.unit", None if unit is None else UNITS_M[unit]),
            ("hands.axes", _stated_axes(content, file_label)),
        )
        if value is not None
    ]
    names, names_row = settle("hands.names", statements, declared, None)
    signs, axes_row = settle("hands.axes", statements, declared, (1.0, 1.0, 1.0))
    unit_m, unit_row = settle("hands.unit", statements, declared, None)
    joints = joints[:, :, _joint_order(names, names_label)]
    joints = joints * torch.tensor(signs, dtype=torch.float64)
    stated_reasons = None
    believed_mask = torch.ones(joints.shape[:2], dtype=torch.bool)
    if (reasons := content.get("reason")) is not None:
        stated_reasons = _read_reasons(reasons, len(joints), f"reason of {file_label}")
        believed_mask = stated_reasons == 0
    if _are_swapped(content.get("sides"), file_label):
        joints, believed_mask = joints.flip(1), believed_mask.flip(1)
        stated_reasons = None if stated_reasons is None else stated_reasons.flip(1)
    joints, note = without_collapsed(joints), ""
    own_unit_m = hands_unit(joints, unit_m, believed_mask, file_label)
    if unit_m is None:
        _, unit_row = settle("hands.unit", [Statement("hands.unit", own_unit_m, OWN_SIZE, "form")])
        note = f"given in {unit_row.value}, by {OWN_SIZE}" if own_unit_m != 1 else ""
    joints = joints / (1 / own_unit_m)
    track = HandTrack.of_joints(joints, str(content.get("source") or path.name))
    reason = track.reason if stated_reasons is None else stated_reasons
    for number, doubt_mask in ((MIRRORED, mirrored(joints)), (ODD_SIZE, odd_sizes(joints))):
        reason = torch.where((reason == 0) & complete_hands(joints) & doubt_mask, number, reason)
    rows = (names_row, axes_row, unit_row, *declared.rows("hands.frames"))
    declared.part("hands.").argument.check_applied(rows, "these hands")
    unread_remarks = unread_fields(content.keys() - READ_FIELDS, file_label)
    note = "; ".join(filter(None, [note, *map(str, unread_remarks)]))
    if (numbers := content.get("frame_idx")) is not None:
        indices = _frame_numbers(numbers, len(track), f"frame_idx of {file_label}")
        order = indices.argsort(stable=True)
        own_frames = Frames(indices=indices[order], times_s=indices[order] / UNTIMED_FPS)
        track = replace(track, joints=track.joints[order], frames=own_frames)
        reason = reason[order]
    return replace(track, reason=reason, note=note, facts=rows)


def hands_in_use(path: Path, frames: Frames, declared: Declared) -> HandTrack:
    """Read the hands of ``hands.json`` for the frames in use.

    Raises:
        EgoXInputError: as :func:`read_hands`; hands that may be of other frames.
    """
    declared = declared.part("hands.")
    return read_hands(path, declared).in_use(frames, declared.argument_value("hands.frames"))


def _stated_axes(content: dict, label: str) -> tuple[float, float, float] | None:
    axes = content.get("axes")
    return axes and Declared.of({"hands.axes": axes}, f"axes of {label}").value("hands.axes")


def _are_swapped(sides: object, label: str) -> bool:
    """Check whether a file has the right hand first."""
    names = [str(side).lower() for side in sides] if isinstance(sides, list) else sides
    if names not in (None, [*SIDES], [*reversed(SIDES)]):
        raise EgoXInputError(
            f"sides of {label}",
            got=repr(sides)[:60],
            expected="left and right, in the order of the file's hands",
            fix="name both once, or leave sides out where the left hand is first",
        )
    return names == [*reversed(SIDES)]


def _frame_numbers(numbers: object, count: int, label: str) -> Tensor:  # [T] int64
    values = as_tensor(numbers, label, count).double()
    if bool(((values % 1 != 0) | (values < 0)).any()):
        raise EgoXInputError(
            label,
            got="numbers that aren't of frames",
            expected="whole numbers from 0 on, of the video's frames",
            fix="number the entries by frame, or leave frame_idx out",
        )
    return values.long()


def _joint_order(names: object, label: str) -> Tensor:  # [21] int64
    """Find the index of each of our joints in a file's list of joint names."""
    if names is None:
        return torch.arange(len(JOINT_NAMES))
    if not isinstance(names, list | tuple) or sorted(map(str, names)) != sorted(JOINT_NAMES):
        raise EgoXInputError(
            label,
            got=repr(names)[:60],
            expected=f"each of these once, in the file's order: {', '.join(JOINT_NAMES)}",
            fix="rename the joints, or leave names out where they are in this order",
        )
    return torch.tensor([names.index(name) for name in JOINT_NAMES])


def _read_reasons(reasons: object, count: int, label: str) -> Tensor:  # [T, 2] int64
    reason = as_tensor(reasons, label, count, len(SIDES)).long()
    if not bool(torch.isin(reason, torch.arange(len(REASONS))).all()):
        raise EgoXInputError(
            label,
            got="an unknown number",
            expected=f"0 to {len(REASONS) - 1}",
            fix="leave reason out: whole hands are then valid",
        )
    return reason


def write_hands(track: HandTrack, path: Path) -> None:
    """Write ``hands.json``, complete or not at all.

    Unknown numbers become null; metres are written to a thousandth of a millimetre.
    """
    joints = track.joints.numpy()
    content = (
        FORMAT_FIELDS
        | DEFAULT_FIELDS
        | {
            "source": track.source,
            "reason": track.reason.tolist(),
            "joints": np.where(np.isfinite(joints), joints.round(6), np.array(None)).tolist(),
        }
    )
    write_json(path, content, indent=None)


def _flat_numbers(values: object, shape: tuple[int, ...], label: str) -> list[float]:
    """Flatten nested lists of numbers, with NaN for a null at any depth.

    Raises:
        EgoXInputError: a list of another length, something that is no number.
    """
    if values is None:
        return [float("nan")] * torch.Size(shape).numel()
    if shape:
        if isinstance(values, list) and len(values) == shape[0]:
            return [number for row in values for number in _flat_numbers(row, shape[1:], label)]
    elif isinstance(values, int | float) and not isinstance(values, bool):
        if not abs(values) >= FARTHEST:  # NaN, as Python writes it, is unknown too
            return [float(values)]
    raise EgoXInputError(
        label,
        got=f"{len(values)} entries" if isinstance(values, list) else repr(values),
        expected=f"{shape[0]} entries, or null" if shape else "metres, or null where unknown",
        fix="write it as hands.write_hands does",
    )
