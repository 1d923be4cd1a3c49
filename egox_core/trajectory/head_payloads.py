"""Read keypoints in the formats of ComfyUI's detectors (OpenPose and MHR) as
:class:`~.head_points.HeadPoints`.

- ``POSE_KEYPOINT``: a list per frame of OpenPose's dictionaries: ``canvas_width``,
  ``canvas_height``, ``people`` with ``pose_keypoints_2d``, 18 (COCO) or 25 (BODY_25) times (x, y,
  score) in pixels.
- ``MHR_POSE_DATA`` of SAM 3D Body: ``frames`` with one dictionary a person, ``pred_keypoints_3d``
  (70, 3) in metres about ``pred_cam_t``, OpenCV axes, ``pred_keypoints_2d``, ``focal_length``,
  ``pred_face_keypoints_3d`` (238, 3); a pose for an empty ``bbox`` or ``mask``, too. ``image_size``
  (height, width).
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
"""Left and right hand: the wrist, then from each finger's root, which the model has last, to its
tip."""
MIN_POINTS = 10  # of a person, for a projection
MAX_LOG_ERROR = 0.2
"""Of a focal length, or a picture's side, in natural logarithms, in the median over all people."""
FIX_DETECTOR_OUTPUT = "give the detector's own output"
FIX_MODEL_OUTPUT = "give SAM 3D Body's pose data"


def openpose_people(
    # One dictionary per frame, in order.
    frames: Any,
) -> People:
    """Read all persons in a POSE_KEYPOINT payload.

    Raises:
        EgoXInputError: another form, no canvas, canvases of several sizes.
    """
    source = "keypoints (OpenPose)"
    if isinstance(frames, Mapping):
        frames = [frames]
    if not (
        isinstance(frames, Sequence)
        and frames
        and all(
            isinstance(frame_payload, Mapping) and isinstance(frame_payload.get("people"), Sequence)
            for frame_payload in frames
        )
    ):
        raise EgoXInputError(
            source,
            got=type(frames).__name__,
            expected="a list with one object per frame, each with people",
            fix="give the detector's POSE_KEYPOINT, or OpenPose's own JSON files",
        )
    sizes = {
        _picture_size((frame_payload["canvas_width"], frame_payload["canvas_height"]), source)
        for frame_payload in frames
        if frame_payload.get("canvas_width") and frame_payload.get("canvas_height")
    }
    if len(sizes) != 1:
        raise EgoXInputError(
            source,
            got=f"canvases of {len(sizes)} sizes",
            expected="one canvas_width and canvas_height for the whole clip",
            fix="run the detector on one clip, and keep the size that it ran at",
        )
    people = (
        [_openpose_person(person, source) for person in frame_payload["people"]]
        for frame_payload in frames
    )
    return People(
        frames=tuple(
            tuple(person for person in persons if person is not None) for persons in people
        ),
        picture=sizes.pop(),
        source=source,
    )


