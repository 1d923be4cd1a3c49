"""Collect evidence about the wearer's head: rays to its points, and depth along them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from ..cameras import CameraPath
from ..frames import Frames
from ..frozen import frozen
from ..types import DepthVideo
from .gravity import Up, find_up
from .head_points import HeadPoints
from .head_template import (
    BITRAGION,
    EAR_BACK,
    HEAD_CENTRE,
    HEAD_HALF,
    HEAD_POINTS,
    INTERPUPILLARY,
    NOSE_FORWARD,
    POINTS,
    SHOULDERS,
    row_medians,
)
from .keyframes import direction

POINT_M, POINT_PX = 0.006, 0.5
"""Standard deviation of a detected point on the head and of a pixel, scaled later by what the clip
itself shows."""
PATCH_M = 0.015  # half side of the patch of surface round a point
# of the surface at the points against the points themselves, all together: hair, the nose's flank
SURFACE_M = 0.025
HEAD_SURFACE_M = 0.03  # of the head's middle against an ellipsoid
WALL_RATIO = 1.35  # a surface so much further than the head's size says is what stands behind it
HEAD_DEPTH_M = 0.2  # a surface so far behind that at another point of the head is not the head's
MIN_PATCH_PX = 1.0
SIZE_FRAMES = 24  # before and after, over which a head's apparent size is told
STRAY_M, STRAY_FRAMES = (
    0.3,
    5,
)  # off the places in so many frames before and after, and off their middle


@frozen
class Evidence:
    """Evidence about the head in all frames of a clip.

    World axes, metres. P is the five points of the head, NaN where nothing is known.
    """

    exo_centres: np.ndarray  # [T, 3] exo camera centres
    rays: np.ndarray  # [T, P, 3] unit
    # Standard deviation of a ray [T, P], radians, infinite where the point is not seen.
    sigma: np.ndarray
    scores: np.ndarray  # [T, P] 0...1 of the detector, 0 where the point is not seen
    surface_m: np.ndarray  # [T, P] metres along the ray to the surface there
    middle_surface_m: (
        np.ndarray
    )  # [T] metres along the ray through the head's middle to its surface
    distance: np.ndarray  # [T] metres to the head, by its apparent size
    frames: Frames  # [T]
    up: Up

    @property
    def seen(self) -> np.ndarray:  # [T, P] bool
        """Mask of the head's points that a detector has seen."""
        return np.isfinite(self.sigma)


