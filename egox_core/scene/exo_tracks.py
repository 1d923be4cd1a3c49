"""Corners of a clip that are found again in its key frames, and a first pose of every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..cameras.model import CameraModel, unproject
from ..progress import Progress, no_progress
from .background import to_uint8

FloatArray = np.ndarray
KEY_STEP, REACH = 6, 24  # frames between key frames; and to the farthest that a frame is tied to
FAR_KEYS = 4  # every so many key frames, all later key frames are tied to one: views come back
CORNERS, CONTRAST, RATIO = 1200, 0.01, 0.8
WORK_PIXELS = 240_000  # of the picture that corners are searched in: larger ones are reduced
FLAT = 0.06  # relative depth range around a corner that is used: at an edge its depth is anyone's
AROUND_MASK = 7  # px, of the reduced picture
WIDEST = 1.7  # of a ray at z = 1, 60 degrees: a wide lens' rim is left out
LEAST_MATCHES, MAX_SIGHTINGS = 12, 700  # per frame
GATE_PX = 6.0  # for the first poses


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """N points of key frames and M sightings of them in other frames."""

    home: FloatArray  # [N] int, key frame of the point
    ray: FloatArray  # [N, 3] at z = 1, in that frame's camera
    depth_m: FloatArray  # [N] z depth of that frame's map
    home_uv: FloatArray  # [N, 2] px
    point: FloatArray  # [M] int
    frame: FloatArray  # [M] int
    plane: FloatArray  # [M, 2], the sighting's ray at z = 1
    uv: FloatArray  # [M, 2] px
    px: FloatArray  # [M] px of a step of 1 on that plane
    matched: FloatArray  # [T] int, pairs that look alike
    agreed: FloatArray  # [T] share of them that agree with the first pose
    weak: tuple[int, ...]  # frames without a pose of their own
    rotation: FloatArray  # [T, 3, 3] first poses, of frame t from frame 0
    place: FloatArray  # [T, 3] metres


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corners:
    uv: FloatArray  # [K, 2] px
    plane: FloatArray  # [K, 2]
    px: FloatArray  # [K]
    depth_m: FloatArray  # [K]
    looks: FloatArray  # [K, 128]


def find_tracks(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Sequence[Tensor] | Tensor,  # T of [H, W] z depth, NaN invalid
    camera: CameraModel,
    masks: Sequence[Tensor] | None,  # T of [H, W] bool of what moves or is sky
    progress: Progress = no_progress,
) -> Tracks:
    """Match SIFT corners between frames and key frames, and solve each frame's pose from the depth
    of its key frames' corners."""
    count, all_corners = len(depth_m), []
    for t, corners in enumerate(_corners(frames, depth_m, camera, masks)):
        progress(t, 2 * count, "the exo camera's motion: corners")
        all_corners.append(corners)
    keys = sorted({*range(0, count, KEY_STEP), count - 1})
    rotation, place = np.repeat(np.eye(3)[None], count, 0), np.zeros((count, 3))
    matched, agreed, weak, done, sightings = np.zeros(count, int), np.ones(count), [], [0], []
    order = [*keys[1:], *sorted(set(range(count)) - set(keys))]
    for number, t in enumerate(order):
        progress(count + number, 2 * count, "the exo camera's motion: first poses")
        known = [q for q in keys if q in done and q not in weak]
        near = [q for q in known if abs(q - t) <= REACH] or known[-1:]
        if t in keys:
            near = sorted({*near, *(q for q in known if q // KEY_STEP % FAR_KEYS == 0)})
        here, pairs = all_corners[t], []
        for q in near:
            match = _match(all_corners[q].looks, here.looks)
            pairs.append(np.c_[np.full(len(match), q), match])
        pairs = np.concatenate(pairs)
        matched[t] = len(pairs)
        nearest = min(near, key=lambda q: abs(q - t))
        rotation[t], place[t] = rotation[nearest], place[nearest]
        done.append(t)
        kept = _first_pose(t, pairs, all_corners, rotation, place)
        if kept is None:
            weak.append(t)
        else:
            agreed[t] = len(kept) / len(pairs)
            kept = kept[:: -(-len(kept) // MAX_SIGHTINGS)]
            sightings.append(np.c_[kept, np.full(len(kept), t)])
    rows = np.concatenate(sightings) if sightings else np.zeros((0, 4), int)
    points, point = np.unique(rows[:, :2], axis=0, return_inverse=True)

    def of_points(name: str) -> FloatArray:
        return np.array([getattr(all_corners[q], name)[i] for q, i in points])

    def of_sightings(name: str) -> FloatArray:
        return np.array([getattr(all_corners[t], name)[j] for _, _, j, t in rows])

    return Tracks(
        home=points[:, 0],
        ray=np.c_[of_points("plane").reshape(-1, 2), np.ones(len(points))],
        depth_m=of_points("depth_m"),
        home_uv=of_points("uv").reshape(-1, 2),
        point=point.ravel(),
        frame=rows[:, 3],
        plane=of_sightings("plane").reshape(-1, 2),
        uv=of_sightings("uv").reshape(-1, 2),
        px=of_sightings("px"),
        matched=matched,
        agreed=agreed,
        weak=tuple(sorted(weak)),
        rotation=rotation,
        place=place,
    )


def _first_pose(
    t: int,
    pairs: FloatArray,  # [P, 3] int: key frame, corner there, corner here
    corners: list[_Corners],
    rotation: FloatArray,
    place: FloatArray,
) -> FloatArray | None:  # [K, 3] the pairs that agree; the pose is written
    if len(pairs) < LEAST_MATCHES:
        return None
    world = np.empty((len(pairs), 3))
    for q in np.unique(pairs[:, 0]):
        at = pairs[:, 0] == q
        there, own = pairs[at, 1], corners[q]
        seen = np.c_[own.plane[there], np.ones(len(there))] * own.depth_m[there, None]
        world[at] = (seen - place[q]) @ rotation[q]
    plane = corners[t].plane[pairs[:, 2]]
    cv2.setRNGSeed(0)  # the same clip, the same poses
    solved, turn, shift, agree = cv2.solvePnPRansac(
        world,
        plane,
        np.eye(3),
        None,
        iterationsCount=300,
        reprojectionError=GATE_PX / float(np.median(corners[t].px)),
        confidence=0.9999,
        flags=cv2.SOLVEPNP_EPNP if len(pairs) > 30 else cv2.SOLVEPNP_ITERATIVE,
    )
    if not solved or agree is None or len(agree) < LEAST_MATCHES:
        return None
    agree = agree[:, 0].astype(int)
    turn, shift = cv2.solvePnPRefineLM(world[agree], plane[agree], np.eye(3), None, turn, shift)
    rotation[t], place[t] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return pairs[agree]


def _corners(
    frames: Sequence[Tensor] | Tensor,
    depth_m: Sequence[Tensor] | Tensor,
    camera: CameraModel,
    masks: Sequence[Tensor] | None,
) -> Iterator[_Corners]:
    """SIFT corners of each frame, off depth edges and off what moves."""
    sift = cv2.SIFT.create(CORNERS, contrastThreshold=CONTRAST)
    width, height = camera.stored_size
    shrink = min(1.0, (WORK_PIXELS / (width * height)) ** 0.5)
    size = round(width * shrink), round(height * shrink)
    kernel, around = np.ones((3, 3), np.uint8), np.ones((AROUND_MASK, AROUND_MASK), np.uint8)
    for t, frame in enumerate(frames):
        depth = depth_m[t].float().numpy()
        known = np.where(np.isfinite(depth), depth, 0)
        free = (cv2.dilate(known, kernel) - cv2.erode(known, kernel)) < FLAT * known
        if masks is not None:
            free &= cv2.dilate(masks[t].numpy().astype(np.uint8), around) == 0
        grey = cv2.cvtColor(to_uint8(frame).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
        if shrink < 1:
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        found, looks = sift.detectAndCompute(grey, None)
        uv = np.array([corner.pt for corner in found]).reshape(-1, 2)
        uv = (uv + 0.5) * [width / size[0], height / size[1]] - 0.5
        looks = np.zeros((0, 128), np.float32) if looks is None else looks
        column, row = np.clip(uv.round().astype(int), 0, [width - 1, height - 1]).T
        plane, px = _on_plane(camera, uv)
        keep = free[row, column] & (np.linalg.norm(plane, axis=1) < WIDEST)
        order = np.flatnonzero(keep)[np.lexsort(np.c_[uv, looks[:, :2]][keep].T)]
        looks = np.sqrt(looks / np.maximum(looks.sum(1, keepdims=True), 1e-9))
        yield _Corners(
            uv=uv[order],
            plane=plane[order],
            px=px[order],
            depth_m=depth[row, column][order].astype(float),
            looks=looks[order].astype(np.float32),
        )


def _on_plane(camera: CameraModel, uv: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(rays at z = 1 [K, 2], px of a step of 1 there [K])."""

    def plane(places: FloatArray) -> FloatArray:
        rays = unproject(camera, torch.from_numpy(places))[0].numpy()
        return rays[:, :2] / np.maximum(rays[:, 2:], 1e-3)

    step = plane(uv + [0.5, 0.0]) - plane(uv - [0.5, 0.0])
    return plane(uv), 1 / np.maximum(np.linalg.norm(step, axis=1), 1e-9)


def _match(first: FloatArray, second: FloatArray) -> FloatArray:  # [P, 2] int
    """Corners that are each other's nearest, and clearly so."""
    if len(first) < 8 or len(second) < 8:
        return np.zeros((0, 2), int)
    alike = first @ second.T  # of unit vectors
    best, rows = alike.argmax(1), np.arange(len(first))
    mutual = alike.argmax(0)[best] == rows
    most = alike[rows, best].copy()
    alike[rows, best] = -1
    far = np.sqrt(np.maximum(1 - np.stack([most, alike.max(1)]), 0))
    good = mutual & (far[0] < RATIO * far[1])
    return np.stack([rows[good], best[good]], 1)
