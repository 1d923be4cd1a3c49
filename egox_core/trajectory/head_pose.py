"""Estimate head poses from detected points, the exo camera, depth and a mask.

With a face the rigid head is fitted to it; from behind the ears tell where the head is, and habit
and gravity how it is held.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..arrays import as_tensor
from ..cameras import CameraModel, CameraPath, compose, invert
from ..errors import EgoXInputError
from ..frames import Frames
from ..frozen import frozen
from ..remarks import Remark, StageReport
from ..types import CameraTrajectory
from .head_evidence import Evidence, ExoView, gather_evidence, without_wall
from .head_fit import fit_heads
from .head_points import HeadPoints, check_points
from .head_search import search_heads
from .head_solid import align_to_known, solid_heads
from .head_sources import lens_note
from .head_template import (
    FACE_POINTS,
    HEAD_POINTS,
    POINTS,
    VERTEX_TO_CHIN,
    ego_from_head,
    placed_points,
    row_medians,
    turned_shares,
)

SEEN = {
    "body model": "the body model sees the head (not measured on people here)",
    "face": "face seen, the turn is off by about 10 to 20° (real people, small detectors)",
    "unclear": "profile, back or small: the turn is a guess",
    "nobody": "nobody seen: bridged, a guess",
}
"""The grounds of a frame's pose, in words: no score of a detector tells good frames from bad."""
GUESSED = ("unclear", "nobody")
SMALL_PX = 24.0  # height of a head, vertex to chin, of which no detector sees a turn; judged
# of the frames in which depth lies far behind the head: then it is not the wearer's
WALL_SHARE = 0.5
HEIGHT_SPAN_M = (0.25, 30.0)  # distances of a wearer from the camera


@frozen
class HeadReport(StageReport):
    """Report on a head estimate: how well the head is seen in each frame."""

    seen: tuple[str, ...]  # a key of SEEN per frame

    @property
    def guessed(self) -> Tensor:  # [T] bool
        """Mask of frames in which the head's direction is a guess."""
        return torch.tensor([kind in GUESSED for kind in self.seen])

    def text(self) -> str:
        """Describe which frames rest on which evidence: "frames 0 to 30: face seen, ..."."""
        evidence_kinds = np.array(self.seen)
        parts = [
            f"{_frame_ranges(evidence_kinds == kind)}: {words}"
            for kind, words in SEEN.items()
            if kind in evidence_kinds
        ]
        return "frames " + "; ".join(parts)


@frozen
class HeadPath:
    """Estimated poses of the wearer's head over a clip, in the head frame of
    :mod:`.head_template`."""

    world_from_head: Tensor  # [T, 3, 4] float64, camera-to-world
    up: Tensor  # [3] float64, unit: what was taken to be upwards in the world
    report: HeadReport

    def trajectory(
        self,
        # The camera of the ego picture.
        camera: CameraModel,
        frames: Frames,
        *,
        # See head_template.ego_from_head.
        offset: Sequence[float] = (0.0, 0.0, 0.0),
        pitch_deg: float = 0.0,
        # The exo camera of the estimate.
        exo: CameraPath,
    ) -> CameraTrajectory:
        """Make the path of an ego camera that is mounted on the head."""
        camera_from_head = ego_from_head(camera.quarter_turns, offset, pitch_deg)
        w2c = compose(camera_from_head, invert(self.world_from_head.double()))
        ego = CameraPath(lens=camera, w2c=w2c, frames=frames.without_sizes, world=exo.world)
        return CameraTrajectory(ego=ego, exo=exo, guessed=self.report.guessed)


def estimate_head(
    points: HeadPoints,
    # Its lens has the size of the frames in use, as they are stored.
    exo: CameraPath,
    *,
    # Metric z depth [T, H, W] (convert ray depth first), NaN where it is invalid.
    depth_m: Tensor | None = None,
    mask: Tensor | None = None,  # [T, H, W] bool, the wearer
    frames: Frames,
    # The world's upward direction x, y, z; None takes that of the exo camera.
    up: Sequence[float] | None = None,
) -> HeadPath:
    """Estimate the head pose in every frame of a clip, interpolated where the head isn't seen.

    Raises:
        EgoXInputError: nobody in any frame; points, depth, mask or poses of another size or number
            of frames; times that do not rise.
    """
    width, height = exo.camera.stored_size
    count = len(points.uv)
    for name, value in (("depth", depth_m), ("mask of the wearer", mask)):
        if value is not None:
            as_tensor(value, name, count, height, width)
    points = check_points(points, count, (width, height))
    times = frames.times_s.numpy()
    if times.shape != (count,) or not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
        raise EgoXInputError(
            "times of the frames",
            got=f"shape {times.shape}",
            expected=f"{count} rising seconds",
            fix="give one moment per frame",
        )
    notes: list[str] = []
    if points.metres is not None and (lens_warning := lens_note(exo.camera)) is not None:
        notes.append(lens_warning)
    view = ExoView(exo=exo, depth_m=depth_m, mask=mask, up=up)
    evidence = _collect_evidence(points, view, frames, notes)
    rotation, place = model_rotation, model_place = _body_model_heads(points, evidence, view)
    known_mask = np.asarray(np.isfinite(model_rotation).all((1, 2)))
    if not (known_mask.all() and np.isfinite(place).all()):
        fitted_heads = fit_heads(evidence, *search_heads(evidence), view)
        rotation, place = align_to_known(*fitted_heads, model_rotation, model_place)
        longest_gap = np.diff(_find_runs(np.asarray(~evidence.seen.any(1)))).max(initial=0)
        if longest_gap > 1.0 / max(np.median(np.diff(times)), 1e-3):
            notes.append(f"the person is out of sight for {longest_gap} frames in a row: bridged")
    seen_kinds = _classify_frames(
        points, rotation, place - evidence.exo_centres, exo.camera.fx, known_mask
    )
    if points.rigid is not None:
        odd_frames = torch.isfinite(points.rigid).all(-1).all(-1).numpy() & ~known_mask
        if odd_frames.any():
            notes.append(
                f"the model's head is no head in frames {_frame_ranges(odd_frames)}: not used"
            )
    if up is None:
        notes.append(evidence.up.text())
    distance_m = np.median(np.linalg.norm(place - evidence.exo_centres, axis=-1))
    if not HEIGHT_SPAN_M[0] <= distance_m <= HEIGHT_SPAN_M[1]:
        notes.append(
            f"the head would be {distance_m:.1f} m from the camera: check the camera and the depth"
        )
    return HeadPath(
        world_from_head=torch.from_numpy(np.concatenate([rotation, place[..., None]], axis=-1)),
        up=evidence.up.direction,
        report=HeadReport(seen=seen_kinds, notes=tuple(map(Remark, notes))),
    )