@frozen
class ExoView:
    """Exo camera with the depth maps and the wearer's mask that belong to it."""

    exo: CameraPath  # the stored size of its lens is that of the points
    depth_m: Tensor | None  # [T, H, W] z depth, metres, NaN where it is invalid
    mask: Tensor | None  # [T, H, W] bool, the wearer
    up: Sequence[float] | None  # x, y, z of the world

    def surface_reach(self, frame: int, uv: np.ndarray, radius_px: float) -> float:
        """Measure the metres along a pixel's ray to the wearer's surface, NaN without depth.

        It is the median inside the mask. Without a mask the near half counts: who stands
        before a wall is nearer than it.
        """
        assert self.depth_m is not None
        radius = max(radius_px, MIN_PATCH_PX)
        left, top = np.ceil(uv - radius).astype(int).clip(0)
        right, bottom = (np.floor(uv + radius).astype(int) + 1).clip(0)
        patch_slices = (frame, slice(top, bottom), slice(left, right))
        patch_depth = self.depth_m[patch_slices].numpy().astype(float)
        valid = np.isfinite(patch_depth) & (patch_depth > 0)
        if self.mask is not None:
            valid &= self.mask[patch_slices].numpy()
        valid_depths = patch_depth[valid]
        if len(valid_depths) == 0:
            return float("nan")
        depth_m_value = float(
            np.median(valid_depths) if self.mask is not None else np.quantile(valid_depths, 0.3)
        )
        ray, in_lens = self.exo.camera.unproject(torch.from_numpy(uv).double())
        return (
            depth_m_value / float(ray[2])
            if bool(in_lens) and float(ray[2]) > 0.05
            else float("nan")
        )

    def poses(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute rotations world_from_exo [T, 3, 3] and camera centres [T, 3].

        Raises:
            EgoXInputError: a moving camera with fewer poses than frames.
        """
        w2c = self.exo.poses(count, "exo poses").numpy()
        rotation = w2c[..., :3].transpose(0, 2, 1)
        return rotation, -(rotation @ w2c[..., 3:])[..., 0]


def world_up(view: ExoView) -> Up:
    """Return the given upward direction of the world, or find it from camera and surfaces."""
    exo = view.exo
    if view.up is not None:
        return Up(direction=direction(view.up, "up"), within_deg=0.0, evidence=("its input",))
    depths = (
        ()
        if view.depth_m is None
        else (DepthVideo(depth_m=view.depth_m, exo=exo, dynamic=view.mask),)
    )
    return find_up([exo], None, depths)


def gather_evidence(points: HeadPoints, view: ExoView, frames: Frames) -> Evidence:
    """Collect the evidence of all frames, except the surface at the head's middle (see
    :func:`with_middle`)."""
    count = len(points.uv)
    uv = points.uv.double()
    rotation, origin = view.poses(count)
    rays, in_lens = view.exo.camera.unproject(uv)
    next_rays, _ = view.exo.camera.unproject(uv + torch.tensor([1.0, 0.0]))
    pixel_angle = (rays - next_rays).norm(dim=-1).clamp_min(1e-6).numpy()  # radians a pixel
    seen_mask = (points.seen & in_lens).numpy()
    world_rays = np.einsum("tij,tnj->tni", rotation, torch.where(in_lens[..., None], rays, 0.0))
    distance = rough_distance(world_rays, seen_mask)
    seen_mask &= ~find_strays(origin, world_rays * distance[:, None, None], seen_mask)[:, None]
    head_slice = slice(len(HEAD_POINTS))
    seen_mask, pixel_angle, scores = (
        seen_mask[:, head_slice],
        pixel_angle[:, head_slice],
        points.scores[:, head_slice].numpy(),
    )
    surface_m = np.full(seen_mask.shape, np.nan)
    if view.depth_m is not None:
        for t, point in zip(*np.nonzero(seen_mask), strict=True):
            radius = PATCH_M / max(distance[t], 0.3) / pixel_angle[t, point]
            surface_m[t, point] = view.surface_reach(int(t), uv[t, point].numpy(), radius)
    sigma = np.hypot(POINT_M / distance[:, None], POINT_PX * pixel_angle) / np.clip(
        scores, 0.1, 1.0
    )
    return Evidence(
        exo_centres=origin,
        rays=world_rays[:, head_slice],
        sigma=np.where(seen_mask, sigma, np.inf),
        surface_m=surface_m,
        scores=np.where(seen_mask, np.clip(scores, 0, 1), 0.0),
        middle_surface_m=np.full(count, np.nan),
        distance=distance,
        frames=frames,
        up=world_up(view),
    )


def find_strays(origin: np.ndarray, from_camera: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mark frames whose head points jump away and back, as if two persons were confused."""
    seen_frames = np.nonzero(seen.any(1))[0]
    stray_mask = np.zeros(len(seen), dtype=bool)
    head_positions = np.array([origin[t] + from_camera[t][seen[t]].mean(0) for t in seen_frames])
    for index in range(1, len(seen_frames) - 1):
        side_positions = np.stack(
            [
                np.median(head_positions[max(index - STRAY_FRAMES, 0) : index], axis=0),
                np.median(head_positions[index + 1 : index + 1 + STRAY_FRAMES], axis=0),
            ]
        )
        distances = np.linalg.norm(
            head_positions[index] - [*side_positions, side_positions.mean(0)], axis=-1
        )
        stray_mask[seen_frames[index]] = distances.min() > STRAY_M
    return stray_mask


