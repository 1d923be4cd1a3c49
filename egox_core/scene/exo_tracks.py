"""Track corners of a clip between frames and key frames, and estimate a first pose of every
frame."""

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
MAX_DEPTH_RANGE = (
    0.06  # relative depth range around a corner that is used: at an edge its depth is anyone's
)
MASK_MARGIN_PX = 7  # px, of the reduced picture
MAX_RAY_OFFSET = 1.7  # of a ray at z = 1, 60 degrees: a wide lens' rim is left out
MIN_MATCHES, MAX_SIGHTINGS = 12, 700  # per frame
GATE_PX = 6.0  # for the first poses


@frozen
class Tracks:
    """Points (N) found in key frames, and their sightings (M) in other frames."""

    size: tuple[int, int]  # px, of the picture
    key_frame: FloatArray  # [N] int, key frame of the point
    ray: FloatArray  # [N, 3] at z = 1, in that frame's camera
    depth_m: FloatArray  # [N] z depth of that frame's map
    key_uv: FloatArray  # [N, 2] px
    point: FloatArray  # [M] int
    frame: FloatArray  # [M] int
    plane_uv: FloatArray  # [M, 2], the sighting's ray at z = 1
    map_depth_m: FloatArray  # [M] z depth of its frame's map
    uv: FloatArray  # [M, 2] px
    px_per_unit: FloatArray  # [M] px of a step of 1 on that plane
    matches: int  # pairs that look alike
    inlier_shares: FloatArray  # [T] share of them that agree with the first pose
    has_no_pose: FloatArray  # [T] bool, without a pose of its own
    rotation: FloatArray  # [T, 3, 3] first poses, of frame t from frame 0
    place: FloatArray  # [T, 3] metres


