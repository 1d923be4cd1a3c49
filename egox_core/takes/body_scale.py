"""Estimate the metric scale of exo depth from the wearer, whose tracked camera gives the head's
true distance.

The wearer's camera is tracked in metres, so the place of the head is known, and gravity says where
the trunk hangs under it. Depth of the exo picture on head and trunk is compared with the depth that
a body of ordinary size has there (:mod:`.wearer_body`), not with that of the camera itself, which
sits before or behind the surface that depth sees. A head alone is too little: depth models melt
near heads into what is behind them, so each slice of the trunk counts like the head. What is said
is then held against the depth model's own word, scale 1, by the errors of both."""

import cv2
import numpy as np
import torch

from ..cameras import CameraModel, CameraPath, compose, invert
from ..errors import EgoXInputError
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..trajectory import find_up
from ..types import DepthVideo
from .wearer_body import (
    HEAD_FROM_CAMERA,
    HEAD_HALF,
    TRUNK_FROM,
    TRUNK_RADIUS,
    TRUNK_TO,
    face_from_camera,
    head_depth,
    trunk_depth,
)

INNER_SHARE = (
    0.8  # share of the radius of head and trunk within which depth is believed: outlines bleed
)
DEPTH_STEP = 0.04  # relative depth step to a neighbour at which another surface begins
SLICE_M = 0.1  # height of a trunk slice; every slice counts alike, however many pixels it has
MIN_PIXELS = 20  # of a part in a frame
MIN_FRAMES = 3
# of the frames in which a slice must show: what shows once is an arm or a passer-by
MIN_SHARE = 0.2
NEAR_HEAD = 0.1  # relative depth off the head's own within which a pixel can be the head
SAMPLES = 49  # frames that are looked at, spread over the clip
# share of ego poses that may equal the one before: a tracker on a head never stands still
MAX_REPEATED = 0.2
# Standard deviations; of logarithms unless metres are said. Judged, but for the first two, which
# are what papers on zero-shot metric depth (ZoeDepth, UniDepth) report for cameras that a model
# wasn't trained on.
MODEL_ERROR = 0.30  # of a depth model's scale
LOCAL_ERROR = 0.10  # one object's depth against its scene's, after the best common scale
PART_ERROR = 0.15  # a part's (head, slice of the trunk) against its object's
HEAD_ERROR_M = 0.025  # the head's surface against the ellipsoid's: size, hair, seat of the glasses
TRUNK_ERROR_M = 0.12  # the trunk's surface against the cylinder's: lean, clothes


@frozen
class FrameScale:
    """Logarithmic scale of the depth in one frame, with NaN for body parts that weren't seen."""

    distance_m: float  # z of the head's centre
    head: float  # log scale
    slices: tuple[float, ...]  # log scale, trunk from the top


@frozen
class WearerScale:
    """Factor that makes exo depth metric, with its uncertainty and the body parts it is measured
    from."""

    # to use: what the wearer says, held against the depth model's own word (1) by their errors
    scale: float
    sigma: float  # of its logarithm
    wearer: float  # what the wearer alone says
    # Head, then slices of the trunk from the top: median over time, NaN if too seldom seen.
    parts: tuple[float, ...]
    spread_parts: float  # robust standard deviation of the logarithm over the parts
    spread_frames: float  # the same over frames
    frames: int  # that were looked at
    seen: int  # of them with the head in sight

    @property
    def cue(self) -> str:
        """Body parts that the scale was measured from, in words."""
        slices = int(np.isfinite(self.parts[1:]).sum())
        return "head" if not slices else f"head and {slices} slices of the trunk"

    def text(self) -> str:
        """Describe the scale and its uncertainty in one line."""
        return (
            f"scale {self.scale:.3f} (within {100 * self.sigma:.0f} %) from the wearer, who alone "
            f"says {self.wearer:.3f}: {self.cue}, spread {100 * self.spread_parts:.0f} % over "
            f"parts and {100 * self.spread_frames:.0f} % over frames, seen in {self.seen} of "
            f"{self.frames} frames"
        )

    def content(self) -> dict[str, object]:
        """Collect the figures of the scale for JSON."""
        return {
            "scale": round(self.scale, 4),
            "sigma": round(self.sigma, 4),
            "cue": self.cue,
            "wearer": round(self.wearer, 4),
            "parts": [round(part, 4) if np.isfinite(part) else None for part in self.parts],
            "spread_parts": round(self.spread_parts, 4),
            "spread_frames": round(self.spread_frames, 4),
            "frames": self.frames,
            "seen": self.seen,
        }


