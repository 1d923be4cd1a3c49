"""Test the simulated detector of a person's key points."""

from dataclasses import replace

import numpy as np

from egox_core.trajectory.head_template import POINTS
from lab.drawn import SyntheticSpec
from lab.drawn.detected import project_person
from lab.drawn.layout import draw_layout

SPEC = SyntheticSpec(seed=7, frames=25, exo_width=224, exo_height=128, ego_size=128, wearer="drawn")


def test_only_what_the_camera_sees_is_seen():
    person_from_front = project_person(draw_layout(SPEC))
    person_from_behind = project_person(draw_layout(replace(SPEC, exo_side="behind")))
    face_indices = [POINTS.index(name) for name in ("right_eye", "left_eye", "nose")]
    assert (
        person_from_front.seen[:, face_indices].any(1).mean()
        > person_from_behind.seen[:, face_indices].any(1).mean()
    )
    assert person_from_front.seen[:, POINTS.index("neck")].mean() >= 0.5
    assert (
        np.isfinite(person_from_front.uv).all() and (person_from_front.metres[..., 2] > 0.5).all()
    )
