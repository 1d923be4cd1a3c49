"""Keypoints of the host's detectors, told as :class:`~.head_points.HeadPoints`: OpenPose and MHR.

- ``POSE_KEYPOINT``: a list per frame of OpenPose's dictionaries: ``canvas_width``, ``canvas_height``, ``people`` with
  ``pose_keypoints_2d``, 18 (COCO) or 25 (BODY_25) times (x, y, score) in pixels.
- ``MHR_POSE_DATA`` of SAM 3D Body: ``frames`` with one dictionary a person, ``pred_keypoints_3d`` (70, 3) in metres
  about ``pred_cam_t``, OpenCV axes, ``pred_keypoints_2d``, ``focal_length``, ``pred_face_keypoints_3d`` (238, 3); a
  pose for an empty ``bbox`` or ``mask``, too. ``image_size`` (height, width).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import NO_NUMBERS, EgoXInputError, intact
from ..sizes import MAX_SIDE
from .head_points import People, Person
from .head_template import HEAD_POINTS, POINTS

OPENPOSE_POINTS: Mapping[int, Mapping[str, int]] = {  # by how many points a person has
    18: dict(zip(POINTS, (14, 15, 16, 17, 0, 1, 2, 5), strict=True)),
    25: dict(zip(POINTS, (15, 16, 17, 18, 0, 1, 2, 5), strict=True)),
}
MHR_POINTS: Mapping[str, int] = dict(zip(POINTS, (2, 1, 4, 3, 0, 69, 6, 5), strict=True))
MHR_HANDS = [
    [wrist, *(wrist - 20 + 4 * finger + joint for finger in range(5) for joint in (3, 2, 1, 0))]
    for wrist in (62, 41)
]
"""Left and right hand: the wrist, then from each finger's root, which the model has last, to its tip."""
LEAST_POINTS = 10  # of a person, for a projection
MOST_OFF = 0.2
"""Of a focal length, or a picture's side, in natural logarithms, in the median over all people."""
DETECTORS_OWN = "give the detector's own output"
MODELS_OWN = "give SAM 3D Body's pose data"


def openpose_people(
    # One dictionary per frame, in order.
    frames: Any,
) -> People:
    """Read everybody in POSE_KEYPOINT.

    Raises:
        EgoXInputError: another form, no canvas, canvases of several sizes.
    """
    source = "keypoints (OpenPose)"
    if isinstance(frames, Mapping):
        frames = [frames]
    if not (
        isinstance(frames, Sequence)
        and frames
        and all(isinstance(f, Mapping) and isinstance(f.get("people"), Sequence) for f in frames)
    ):
        raise EgoXInputError(
            source,
            got=type(frames).__name__,
            expected="a list with one object per frame, each with people",
            fix="give the detector's POSE_KEYPOINT, or OpenPose's own JSON files",
        )
    sizes = {
        _picture((f["canvas_width"], f["canvas_height"]), source)
        for f in frames
        if f.get("canvas_width") and f.get("canvas_height")
    }
    if len(sizes) != 1:
        raise EgoXInputError(
            source,
            got=f"canvases of {len(sizes)} sizes",
            expected="one canvas_width and canvas_height for the whole clip",
            fix="run the detector on one clip, and keep the size that it ran at",
        )
    people = ([_openpose_person(p, source) for p in f["people"]] for f in frames)
    return People(
        frames=tuple(tuple(p for p in frame if p is not None) for frame in people),
        picture=sizes.pop(),
        source=source,
    )


