"""Simulate a keypoint detector of the wearer's head and shoulders, with errors and missing points.

Which points are seen is told by rays cast at the points alone; no picture is needed.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from egox_core.cameras import CameraModel, camera_centre, transform
from egox_core.frozen import frozen
from egox_core.trajectory import OPENPOSE_POINTS, POINTS

from .casting import RayBundle, first_hits
from .layout import DrawnHead, Layout

HEAD_HEIGHT_M = 0.225  # vertex to chin: what "the size of a head" means in the errors below
JOINTS = ("neck", "right_shoulder", "left_shoulder")
OTHER_SIDE = {"right": "left", "left": "right"}
MIRRORED_ORDER = [
    POINTS.index("_".join(OTHER_SIDE.get(word, word) for word in name.split("_")))
    for name in POINTS
]
"""The order of POINTS with right and left exchanged."""
DetectedFrames = list[list[tuple[np.ndarray, np.ndarray]]]
"""Per frame everybody: uv [8, 2] px and scores [8]."""
VISIBLE_TOLERANCE_M = {
    True: 0.14,
    False: 0.015,
}  # of a joint under the skin, of a point on it: how far a surface may be before it
ERROR = 0.03  # of the head's size, of points that are seen
FAR_ERROR = 0.08  # of the head's size, of points that a detector makes up
MISSING_SHARE, GUESSED_SHARE, SWAPPED_SHARE = 0.10, 0.25, 0.04
GAP_LENGTH_S = 0.4  # in which the detector finds nobody
BIAS_RANGE = (0.05, 0.10)  # of the head's size, all through a clip
JITTER_SD = 0.02  # of the head's size, from frame to frame
GUESSED_SCORE_RANGE, SEEN_SCORE_RANGE = (0.3, 0.8), (0.5, 1.0)
HEAD_HALF_SIZE = np.array(
    [0.38, 0.5]
)  # half width, half height of a head's outline, of the head's size


@frozen
class ProjectedPerson:
    """Body points of one person in the exo picture, and which of them are visible."""

    uv: np.ndarray  # [T, 8, 2] px
    metres: np.ndarray  # [T, 8, 3] exo camera frame
    seen: np.ndarray  # [T, 8] bool
    size: float  # of the head, against the mean

    @property
    def head_px(self) -> np.ndarray:
        """Size of the head in the picture [T, 8, 1], in px for a focal length of 1 px."""
        return HEAD_HEIGHT_M * self.size / self.metres[..., 2:].clip(0.3)


def project_person(layout: Layout) -> ProjectedPerson:
    """Project the wearer's body points into an exo camera, and compute which are visible."""
    camera, drawn_head = layout.scene.exo.camera, layout.head
    body_points = torch.from_numpy(
        np.stack([drawn_head.marks[name] for name in POINTS], axis=1)
    )  # [T, 8, 3]
    points_in_exo = transform(layout.scene.exo.at(0), body_points)
    points_uv, is_projected = camera.project(points_in_exo)
    return ProjectedPerson(
        uv=points_uv.numpy(),
        metres=points_in_exo.numpy(),
        size=drawn_head.form.size,
        seen=_visible_points(layout, body_points, drawn_head, camera, points_uv)
        & is_projected.numpy(),
    )


def exo_hits(
    layout: Layout,
    rays: Tensor,  # [N, 3] unit, world
    frame: Tensor,  # [N] int64
    *,
    # False if rays pass through the glasses.
    glasses: bool = True,
) -> tuple[Tensor, Tensor]:
    """Cast rays from an exo camera, to find the depth [N] and the hit solid [N] of each."""
    scene = layout.scene
    origin = camera_centre(scene.exo.at(0)).float().expand(scene.frames, 3)
    ray_bundle = RayBundle(
        rays=rays.float(), origin=origin, frame=frame, poses=scene.world_from_solid
    )
    solids = [
        i for i in scene.indices() if glasses or not scene.solids[i].name.startswith("glasses")
    ]
    return first_hits(scene.solids, solids, ray_bundle)


def _visible_points(
    layout: Layout, body_points: Tensor, head: DrawnHead, camera: CameraModel, uv: Tensor
) -> np.ndarray:
    """Mark the body points [T, 8] that are inside the picture and not hidden."""
    frames, count = body_points.shape[:2]
    centre = camera_centre(layout.scene.exo.at(0))
    point_offsets = (body_points - centre).reshape(-1, 3)
    point_distance = point_offsets.norm(dim=-1)
    # Detectors find eyes behind glasses.
    depth, index = exo_hits(
        layout,
        point_offsets / point_distance[:, None],
        torch.arange(frames).repeat_interleave(count),
        glasses=False,
    )
    depth_slack_m = torch.tensor([VISIBLE_TOLERANCE_M[name in JOINTS] for name in POINTS]).repeat(
        frames
    )
    head_mask = torch.tensor([i in head.solids for i in range(len(layout.scene.solids))] + [False])[
        index
    ]
    width, height = camera.stored_size
    in_picture = (
        ((uv > -0.5) & (uv < torch.tensor([width - 0.5, height - 0.5]))).all(-1).reshape(-1)
    )
    return (
        (
            (depth > point_distance - depth_slack_m)
            & (head_mask | (depth > point_distance))
            & in_picture
        )
        .reshape(frames, count)
        .numpy()
    )


