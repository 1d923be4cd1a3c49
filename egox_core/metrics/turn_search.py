"""Search the one turn of a clip's view against its path, by evidence pooled over its frames.

Frames and renders are brought into one wide map. Three features (local contrast, length and
direction of gradients) are correlated on a grid of turns, summed over the frames. The best few are
aligned over all frames together, the best of them then frame by frame, with a shift of the camera.
The farther half of the points is aligned by a turn alone, which a shift hardly moves: the clip's
turn is halfway between that and the frames' median, since turn and shift of a near scene are hard
to tell apart. A pair of another clip and scene reaches high gray correlations, but not those of
gradients as well: their sum is the first evidence. The second is that parts of the time agree, each
searched anew: a video of another scene fits them by different turns. A turn that is less than its
half-width, of more than 5 degrees, tells nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from ..cameras import sensor_from_upright
from .clip_turn import LEAST_DEG, ClipTurn
from .frame_alignment import (
    COARSE,
    FINE,
    MAX_STEP,
    MIDDLE,
    MIN_COVERED,
    MIN_STEP,
    SHIFT_PRIOR_M,
    SPREAD_FACTOR,
    FrameView,
    PathRenders,
    PictureMatch,
    Pose,
    align_frame,
    frame_equations,
    rotation_matrices,
)
from .turn_grid import (
    FramePair,
    GridSums,
    TurnGrid,
    compare_on_grid,
    frame_pairs,
    score_turns,
    turn_grid,
)

SEARCH_FRAMES = 9
"""Frames of a clip that are compared, evenly spaced among the drawn ones."""
MOST_DEG = 24.0
"""A larger turn is outside of the grid, where only other clips' videos were found."""
STARTS, START_APART_DEG, START_ROUNDS = 5, 9.0, 5
FINALISTS, FINAL_ROUNDS = 2, 30
"""Starts that are aligned further: turn and shift of a near scene take long to part."""
MIN_EVIDENCE, MIN_FRAME_EVIDENCE = 0.5, 0.7
"""Sum of the correlations of contrast and of gradients' lengths, from which on a clip is judged,
and a single frame, which has no parts (``benchmarks/results/real_outputs.md``)."""
ALTERNATE_DEG, HALVES_DEG = 4.0, 8.0
"""Most degrees between the turns of every other frame, and between those of both halves."""
HALF_SHIFT_M, HALF_ROUNDS = 0.005, 5
"""Near and far are aligned by turns alone: how far the camera may be shifted for that."""
SCATTER_SHARE, GAP_SHARE = 0.6, 0.7
"""Shares of the frames' scatter and of the angle between near and far that make the half-width with
the angle between parts, which holds in 90 % of clips (``benchmarks/results/constants.md``)."""


