"""What a detector would say of the people in a drawn scene: points of head and shoulders, some wrong, some missing.

Which points are seen is told by rays cast at the points alone; no picture is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel, project
from egox_core.trajectory.head_points import People
from egox_core.trajectory.head_template import MIRROR, POINTS
from egox_core.trajectory.poses import invert, pose_of_frame, transform

from .casting import RayBundle, first_hits
from .layout import DrawnHead, Layout

HEAD_M = 0.225  # vertex to chin: what "the size of a head" means in the errors below
JOINTS = ("neck", "right_shoulder", "left_shoulder")
SEEN_M = {True: 0.14, False: 0.015}  # of a joint under the skin, of a point on it: how far a surface may lie before it
ERROR, FAR_ERROR = 0.03, 0.08  # of the head's size, of points that are seen and of those that a detector makes up
MISSING, GUESSED, SWAPPED = 0.10, 0.25, 0.04
GAP_S = 0.4  # in which the detector finds nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPerson:
    """The points of one person, in the order of head_template.POINTS, and which of them the exo camera sees."""

    uv: np.ndarray  # [T, 8, 2] px
    metres: np.ndarray  # [T, 8, 3] exo camera frame
    seen: np.ndarray  # [T, 8] bool
    size: float  # of the head, against the mean

    @property
    def head_px(self) -> np.ndarray:
        """A focal length of 1 px makes a head so large [T, 8, 1]."""
        return HEAD_M * self.size / self.metres[..., 2:].clip(0.3)


def seen_people(layout: Layout) -> tuple[SeenPerson, ...]:
    """The wearer, then the company; the exo camera stands."""
    camera, w2c = layout.scene.exo_camera, layout.scene.exo_w2c
    people = []
    for head in layout.heads:
        marks = torch.from_numpy(np.stack([head.marks[name] for name in POINTS], axis=1))  # [T, 8, 3]
        local = transform(w2c, marks)
        uv, valid = project(camera, local)
        people.append(SeenPerson(uv=uv.numpy(), metres=local.numpy(), size=head.form.size,
                                 seen=_seen(layout, marks, head, camera, uv) & valid.numpy()))
    return tuple(people)


def exo_hits(
    layout: Layout,
    rays: Tensor,  # [N, 3] unit, world
    frame: Tensor,  # [N] int64
    *,
    glasses: bool = True,  # count
) -> tuple[Tensor, Tensor]:
    """(ray depth [N], solid [N]) of rays from a standing exo camera."""
    scene = layout.scene
    origin = invert(pose_of_frame(scene.exo_w2c, 0))[:, 3].float().expand(scene.frames, 3)
    bundle = RayBundle(rays=rays.float(), origin=origin, frame=frame, poses=scene.world_from_solid)
    solids = [i for i in scene.indices() if glasses or not scene.solids[i].name.startswith("glasses")]
    return first_hits(scene.solids, solids, bundle)


def _seen(layout: Layout, marks: Tensor, head: DrawnHead, camera: CameraModel, uv: Tensor) -> np.ndarray:
    """[T, 8] which points nothing else hides, and the picture shows."""
    frames, count = marks.shape[:2]
    centre = invert(layout.scene.exo_w2c)[:, 3]
    away = (marks - centre).reshape(-1, 3)
    far = away.norm(dim=-1)
    # Detectors find eyes behind glasses.
    depth, index = exo_hits(layout, away / far[:, None], torch.arange(frames).repeat_interleave(count), glasses=False)
    slack = torch.tensor([SEEN_M[name in JOINTS] for name in POINTS]).repeat(frames)
    own = torch.tensor([i in head.solids for i in range(len(layout.scene.solids))] + [False])[index]
    width, height = camera.stored_size
    inside = ((uv > -0.5) & (uv < torch.tensor([width - 0.5, height - 0.5]))).all(-1).reshape(-1)
    return ((depth > far - slack) & (own | (depth > far)) & inside).reshape(frames, count).numpy()


def detected_people(
    people: tuple[SeenPerson, ...],  # the wearer first
    camera: CameraModel,  # exo
    fps: float,
    rng: np.random.Generator,
) -> People:
    """Errors, missing and made-up points, swapped sides, people in any order; the wearer is lost for a while."""
    count = len(people[0].uv)
    gap = max(1, round(GAP_S * fps))
    frames = [[] for _ in range(count)]
    start = int(rng.integers(4, max(5, count - gap - 4)))
    for number, person in enumerate(people):
        seen, size = person.seen, person.head_px * camera.fx
        uv = person.uv + rng.normal(size=person.uv.shape) * np.where(seen, ERROR, FAR_ERROR)[..., None] * size
        scores = np.where(seen, rng.uniform(0.6, 1.0, seen.shape), np.where(
            rng.random(seen.shape) < GUESSED, rng.uniform(0.12, 0.3, seen.shape), 0.0))
        scores[rng.random(seen.shape) < MISSING] = 0
        for t in range(count):
            order = list(MIRROR) if rng.random() < SWAPPED else list(range(len(POINTS)))
            if (number == 0 and start <= t < start + gap) or not (scores[t] > 0).any():
                continue
            frames[t].append((uv[t, order], scores[t, order], None))
    for frame in frames:
        rng.shuffle(frame)
    return People(frames=tuple(map(tuple, frames)), picture=camera.stored_size, source="detector")
