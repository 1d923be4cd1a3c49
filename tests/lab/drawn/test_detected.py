"""Test drawn detections of people."""

from dataclasses import replace

import numpy as np

from egox_core.trajectory.head_template import POINTS
from lab.drawn import SyntheticSpec
from lab.drawn.detected import project_person
from lab.drawn.layout import draw_layout

SPEC = SyntheticSpec(seed=7, frames=25, exo_width=224, exo_height=128, ego_size=128, wearer="drawn")


def test_only_what_the_camera_sees_is_seen():
    front = project_person(draw_layout(SPEC))
    behind = project_person(draw_layout(replace(SPEC, exo_side="behind")))
    face = [POINTS.index(name) for name in ("right_eye", "left_eye", "nose")]
    assert front.seen[:, face].any(1).mean() > behind.seen[:, face].any(1).mean()
    assert front.seen[:, POINTS.index("neck")].mean() >= 0.5
    assert np.isfinite(front.uv).all() and (front.metres[..., 2] > 0.5).all()
