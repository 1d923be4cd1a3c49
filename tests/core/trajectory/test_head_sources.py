"""Test joining several detectors' points of one person, and warnings for body models."""

from dataclasses import replace

import numpy as np
import pytest

from egox_core.cameras.model import CameraModel
from egox_core.frames import Frames
from egox_core.trajectory import joined_points
from egox_core.trajectory.head_payloads import MHR_POINTS, OPENPOSE_POINTS
from egox_core.trajectory.head_sources import lens_note
from egox_core.trajectory.head_template import POINTS
from tests.core.trajectory.test_head_payloads import openpose_frame, openpose_person
from tests.refusals import refuses

NOSE = POINTS.index("nose")
SHOULDERS = ("right_shoulder", "left_shoulder")
EXO_CAMERA = CameraModel.pinhole(200, 100, 150.0)


def openpose_body(left: float) -> dict:
    """Build OpenPose key points of a person 30 px wide that begins at the column ``left``."""
    rows = {name: 60.0 if name in ("neck", *SHOULDERS) else 40.0 for name in OPENPOSE_POINTS[18]}
    columns = (left + 4 * number for number in range(len(rows)))
    return openpose_person(
        {name: (x, rows[name], 0.8) for name, x in zip(rows, columns, strict=True)}
    )


def openpose_frames(*lefts: float) -> list[dict]:
    return [openpose_frame(*map(openpose_body, lefts)) for _ in range(3)]


def mhr_body(left: float, picture_scale: float = 1.0) -> dict:
    """Build body model points of the OpenPose person, displaced by 1 px."""
    keypoints_px = np.array(openpose_body(left)["pose_keypoints_2d"]).reshape(18, 3)
    uv, metres = np.zeros((70, 2)), np.zeros((70, 3))
    for name, row in MHR_POINTS.items():
        uv[row] = keypoints_px[OPENPOSE_POINTS[18][name], :2] + [1, 0]
    metres[:, :2] = (uv - [100, 50]) / 100
    return {
        "pred_keypoints_2d": (uv + 0.5) * picture_scale - 0.5,
        "pred_keypoints_3d": metres,
        "pred_cam_t": [0.0, 0.0, 2.0],
    }


FRAMES = Frames.of_count(3)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_points_come_from_the_first_detector_with_the_person(factor):
    """Check that each frame's points come from the first detector that found the person in it."""
    body_payload = {
        "frames": [[mhr_body(20, factor)], [], [mhr_body(20, factor)]],
        "image_size": (int(100 * factor), int(200 * factor)),
    }
    head_points, notes = joined_points(
        {"POSE_KEYPOINT": openpose_frames(20), "MHR_POSE_DATA": body_payload}, FRAMES
    )
    openpose_points, _ = joined_points({"POSE_KEYPOINT": openpose_frames(20)}, FRAMES)
    point_shift = (head_points.uv - openpose_points.uv)[..., 0]
    assert point_shift[:, NOSE].tolist() == pytest.approx([1, 0, 1])
    assert len(notes) == 2
    assert head_points.scores[:, NOSE].tolist() == pytest.approx([0.9, 0.8, 0.9])


def test_body_model_of_another_person_is_left_out():
    body_payload = {
        "frames": [[], [mhr_body(140), mhr_body(20)], [mhr_body(140)]],
        "image_size": (100, 200),
    }
    openpose_payload = openpose_frames(20, 140)
    openpose_payload[1]["people"] = openpose_payload[2]["people"] = []
    head_points, _ = joined_points(
        {"POSE_KEYPOINT": openpose_payload, "MHR_POSE_DATA": body_payload}, FRAMES, person=0
    )
    assert head_points.scores[:, NOSE].tolist() == pytest.approx([0.8, 0.9, 0.0])
    assert float(head_points.uv[:2, NOSE, 0].max()) < 60


def test_detector_without_a_person_is_remarked():
    empty_detections = {"frames": [[], [], []], "image_size": (100, 200)}
    head_points, notes = joined_points(
        {"POSE_KEYPOINT": openpose_frames(20), "MHR_POSE_DATA": empty_detections}, FRAMES
    )
    assert head_points.source == "keypoints (OpenPose)" and notes[2:] == (
        "pose (MHR): nobody in any frame",
    )

    with refuses("no output of a detector"):
        joined_points({"MHR_POSE_DATA": None}, FRAMES)
    with refuses("got 3 frames"):
        joined_points({"POSE_KEYPOINT": openpose_frames(20)}, Frames.of_count(4))
    person_without_pixels = mhr_body(20) | {"pred_keypoints_2d": None, "focal_length": 100.0}
    square_payload = {"frames": [[person_without_pixels]] * 3, "image_size": (100, 100)}
    with refuses("the shape of 200x100"):
        joined_points(
            {"POSE_KEYPOINT": openpose_frames(20), "MHR_POSE_DATA": square_payload}, FRAMES
        )


def test_unusual_lenses_are_remarked_for_body_models():
    assert lens_note(EXO_CAMERA) is None
    assert "off its middle by 10 %" in (lens_note(replace(EXO_CAMERA, cx=119.5)) or "")
    assert "opencv_fisheye lens" in (lens_note(replace(EXO_CAMERA, lens="opencv_fisheye")) or "")