def detect_person(
    person: ProjectedPerson,
    # The exo camera.
    camera: CameraModel,
    fps: float,
    rng: np.random.Generator,
) -> DetectedFrames:
    """Simulate a detector of the wearer, with position errors, missing points and swapped sides."""
    frame_count, seen_mask, head_size_px = len(person.uv), person.seen, person.head_px * camera.fx
    gap_frames = max(1, round(GAP_LENGTH_S * fps))
    gap_start = int(rng.integers(4, max(5, frame_count - gap_frames - 4)))
    error = (
        rng.normal(size=person.uv.shape)
        * np.where(seen_mask, ERROR, FAR_ERROR)[..., None]
        * head_size_px
    )
    detected_uv = person.uv + error
    scores = np.where(
        seen_mask,
        rng.uniform(0.6, 1.0, seen_mask.shape),
        np.where(
            rng.random(seen_mask.shape) < GUESSED_SHARE,
            rng.uniform(0.12, 0.3, seen_mask.shape),
            0.0,
        ),
    )
    scores[rng.random(seen_mask.shape) < MISSING_SHARE] = 0
    frames: DetectedFrames = []
    for t in range(frame_count):
        point_order = MIRRORED_ORDER if rng.random() < SWAPPED_SHARE else list(range(len(POINTS)))
        is_lost = gap_start <= t < gap_start + gap_frames or not (scores[t] > 0).any()
        frames.append([] if is_lost else [(detected_uv[t, point_order], scores[t, point_order])])
    return frames


def network_points(
    person: ProjectedPerson,
    # The exo camera.
    camera: CameraModel,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # uv [T, 8, 2] px, scores [T, 8]
    """Simulate a small pose network, which also guesses hidden points.

    A visible point is off by the same share of the head in all frames. A hidden ear or eye is on
    its twin if that is seen; any other hidden point of the head is on the outline, and a hidden
    joint of the body where it is.
    """
    head_size_px, head_count = person.head_px * camera.fx, len(POINTS) - len(JOINTS)
    bias_angles = rng.uniform(0, 2 * np.pi, len(POINTS))
    bias_length = rng.uniform(*BIAS_RANGE, len(POINTS))[:, None]
    position_bias = bias_length * np.stack([np.cos(bias_angles), np.sin(bias_angles)], axis=-1)
    biased_uv = person.uv + position_bias * head_size_px
    hidden_mask = ~person.seen[:, :head_count]
    ear_indices = [POINTS.index("right_ear"), POINTS.index("left_ear")]
    ear_centre = person.uv[:, ear_indices].mean(1, keepdims=True)
    outline_directions = (biased_uv[:, :head_count] - ear_centre) / (
        HEAD_HALF_SIZE * head_size_px[:, :head_count]
    )
    outline_directions /= np.linalg.norm(outline_directions, axis=-1, keepdims=True).clip(1e-3)
    outline_points = ear_centre + outline_directions * HEAD_HALF_SIZE * head_size_px[:, :head_count]
    mirror_index = MIRRORED_ORDER[:head_count]
    has_no_visible_twin = hidden_mask[:, mirror_index] | (
        np.array(mirror_index) == np.arange(head_count)
    )
    invented_uv = np.where(
        has_no_visible_twin[..., None], outline_points, biased_uv[:, mirror_index]
    )
    biased_uv[:, :head_count] = np.where(
        hidden_mask[..., None], invented_uv, biased_uv[:, :head_count]
    )
    scores = np.where(
        person.seen,
        rng.uniform(*SEEN_SCORE_RANGE, person.seen.shape),
        rng.uniform(*GUESSED_SCORE_RANGE, person.seen.shape),
    )
    return biased_uv + JITTER_SD * head_size_px * rng.normal(size=biased_uv.shape), scores


def openpose_content(detected: DetectedFrames, picture: tuple[int, int]) -> list[dict[str, Any]]:
    """Convert detected people to ComfyUI's POSE_KEYPOINT format."""
    point_rows = list(OPENPOSE_POINTS[18].values())

    def person_entry(uv: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        values = np.zeros((18, 3))
        values[point_rows] = np.where((scores > 0)[:, None], np.column_stack([uv, scores]), 0.0)
        return {"pose_keypoints_2d": np.round(values, 2).ravel().tolist()}

    return [
        {
            "canvas_width": picture[0],
            "canvas_height": picture[1],
            "people": [person_entry(*person) for person in frame],
        }
        for frame in detected
    ]
