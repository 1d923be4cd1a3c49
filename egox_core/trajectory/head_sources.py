"""Join the head points of one person from the output of several detectors."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..cameras import LENSES, CameraModel
from ..errors import EgoXInputError
from ..frames import Frames, Numbering, entries_of
from .head_payloads import mhr_people, openpose_people
from .head_points import HeadPoints, People, choose_person

HEAD_SOURCES: Mapping[str, Callable[[Any], People]] = {
    "POSE_KEYPOINT": openpose_people,
    "MHR_POSE_DATA": mhr_people,
}
"""The host's types, and how each is read. The first of those that are there says who is who."""
OFF_CENTRE = 0.02  # of the picture's width


def no_detector() -> EgoXInputError:
    """Make the error for a head estimate without the output of any detector."""
    return EgoXInputError(
        "head points",
        got="no output of a detector",
        expected=f"any of {', '.join(HEAD_SOURCES)}",
        fix="give the output of SDPose or SAM 3D Body",
    )


def joined_points(
    payloads: Mapping[str, Any],  # by the keys of HEAD_SOURCES; None: that detector did not run
    frames: Frames,  # in use
    *,
    person: int | None = None,  # in the first detector's first frame with so many people
    mask: Tensor | None = None,  # [T, h, w] bool, the wearer
) -> tuple[HeadPoints, tuple[str, ...]]:
    """Join the points of one person from several detectors' output, with notes on what was found.

    Points are those of the first detector that has the person in a frame: a body model, then
    keypoints.

    Raises:
        EgoXInputError: no detector, points that may be of other frames, pictures of different
            shapes, and what :func:`~.head_points.choose_person` raises.
    """
    people, notes = [], []
    for name, read in HEAD_SOURCES.items():
        if payloads.get(name) is None:
            continue
        detection = read(payloads[name])
        numbering = Numbering(what=detection.source, count=len(detection.frames), in_memory=True)
        entries = entries_of(frames, numbering)
        entry_indices = torch.arange(len(detection.frames))[entries.at].tolist()
        people.append(
            replace(detection, frames=tuple(detection.frames[entry] for entry in entry_indices))
        )
        notes.append(str(entries.remark))
    if not people:
        raise no_detector()
    notes += (
        f"{detection.source}: nobody in any frame" for detection in people if not detection.most
    )
    first, *other_detections = [detection for detection in people if detection.most] or people
    points = choose_person(first, index=person, mask=mask)
    for detection in other_detections:
        (width, height), (own_width, own_height) = points.picture, detection.picture
        if abs(width * own_height - height * own_width) > 0.01 * width * own_height:
            raise EgoXInputError(
                detection.source,
                got=f"{own_width}x{own_height} px",
                expected=f"the shape of {width}x{height} px, as {points.source}",
                fix="run both on the frames in use",
            )
        other_points = choose_person(detection, mask=mask, like=points).resized(points.picture)
        points = (
            _fill_points(points, other_points)
            if other_points.metres is None
            else _fill_points(other_points, points)
        )
    return points, tuple(notes)


def _fill_points(points: HeadPoints, other: HeadPoints) -> HeadPoints:
    """Fill in another detector's points in frames in which these points lack the person."""
    has_person = points.seen.any(1)
    return replace(
        points,
        uv=torch.where(has_person[:, None, None], points.uv, other.uv),
        scores=torch.where(has_person[:, None], points.scores, other.scores),
        source=f"{points.source} and {other.source}",
    )


def lens_note(camera: CameraModel) -> str | None:
    """Explain why a body model can't use this camera's pictures, or return None if it can.

    SAM 3D Body takes every picture for that of a pinhole whose axis goes through the picture's
    middle.
    """
    width, height = camera.width, camera.height
    off_centre = max(abs(camera.cx - (width - 1) / 2), abs(camera.cy - (height - 1) / 2)) / width
    is_straight = LENSES[camera.lens].straight
    if is_straight and off_centre <= OFF_CENTRE:
        return None
    picture_kind = (
        f"off its middle by {100 * off_centre:.0f} %" if is_straight else f"a {camera.lens} lens"
    )
    return (
        f"SAM 3D Body expects pictures of a pinhole camera, and these are {picture_kind}: its "
        "bodies lean. Give it a straightened video, or use another detector"
    )