def find_clip_turn(match: PictureMatch) -> ClipTurn:
    """Search the turn of all frames of a video against the renders of its path."""
    views = match.views
    step = math.ceil(len(views.pictures) / SEARCH_FRAMES)
    numbers = [t for t in range(0, len(views.pictures), step) if views.masks[t].any()]
    if np.mean([mask.mean() for mask in views.masks]) < MIN_COVERED or not numbers:
        return ClipTurn.unjudged("the scene covers too little of what the camera sees")
    upright_axes = sensor_from_upright(views.camera.quarter_turns).numpy()
    search = _ClipSearch.of(match, numbers)
    clip_pose, evidence = search.best_pose(slice(None))
    least_evidence = MIN_EVIDENCE if len(numbers) > 1 else MIN_FRAME_EVIDENCE
    if evidence < least_evidence:
        return ClipTurn.unjudged("the video looks too little like the scene", clip_pose.score)
    alternate_deg, halves_deg = search.angles_between_parts()
    apart_deg = max(alternate_deg, halves_deg)
    if alternate_deg > ALTERNATE_DEG or halves_deg > HALVES_DEG:
        reason = f"not one turn: parts of the clip differ by {apart_deg:.0f}°"
        return ClipTurn.unjudged(reason, clip_pose.score)
    coarse_views = search.coarse_views
    frame_poses = []
    for t, view in zip(numbers, coarse_views, strict=True):
        middle_pose = align_frame(view, clip_pose, MIDDLE)
        frame_poses.append(align_frame(FrameView.of(match, t, FINE), middle_pose, FINE))
    score = float(np.median([pose.score for pose in frame_poses]))
    vectors_deg = _vectors_deg([pose.rotation for pose in frame_poses]) @ upright_axes
    shifted_turn_deg = np.median(vectors_deg, 0)
    near_deg, far_deg = (
        _vectors_deg([pose.rotation])[0] @ upright_axes
        for pose in _align_halves(coarse_views, clip_pose)
    )
    turn_deg = (shifted_turn_deg + far_deg) / 2
    angle_deg = float(np.linalg.norm(turn_deg))
    if angle_deg > MOST_DEG:
        return ClipTurn.unjudged("the video looks too little like the scene", score)
    scatter_deg = math.hypot(
        np.median(np.linalg.norm(vectors_deg - shifted_turn_deg, axis=1)),
        SPREAD_FACTOR * math.degrees(np.median([pose.spread for pose in frame_poses])),
    )
    gap_deg = float(np.linalg.norm(near_deg - far_deg))
    interval_deg = math.hypot(
        SCATTER_SHARE * scatter_deg, GAP_SHARE * gap_deg, np.nan_to_num(apart_deg)
    )
    if not math.isfinite(interval_deg):
        return ClipTurn.unjudged("too little of the picture can be compared", score)
    if interval_deg > max(LEAST_DEG, angle_deg):
        # Neither surely right nor surely turned, as are chance fits of videos of other scenes.
        reason = f"the turn is known no better than to {interval_deg:.0f}°"
        return ClipTurn.unjudged(reason, score)
    return ClipTurn(
        turn_deg=torch.from_numpy(turn_deg),
        interval_deg=interval_deg,
        score=score,
        near_deg=torch.from_numpy(near_deg),
        far_deg=torch.from_numpy(far_deg),
        estimated=views.estimated,
    )


def _vectors_deg(rotations: list[np.ndarray]) -> np.ndarray:  # [N, 3]
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(np.stack(rotations)).as_rotvec(degrees=True)


