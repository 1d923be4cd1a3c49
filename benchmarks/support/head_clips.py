"""Clips for the bench of head poses: who is seen, from where, how large, with which depth.

No picture is drawn. Rays are cast at the points themselves, to tell which are seen, and at the
pixels round head and shoulders, for depth and mask there; everywhere else depth is unknown and the
mask is empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel, project, unproject
from egox_core.trajectory.head_points import HeadPoints, choose_person
from egox_core.trajectory.head_template import POINTS
from egox_core.types import DepthVideo
from lab.drawn import SyntheticSpec
from lab.drawn.depth_errors import DepthErrors, with_errors
from lab.drawn.detected import (
    ERROR,
    HEAD_M,
    JOINTS,
    SeenPerson,
    detected_people,
    exo_hits,
    network_points,
    seen_people,
)
from lab.drawn.layout import DrawnHead, Layout, draw_layout

WINDOW_M = {
    True: 0.05,
    False: 0.17,
}  # half sides of the windows of depth round a shoulder and round the head
MOST_RAYS = 28  # a side of such a window; larger ones take every second, third, ... pixel
HEIGHTS = (80, 112, 160, 224, 320, 448)
GAP = 8  # frames
DEPTH_JITTER = 0.05
DEPTH_ERROR = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadClip:
    """One clip with everything that is known of it."""

    name: str
    spec: SyntheticSpec
    layout: Layout
    camera: CameraModel
    exo_w2c: Tensor  # [3, 4]
    people: tuple[SeenPerson, ...]  # the wearer first
    depth_m: Tensor  # [T, H, W] z depth, NaN off the windows
    mask: Tensor  # [T, H, W] bool, the wearer, False off the windows
    times_s: Tensor  # [T]

    @property
    def head(self) -> DrawnHead:
        """The wearer's."""
        return self.layout.heads[0]

    @property
    def back(self) -> np.ndarray:  # [T] bool
        """Frames that show no point of the wearer's face."""
        face = [POINTS.index(p) for p in ("right_eye", "left_eye", "nose")]
        return ~self.people[0].seen[:, face].any(1)