EYE_EAR = float(np.hypot(EAR_BACK, (BITRAGION - INTERPUPILLARY) / 2))
EAR_NOSE = float(np.hypot(EAR_BACK + NOSE_FORWARD, BITRAGION / 2))
LENGTHS = {  # between points, metres
    ("right_ear", "left_ear"): BITRAGION,
    ("right_eye", "right_ear"): EYE_EAR,
    ("left_eye", "left_ear"): EYE_EAR,
    ("right_ear", "nose"): EAR_NOSE,
    ("left_ear", "nose"): EAR_NOSE,
    ("right_shoulder", "left_shoulder"): SHOULDERS,
    ("right_eye", "left_eye"): INTERPUPILLARY,  # short, so it counts where there is nothing else
}


def rough_distance(rays: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Estimate the head's distance in metres from the apparent distances between its points.

    A head turns its lengths away from the camera, so the nearest answer counts; the median over a
    second or so before and after takes out profiles, in which hidden points are made up, and what
    single detections are off by.
    """
    nearest_m = np.full(len(rays), np.nan)
    for (first, second), length in LENGTHS.items():
        first_index, second_index = POINTS.index(first), POINTS.index(second)
        angle = np.linalg.norm(rays[:, first_index] - rays[:, second_index], axis=-1)
        distances = np.where(
            seen[:, first_index] & seen[:, second_index] & (angle > 1e-4),
            length / np.maximum(angle, 1e-4),
            np.nan,
        )
        nearest_m = (
            np.fmin(nearest_m, distances)
            if length > INTERPUPILLARY
            else np.where(np.isfinite(nearest_m), nearest_m, distances)
        )
    padded_m = np.pad(nearest_m, SIZE_FRAMES, constant_values=np.nan)
    median_m = row_medians(sliding_window_view(padded_m, 2 * SIZE_FRAMES + 1))
    known_frames = np.nonzero(np.isfinite(median_m))[0]
    if not len(known_frames):
        return np.full(len(median_m), 2.5)  # one point alone in all frames: a room's usual distance
    return np.clip(
        np.interp(np.arange(len(median_m)), known_frames, median_m[known_frames]), 0.3, 30.0
    )


def with_middle(
    view: ExoView, evidence: Evidence, rotation: np.ndarray, place: np.ndarray
) -> Evidence:
    """Add the surface depth at the head's middle to the evidence, given an estimate of the head's
    pose.

    Args:
        rotation: [T, 3, 3] world_from_head.
        place: [T, 3] between the eyes, world.
    """
    if not np.isfinite(evidence.surface_m).any():
        return evidence
    centre = place + rotation @ HEAD_CENTRE
    exo_rotation, origin = view.poses(len(place))
    exo_positions = np.einsum("tji,tj->ti", exo_rotation, centre - origin)
    uv, valid = view.exo.camera.project(torch.from_numpy(exo_positions))
    side_uv, _ = view.exo.camera.project(torch.from_numpy(exo_positions + [[HEAD_HALF[0], 0, 0]]))
    middle = np.full(len(place), np.nan)
    for t in range(len(place)):
        if bool(valid[t]) and exo_positions[t, 2] > 0.2 and evidence.seen[t].any():
            radius = 0.35 * float((uv[t] - side_uv[t]).norm())
            middle[t] = view.surface_reach(t, uv[t].numpy(), radius)
    return replace(evidence, middle_surface_m=middle)


def without_wall(evidence: Evidence) -> tuple[Evidence, int, int]:
    """Remove depth that shows the wall behind the head, and count the affected frames.

    A point on the outline takes the depth of the wall behind it. That says nothing of any pose,
    while a mirrored head that hides the point would go without its cost.
    """
    nearest_m = np.fmin.reduce(evidence.surface_m, axis=1)
    wall_mask = nearest_m > WALL_RATIO * evidence.distance
    wall_points = wall_mask[:, None] | (evidence.surface_m > nearest_m[:, None] + HEAD_DEPTH_M)
    trusted_evidence = replace(
        evidence, surface_m=np.where(wall_points, np.nan, evidence.surface_m)
    )
    return trusted_evidence, int(wall_mask.sum()), int(np.isfinite(nearest_m).sum())