def check_pose_source(exo: CameraPath, ego: CameraPath) -> None:
    """Refuse ego poses that can't give a scale: made from the depth itself, or standing still.

    Raises:
        EgoXInputError: no exo pose or the identity (poses set in the editor or estimated on this
            very depth), ego poses that stand still.
    """
    expected = "poses of a tracker, in a world of their own (Ego-Exo4D's, a SLAM's)"
    advice = "use scale as is, or give a number"
    identity = torch.eye(3, 4, dtype=torch.float64)
    if exo.world != "take" or bool((exo.at(0) - identity).abs().max() < 1e-9):
        raise EgoXInputError(
            "scale from the wearer",
            got="a world that is the exo camera's own frame: poses set by "
            "hand or estimated on this very depth, which carry its scale",
            expected=expected,
            fix=advice,
        )
    still_mask = (ego.w2c[1:] - ego.w2c[:-1]).abs().amax(dim=(1, 2)) == 0
    still_share = float(still_mask.double().mean()) if len(still_mask) else 0.0
    if still_share > MAX_REPEATED:
        raise EgoXInputError(
            "scale from the wearer",
            got=f"{100 * still_share:.0f} % of the ego "
            "poses equal to the one before, as no tracker on a head gives them",
            expected=expected,
            fix=advice,
        )


def wearer_scale(
    # Metric z depth.
    depth: DepthVideo,
    # The wearer's camera, in the depth's world.
    ego: CameraPath,
    *,
    progress: Progress = no_progress,
) -> WearerScale:
    """Estimate the scale of a clip's depth from the wearer's head and trunk.

    Raises:
        EgoXInputError: see :func:`check_pose_source`; depth that isn't metric; a wearer who isn't
            seen.
    """
    depth.check_metric("scale from the wearer")
    check_pose_source(exo := depth.exo, ego)
    count = min(len(depth.depth_m), len(ego))
    gravity = -find_up([exo], ego, [depth]).direction
    frames = sorted({round(t) for t in np.linspace(0, count - 1, min(SAMPLES, count))})
    frame_scales = []
    for index, t in enumerate(frames):
        exo_from_world = exo.at(t)
        exo_from_ego = compose(exo_from_world, invert(ego.at(t)))
        frame_scales.append(
            _frame_scale(
                depth,
                t,
                exo_from_ego.numpy(),
                (exo_from_world[:, :3] @ gravity).numpy(),
                face_from_camera(ego.camera.quarter_turns),
            )
        )
        progress(index + 1, len(frames), "scale from the wearer")
    return _combine_frames(frame_scales)


def _frame_scale(
    depth: DepthVideo,
    frame: int,
    exo_from_ego: np.ndarray,
    down: np.ndarray,
    face_from_ego: np.ndarray,
) -> FrameScale:
    """Estimate the depth's scale in one frame from the wearer's head and trunk.

    exo_from_ego [3, 4], down [3] unit in exo, face_from_ego [3, 3].
    """
    exo_from_face = exo_from_ego[:, :3] @ face_from_ego.T
    head_centre = exo_from_ego[:, 3] + exo_from_face @ HEAD_FROM_CAMERA
    slice_count = round((TRUNK_TO - TRUNK_FROM) / SLICE_M)
    no_scale = FrameScale(
        distance_m=float(head_centre[2]), head=np.nan, slices=(np.nan,) * slice_count
    )
    body_box = _body_box(depth.exo.camera, head_centre, down)
    if body_box is None:
        return no_scale
    left, top, right, bottom = body_box
    depth_m = depth.depth_m[frame][top:bottom, left:right].double().numpy()
    rays, in_lens = depth.exo.camera.crop(left, top, right - left, bottom - top).pixel_rays(
        torch.float64
    )
    rays = (rays / rays[..., 2:].clamp_min(1e-6)).numpy()
    valid = np.isfinite(depth_m) & (depth_m > 0) & in_lens.numpy()
    if depth.dynamic is not None and bool(depth.dynamic[frame].any()):
        valid &= depth.dynamic[frame][top:bottom, left:right].bool().numpy()
    head_depth_m, head_offset = head_depth(rays, head_centre, exo_from_face)
    trunk_depth_m, trunk_offset, metres_below_head = trunk_depth(rays, head_centre, down)
    head_mask = valid & np.isfinite(head_depth_m) & (head_offset < INNER_SHARE)
    if head_mask.sum() < MIN_PIXELS:
        return no_scale
    # The way from head to trunk leads over the neck, where neither is believed.
    allowed_mask = valid & (
        np.isfinite(head_depth_m)
        | (np.isfinite(trunk_depth_m) & (metres_below_head > 0) & (metres_below_head < TRUNK_TO))
    )
    # What covers the head or is behind its rim is not the wearer: stay near the head's own depth.
    seed_mask = head_mask & (
        np.abs(np.log(np.where(head_mask, depth_m, 1.0) / np.median(depth_m[head_mask])))
        < NEAR_HEAD
    )
    person_mask = _connected_mask(seed_mask, allowed_mask, np.where(valid, depth_m, 1.0))
    log_ratio = np.log(
        np.where(head_mask, head_depth_m, trunk_depth_m) / np.where(valid, depth_m, np.nan)
    )
    slice_edges = np.linspace(TRUNK_FROM, TRUNK_TO, slice_count + 1)
    trunk_mask = (
        person_mask & np.isfinite(trunk_depth_m) & (trunk_offset < INNER_SHARE) & ~head_mask
    )
    part_masks = [
        head_mask & person_mask,
        *(
            trunk_mask & (metres_below_head >= upper) & (metres_below_head < lower)
            for upper, lower in zip(slice_edges[:-1], slice_edges[1:], strict=True)
        ),
    ]
    head, *trunk = (
        float(np.median(log_ratio[mask])) if mask.sum() >= MIN_PIXELS else np.nan
        for mask in part_masks
    )
    return FrameScale(distance_m=float(head_centre[2]), head=head, slices=tuple(trunk))