def _openpose_person(person: Any, source: str) -> Person | None:
    numbers = person.get("pose_keypoints_2d") if isinstance(person, Mapping) else None
    values = _array([] if numbers is None else numbers, f"pose_keypoints_2d of {source}", -1)
    if values.size == 0:
        return None  # hands or a face alone
    table = OPENPOSE_POINTS.get(values.size // 3) if values.size % 3 == 0 else None
    if table is None:
        raise EgoXInputError(
            source,
            got=f"{values.size / 3:g} points a person",
            expected="18 (COCO) or 25 (BODY_25)",
            fix="choose the body model COCO or BODY_25",
        )
    rows = values.reshape(-1, 3)[list(table.values())]
    rows = np.where(np.isfinite(rows), rows, 0.0)
    # OpenPose writes (0, 0) with score 0 for what it did not find; some writers keep a score.
    score = np.where((rows[:, :2] == 0).all(1), 0.0, np.clip(rows[:, 2], 0, 1))
    return Person(rows[:, :2], score) if (score > 0).any() else None


def mhr_people(payload: Any) -> People:
    """Read everybody in MHR_POSE_DATA.

    Raises:
        EgoXInputError: another form, a key missing.
    """
    source = "pose (MHR)"
    frames, size = _keys(payload, ("frames", "image_size"), source)
    picture = _picture(_array(size, f"image_size of {source}", -1)[::-1], source)
    persons = [
        [p for p in _listed(frame, source) if _somebody(p, source)]
        for frame in _listed(frames, source)
    ]
    people = tuple(tuple(_mhr_person(p, picture, source) for p in frame) for frame in persons)
    _check_projection([p for frame in persons for p in frame], picture, source)
    return People(frames=people, picture=picture, source=source)


def _check_projection(people: list[Any], size: tuple[int, int], source: str) -> None:
    """Refuse points in metres of which the image points aren't the projection, as the model's are.

    Raises:
        EgoXInputError: image points of a picture of another size, a translation that is added twice.
    """
    fits = []
    for person in people:
        if person.get("pred_keypoints_2d") is None:
            continue
        uv, solid = (_array(person[f"pred_keypoints_{n}d"], source)[:, :n] for n in (2, 3))
        solid = solid + _array(person["pred_cam_t"], source, 3)
        count = min(len(uv), len(solid))
        uv, solid = uv[:count], solid[:count]
        known_mask = np.isfinite(np.hstack((uv, solid))).all(1) & (solid[:, 2] > 0)
        uv, rays = uv[known_mask], solid[known_mask, :2] / solid[known_mask, 2:]
        spread = np.square(offsets := rays - rays.mean(0)).sum()
        if known_mask.sum() >= LEAST_POINTS and spread > 0:
            focal = (offsets * uv).sum() / spread
            stated_focal = person.get("focal_length")
            share = 1.0 if stated_focal is None else focal / np.mean(_array(stated_focal, source))
            fits.append((share, *(uv.mean(0) - focal * rays.mean(0)) * 2 / size))
    if not fits:
        return
    zoom, *middle = np.median(fits, axis=0)
    if max(abs(np.log(np.maximum((zoom, *middle), 1e-3)))) > MOST_OFF:
        width, height = (side * part for side, part in zip(size, middle, strict=True))
        raise EgoXInputError(
            source,
            got=f"image points of a focal length {zoom:.2f} times as long as stated, in a picture of "
            f"about {width:.0f}x{height:.0f} px",
            expected=f"focal_length * x / z from the middle of {size[0]}x{size[1]} px",
            fix="give image_size of the picture that the model saw, and add pred_cam_t nowhere: it is "
            "added here",
        )


def _somebody(person: Any, source: str) -> bool:
    """Say whether the model looked at anything: it gives a pose for an empty box or mask, too."""
    box, mask = (person.get(k) if isinstance(person, Mapping) else None for k in ("bbox", "mask"))
    if box is not None:
        left, top, right, bottom = _array(box, f"bbox of {source}", 4)
        if right <= left or bottom <= top:
            return False
    return mask is None or bool((_array(mask, f"mask of {source}") > 0).any())


def _mhr_person(person: Any, size: tuple[int, int], source: str) -> Person:
    keypoints, middle = _keys(person, ("pred_keypoints_3d", "pred_cam_t"), source)
    rows = list(MHR_POINTS.values())
    solid = _points(keypoints, 3, max(rows) + 1, f"pred_keypoints_3d of {source}")
    solid = solid + _array(middle, f"pred_cam_t of {source}", 3)
    metres, flat = solid[rows], person.get("pred_keypoints_2d")
    if flat is not None:
        uv = _points(flat, 2, max(rows) + 1, f"pred_keypoints_2d of {source}")[rows]
    elif person.get("focal_length") is not None:
        focal = _array(person["focal_length"], f"focal_length of {source}", 1)
        uv = focal * metres[:, :2] / np.maximum(metres[:, 2:], 1e-6) + np.array(size) / 2
    else:
        raise EgoXInputError(
            source,
            got="neither pred_keypoints_2d nor focal_length",
            expected="one of them",
            fix=MODELS_OWN,
        )
    together = ((uv - uv.mean(0)) * (metres - metres.mean(0))[:, :2]).sum(0)
    if (np.ptp(uv, axis=0) > 1).all() and together.min() < 0:
        raise EgoXInputError(
            source,
            got="points in metres that are mirrored or upside down relative to the image points",
            expected="OpenCV's axes: x right, y down, z forward",
            fix=DETECTORS_OWN,
        )
    rigid, face = metres[: len(HEAD_POINTS)], person.get("pred_face_keypoints_3d")
    if face is not None:
        face_points = _points(face, 3, len(HEAD_POINTS), f"pred_face_keypoints_3d of {source}")
        rigid = np.concatenate([rigid, face_points])
    return Person(*_hide_far_points(uv, np.full(len(rows), 0.9)), metres, rigid, solid[MHR_HANDS])


def _keys(given: Any, keys: tuple[str, str], source: str) -> tuple[Any, ...]:
    """Take the values under these keys, of which none may be missing."""
    values = tuple(given.get(key) for key in keys) if isinstance(given, Mapping) else (None,)
    if any(value is None for value in values):
        raise EgoXInputError(
            source,
            got=sorted(given) if isinstance(given, Mapping) else type(given).__name__,
            expected=" and ".join(keys),
            fix=MODELS_OWN,
        )
    return values


def _listed(entries: Any, source: str) -> Iterable[Any]:
    """List entries, one alone standing for a list of one."""
    entries = [] if entries is None else [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, Sequence | np.ndarray) or getattr(entries, "ndim", 1) == 0:
        raise EgoXInputError(
            source, got=type(entries).__name__, expected="a list", fix=DETECTORS_OWN
        )
    return entries


def _array(
    values: Any,
    what: str,
    # Without it, the array keeps its shape.
    *shape: int,
) -> np.ndarray:
    """Convert numbers to float64, whether they came as lists, numpy or torch (on any device)."""
    with intact(what, NO_NUMBERS, expected="a regular array of numbers", fix=DETECTORS_OWN):
        array = values.detach().cpu() if isinstance(values, Tensor) else values
        numbers = np.asarray(array, dtype=float)
        return numbers.reshape(shape) if shape else numbers


def _points(values: Any, axes: int, count: int, what: str) -> np.ndarray:  # [N, axes], N >= count
    points = _array(values, what)
    if points.ndim != 2 or len(points) < count or points.shape[1] < axes:
        raise EgoXInputError(
            what,
            got=f"shape {points.shape}",
            expected=f"({count} or more, {axes})",
            fix=DETECTORS_OWN,
        )
    return points[:, :axes]


def _picture(size: Any, source: str) -> tuple[int, int]:
    """Check the width and height in px."""
    sides = _array(size, f"image size of {source}", 2)
    if not (sides >= 1).all() or not (sides <= MAX_SIDE).all():
        raise EgoXInputError(
            f"image size of {source}",
            got=sides.tolist(),
            expected=f"1 to {MAX_SIDE} px per side",
            fix=DETECTORS_OWN,
        )
    return int(sides[0]), int(sides[1])


def _hide_far_points(uv: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mark points without a place, or far off every picture, as not seen."""
    near_mask = np.all(np.abs(uv) <= 16 * MAX_SIDE, 1)
    return np.where(near_mask[:, None], uv, 0.0), np.where(near_mask, scores, 0.0)
