"""Test head points from detectors' payloads: formats, the chosen person, refused input."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from egox_core.trajectory.head_payloads import (
    MHR_POINTS,
    OPENPOSE_POINTS,
    mhr_people,
    openpose_people,
)
from egox_core.trajectory.head_points import HeadPoints, choose_person
from egox_core.trajectory.head_template import POINTS
from tests.refusals import refuses

PICTURE_SIZE = (200, 100)


def openpose_points(frames, **choice) -> HeadPoints:
    return choose_person(openpose_people(frames), **choice)


def openpose_person(
    points_by_name: dict[str, tuple[float, float, float]], point_count: int = 18
) -> dict:
    point_rows = np.zeros((point_count, 3))
    for name, point_values in points_by_name.items():
        point_rows[OPENPOSE_POINTS[point_count][name]] = point_values
    return {"pose_keypoints_2d": point_rows.reshape(-1).tolist()}


def openpose_frame(*people: dict) -> dict:
    return {
        "canvas_width": PICTURE_SIZE[0],
        "canvas_height": PICTURE_SIZE[1],
        "people": list(people),
    }


def point_of(points: HeadPoints, name: str) -> tuple[float, float, float]:
    point_index = POINTS.index(name)
    return (*points.uv[0, point_index].tolist(), float(points.scores[0, point_index]))


def person_at(x: float) -> dict:
    return openpose_person({"nose": (x, 50.0, 0.9)})


def nose_columns(points: HeadPoints) -> list[float]:  # x
    return points.uv[:, POINTS.index("nose"), 0].tolist()


def seen_frames(points: HeadPoints) -> list[bool]:
    return points.seen.any(1).tolist()


@pytest.mark.parametrize("count", [18, 25])
def test_openpose_points_are_read_by_name(count):
    points_by_name = {name: (10.0 + i, 20.0 + i, 0.5 + 0.05 * i) for i, name in enumerate(POINTS)}
    head_points = openpose_points(
        [openpose_frame(openpose_person(points_by_name, count)), openpose_frame()]
    )
    assert head_points.picture == PICTURE_SIZE
    assert head_points.uv.shape == (2, 8, 2)
    for name, point_values in points_by_name.items():
        assert point_of(head_points, name) == pytest.approx(point_values)
    assert seen_frames(head_points) == [True, False]


def test_person_is_chosen_by_the_wearers_mask():
    left_person, right_person = person_at(20.0), person_at(150.0)
    openpose_payload = [
        openpose_frame(left_person, right_person),
        openpose_frame(right_person, left_person),
        openpose_frame(left_person),
    ]
    wearer_mask = torch.zeros(3, 10, 20, dtype=torch.bool)
    wearer_mask[:, :, 12:] = True
    head_points = openpose_points(openpose_payload, mask=wearer_mask)
    assert nose_columns(head_points)[:2] == [150.0, 150.0]
    assert seen_frames(head_points) == [True, True, False]
    with refuses("mask of the wearer"):
        openpose_points(openpose_payload, mask=wearer_mask[:2])


def test_person_is_followed_by_position():
    """Check that one person is tracked by position when a detector renumbers people in each
    frame."""

    def two_people(t: int) -> list[dict]:
        return [person_at(20.0 + t), person_at(150.0 - t)]

    openpose_payload = [
        openpose_frame(*(two_people(t) if t % 2 else reversed(two_people(t)))) for t in range(8)
    ]
    openpose_payload[3] = openpose_frame(two_people(3)[0])
    head_points = openpose_points(
        openpose_payload, index=0
    )  # in frame 0 the one on the right is named first
    assert [nose_columns(head_points)[t] for t in (0, 1, 2, 4, 7)] == [
        150.0,
        149.0,
        148.0,
        146.0,
        143.0,
    ]
    assert not seen_frames(head_points)[3]
    with refuses("several in 7 of 8 frames"):
        openpose_points(openpose_payload)
    with refuses("0 to 1"):
        openpose_points(openpose_payload, index=5)


def test_single_person_may_jump_after_a_cut():
    person_columns = [20.0, 21.0, 170.0, 171.0]
    openpose_payload = [openpose_frame(person_at(x)) for x in person_columns]
    assert nose_columns(openpose_points(openpose_payload)) == person_columns
    assert seen_frames(openpose_points(openpose_payload, index=0)) == [True, True, False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (7, "expected a list"),
        ([], "expected a list"),
        ([{"people": 3}], "expected a list"),
        ([openpose_frame({"pose_keypoints_2d": [1.0] * 30})], "10 points a person"),
        ([openpose_frame()], "no person in any frame"),
        (
            [
                openpose_frame(openpose_person({"nose": (1, 1, 1)})),
                {**openpose_frame(), "canvas_width": 7},
            ],
            "canvases of 2 sizes",
        ),
        ([{"people": [openpose_person({"nose": (3.0, 4.0, 1.0)}, 25)]}], "canvases of 0 sizes"),
    ],
)
def test_invalid_openpose_payloads_are_refused(content, message):
    with refuses(message):
        openpose_points(content)


def mhr_person(as_torch: bool = False) -> dict:
    """Build one person's SAM 3D Body detection, with 70 body points in metres."""
    points = np.zeros((70, 3), dtype=np.float32)
    for i, row in enumerate(MHR_POINTS.values()):
        points[row] = [0.01 * i, -0.02 * i, 0.005 * i]
    person_fields = {
        "pred_keypoints_3d": points,
        "pred_cam_t": np.array((0.1, 0.0, 2.0), dtype=np.float32),
        "focal_length": 150.0,
    }
    return (
        {name: torch.as_tensor(value) for name, value in person_fields.items()}
        if as_torch
        else person_fields
    )


