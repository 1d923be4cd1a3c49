"""Corners of a clip that are found again in its key frames, and a first pose of every frame."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..cameras import CameraModel
from ..frozen import frozen
from ..progress import Progress, no_progress
from .camera_motion import grey

FloatArray = np.ndarray
KEY_STEP, REACH = 6, 24  # frames between key frames; and to the farthest that a frame is tied to
FAR_KEYS = 4  # every so many key frames, all later key frames are tied to one: views come back
CORNERS, CONTRAST, RATIO = 1200, 0.002, 0.8
WORK_PIXELS = 240_000  # of the picture that corners are searched in: larger ones are reduced
FLAT = 0.06  # relative depth range around a corner that is used: at an edge its depth is anyone's
AROUND_MASK = 7  # px, of the reduced picture
WIDEST = 1.7  # of a ray at z = 1, 60 degrees: a wide lens' rim is left out
LEAST_MATCHES, MAX_SIGHTINGS = 12, 700  # per frame
GATE_PX = 6.0  # for the first poses


@frozen
class Tracks:
    """N points of key frames and M sightings of them in other frames."""

    size: tuple[int, int]  # px, of the picture
    home: FloatArray  # [N] int, key frame of the point
    ray: FloatArray  # [N, 3] at z = 1, in that frame's camera
    depth_m: FloatArray  # [N] z depth of that frame's map
    home_uv: FloatArray  # [N, 2] px
    point: FloatArray  # [M] int
    frame: FloatArray  # [M] int
    plane: FloatArray  # [M, 2], the sighting's ray at z = 1
    map_m: FloatArray  # [M] z depth of its frame's map
    uv: FloatArray  # [M, 2] px
    px: FloatArray  # [M] px of a step of 1 on that plane
    matches: int  # pairs that look alike
    agreed: FloatArray  # [T] share of them that agree with the first pose
    weak: FloatArray  # [T] bool, without a pose of its own
    rotation: FloatArray  # [T, 3, 3] first poses, of frame t from frame 0
    place: FloatArray  # [T, 3] metres


def find_tracks(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Tensor,  # [T, H, W] z depth, NaN invalid
    camera: CameraModel,
    masks: Sequence[Tensor],  # T of [H, W] bool of what moves or is sky
    progress: Progress = no_progress,
) -> Tracks:
    """Match SIFT corners between frames and key frames, and solve each frame's pose from the depth
    of its key frames' corners."""
    count, found = len(depth_m), []
    for t, corners in enumerate(_corners(frames, depth_m, camera, masks)):
        progress(t, 2 * count, "the exo camera's motion: corners")
        found.append(corners)
    of = np.repeat(np.arange(count), [len(uv) for uv, *_ in found])  # the corners' frames
    uv, looks, depth = (np.concatenate(parts) for parts in zip(*found, strict=True))
    plane, px = _on_plane(camera, uv)
    ray = np.c_[plane, np.ones(len(plane))]
    inside = np.linalg.norm(plane, axis=1) < WIDEST
    corners = [np.flatnonzero(inside & (of == t)) for t in range(count)]
    keys = sorted({*range(0, count, KEY_STEP), count - 1})
    rotation, place = np.repeat(np.eye(3)[None], count, 0), np.zeros((count, 3))
    agreed, weak, done, matches, pairs = np.ones(count), np.zeros(count, bool), [0], 0, []
    order = [*keys[1:], *sorted(set(range(count)) - set(keys))]
    for number, t in enumerate(order):
        progress(count + number, 2 * count, "the exo camera's motion: first poses")
        near = [q for q in done if abs(q - t) <= REACH] or done[-1:]
        if t in keys:
            near = sorted({*near, *(q for q in done if q // KEY_STEP % FAR_KEYS == 0)})
        alike = np.concatenate([_match(looks, corners[q], corners[t]) for q in near])
        home = of[alike[:, 0]]
        own = ray[alike[:, 0]] * depth[alike[:, 0], None] - place[home]
        world = np.einsum("nji,nj->ni", rotation[home], own)
        pose = _first_pose(world, plane[alike[:, 1]], px[alike[:, 1]])
        matches += len(alike)
        if pose is None:
            weak[t] = True
            continue
        rotation[t], place[t], kept = pose
        agreed[t] = len(kept) / len(alike)
        pairs.append(alike[kept[:: -(-len(kept) // MAX_SIGHTINGS)]])
        if t in keys:
            done.append(t)
    there, here = np.concatenate([np.zeros((0, 2), int), *pairs]).T
    points, point = np.unique(there, return_inverse=True)
    return Tracks(
        size=camera.stored_size,
        home=of[points],
        ray=ray[points],
        depth_m=depth[points],
        home_uv=uv[points],
        point=point,
        frame=of[here],
        plane=plane[here],
        map_m=depth[here],
        uv=uv[here],
        px=px[here],
        matches=matches,
        agreed=agreed,
        weak=weak,
        rotation=rotation,
        place=place,
    )


def _first_pose(
    world: FloatArray,  # [P, 3]
    plane: FloatArray,  # [P, 2]
    px: FloatArray,  # [P]
) -> tuple[FloatArray, FloatArray, FloatArray] | None:  # [3, 3], [3], [K] int that agree
    if len(world) < LEAST_MATCHES:
        return None
    solved, turn, shift, agree = cv2.solvePnPRansac(
        world,
        plane,
        np.eye(3),
        None,
        iterationsCount=300,
        reprojectionError=GATE_PX / float(np.median(px)),
        confidence=0.9999,
        flags=cv2.SOLVEPNP_EPNP,
    )
    if not solved or len(agree) < LEAST_MATCHES:
        return None
    agree = agree[:, 0].astype(int)
    turn, shift = cv2.solvePnPRefineLM(world[agree], plane[agree], np.eye(3), None, turn, shift)
    return cv2.Rodrigues(turn)[0], shift[:, 0], agree


def _corners(
    frames: Sequence[Tensor] | Tensor,
    depth_m: Tensor,
    camera: CameraModel,
    masks: Sequence[Tensor],
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:  # [K, 2] px, [K, 128], [K] metres
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
        free &= cv2.dilate(masks[t].numpy().astype(np.uint8), around) == 0
        small = cv2.resize(grey(frame), size, interpolation=cv2.INTER_AREA)
        found, looks = sift.detectAndCompute(small, None)
        looks = np.zeros((0, 128), np.float32) if looks is None else looks
        uv = np.array([corner.pt for corner in found]).reshape(-1, 2)
        uv = (uv + 0.5) * [width / size[0], height / size[1]] - 0.5
        column, row = np.clip(uv.round().astype(int), 0, [width - 1, height - 1]).T
        keep = free[row, column]
        looks = np.sqrt(looks / np.maximum(looks.sum(1, keepdims=True), 1e-9))
        yield uv[keep], looks[keep], depth[row, column][keep].astype(float)


def _on_plane(camera: CameraModel, uv: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(rays at z = 1 [K, 2], px of a step of 1 there [K])."""

    def plane(places: FloatArray) -> FloatArray:
        rays = camera.unproject(torch.from_numpy(places))[0].numpy()
        return rays[:, :2] / np.maximum(rays[:, 2:], 1e-3)

    step = plane(uv + [0.5, 0.0]) - plane(uv - [0.5, 0.0])
    return plane(uv), 1 / np.maximum(np.linalg.norm(step, axis=1), 1e-9)


def _match(looks: FloatArray, there: FloatArray, here: FloatArray) -> FloatArray:  # [P, 2] int
    """Corners that are each other's nearest, and clearly so."""
    if len(there) < 8 or len(here) < 8:
        return np.zeros((0, 2), int)
    alike = looks[there] @ looks[here].T  # of unit vectors
    best, rows = alike.argmax(1), np.arange(len(there))
    mutual = alike.argmax(0)[best] == rows
    most = alike[rows, best].copy()
    alike[rows, best] = -1
    far = np.sqrt(np.maximum(1 - np.stack([most, alike.max(1)]), 0))
    good = mutual & (far[0] < RATIO * far[1])
    return np.stack([there[good], here[best[good]]], 1)
