"""Measure an ego video's deviation from its path where the exo camera's pose is wrong.

The scene is then turned about that camera or moved with it, so far from its place before the ego
camera that no turn of the video fits. So one freedom of the exo camera is searched, and the scene
drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cameras import compose
from ..frozen import frozen
from ..progress import Progress, no_progress
from ..types import CameraTrajectory, PointCloud
from .clip_turn import joined_turns
from .frame_alignment import GRID_PIXELS, PictureMatch
from .off_path import PathError, PathViews

KEPT = 4
"""Best candidates of a grid that are looked at again."""
SEARCH_FRAMES = 3
"""Frames of a clip that the grids are compared in: the error is one throughout."""


class Freedom(NamedTuple):
    """Define a search of the exo camera: of its turn in degrees, or of its place in centimetres."""

    rounds: tuple[tuple[int, int], ...]  # reach and step of the grids, the second about the best
    apart: float  # least distance between two of the best
    exo_change: Callable[[np.ndarray], np.ndarray]  # [G, 3] -> [G, 3, 4] true_from_stated


def _turns(values: np.ndarray) -> np.ndarray:  # [G, 3] degrees
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_rotvec(values, degrees=True).as_matrix()
    return np.concatenate((matrices, np.zeros((len(values), 3, 1))), 2)


def _shifts(values: np.ndarray) -> np.ndarray:  # [G, 3] centimetres
    return np.concatenate((np.tile(np.eye(3), (len(values), 1, 1)), values[..., None] / 100), 2)


FREEDOMS = {
    "turn": Freedom(rounds=((12, 3), (4, 2)), apart=5.0, exo_change=_turns),
    "shift": Freedom(rounds=((45, 15), (16, 8)), apart=20.0, exo_change=_shifts),
}


@frozen
class FoundExo:
    """Path with another pose of the exo camera, at which a scene fits a video best."""

    path: CameraTrajectory  # in the scene's axes and units
    scale: float  # factor of the scene's size
    views: PathViews  # renders along it
    pose_change: Tensor  # [N, 3, 4] found_from_ordered of the ego camera's drawn frames, metres
    error: PathError  # against the ordered poses


def search_exo(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    progress: Progress = no_progress,
    *,
    freedom: Literal["turn", "shift"] = "turn",
    # Factors that the scene's size may be wrong by.
    scales: Sequence[float] = (1.0,),
    # Limit of the frames that are measured, as of PathViews.of.
    most: int | None = None,
) -> FoundExo:
    """Search an error of the exo camera's pose, with turn and shift of an ego video's frames.

    The scene is drawn turned about that camera, or moved with it, as the video fits it best. The
    result is against the ordered poses, as :meth:`PathViews.error` has it, the clip's turn in its
    middle frame.

    Raises:
        EgoXInputError: another count of frames than the scene's.
    """
    from scipy.spatial.transform import Rotation

    trajectory_in_scene = trajectory.in_world_of(scene.exo)
    exo = trajectory_in_scene.required_exo
    ego_from_exo = trajectory_in_scene.ego.seen_from(exo)
    searched = FREEDOMS[freedom]

    def changed_path(candidate: np.ndarray, scale: float) -> CameraTrajectory:
        """Change the path to what the true one is in the scene's axes and units."""
        ego_from_scene = compose(
            ego_from_exo, torch.from_numpy(searched.exo_change(candidate[None]))
        )
        ego_from_scene[..., 3] /= scale
        w2c = compose(ego_from_scene, exo.poses(len(ego_from_scene)))
        return replace(trajectory_in_scene, ego=replace(trajectory_in_scene.ego, w2c=w2c))

    best_candidates = [(np.zeros(3), 1.0)]
    for number, (reach, step) in enumerate(searched.rounds):
        axis = np.arange(-reach, reach + 1, step)
        grid = np.array(np.meshgrid(axis, axis, axis)).reshape(3, -1).T
        rated_candidates = []
        for middle, middle_scale in best_candidates:
            path = changed_path(middle, middle_scale)
            views = PathViews.of(scene, path, most=SEARCH_FRAMES, progress=progress)
            drawn_poses = path.ego.seen_from(exo)[:: views.step].numpy()
            match = PictureMatch.of(video, views)
            for scale in scales if number == 0 else (middle_scale,):
                values = middle + grid
                candidates = compose(
                    ego_from_exo[:: views.step, None],
                    torch.from_numpy(searched.exo_change(values))[None],
                ).numpy()
                candidates[..., 3] /= scale
                scores = _scores(match, drawn_poses, candidates)
                for _ in range(KEPT):
                    best = int(scores.argmax())
                    rated_candidates.append((scores[best], values[best], scale))
                    close_mask = np.linalg.norm(values - values[best], axis=1) < searched.apart
                    scores[close_mask] = -1.0
        rated_candidates.sort(key=lambda candidate: -candidate[0])
        best_candidates = [candidate[1:] for candidate in rated_candidates[:KEPT]]
    candidate, scale = best_candidates[0]
    path = changed_path(candidate, scale)
    views = PathViews.of(scene, path, most=most, progress=progress)
    error = views.error(video)
    metric_ego = changed_path(candidate, 1.0).ego
    sensor_change = metric_ego.seen_from(trajectory_in_scene.ego)[:: views.step]
    pose_change = metric_ego.upright.seen_from(trajectory_in_scene.ego.upright)
    pose_change = pose_change[:: views.step].float()
    turn = Rotation.from_rotvec(error.turn_deg.nan_to_num().numpy(), degrees=True)
    turn = turn * Rotation.from_matrix(pose_change[..., :3].numpy())
    shift_m = (pose_change[..., 3] + scale * error.shift_m)[:, None] @ pose_change[..., :3]
    turn_deg = torch.from_numpy(turn.as_rotvec(degrees=True)).float()
    turn_deg[~error.judged] = torch.nan
    middle_change = Rotation.from_matrix(pose_change[len(pose_change) // 2, :, :3].numpy())
    middle_deg = torch.from_numpy(middle_change.as_rotvec(degrees=True))
    clip = replace(error.clip, turn_deg=joined_turns(error.clip.turn_deg, middle_deg))
    return FoundExo(
        path=path,
        scale=scale,
        views=views,
        pose_change=sensor_change,
        error=replace(error, turn_deg=turn_deg, shift_m=shift_m[:, 0], clip=clip),
    )


def _scores(
    match: PictureMatch,
    drawn_poses: np.ndarray,  # [N, 3, 4] ego_from_exo of the frames that were drawn
    candidates: np.ndarray,  # [N, G, 3, 4] the same of each candidate
) -> np.ndarray:  # [G]
    """Score candidate poses by the correlation of video and scene."""
    views = match.views
    scores = np.zeros(candidates.shape[1])
    rays = views.rays[GRID_PIXELS].reshape(-1, 3)
    for t, (pose, poses) in enumerate(zip(drawn_poses, candidates, strict=True)):
        points = rays * views.metres[t][GRID_PIXELS].reshape(-1, 1)
        exo_points = (points - pose[:, 3]) @ pose[:, :3]
        moved_points = exo_points @ poses[..., :3].swapaxes(1, 2) + poses[:, None, :, 3]
        scores += match.correlations(t, *match.look_up(moved_points))
    return scores / len(drawn_poses)
