"""Detections of drawn people."""

from dataclasses import replace

import numpy as np
import pytest

from egox_core.trajectory.head_payloads import openpose_people
from egox_core.trajectory.head_points import choose_person
from egox_core.trajectory.head_template import POINTS
from lab.drawn import SyntheticSpec
from lab.drawn.detected import GAP_S, detected_person, openpose_content, seen_person
from lab.drawn.layout import draw_layout

SPEC = SyntheticSpec(seed=7, frames=25, exo_width=224, exo_height=128, ego_size=128, wearer="drawn")


def test_only_what_the_camera_sees_is_seen():
    front = seen_person(draw_layout(SPEC))
    behind = seen_person(draw_layout(replace(SPEC, exo_side="behind")))
    face = [POINTS.index(name) for name in ("right_eye", "left_eye", "nose")]
    assert front.seen[:, face].any(1).mean() > behind.seen[:, face].any(1).mean()
    assert front.seen[:, POINTS.index("neck")].mean() >= 0.5
    assert np.isfinite(front.uv).all() and (front.metres[..., 2] > 0.5).all()


def test_a_detector_errs_misses_and_loses_the_wearer():
    layout = draw_layout(SPEC)
    person, camera = seen_person(layout), layout.scene.exo_camera
    found = detected_person(person, camera, SPEC.fps, np.random.default_rng(1))
    people_of = openpose_people(openpose_content(found, camera.stored_size))
    points = choose_person(people_of)
    empty = [t for t, frame in enumerate(found) if not frame]
    assert len(empty) >= round(GAP_S * SPEC.fps) and np.ptp(empty[:8]) == 7, "one gap of 0.4 s"
    seen = points.seen.numpy()
    off = np.abs(points.uv.numpy() - person.uv)[seen & person.seen]
    size = float(np.median(person.head_px)) * camera.fx
    assert 0.01 * size < np.median(off) < 0.05 * size
    again = detected_person(person, camera, SPEC.fps, np.random.default_rng(1))
    assert openpose_content(again, camera.stored_size) == openpose_content(
        found, camera.stored_size
    )
    (uv, scores), *_ = found[0]
    assert people_of.frames[0][0].uv == pytest.approx(np.round(uv, 2) * (scores > 0)[:, None])
