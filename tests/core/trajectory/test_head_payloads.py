"""Detectors' payloads as head points: their forms, whose points they are, and what is refused."""

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

SIZE = (200, 100)


def openpose_points(frames, **who) -> HeadPoints:
    return choose_person(openpose_people(frames), **who)


def person(places: dict[str, tuple[float, float, float]], points: int = 18) -> dict:
    rows = np.zeros((points, 3))
    for name, values in places.items():
        rows[OPENPOSE_POINTS[points][name]] = values
    return {"pose_keypoints_2d": rows.reshape(-1).tolist()}


def frame(*people: dict) -> dict:
    return {"canvas_width": SIZE[0], "canvas_height": SIZE[1], "people": list(people)}


def at(points: HeadPoints, name: str) -> tuple[float, float, float]:
    i = POINTS.index(name)
    return (*points.uv[0, i].tolist(), float(points.scores[0, i]))


def somebody(x: float) -> dict:
    return person({"nose": (x, 50.0, 0.9)})


def noses(points: HeadPoints) -> list[float]:  # x
    return points.uv[:, POINTS.index("nose"), 0].tolist()


def there(points: HeadPoints) -> list[bool]:
    return points.seen.any(1).tolist()


@pytest.mark.parametrize("count", [18, 25])
def test_openpose(count):
    marks = {name: (10.0 + i, 20.0 + i, 0.5 + 0.05 * i) for i, name in enumerate(POINTS)}
    points = openpose_points([frame(person(marks, count)), frame()])
    assert points.picture == SIZE and points.uv.shape == (2, 8, 2)
    for name, values in marks.items():
        assert at(points, name) == pytest.approx(values)
    assert there(points) == [True, False]


def test_the_mask_chooses_whoever_comes_first():
    left, right = somebody(20.0), somebody(150.0)
    frames = [frame(left, right), frame(right, left), frame(left)]
    mask = torch.zeros(3, 10, 20, dtype=torch.bool)
    mask[:, :, 12:] = True
    points = openpose_points(frames, mask=mask)
    assert noses(points)[:2] == [150.0, 150.0]
    assert there(points) == [True, True, False]
    with refuses("mask of the wearer"):
        openpose_points(frames, mask=mask[:2])


def test_a_person_is_followed_by_place():
    """Detectors number people anew in every frame, and one may be gone for a while."""

    def pair(t: int) -> list[dict]:
        return [somebody(20.0 + t), somebody(150.0 - t)]

    frames = [frame(*(pair(t) if t % 2 else reversed(pair(t)))) for t in range(8)]
    frames[3] = frame(pair(3)[0])
    points = openpose_points(frames, index=0)  # in frame 0 the one on the right is named first
    assert [noses(points)[t] for t in (0, 1, 2, 4, 7)] == [150.0, 149.0, 148.0, 146.0, 143.0]
    assert not there(points)[3]
    with refuses("several in 7 of 8 frames"):
        openpose_points(frames)
    with refuses("0 to 1"):
        openpose_points(frames, index=5)


def test_who_is_never_one_of_two_may_be_anywhere_after_a_cut():
    places = [20.0, 21.0, 170.0, 171.0]
    frames = [frame(somebody(x)) for x in places]
    assert noses(openpose_points(frames)) == places
    assert there(openpose_points(frames, index=0)) == [True, True, False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (7, "expected a list"),
        ([], "expected a list"),
        ([{"people": 3}], "expected a list"),
        ([frame({"pose_keypoints_2d": [1.0] * 30})], "10 points a person"),
        ([frame(), frame()], "no person in any frame"),
        (
            [frame(person({"nose": (1, 1, 1)})), {**frame(), "canvas_width": 7}],
            "canvases of 2 sizes",
        ),
        ([{"people": [person({"nose": (3.0, 4.0, 1.0)}, 25)]}], "canvases of 0 sizes"),
    ],
)
def test_other_forms_are_refused(content, message):
    with refuses(message):
        openpose_points(content)