def _body_box(
    camera: CameraModel, centre: np.ndarray, down: np.ndarray
) -> tuple[int, int, int, int] | None:
    """Compute the bounding box in px of head and trunk in the exo picture, or None if out of sight.

    (left, top, right, bottom)."""
    width, height = camera.stored_size
    half_extent = max(*HEAD_HALF, TRUNK_RADIUS)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half_extent
    points = np.concatenate((centre + corners, centre + down * TRUNK_TO + corners))
    uv, valid = camera.project(torch.from_numpy(points))
    if not bool(valid.all()):
        return (0, 0, width, height) if centre[2] > 0 else None
    (left, top), (right, bottom) = (
        uv.amin(0).floor().int().tolist(),
        uv.amax(0).ceil().int().tolist(),
    )
    left = max(left, 0)
    top = max(top, 0)
    right = min(right + 1, width)
    bottom = min(bottom + 1, height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _connected_mask(seed: np.ndarray, allowed: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Mark pixels of ``allowed`` [H, W] that are connected to ``seed`` [H, W] without a depth
    step."""
    smooth_mask = np.ones(depth.shape, bool)
    log_depth = np.log(depth)
    smooth_mask[:-1] &= np.abs(np.diff(log_depth, axis=0)) <= DEPTH_STEP
    smooth_mask[:, :-1] &= np.abs(np.diff(log_depth, axis=1)) <= DEPTH_STEP
    _, labels = cv2.connectedComponents((allowed & smooth_mask).astype(np.uint8), connectivity=4)
    seed_labels = np.unique(labels[seed & allowed & smooth_mask])
    return np.isin(labels, seed_labels[seed_labels > 0])


def _combine_frames(frame_scales: list[FrameScale]) -> WearerScale:
    """Combine the frames' scales to one scale: the median of each body part over time, then over
    parts."""
    scale_table = np.array(
        [(frame_scale.head, *frame_scale.slices) for frame_scale in frame_scales]
    )  # [T, 1 + slices]
    has_head_mask = np.isfinite(scale_table[:, 0])
    if has_head_mask.sum() < min(MIN_FRAMES, len(frame_scales)):
        raise EgoXInputError(
            "scale from the wearer",
            got=f"a wearer's head in {has_head_mask.sum()} of {len(frame_scales)} frames",
            expected=f"in {MIN_FRAMES} at least",
            fix="use scale as is, or give a number; check that "
            "poses and exo lens belong to this video",
        )
    enough_mask = np.isfinite(scale_table).sum(0) >= max(
        min(MIN_FRAMES, len(frame_scales)), MIN_SHARE * len(frame_scales)
    )
    enough_mask[0] = True
    parts = np.array(
        [
            np.nanmedian(column) if is_enough else np.nan
            for column, is_enough in zip(scale_table.T, enough_mask, strict=True)
        ]
    )
    used_parts = parts[enough_mask]
    log_scale = float(np.median(used_parts))
    count = len(used_parts)
    distance = float(
        np.median(
            [
                frame_scale.distance_m
                for frame_scale, has_head in zip(frame_scales, has_head_mask, strict=True)
                if has_head
            ]
        )
    )
    place_error = (HEAD_ERROR_M + (count - 1) * TRUNK_ERROR_M) / count / distance
    # Frames don't average errors out: the same person, room and depth model stand behind all of
    # them.
    sigma = float(np.sqrt(LOCAL_ERROR**2 + PART_ERROR**2 / count + place_error**2))
    weight = MODEL_ERROR**2 / (MODEL_ERROR**2 + sigma**2)
    frame_medians = np.array(
        [
            np.median(frame_values[np.isfinite(frame_values) & enough_mask])
            for frame_values in scale_table[has_head_mask]
        ]
    )
    return WearerScale(
        scale=float(np.exp(weight * log_scale)),
        sigma=float(np.sqrt(weight) * sigma),
        wearer=float(np.exp(log_scale)),
        parts=tuple(float(np.exp(part)) for part in parts),
        spread_parts=_robust_deviation(used_parts),
        spread_frames=_robust_deviation(frame_medians),
        frames=len(frame_scales),
        seen=int(has_head_mask.sum()),
    )


def _robust_deviation(values: np.ndarray) -> float:
    """Compute a robust standard deviation: 1.4826 times the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