def clip_specs(count: int, frames: int) -> list[tuple[str, SyntheticSpec]]:
    """Names and specs: usual work, turning heads, walkers, backs and two people, at all picture
    heights."""
    kinds = (
        ("work", {}),
        ("turning", {"turning_deg": 50.0}),
        ("behind", {"exo_side": "behind"}),
        ("walking", {"walking": 0.7}),
        ("two people", {"company": True, "turning_deg": 25.0}),
        ("turning far", {"turning_deg": 80.0}),
        ("work", {}),
        ("behind, turning", {"exo_side": "behind", "turning_deg": 60.0}),
    )
    specs = []
    for i in range(count):
        name, options = kinds[i % len(kinds)]
        height = HEIGHTS[(i // len(kinds) + i) % len(HEIGHTS)]
        specs.append(
            (
                name,
                SyntheticSpec(
                    seed=500 + i,
                    frames=frames,
                    exo_height=height,
                    exo_width=height * 7 // 4,
                    ego_size=height,
                    wearer="drawn",
                    **options,
                ),
            )
        )
    return specs


def make_clip(name: str, spec: SyntheticSpec) -> HeadClip:
    """Draw a clip and cast its rays."""
    layout = draw_layout(spec)
    scene = layout.scene
    people = seen_people(layout)
    depth, mask = _windows(layout, people[0])
    return HeadClip(
        name=name,
        spec=spec,
        layout=layout,
        camera=scene.exo_camera,
        exo_w2c=scene.exo_w2c,
        people=people,
        depth_m=depth,
        mask=mask,
        times_s=torch.arange(spec.frames, dtype=torch.float64) / spec.fps,
    )


def _windows(layout: Layout, person: SeenPerson) -> tuple[Tensor, Tensor]:
    """Depth and the wearer's mask [T, H, W] round the head and both shoulders."""
    scene, head = layout.scene, layout.heads[0]
    uv, metres = person.uv, person.metres
    camera = scene.exo_camera
    width, height = camera.stored_size
    own = torch.tensor(
        [i in head.solids and scene.solids[i].group != "held" for i in range(len(scene.solids))]
        + [False]
    )
    depth = torch.full((scene.frames, height, width), torch.nan)
    mask = torch.zeros(scene.frames, height, width, dtype=torch.bool)
    rays, frames, targets = [], [], []
    for t in range(scene.frames):
        ears = [POINTS.index(n) for n in ("right_ear", "left_ear")]
        spots = [(uv[t, ears].mean(0), metres[t, ears].mean(0), False)]
        spots += [(uv[t, POINTS.index(n)], metres[t, POINTS.index(n)], True) for n in JOINTS]
        for place, at, joint in spots:
            half = WINDOW_M[joint] / max(at[2], 0.3) * camera.fx + 2
            step = max(1, int(np.ceil(2 * half / MOST_RAYS)))
            columns = np.arange(
                max(0, int(place[0] - half)), min(width, int(place[0] + half) + 1), step
            )
            rows = np.arange(
                max(0, int(place[1] - half)), min(height, int(place[1] + half) + 1), step
            )
            for row in rows:
                for column in columns:
                    targets.append((t, row, column, step))
    if not targets:
        return depth, mask
    table = np.array(targets)
    local, _ = unproject(camera, torch.from_numpy(table[:, [2, 1]].astype(float)))
    rays = local @ scene.exo_w2c[:, :3]
    frames = torch.from_numpy(table[:, 0])
    reach, index = exo_hits(layout, rays, frames)
    z = (reach * local[:, 2].float()).masked_fill(index < 0, torch.nan)
    for (t, row, column, step), value, inside in zip(
        targets, z.tolist(), own[index].tolist(), strict=True
    ):
        depth[t, row : row + step, column : column + step] = value
        mask[t, row : row + step, column : column + step] = inside
    return depth, mask


def exact_points(clip: HeadClip, rng: np.random.Generator, *, gap: bool = False) -> HeadPoints:
    """The points that are seen, where they are; with a gap of some frames in which nobody saw
    anything."""
    scores = clip.people[0].seen.astype(float)
    if gap:
        start = int(rng.integers(4, max(5, len(scores) - GAP - 4)))
        scores[start : start + GAP] = 0
    return HeadPoints(
        uv=torch.from_numpy(clip.people[0].uv),
        scores=torch.from_numpy(scores),
        picture=clip.camera.stored_size,
    )


def detected_points(clip: HeadClip, rng: np.random.Generator) -> HeadPoints:
    """Detector's points of the wearer; of two people the masked."""
    everybody = detected_people(clip.people, clip.camera, clip.spec.fps, rng)
    return choose_person(everybody, mask=clip.mask if len(clip.people) > 1 else None)


def real_points(clip: HeadClip, rng: np.random.Generator) -> HeadPoints:
    """The wearer's points as small real networks give them."""
    uv, scores = network_points(clip.people[0], clip.camera, rng)
    return HeadPoints(
        uv=torch.from_numpy(uv), scores=torch.from_numpy(scores), picture=clip.camera.stored_size
    )


def metric_points(clip: HeadClip, rng: np.random.Generator) -> HeadPoints:
    """Points of a body model: all points in metres, hidden or not, the whole jittering along the
    ray."""
    metres = clip.people[0].metres.copy()
    metres += rng.normal(size=metres.shape) * ERROR * HEAD_M * clip.head.form.size
    shift = metres.mean(1, keepdims=True) * rng.normal(size=(len(metres), 1, 1)) * DEPTH_JITTER
    metres = metres + shift
    uv, _ = project(clip.camera, torch.from_numpy(metres))
    return HeadPoints(
        uv=uv,
        scores=torch.full(metres.shape[:2], 0.9, dtype=torch.float64),
        picture=clip.camera.stored_size,
        metres=torch.from_numpy(metres),
    )


def wavy_depth(clip: HeadClip, seed: int) -> Tensor:
    """[T, H, W]: depth with a slowly varying relative error, such as depth models have."""
    exact = DepthVideo(depth_m=clip.depth_m, camera=clip.camera, times_s=clip.times_s)
    return with_errors(
        exact, DepthErrors(low_frequency=DEPTH_ERROR, bleed_px=0.0, flicker=0.0), seed
    ).depth_m