class _ClipSearch(NamedTuple):
    """Frames of a video beside their renders, of which any part can be searched."""

    views: PathRenders
    pairs: list[FramePair]
    coarse_views: list[FrameView]
    grid: TurnGrid
    grid_sums: list[GridSums]  # per frame

    @classmethod
    def of(cls, match: PictureMatch, numbers: list[int]) -> _ClipSearch:
        pairs = frame_pairs(match, numbers)
        grid = turn_grid(match.views.map_camera)
        return cls(
            views=match.views,
            pairs=pairs,
            coarse_views=[FrameView.of(match, t, COARSE) for t in numbers],
            grid=grid,
            grid_sums=[compare_on_grid(match.views, pair, grid) for pair in pairs],
        )

    def best_pose(self, part: slice) -> tuple[Pose, float]:
        """Search the pose of some of the frames, and compute the evidence for it."""
        coarse_views = self.coarse_views[part]
        starts = _best_turns(self.grid.rotations, self.grid_sums[part])
        poses = [
            _align_clip(coarse_views, Pose(start, np.zeros(3)), START_ROUNDS) for start in starts
        ]
        finalists = sorted(poses, key=lambda pose: pose.score)[-FINALISTS:]
        finalists = [_align_clip(coarse_views, pose, FINAL_ROUNDS) for pose in finalists]
        pose = max(finalists, key=lambda pose: pose.score)
        return pose, pose.score + _edge_correlation(self.views, self.pairs[part], pose)

    def angles_between_parts(self) -> tuple[float, float]:
        """Search every other frame and both halves anew, and compute how far they are apart.

        NaN for a single frame, which can't disagree with itself.
        """
        count = len(self.pairs)
        if count == 1:
            return math.nan, math.nan
        angles_deg = []
        for parts in (
            (slice(0, None, 2), slice(1, None, 2)),
            (slice(0, (count + 1) // 2), slice(count // 2, None)),
        ):
            first, second = (self.best_pose(part)[0].rotation for part in parts)
            angles_deg.append(float(np.linalg.norm(_vectors_deg([first.T @ second])[0])))
        return angles_deg[0], angles_deg[1]


def _best_turns(rotations: np.ndarray, grid_sums: list[GridSums]) -> list[np.ndarray]:
    """Find the best rotations on the grid that lie apart from each other."""
    scores = score_turns(grid_sums)
    best_turns = []
    for _ in range(STARTS):
        best_rotation = rotations[int(scores.argmax())]
        best_turns.append(best_rotation)
        cosines = (np.einsum("ij,gij->g", best_rotation, rotations) - 1) / 2
        scores[cosines > math.cos(math.radians(START_APART_DEG))] = -np.inf
    return best_turns


def _align_clip(
    views: list[FrameView],
    pose: Pose,
    rounds: int,
    parts: list[np.ndarray] | None = None,  # [s, s] bool per frame, what alone counts
    shift_prior_m: float = SHIFT_PRIOR_M,
) -> Pose:
    """Align all frames with their renders by one turn and one shift."""
    rotation, shift, score = pose.rotation, pose.shift, 0.0
    for is_last in [False] * rounds + [True]:
        frames = frame_equations(
            views, rotation, shift, COARSE, parts=parts, shift_prior_m=shift_prior_m
        )
        equations = [frame for frame in frames if frame is not None]
        if 3 * len(equations) < len(views):
            return Pose(rotation, shift)
        product, video_sum, scene_sum = np.sum([frame.sums for frame in equations], 0)
        score = float(product / max(math.sqrt(video_sum * scene_sum), 1e-9))
        if is_last:
            break
        matrix = np.sum([frame.matrix for frame in equations], 0)
        change = -np.linalg.solve(matrix, np.sum([frame.slope for frame in equations], 0))
        step_length = np.linalg.norm(change)
        if step_length < MIN_STEP:
            break
        change *= MAX_STEP / max(step_length, MAX_STEP)
        turn = rotation_matrices(change[:3])
        rotation, shift = rotation @ turn, turn.T @ (shift + change[3:])
    return Pose(rotation, shift, score)


def _align_halves(views: list[FrameView], pose: Pose) -> list[Pose]:
    """Align the nearer and the farther half of each frame's points, by a turn alone."""
    near_parts, far_parts = [], []
    for view in views:
        metres = np.full(view.covered_mask.shape, np.inf)
        metres[view.covered_mask] = np.linalg.norm(view.points, axis=1)
        near_parts.append(metres <= np.median(metres[view.covered_mask]))
        far_parts.append(view.covered_mask & ~near_parts[-1])
    turned_pose = Pose(pose.rotation, np.zeros(3))
    return [
        _align_clip(views, turned_pose, HALF_ROUNDS, parts, HALF_SHIFT_M)
        for parts in (near_parts, far_parts)
    ]


def _edge_correlation(views: PathRenders, pairs: list[FramePair], pose: Pose) -> float:
    """Correlate the gradients' lengths of all frames and renders, aligned by a pose."""
    every_second = (slice(1, None, 2),) * 2
    rays = views.rays[every_second].reshape(-1, 3)
    sums = np.zeros(3)
    for pair in pairs:
        scene_edges = pair.scene.edges[every_second].ravel()
        points = (rays * views.metres[pair.number][every_second].reshape(-1, 1) + pose.shift) @ (
            pose.rotation.T
        )
        _, pixel_indices, valid = (
            values.numpy()
            for values in views.map_camera.look_up(torch.from_numpy(points.astype(np.float32)))
        )
        both_mask = valid & (pair.video_mask.ravel()[pixel_indices] > 0)
        both_mask &= views.masks[pair.number][every_second].ravel() > 0
        video_edges = pair.video.edges.ravel()[pixel_indices][both_mask]
        scene_edges = scene_edges[both_mask]
        sums += video_edges @ scene_edges, video_edges @ video_edges, scene_edges @ scene_edges
    return float(sums[0] / max(math.sqrt(sums[1] * sums[2]), 1e-9))