def mhr_person(as_torch: bool = False) -> dict:
    """Make a person by the documented fields of SAM 3D Body's payload: 70 points in metres about a
    translation."""
    points = np.zeros((70, 3), dtype=np.float32)
    for i, row in enumerate(MHR_POINTS.values()):
        points[row] = [0.01 * i, -0.02 * i, 0.005 * i]
    values = {
        "pred_keypoints_3d": points,
        "pred_cam_t": np.array((0.1, 0.0, 2.0), dtype=np.float32),
        "focal_length": 150.0,
    }
    return {name: torch.as_tensor(value) for name, value in values.items()} if as_torch else values


@pytest.mark.parametrize("as_torch", [False, True])
def test_body_models_give_metres_and_pixels_of_their_own_camera(as_torch):
    people = mhr_people({"frames": [[mhr_person(as_torch=as_torch)], []], "image_size": (100, 200)})
    points = choose_person(people)
    assert points.metres is not None and points.metres[0, 0].tolist() == pytest.approx(
        [0.1, 0.0, 2.0]
    )
    assert points.uv[0, 0].tolist() == pytest.approx([150 * 0.1 / 2 + 100, 50.0])
    assert there(points) == [True, False]
    mhr_entry = mhr_person()
    mhr_entry["pred_keypoints_2d"] = projected(mhr_entry) + 3
    (same,) = mhr_people({"frames": [[mhr_entry]], "image_size": (100, 200)}).frames[0]
    assert same.uv[0].tolist() == pytest.approx([150 * 0.1 / 2 + 103, 53.0])


def projected(person: dict, size: tuple[int, int] = (200, 100)) -> np.ndarray:
    """Project all 70 points into a picture of (width, height)."""
    solid = person["pred_keypoints_3d"] + person["pred_cam_t"]
    return person["focal_length"] * solid[:, :2] / solid[:, 2:] + np.array(size) / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"focal_length": None}, ""),
        ({"pred_keypoints_2d": projected(mhr_person(), (220, 96))}, ""),  # centre 10 px aside
        ({"pred_keypoints_2d": projected(mhr_person(), (100, 50))}, "about 100x50 px"),
        ({"pred_keypoints_2d": projected(mhr_person(), (280, 140))}, "about 280x140 px"),
        ({"pred_keypoints_2d": projected(mhr_person()) / 2, "focal_length": None}, "100x50 px"),
        ({"pred_keypoints_3d": mhr_person()["pred_keypoints_3d"] + [0.1, 0, 2]}, "added here"),
    ],
)
def test_points_in_metres_project_to_the_image_points(change, message):
    """Of a picture of another size, or with the translation added already, they don't."""
    mhr_entry = {**mhr_person(), "pred_keypoints_2d": projected(mhr_person())} | change
    with refuses(message) if message else nullcontext():
        assert mhr_people({"frames": [[mhr_entry]] * 3, "image_size": (100, 200)}).most == 1


def test_other_body_payloads_are_refused():
    with refuses("frames and image_size"):
        mhr_people({"poses": []})
    for change, message in (
        ({"pred_cam_t": None}, "pred_cam_t"),
        ({"pred_keypoints_3d": np.zeros((17, 3))}, r"\(17, 3\)"),
        ({"focal_length": None}, "focal_length"),
    ):
        with refuses(message):
            mhr_people({"frames": [[mhr_person() | change]], "image_size": (1, 1)})


def test_a_body_model_s_empty_and_turned_poses():
    """The model has a pose for an empty box or mask, too. Its axes must be the picture's."""
    people = [
        {**mhr_person(), "bbox": np.zeros(4)},
        {**mhr_person(), "mask": np.zeros((4, 4))},
        {**mhr_person(), "bbox": [1, 2, 30, 40], "mask": np.ones((4, 4))},
    ]
    head_points = mhr_people({"frames": [[p] for p in people], "image_size": (100, 200)})
    assert [len(frame) for frame in head_points.frames] == [0, 0, 1]
    rng = np.random.default_rng(0)
    points = rng.normal(size=(70, 3))
    for axis in (0, 1):
        flipped = points.copy()
        flipped[:, axis] *= -1
        person = {**mhr_person(), "pred_keypoints_3d": flipped}
        person |= {"pred_keypoints_2d": 100 + 40 * points[:, :2], "pred_cam_t": [0, 0, 9.0]}
        with refuses("mirrored or upside down"):
            mhr_people({"frames": [[person]], "image_size": (100, 200)})