def _openpose_person(person: Any, source: str) -> Person | None:
    numbers = person.get("pose_keypoints_2d") if isinstance(person, Mapping) else None
    values = _array([] if numbers is None else numbers, f"pose_keypoints_2d of {source}", -1)
    if values.size == 0:
        return None  # hands or a face alone
    point_columns = OPENPOSE_POINTS.get(values.size // 3) if values.size % 3 == 0 else None
    if point_columns is None:
        raise EgoXInputError(
            source,
            got=f"{values.size / 3:g} points a person",
            expected="18 (COCO) or 25 (BODY_25)",
            fix="choose the body model COCO or BODY_25",
        )
    rows = values.reshape(-1, 3)[list(point_columns.values())]
    rows = np.where(np.isfinite(rows), rows, 0.0)
    # OpenPose writes (0, 0) with score 0 for what it did not find; some writers keep a score.
    score = np.where((rows[:, :2] == 0).all(1), 0.0, np.clip(rows[:, 2], 0, 1))
    return Person(rows[:, :2], score) if (score > 0).any() else None


def mhr_people(payload: Any) -> People:
    """Read all persons in an MHR_POSE_DATA payload.

    Raises:
        EgoXInputError: another form, a key missing.
    """
    source = "pose (MHR)"
    frames, size = _required_values(payload, ("frames", "image_size"), source)
    picture = _picture_size(_array(size, f"image_size of {source}", -1)[::-1], source)
    persons = [
        [person for person in _as_list(frame, source) if _has_person(person, source)]
        for frame in _as_list(frames, source)
    ]
    people = tuple(
        tuple(_mhr_person(person, picture, source) for person in frame) for frame in persons
    )
    _check_projection([person for frame in persons for person in frame], picture, source)
    return People(frames=people, picture=picture, source=source)


def _check_projection(people: list[Any], size: tuple[int, int], source: str) -> None:
    """Refuse a body model's 3-D points that don't project to its image points.

    Raises:
        EgoXInputError: image points of a picture of another size, a translation that is added
            twice.
    """
    projection_fits = []
    for person in people:
        if person.get("pred_keypoints_2d") is None:
            continue
        uv, points_m = (
            _array(person[f"pred_keypoints_{dimensions}d"], source)[:, :dimensions]
            for dimensions in (2, 3)
        )
        points_m = points_m + _array(person["pred_cam_t"], source, 3)
        count = min(len(uv), len(points_m))
        uv, points_m = uv[:count], points_m[:count]
        known_mask = np.isfinite(np.hstack((uv, points_m))).all(1) & (points_m[:, 2] > 0)
        uv = uv[known_mask]
        rays = points_m[known_mask, :2] / points_m[known_mask, 2:]
        ray_variance = np.square(offsets := rays - rays.mean(0)).sum()
        if known_mask.sum() >= MIN_POINTS and ray_variance > 0:
            focal = (offsets * uv).sum() / ray_variance
            stated_focal = person.get("focal_length")
            share = 1.0 if stated_focal is None else focal / np.mean(_array(stated_focal, source))
            projection_fits.append((share, *(uv.mean(0) - focal * rays.mean(0)) * 2 / size))
    if not projection_fits:
        return
    focal_ratio, *centre_ratio = np.median(projection_fits, axis=0)
    if max(abs(np.log(np.maximum((focal_ratio, *centre_ratio), 1e-3)))) > MAX_LOG_ERROR:
        width, height = (side * ratio for side, ratio in zip(size, centre_ratio, strict=True))
        raise EgoXInputError(
            source,
            got=(
                f"image points of a focal length {focal_ratio:.2f} times as long as stated, in a "
                f"picture of about {width:.0f}x{height:.0f} px"
            ),
            expected=f"focal_length * x / z from the middle of {size[0]}x{size[1]} px",
            fix=(
                f"give image_size ({height:.0f}, {width:.0f}), height and width of the picture "
                "that the model saw, and add pred_cam_t nowhere: it is added here"
            ),
        )


def _has_person(person: Any, source: str) -> bool:
    """Check that a body model's person has a box or mask that isn't empty."""
    person_box, person_mask = (
        person.get(key) if isinstance(person, Mapping) else None for key in ("bbox", "mask")
    )
    if person_box is not None:
        left, top, right, bottom = _array(person_box, f"bbox of {source}", 4)
        if right <= left or bottom <= top:
            return False
    return person_mask is None or bool((_array(person_mask, f"mask of {source}") > 0).any())


def _mhr_person(person: Any, size: tuple[int, int], source: str) -> Person:
    keypoints, translation = _required_values(person, ("pred_keypoints_3d", "pred_cam_t"), source)
    rows = list(MHR_POINTS.values())
    points_m = _points(keypoints, 3, max(rows) + 1, f"pred_keypoints_3d of {source}")
    points_m = points_m + _array(translation, f"pred_cam_t of {source}", 3)
    head_points_m = points_m[rows]
    image_points = person.get("pred_keypoints_2d")
    if image_points is not None:
        uv = _points(image_points, 2, max(rows) + 1, f"pred_keypoints_2d of {source}")[rows]
    elif person.get("focal_length") is not None:
        focal = _array(person["focal_length"], f"focal_length of {source}", 1)
        uv = (
            focal * head_points_m[:, :2] / np.maximum(head_points_m[:, 2:], 1e-6)
            + np.array(size) / 2
        )
    else:
        raise EgoXInputError(
            source,
            got="neither pred_keypoints_2d nor focal_length",
            expected="one of them",
            fix=FIX_MODEL_OUTPUT,
        )
    covariance = ((uv - uv.mean(0)) * (head_points_m - head_points_m.mean(0))[:, :2]).sum(0)
    if (np.ptp(uv, axis=0) > 1).all() and covariance.min() < 0:
        raise EgoXInputError(
            source,
            got="points in metres that are mirrored or upside down relative to the image points",
            expected="OpenCV's axes: x right, y down, z forward",
            fix=FIX_DETECTOR_OUTPUT,
        )
    rigid = head_points_m[: len(HEAD_POINTS)]
    face = person.get("pred_face_keypoints_3d")
    if face is not None:
        face_points = _points(face, 3, len(HEAD_POINTS), f"pred_face_keypoints_3d of {source}")
        rigid = np.concatenate([rigid, face_points])
    return Person(
        *_hide_far_points(uv, np.full(len(rows), 0.9)), head_points_m, rigid, points_m[MHR_HANDS]
    )


def _required_values(payload: Any, keys: tuple[str, str], source: str) -> tuple[Any, ...]:
    """Look up required keys of a payload, and refuse a payload without one of them."""
    values = tuple(payload.get(key) for key in keys) if isinstance(payload, Mapping) else (None,)
    if any(value is None for value in values):
        raise EgoXInputError(
            source,
            got=sorted(payload) if isinstance(payload, Mapping) else type(payload).__name__,
            expected=" and ".join(keys),
            fix=FIX_MODEL_OUTPUT,
        )
    return values


def _as_list(entries: Any, source: str) -> Iterable[Any]:
    """Return a list of entries, wrapping a single entry in a list."""
    entries = [] if entries is None else [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, Sequence | np.ndarray) or getattr(entries, "ndim", 1) == 0:
        raise EgoXInputError(
            source, got=type(entries).__name__, expected="a list", fix=FIX_DETECTOR_OUTPUT
        )
    return entries


def _array(
    values: Any,
    label: str,
    # Without it, the array keeps its shape.
    *shape: int,
) -> np.ndarray:
    """Convert a list, array or tensor to a float64 array."""
    with intact(label, NO_NUMBERS, expected="a regular array of numbers", fix=FIX_DETECTOR_OUTPUT):
        array = values.detach().cpu() if isinstance(values, Tensor) else values
        numbers = np.asarray(array, dtype=float)
        return numbers.reshape(shape) if shape else numbers


def _points(values: Any, axes: int, count: int, label: str) -> np.ndarray:  # [N, axes], N >= count
    points = _array(values, label)
    if points.ndim != 2 or len(points) < count or points.shape[1] < axes:
        raise EgoXInputError(
            label,
            got=f"shape {points.shape}",
            expected=f"({count} or more, {axes})",
            fix=FIX_DETECTOR_OUTPUT,
        )
    return points[:, :axes]


def _picture_size(size: Any, source: str) -> tuple[int, int]:
    """Check the width and height of a picture in px."""
    width_and_height = _array(size, f"image size of {source}", 2)
    if not (width_and_height >= 1).all() or not (width_and_height <= MAX_SIDE).all():
        raise EgoXInputError(
            f"image size of {source}",
            got=width_and_height.tolist(),
            expected=f"1 to {MAX_SIDE} px per side",
            fix=FIX_DETECTOR_OUTPUT,
        )
    return int(width_and_height[0]), int(width_and_height[1])


def _hide_far_points(uv: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give points without a finite position near the picture a score of 0."""
    near_mask = np.all(np.abs(uv) <= 16 * MAX_SIDE, 1)
    return np.where(near_mask[:, None], uv, 0.0), np.where(near_mask, scores, 0.0)