def find_tracks(
    frames: Sequence[Tensor] | Tensor,  # T of [H, W, 3], 0...1 or uint8
    depth_m: Tensor,  # [T, H, W] z depth, NaN invalid
    camera: CameraModel,
    masks: Sequence[Tensor],  # T of [H, W] bool of what moves or is sky
    progress: Progress = no_progress,
) -> Tracks:
    """Match SIFT corners between frames, and solve each frame's camera pose from the corners'
    depth."""
    count = len(depth_m)
    corner_parts = []
    for t, corners_by_frame in enumerate(_find_corners(frames, depth_m, camera, masks)):
        progress(t, 2 * count, "the exo camera's motion: corners")
        corner_parts.append(corners_by_frame)
    corner_frames = np.repeat(
        np.arange(count), [len(uv) for uv, *_ in corner_parts]
    )  # the corners' frames
    uv, descriptors, depth = (np.concatenate(parts) for parts in zip(*corner_parts, strict=True))
    plane, pixel_scale = _plane_positions(camera, uv)
    ray = np.c_[plane, np.ones(len(plane))]
    in_view = np.linalg.norm(plane, axis=1) < MAX_RAY_OFFSET
    corners_by_frame = [np.flatnonzero(in_view & (corner_frames == t)) for t in range(count)]
    key_frames = sorted({*range(0, count, KEY_STEP), count - 1})
    rotation = np.repeat(np.eye(3)[None], count, 0)
    place = np.zeros((count, 3))
    inlier_shares = np.ones(count)
    has_no_pose = np.zeros(count, bool)
    solved_keys = [0]
    matches = 0
    pairs = []
    frame_order = [*key_frames[1:], *sorted(set(range(count)) - set(key_frames))]
    for number, t in enumerate(frame_order):
        progress(count + number, 2 * count, "the exo camera's motion: first poses")
        partner_frames = [
            earlier_frame for earlier_frame in solved_keys if abs(earlier_frame - t) <= REACH
        ] or solved_keys[-1:]
        if t in key_frames:
            partner_frames = sorted(
                {
                    *partner_frames,
                    *(
                        earlier_frame
                        for earlier_frame in solved_keys
                        if earlier_frame // KEY_STEP % FAR_KEYS == 0
                    ),
                }
            )
        match_pairs = np.concatenate(
            [
                _match_corners(descriptors, corners_by_frame[earlier_frame], corners_by_frame[t])
                for earlier_frame in partner_frames
            ]
        )
        partner_of_match = corner_frames[match_pairs[:, 0]]
        home_points = (
            ray[match_pairs[:, 0]] * depth[match_pairs[:, 0], None] - place[partner_of_match]
        )
        world_points = np.einsum("nji,nj->ni", rotation[partner_of_match], home_points)
        pose = _first_pose(world_points, plane[match_pairs[:, 1]], pixel_scale[match_pairs[:, 1]])
        matches += len(match_pairs)
        if pose is None:
            has_no_pose[t] = True
            continue
        rotation[t], place[t], inliers = pose
        inlier_shares[t] = len(inliers) / len(match_pairs)
        pairs.append(match_pairs[inliers[:: -(-len(inliers) // MAX_SIGHTINGS)]])
        if t in key_frames:
            solved_keys.append(t)
    point_corners, sighting_corners = np.concatenate([np.zeros((0, 2), int), *pairs]).T
    points, point = np.unique(point_corners, return_inverse=True)
    return Tracks(
        size=camera.stored_size,
        key_frame=corner_frames[points],
        ray=ray[points],
        depth_m=depth[points],
        key_uv=uv[points],
        point=point,
        frame=corner_frames[sighting_corners],
        plane_uv=plane[sighting_corners],
        map_depth_m=depth[sighting_corners],
        uv=uv[sighting_corners],
        px_per_unit=pixel_scale[sighting_corners],
        matches=matches,
        inlier_shares=inlier_shares,
        has_no_pose=has_no_pose,
        rotation=rotation,
        place=place,
    )


def _first_pose(
    world_points: FloatArray,  # [P, 3]
    plane_uv: FloatArray,  # [P, 2]
    pixel_scale: FloatArray,  # [P]
) -> tuple[FloatArray, FloatArray, FloatArray] | None:  # [3, 3], [3], [K] int that agree
    if len(world_points) < MIN_MATCHES:
        return None
    is_solved, turn, shift, inliers = cv2.solvePnPRansac(
        world_points,
        plane_uv,
        np.eye(3),
        None,
        iterationsCount=300,
        reprojectionError=GATE_PX / float(np.median(pixel_scale)),
        confidence=0.9999,
        flags=cv2.SOLVEPNP_EPNP,
    )
    if not is_solved or len(inliers) < MIN_MATCHES:
        return None
    inliers = inliers[:, 0].astype(int)
    turn, shift = cv2.solvePnPRefineLM(
        world_points[inliers], plane_uv[inliers], np.eye(3), None, turn, shift
    )
    return cv2.Rodrigues(turn)[0], shift[:, 0], inliers


def _find_corners(
    frames: Sequence[Tensor] | Tensor,
    depth_m: Tensor,
    camera: CameraModel,
    masks: Sequence[Tensor],
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:  # [K, 2] px, [K, 128], [K] metres
    """Find SIFT corners of each frame, except at depth edges and on moving pixels."""
    sift = cv2.SIFT.create(CORNERS, contrastThreshold=CONTRAST)
    width, height = camera.stored_size
    scale = min(1.0, (WORK_PIXELS / (width * height)) ** 0.5)
    size = round(width * scale), round(height * scale)
    kernel, mask_kernel = (
        np.ones((3, 3), np.uint8),
        np.ones((MASK_MARGIN_PX, MASK_MARGIN_PX), np.uint8),
    )
    for t, frame in enumerate(frames):
        depth = depth_m[t].float().numpy()
        valid_depth = np.where(np.isfinite(depth), depth, 0)
        free_mask = (
            cv2.dilate(valid_depth, kernel) - cv2.erode(valid_depth, kernel)
        ) < MAX_DEPTH_RANGE * valid_depth
        free_mask &= cv2.dilate(masks[t].numpy().astype(np.uint8), mask_kernel) == 0
        small_picture = cv2.resize(grey(frame), size, interpolation=cv2.INTER_AREA)
        corners, descriptors = sift.detectAndCompute(small_picture, None)
        descriptors = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
        uv = np.array([corner.pt for corner in corners]).reshape(-1, 2)
        uv = (uv + 0.5) * [width / size[0], height / size[1]] - 0.5
        column, row = np.clip(uv.round().astype(int), 0, [width - 1, height - 1]).T
        keep_mask = free_mask[row, column]
        descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
        yield uv[keep_mask], descriptors[keep_mask], depth[row, column][keep_mask].astype(float)


def _plane_positions(camera: CameraModel, uv: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Convert pixels to rays at z = 1, with the number of px per unit at that plane.

    Rays are [K, 2], numbers [K]."""

    def plane(places: FloatArray) -> FloatArray:
        rays = camera.unproject(torch.from_numpy(places))[0].numpy()
        return rays[:, :2] / np.maximum(rays[:, 2:], 1e-3)

    step = plane(uv + [0.5, 0.0]) - plane(uv - [0.5, 0.0])
    return plane(uv), 1 / np.maximum(np.linalg.norm(step, axis=1), 1e-9)


def _match_corners(
    descriptors: FloatArray, corners_a: FloatArray, corners_b: FloatArray
) -> FloatArray:  # [P, 2] int
    """Match corners that are each other's nearest neighbour and clearly better than the second
    best."""
    if len(corners_a) < 8 or len(corners_b) < 8:
        return np.zeros((0, 2), int)
    similarity = descriptors[corners_a] @ descriptors[corners_b].T  # of unit vectors
    best_match = similarity.argmax(1)
    indices = np.arange(len(corners_a))
    is_mutual = similarity.argmax(0)[best_match] == indices
    best_similarity = similarity[indices, best_match].copy()
    similarity[indices, best_match] = -1
    distances = np.sqrt(np.maximum(1 - np.stack([best_similarity, similarity.max(1)]), 0))
    good_mask = is_mutual & (distances[0] < RATIO * distances[1])
    return np.stack([corners_a[good_mask], corners_b[best_match[good_mask]]], 1)
