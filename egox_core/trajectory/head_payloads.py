"""Keypoints of the host's detectors, told as :class:`~.head_points.HeadPoints`: OpenPose, MHR and face landmarks.

- ``POSE_KEYPOINT``: a list per frame of OpenPose's dictionaries: ``canvas_width``, ``canvas_height``, ``people`` with
  ``pose_keypoints_2d``, 18 (COCO) or 25 (BODY_25) times (x, y, score) in pixels.
- ``MHR_POSE_DATA`` of SAM 3D Body: ``frames`` with one dictionary a person, ``pred_keypoints_3d`` (70, 3) in metres
  about ``pred_cam_t``, OpenCV axes, ``pred_keypoints_2d``, ``focal_length``; ``image_size`` (height, width).
- ``FACE_LANDMARKS`` of MediaPipe: ``frames`` with ``landmarks_xy`` (478, 2) a face, ``image_size``. Its matrix is not
  used, since it assumes a field of view of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import EgoXInputError
from .head_points import HeadPoints, People, Person, choose_person
from .head_template import POINTS

OPENPOSE_POINTS: Mapping[int, Mapping[str, int]] = {  # by how many points a person has
    18: {"nose": 0, "neck": 1, "right_shoulder": 2, "left_shoulder": 5, "right_eye": 14, "left_eye": 15,
         "right_ear": 16, "left_ear": 17},
    25: {"nose": 0, "neck": 1, "right_shoulder": 2, "left_shoulder": 5, "right_eye": 15, "left_eye": 16,
         "right_ear": 17, "left_ear": 18},
}
MHR_POINTS: Mapping[str, int] = {"nose": 0, "left_eye": 1, "right_eye": 2, "left_ear": 3, "right_ear": 4,
                                 "left_shoulder": 5, "right_shoulder": 6, "neck": 69}
FACE_MESH: Mapping[str, tuple[tuple[int, ...], float]] = {  # landmarks whose mean is the point, and how far to trust it
    "nose": ((1,), 1.0), "right_eye": ((33, 133), 1.0), "left_eye": ((263, 362), 1.0),
    "right_ear": ((234,), 0.4), "left_ear": ((454,), 0.4),  # the mesh ends a finger's breadth before the ear
}


def openpose_points(frames: Any, *, picture: tuple[int, int] | None = None, person: int | None = None,
                    mask: Tensor | None = None) -> HeadPoints:
    """One person's head points in POSE_KEYPOINT, or in the JSON files of OpenPose itself.

    Args:
        person, mask: who wears the camera, see :func:`~.head_points.choose_person`.

    Raises:
        EgoXInputError: see :func:`openpose_people` and ``choose_person``.
    """
    return choose_person(openpose_people(frames, picture), index=person, mask=mask)


def openpose_people(
    frames: Any,  # one dictionary a frame, in order
    picture: tuple[int, int] | None = None,  # (width, height) px, where the dictionaries have no canvas
) -> People:
    """Everybody in POSE_KEYPOINT, or in the JSON files of OpenPose itself.

    Raises:
        EgoXInputError: another form, no canvas and no ``picture``, canvases of several sizes.
    """
    source = "keypoints (OpenPose)"
    if isinstance(frames, Mapping):
        frames = [frames]
    if not isinstance(frames, Sequence) or not frames or not all(
            isinstance(f, Mapping) and isinstance(f.get("people"), Sequence) for f in frames):
        raise EgoXInputError(source, got=type(frames).__name__, expected="a list with one object a frame, each with "
                             "people", fix="give the detector's POSE_KEYPOINT, or OpenPose's own JSON files")
    sizes = {(int(f["canvas_width"]), int(f["canvas_height"])) for f in frames
             if f.get("canvas_width") and f.get("canvas_height")}
    if len(sizes) > 1:
        raise EgoXInputError(source, got=f"canvases of {len(sizes)} sizes", expected="one size for the whole clip",
                             fix="run the detector on one clip")
    size = next(iter(sizes), picture)
    if size is None:
        raise EgoXInputError(source, got="no canvas_width and canvas_height", expected="the size of the picture",
                             fix="give the size that the detector ran at")
    people = ([_openpose_person(p, source) for p in f["people"]] for f in frames)
    return People(frames=tuple(tuple(p for p in frame if p is not None) for frame in people), picture=size,
                  source=source)


def _openpose_person(person: Any, source: str) -> Person | None:
    numbers = person.get("pose_keypoints_2d") if isinstance(person, Mapping) else None
    if numbers is None or len(numbers) == 0:
        return None  # hands or a face alone
    values = np.asarray(numbers, dtype=float).reshape(-1)
    table = OPENPOSE_POINTS.get(values.size // 3) if values.size % 3 == 0 else None
    if table is None:
        raise EgoXInputError(source, got=f"{values.size / 3:g} points a person", expected="18 (COCO) or 25 (BODY_25)",
                             fix="choose the body model COCO or BODY_25")
    rows = values.reshape(-1, 3)[[table[name] for name in POINTS]]
    rows = np.where(np.isfinite(rows), rows, 0.0)
    # OpenPose writes (0, 0) with score 0 for what it did not find; some writers keep a score.
    score = np.where((rows[:, :2] == 0).all(1), 0.0, np.clip(rows[:, 2], 0, 1))
    return (rows[:, :2], score, None) if (score > 0).any() else None


def openpose_content(people: People) -> list[dict[str, Any]]:
    """The same people as POSE_KEYPOINT: plain values for JSON, pixels to a hundredth, 18 points a person."""
    width, height = people.picture
    rows = [OPENPOSE_POINTS[18][name] for name in POINTS]

    def written(person: Person) -> dict[str, Any]:
        values = np.zeros((18, 3))
        values[rows] = np.where((person[1] > 0)[:, None], np.column_stack([person[0], person[1]]), 0.0)
        return {"pose_keypoints_2d": np.round(values, 2).ravel().tolist()}

    return [{"canvas_width": width, "canvas_height": height, "people": [written(person) for person in frame]}
            for frame in people.frames]


def mhr_points(payload: Any, *, person: int | None = None, mask: Tensor | None = None) -> HeadPoints:
    """One person's head points in MHR_POSE_DATA: pixels by its own camera, and metres whose distance is not trusted.

    Raises:
        EgoXInputError: see :func:`mhr_people` and :func:`~.head_points.choose_person`.
    """
    return choose_person(mhr_people(payload), index=person, mask=mask)


def mhr_people(payload: Any) -> People:
    """Everybody in MHR_POSE_DATA.

    Raises:
        EgoXInputError: another form, a key missing.
    """
    source = "pose (MHR)"
    frames = payload.get("frames") if isinstance(payload, Mapping) else None
    size = payload.get("image_size") if isinstance(payload, Mapping) else None
    if frames is None or size is None or len(np.asarray(size).reshape(-1)) != 2:
        raise EgoXInputError(source, got=sorted(payload) if isinstance(payload, Mapping) else type(payload).__name__,
                             expected="frames and image_size", fix="connect SAM 3D Body's pose data")
    height, width = (int(x) for x in np.asarray(size).reshape(-1))
    return People(frames=tuple(tuple(_mhr_person(p, (width, height), source) for p in _listed(frame))
                               for frame in frames), picture=(width, height), source=source)


def _mhr_person(person: Any, size: tuple[int, int], source: str) -> Person:
    needed = ("pred_keypoints_3d", "pred_cam_t")
    if not isinstance(person, Mapping) or any(person.get(k) is None for k in needed):
        raise EgoXInputError(source, got=sorted(person) if isinstance(person, Mapping) else type(person).__name__,
                             expected=f"a person with {' and '.join(needed)}", fix="connect SAM 3D Body's pose data")
    rows = [MHR_POINTS[name] for name in POINTS]
    solid = _array(person["pred_keypoints_3d"])
    if solid.ndim != 2 or solid.shape[0] <= max(rows) or solid.shape[1] != 3:
        raise EgoXInputError(f"pred_keypoints_3d of {source}", got=f"shape {solid.shape}", expected="(70, 3)",
                             fix="connect SAM 3D Body's pose data")
    metres = solid[rows] + _array(person["pred_cam_t"]).reshape(3)
    if person.get("pred_keypoints_2d") is not None:
        uv = _array(person["pred_keypoints_2d"])[rows, :2]
    elif person.get("focal_length") is not None:
        focal = float(_array(person["focal_length"]).reshape(-1)[0])
        uv = focal * metres[:, :2] / np.maximum(metres[:, 2:], 1e-6) + np.array(size) / 2
    else:
        raise EgoXInputError(source, got="neither pred_keypoints_2d nor focal_length", expected="one of them",
                             fix="connect SAM 3D Body's pose data")
    return uv, np.full(len(rows), 0.9), metres


def face_points(payload: Any, *, person: int | None = None, mask: Tensor | None = None) -> HeadPoints:
    """One face's points in FACE_LANDMARKS: eyes, tip of the nose, and the mesh's rim for the ears.

    Raises:
        EgoXInputError: see :func:`face_people` and :func:`~.head_points.choose_person`.
    """
    return choose_person(face_people(payload), index=person, mask=mask)


def face_people(payload: Any) -> People:
    """Everybody in FACE_LANDMARKS.

    Raises:
        EgoXInputError: another form.
    """
    source = "face landmarks"
    frames = payload.get("frames") if isinstance(payload, Mapping) else None
    size = payload.get("image_size") if isinstance(payload, Mapping) else None
    if frames is None or size is None:
        raise EgoXInputError(source, got=sorted(payload) if isinstance(payload, Mapping) else type(payload).__name__,
                             expected="frames and image_size", fix="connect the face landmarker's output")
    height, width = (int(x) for x in np.asarray(size).reshape(-1)[:2])
    return People(frames=tuple(tuple(_face(face, source) for face in _listed(frame)) for frame in frames),
                  picture=(width, height), source=source)


def _face(face: Any, source: str) -> Person:
    landmarks = _array(face.get("landmarks_xy")) if isinstance(face, Mapping) else np.zeros(0)
    if landmarks.ndim != 2 or landmarks.shape[0] < 468 or landmarks.shape[1] < 2:
        raise EgoXInputError(f"landmarks_xy of {source}", got=f"shape {landmarks.shape}", expected="(478, 2)",
                             fix="connect the face landmarker's output")
    uv, scores = np.zeros((len(POINTS), 2)), np.zeros(len(POINTS))
    for name, (rows, trust) in FACE_MESH.items():
        uv[POINTS.index(name)] = landmarks[list(rows), :2].mean(0)
        scores[POINTS.index(name)] = trust
    return uv, scores, None


def _listed(frame: Any) -> Iterable[Any]:
    return [] if frame is None else [frame] if isinstance(frame, Mapping) else frame


def _array(values: Any) -> np.ndarray:
    """Numbers as float64, whether they came as lists, numpy or torch (on any device)."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=float)
