"""Several detectors of one person: who is who, whose point counts, and which pictures a body model expects."""

from dataclasses import replace

import numpy as np
import pytest

from egox_core.cameras.model import CameraModel
from egox_core.frames import Frames
from egox_core.trajectory import joined_points
from egox_core.trajectory.head_payloads import MHR_POINTS, OPENPOSE_POINTS
from egox_core.trajectory.head_sources import lens_note
from egox_core.trajectory.head_template import POINTS
from tests.refusals import refuses

NOSE = POINTS.index("nose")
CAMERA = CameraModel.pinhole(200, 100, 150.0)


def body(left: float) -> dict:
    """Make somebody 30 px wide, from ``left`` on."""
    numbers = np.zeros((18, 3))
    for place, (name, row) in enumerate(OPENPOSE_POINTS[18].items()):
        numbers[row] = (
            left + 4 * place,
            60.0 if "shoulder" in name or name == "neck" else 40.0,
            0.8,
        )
    return {"pose_keypoints_2d": numbers.reshape(-1).tolist()}


def keypoints(*lefts: float) -> list[dict]:
    return [
        {"canvas_width": 200, "canvas_height": 100, "people": [body(left) for left in lefts]}
        for _ in range(3)
    ]


def model(left: float, factor: float = 1.0) -> dict:
    """Make a body model's points of the same person, 1 px beside the keypoints, in a picture
    ``factor`` times as large."""
    keypoints_px = np.array(body(left)["pose_keypoints_2d"]).reshape(18, 3)
    uv, metres = np.zeros((70, 2)), np.zeros((70, 3))
    for name, row in MHR_POINTS.items():
        uv[row] = keypoints_px[OPENPOSE_POINTS[18][name], :2] + [1, 0]
    metres[:, :2] = (uv - [100, 50]) / 100
    return {
        "pred_keypoints_2d": (uv + 0.5) * factor - 0.5,
        "pred_keypoints_3d": metres,
        "pred_cam_t": [0.0, 0.0, 2.0],
    }


FRAMES = Frames.of_count(3)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_each_frame_is_of_the_first_detector_that_has_the_person(factor):
    """The second picture may be larger."""
    models = {
        "frames": [[model(20, factor)], [], [model(20, factor)]],
        "image_size": (int(100 * factor), int(200 * factor)),
    }
    points, notes = joined_points({"POSE_KEYPOINT": keypoints(20), "MHR_POSE_DATA": models}, FRAMES)
    alone, _ = joined_points({"POSE_KEYPOINT": keypoints(20)}, FRAMES)
    moved = (points.uv - alone.uv)[..., 0]
    assert moved[:, NOSE].tolist() == pytest.approx([1, 0, 1]) and len(notes) == 2
    assert points.scores[:, NOSE].tolist() == pytest.approx([0.9, 0.8, 0.9])
    models["image_size"] = (int(100 * factor), int(201 * factor))  # rounded by a detector
    joined_points({"POSE_KEYPOINT": keypoints(20), "MHR_POSE_DATA": models}, FRAMES)


def test_another_persons_body_is_left_out():
    """The number counts in the first detector. The others are asked for the same person."""
    models = {"frames": [[], [model(140), model(20)], [model(140)]], "image_size": (100, 200)}
    bodies = keypoints(20, 140)
    bodies[1]["people"] = bodies[2]["people"] = []
    points, _ = joined_points({"POSE_KEYPOINT": bodies, "MHR_POSE_DATA": models}, FRAMES, person=0)
    assert points.scores[:, NOSE].tolist() == pytest.approx([0.8, 0.9, 0.0])
    assert float(points.uv[:2, NOSE, 0].max()) < 60


def test_who_saw_nobody_is_told_and_left_out():
    nobody = {"frames": [[], [], []], "image_size": (100, 200)}
    points, notes = joined_points({"POSE_KEYPOINT": keypoints(20), "MHR_POSE_DATA": nobody}, FRAMES)
    assert points.source == "keypoints (OpenPose)" and notes[2:] == (
        "pose (MHR): nobody in any frame",
    )
    with refuses("no person in any frame"):
        joined_points({"MHR_POSE_DATA": nobody}, FRAMES)
    with refuses("no output of a detector"):
        joined_points({"MHR_POSE_DATA": None}, FRAMES)
    with refuses("got 3 frames"):
        joined_points({"POSE_KEYPOINT": keypoints(20)}, Frames.of_count(4))
    flat = model(20) | {"pred_keypoints_2d": None, "focal_length": 100.0}
    square = {"frames": [[flat]] * 3, "image_size": (100, 100)}
    with refuses("the shape of 200x100"):
        joined_points({"POSE_KEYPOINT": keypoints(20), "MHR_POSE_DATA": square}, FRAMES)


def test_which_pictures_a_body_model_expects():
    assert lens_note(CAMERA) is None
    assert "off its middle by 10 %" in (lens_note(replace(CAMERA, cx=119.5)) or "")
    assert "opencv_fisheye lens" in (lens_note(replace(CAMERA, lens="opencv_fisheye")) or "")