def _body_model_heads(
    points: HeadPoints, evidence: Evidence, view: ExoView
) -> tuple[np.ndarray, np.ndarray]:
    """Compute head rotations and eye positions from a body model, NaN in frames without one.

    Its distance is not trusted where depth shows the head's surface: depth counts there, and
    tells the scale elsewhere.
    """
    count = len(points.uv)
    if points.metres is None or points.rigid is None:
        return np.full((count, 3, 3), np.nan), np.full((count, 3), np.nan)
    world_from_exo, origin = view.poses(count)
    eye_rays = view.exo.camera.unproject(points.uv[:, :2].mean(1))[0].numpy()
    eye_centres = points.metres[:, :2].mean(1).numpy()
    point_distances = points.metres[:, : len(HEAD_POINTS)].norm(dim=-1).numpy()
    scale = row_medians(evidence.surface_m / point_distances)
    usual_scale = np.nanmedian(scale) if np.isfinite(scale).any() else 1.0
    scale = np.where(np.isfinite(scale), scale, usual_scale)
    distances = np.linalg.norm(eye_centres, axis=-1) * scale
    place = origin + np.einsum("tij,tj->ti", world_from_exo, eye_rays * distances[:, None])
    rotation = world_from_exo @ solid_heads(points.rigid.numpy())
    complete_mask = np.isfinite(rotation.reshape(count, -1)).all(-1, keepdims=True)
    return rotation, np.where(complete_mask, place, np.nan)


def _collect_evidence(
    points: HeadPoints, view: ExoView, frames: Frames, notes: list[str]
) -> Evidence:
    """Collect the evidence of all frames, and add warnings about it to the notes."""
    evidence = gather_evidence(points, view, frames)
    any_seen = points.seen[:, : len(HEAD_POINTS)].any(1).numpy()
    stray_frames = np.nonzero(any_seen & ~evidence.seen.any(1))[0]
    if len(stray_frames):
        notes.append(
            f"points elsewhere for a moment, as if on somebody else, in frames "
            f"{', '.join(map(str, stray_frames))}: not used"
        )
    if view.depth_m is None:
        notes.append(
            "no depth: the distance is that of points in metres, good to some per cent"
            if points.metres is not None
            else "no depth: the distance follows from the size of the head, good to a tenth"
        )
        return evidence
    trusted_evidence, wall_frames, surface_frames = without_wall(evidence)
    if surface_frames == 0:
        notes.append(
            "depth shows no surface at the head's points (is the mask another person's?): not used"
        )
    elif wall_frames:
        frames_text = f"in {wall_frames} of {surface_frames} frames: not used"
        note = f"the depth at the head is that of the background {frames_text}"
        if wall_frames > WALL_SHARE * surface_frames:
            notes.append(f"{note}, the distance follows from the size of the head")
            return gather_evidence(points, replace(view, depth_m=None), frames)
        notes.append(f"{note} there")
    return trusted_evidence


def _classify_frames(
    points: HeadPoints,
    rotation: np.ndarray,  # [T, 3, 3] world_from_head
    from_camera: np.ndarray,  # [T, 3] metres, between the eyes, world axes
    focal_px: float,
    known_mask: np.ndarray,  # [T] bool, heads as a model has them
) -> tuple[str, ...]:
    """Classify by a key of SEEN how well the head is seen in each frame."""
    seen_mask = points.seen[:, : len(HEAD_POINTS)].numpy()
    hidden_shares = turned_shares(rotation, placed_points(rotation, from_camera))[1][
        :, :2
    ]  # of the eyes
    large_mask = focal_px * VERTEX_TO_CHIN > SMALL_PX * np.linalg.norm(from_camera, axis=-1)
    face_mask = (
        seen_mask[:, [POINTS.index(name) for name in FACE_POINTS]].any(1)
        & (hidden_shares == 0).all(1)
        & large_mask
    )
    return tuple(
        np.select([known_mask, face_mask, seen_mask.any(1)], list(SEEN)[:3], "nobody").tolist()
    )


def _frame_ranges(frame_mask: np.ndarray) -> str:
    """Format runs of marked frames [T] bool as text, for example "3 to 9, 12 to 12"."""
    return ", ".join(f"{first} to {end - 1}" for first, end in _find_runs(frame_mask))


def _find_runs(frame_mask: np.ndarray) -> np.ndarray:
    """Find the first frame and the end of each run of marked frames, [N, 2]."""
    return np.nonzero(np.diff([0, *frame_mask, 0]))[0].reshape(-1, 2)