@pytest.mark.parametrize("as_torch", [False, True])
def test_body_model_points_are_read_in_metres_and_pixels(as_torch):
    people = mhr_people({"frames": [[mhr_person(as_torch=as_torch)], []], "image_size": (100, 200)})
    head_points = choose_person(people)
    assert head_points.metres is not None and head_points.metres[0, 0].tolist() == pytest.approx(
        [0.1, 0.0, 2.0]
    )
    assert head_points.uv[0, 0].tolist() == pytest.approx([150 * 0.1 / 2 + 100, 50.0])
    assert seen_frames(head_points) == [True, False]
    mhr_entry = mhr_person()
    mhr_entry["pred_keypoints_2d"] = project_points(mhr_entry) + 3
    (person_with_pixels,) = mhr_people({"frames": [[mhr_entry]], "image_size": (100, 200)}).frames[
        0
    ]
    assert person_with_pixels.uv[0].tolist() == pytest.approx([150 * 0.1 / 2 + 103, 53.0])


def project_points(person: dict, size: tuple[int, int] = (200, 100)) -> np.ndarray:
    """Project a person's 70 body points to pixels of a picture of (width, height)."""
    points_3d = person["pred_keypoints_3d"] + person["pred_cam_t"]
    return person["focal_length"] * points_3d[:, :2] / points_3d[:, 2:] + np.array(size) / 2


@pytest.mark.parametrize(
    ("changed_fields", "message"),
    [
        ({}, ""),
        ({"focal_length": None}, ""),
        ({"pred_keypoints_2d": project_points(mhr_person(), (220, 96))}, ""),  # centre 10 px aside
        ({"pred_keypoints_2d": project_points(mhr_person(), (100, 50))}, "about 100x50 px"),
        ({"pred_keypoints_2d": project_points(mhr_person(), (280, 140))}, "about 280x140 px"),
        (
            {"pred_keypoints_2d": project_points(mhr_person()) / 2, "focal_length": None},
            "100x50 px",
        ),
        ({"pred_keypoints_3d": mhr_person()["pred_keypoints_3d"] + [0.1, 0, 2]}, "added here"),
        ({"pred_cam_t": None}, "pred_cam_t"),
        ({"pred_keypoints_3d": np.zeros((17, 3))}, r"\(17, 3\)"),
        ({"focal_length": None, "pred_keypoints_2d": None}, "focal_length"),
    ],
)
def test_body_points_must_project_to_their_image_points(changed_fields, message):
    """Check that 3D body points are refused if they don't project to the 2D points of the
    detection."""
    mhr_entry = {**mhr_person(), "pred_keypoints_2d": project_points(mhr_person())} | changed_fields
    with refuses(message) if message else nullcontext():
        assert mhr_people({"frames": [[mhr_entry]] * 3, "image_size": (100, 200)}).most == 1
    with refuses("frames and image_size"):
        mhr_people({"poses": []})


def test_body_poses_of_empty_boxes_are_skipped_and_mirrored_ones_refused():
    people = [
        {**mhr_person(), "bbox": np.zeros(4)},
        {**mhr_person(), "mask": np.zeros((4, 4))},
        {**mhr_person(), "bbox": [1, 2, 30, 40], "mask": np.ones((4, 4))},
    ]
    head_points = mhr_people(
        {"frames": [[person_entry] for person_entry in people], "image_size": (100, 200)}
    )
    assert [len(frame) for frame in head_points.frames] == [0, 0, 1]
    rng = np.random.default_rng(0)
    body_points = rng.normal(size=(70, 3))
    for axis in (0, 1):
        mirrored_points = body_points.copy()
        mirrored_points[:, axis] *= -1
        person = {**mhr_person(), "pred_keypoints_3d": mirrored_points}
        person |= {"pred_keypoints_2d": 100 + 40 * body_points[:, :2], "pred_cam_t": [0, 0, 9.0]}
        with refuses("mirrored or upside down"):
            mhr_people({"frames": [[person]], "image_size": (100, 200)})
