"""Clips for the bench of head poses: who is seen, from where, how large, and what a detector would say of them.

No picture is drawn. Rays are cast at the points themselves, to tell which are seen, and at the pixels round head and
shoulders, for depth and mask there; everywhere else depth is unknown and the mask is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras.model import CameraModel, project, unproject
from egox_core.synthetic import SyntheticSpec
from egox_core.synthetic.casting import RayBundle, first_hits
from egox_core.synthetic.depth_errors import DepthErrors, with_errors
from egox_core.synthetic.layout import DrawnHead, Layout, draw_layout
from egox_core.trajectory.head_points import HeadPoints, People, choose_person
from egox_core.trajectory.head_template import MIRROR, POINTS
from egox_core.trajectory.poses import invert, pose_of_frame, transform
from egox_core.types import DepthVideo

HEAD_M = 0.225  # vertex to chin: what "the size of a head" means in the errors below
JOINTS = ("neck", "right_shoulder", "left_shoulder")
SEEN_M = {True: 0.14, False: 0.015}  # of a joint under the skin, of a point on it: how far a surface may lie before it
WINDOW_M = {True: 0.05, False: 0.17}  # half sides of the windows of depth round a shoulder and round the head
MOST_RAYS = 28  # a side of such a window; larger ones take every second, third, ... pixel
HEIGHTS = (80, 112, 160, 224, 320, 448)
ERROR, FAR_ERROR = 0.03, 0.08  # of the head's size, of points that are seen and of those that a detector makes up
MISSING, GUESSED, SWAPPED, GAP = 0.10, 0.25, 0.04, 8
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
    uv: tuple[np.ndarray, ...]  # [T, 8, 2] px, of each person
    metres: tuple[np.ndarray, ...]  # [T, 8, 3] exo camera frame
    seen: tuple[np.ndarray, ...]  # [T, 8] bool
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
        return ~self.seen[0][:, face].any(1)


def clip_specs(count: int, frames: int) -> list[tuple[str, SyntheticSpec]]:
    """Names and specs: usual work, turning heads, walkers, backs and two people, at all picture heights."""
    kinds = (("work", {}), ("turning", {"turning_deg": 50.0}), ("behind", {"exo_side": "behind"}),
             ("walking", {"walking": 0.7}), ("two people", {"company": True, "turning_deg": 25.0}),
             ("turning far", {"turning_deg": 80.0}), ("work", {}), ("behind, turning", {"exo_side": "behind",
                                                                                      "turning_deg": 60.0}))
    specs = []
    for i in range(count):
        name, options = kinds[i % len(kinds)]
        height = HEIGHTS[(i // len(kinds) + i) % len(HEIGHTS)]
        specs.append((name, SyntheticSpec(seed=500 + i, frames=frames, exo_height=height, exo_width=height * 7 // 4,
                                          ego_size=height, wearer="drawn", **options)))
    return specs


def make_clip(name: str, spec: SyntheticSpec) -> HeadClip:
    """Draw a clip and cast its rays."""
    layout = draw_layout(spec)
    scene = layout.scene
    camera, w2c = scene.exo_camera, scene.exo_w2c
    people_uv, people_metres, people_seen = [], [], []
    for head in layout.heads:
        marks = torch.from_numpy(np.stack([head.marks[name] for name in POINTS], axis=1))  # [T, 8, 3]
        local = transform(w2c, marks)
        uv, valid = project(camera, local)
        people_uv.append(uv.numpy())
        people_metres.append(local.numpy())
        people_seen.append(_seen(layout, marks, head, camera, uv) & valid.numpy())
    depth, mask = _windows(layout, people_uv[0], people_metres[0])
    return HeadClip(name=name, spec=spec, layout=layout, camera=camera, exo_w2c=w2c, uv=tuple(people_uv),
                    metres=tuple(people_metres), seen=tuple(people_seen), depth_m=depth, mask=mask,
                    times_s=torch.arange(spec.frames, dtype=torch.float64) / spec.fps)


def _cast(layout: Layout, rays: Tensor, frame: Tensor, *, glasses: bool = True) -> tuple[Tensor, Tensor]:
    """(ray depth [N], solid [N]) of world rays [N, 3] from the exo camera in frames [N]."""
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
    depth, index = _cast(layout, away / far[:, None], torch.arange(frames).repeat_interleave(count), glasses=False)
    slack = torch.tensor([SEEN_M[name in JOINTS] for name in POINTS]).repeat(frames)
    own = torch.tensor([i in head.solids for i in range(len(layout.scene.solids))] + [False])[index]
    width, height = camera.stored_size
    inside = ((uv > -0.5) & (uv < torch.tensor([width - 0.5, height - 0.5]))).all(-1).reshape(-1)
    return ((depth > far - slack) & (own | (depth > far)) & inside).reshape(frames, count).numpy()


def _windows(layout: Layout, uv: np.ndarray, metres: np.ndarray) -> tuple[Tensor, Tensor]:
    """Depth and the wearer's mask [T, H, W] round the head and both shoulders."""
    scene, head = layout.scene, layout.heads[0]
    camera = scene.exo_camera
    width, height = camera.stored_size
    own = torch.tensor([i in head.solids and scene.solids[i].group != "held" for i in range(len(scene.solids))]
                       + [False])
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
            columns = np.arange(max(0, int(place[0] - half)), min(width, int(place[0] + half) + 1), step)
            rows = np.arange(max(0, int(place[1] - half)), min(height, int(place[1] + half) + 1), step)
            for row in rows:
                for column in columns:
                    targets.append((t, row, column, step))
    if not targets:
        return depth, mask
    table = np.array(targets)
    local, _ = unproject(camera, torch.from_numpy(table[:, [2, 1]].astype(float)))
    rays = local @ scene.exo_w2c[:, :3]
    frames = torch.from_numpy(table[:, 0])
    reach, index = _cast(layout, rays, frames)
    z = (reach * local[:, 2].float()).masked_fill(index < 0, torch.nan)
    for (t, row, column, step), value, inside in zip(targets, z.tolist(), own[index].tolist(), strict=True):
        depth[t, row:row + step, column:column + step] = value
        mask[t, row:row + step, column:column + step] = inside
    return depth, mask


def exact_points(clip: HeadClip, rng: np.random.Generator, *, gap: bool = False) -> HeadPoints:
    """The points that are seen, where they are; with a gap of some frames in which nobody saw anything."""
    scores = clip.seen[0].astype(float)
    if gap:
        start = int(rng.integers(4, max(5, len(scores) - GAP - 4)))
        scores[start:start + GAP] = 0
    return HeadPoints(uv=torch.from_numpy(clip.uv[0]), scores=torch.from_numpy(scores), picture=clip.camera.stored_size)


def detected_points(clip: HeadClip, rng: np.random.Generator) -> HeadPoints:
    """What a detector gives: errors, missing and made-up points, swapped sides, a gap; of two people the masked."""
    people = [[] for _ in range(clip.spec.frames)]
    start = int(rng.integers(4, max(5, clip.spec.frames - GAP - 4)))
    for number in range(len(clip.uv)):
        uv, seen = clip.uv[number].copy(), clip.seen[number]
        size = HEAD_M * clip.layout.heads[number].form.size * clip.camera.fx / clip.metres[number][..., 2:].clip(0.3)
        uv += rng.normal(size=uv.shape) * np.where(seen, ERROR, FAR_ERROR)[..., None] * size
        scores = np.where(seen, rng.uniform(0.6, 1.0, seen.shape), np.where(
            rng.random(seen.shape) < GUESSED, rng.uniform(0.12, 0.3, seen.shape), 0.0))
        scores[rng.random(seen.shape) < MISSING] = 0
        for t in range(clip.spec.frames):
            order = list(MIRROR) if rng.random() < SWAPPED else list(range(len(POINTS)))
            if (number == 0 and start <= t < start + GAP) or not (scores[t] > 0).any():
                continue
            people[t].append((uv[t, order], scores[t, order], None))
    for frame in people:
        rng.shuffle(frame)
    everybody = People(frames=tuple(map(tuple, people)), picture=clip.camera.stored_size, source="detector")
    return choose_person(everybody, mask=clip.mask if len(clip.uv) > 1 else None)


def metric_points(clip: HeadClip, rng: np.random.Generator) -> HeadPoints:
    """What a body model gives: all points in metres, hidden or not, the whole jittering along the ray."""
    metres = clip.metres[0].copy()
    metres += rng.normal(size=metres.shape) * ERROR * HEAD_M * clip.head.form.size
    shift = metres.mean(1, keepdims=True) * rng.normal(size=(len(metres), 1, 1)) * DEPTH_JITTER
    metres = metres + shift
    uv, _ = project(clip.camera, torch.from_numpy(metres))
    return HeadPoints(uv=uv, scores=torch.full(metres.shape[:2], 0.9, dtype=torch.float64),
                      picture=clip.camera.stored_size, metres=torch.from_numpy(metres))


def wavy_depth(clip: HeadClip, seed: int) -> Tensor:
    """[T, H, W]: depth with a slowly varying relative error, such as depth models have."""
    exact = DepthVideo(depth_m=clip.depth_m, camera=clip.camera, times_s=clip.times_s)
    return with_errors(exact, DepthErrors(low_frequency=DEPTH_ERROR, bleed_px=0.0, flicker=0.0), seed).depth_m
