"""Measure an ego video's deviation from its path where the exo camera's rotation is wrong.

The scene is then turned about that camera, and so far from its place before the ego camera that no
turn of the video fits. So the exo camera's is searched, and the scene drawn anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..cameras import compose
from ..progress import Progress, no_progress
from ..types import CameraTrajectory, PointCloud
from .frame_alignment import GRID_PIXELS, PictureMatch
from .off_path import PathError, PathViews

GRID_ROUNDS = ((12, 3), (4, 2))
"""Reach and step of the grids about each axis, degrees: the second around the best of the first."""
KEPT_TURNS, APART_DEG = 4, 5.0
"""Best turns of the first grid, and the least angle between two of them."""
SEARCH_FRAMES = 3
"""Frames of a clip that the grids are compared in: the turn is one throughout."""


def exo_turned_error(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    progress: Progress = no_progress,
) -> PathError:
    """Measure turn and shift of an ego video's frames, searching the exo camera's rotation error.

    The scene is drawn turned about that camera as the video fits it best. The result is against
    the ordered poses, as :meth:`PathViews.error` has it.

    Raises:
        EgoXInputError: another count of frames than the scene's.
    """
    from scipy.spatial.transform import Rotation

    trajectory_in_scene = trajectory.in_world_of(scene.exo)
    exo = trajectory_in_scene.required_exo
    ego_from_exo = trajectory_in_scene.ego.seen_from(exo)

    def turned_path(rotation: Rotation) -> CameraTrajectory:
        exo_turn = torch.cat((torch.from_numpy(rotation.as_matrix()), torch.zeros(3, 1)), 1)
        w2c = compose(compose(ego_from_exo, exo_turn), exo.poses(len(ego_from_exo)))
        return replace(trajectory_in_scene, ego=replace(trajectory_in_scene.ego, w2c=w2c))

    best_turns = [Rotation.identity()]
    for reach_deg, step in GRID_ROUNDS:
        grid_deg = np.arange(-reach_deg, reach_deg + 1, step)
        turns = Rotation.from_rotvec(
            np.array(np.meshgrid(grid_deg, grid_deg, grid_deg)).reshape(3, -1).T, degrees=True
        )
        candidates = []
        for base_turn in best_turns:
            path = turned_path(base_turn)
            views = PathViews.of(scene, path, most=SEARCH_FRAMES, progress=progress)
            ego_from_exo_by_frame = path.ego.seen_from(exo)[:: views.step].numpy()
            scores = _turn_scores(views, video, ego_from_exo_by_frame, turns.as_matrix())
            for _ in range(KEPT_TURNS):
                best_index = int(scores.argmax())
                candidates.append((scores[best_index], base_turn * turns[best_index]))
                close_mask = (turns * turns[best_index].inv()).magnitude() < np.deg2rad(APART_DEG)
                scores[close_mask] = -1.0
        candidates.sort(key=lambda candidate: -candidate[0])
        best_turns = [turn for _, turn in candidates[:KEPT_TURNS]]
    path = turned_path(best_turns[0])
    views = PathViews.of(scene, path, progress=progress)
    error = views.error(video)
    pose_change = path.ego.upright.seen_from(trajectory_in_scene.ego.upright)[:: views.step].float()
    turn = Rotation.from_rotvec(error.turn_deg.nan_to_num().numpy(), degrees=True)
    turn = turn * Rotation.from_matrix(pose_change[..., :3].numpy())
    shift_m = (pose_change[..., 3] + error.shift_m)[:, None] @ pose_change[..., :3]
    turn_deg = torch.from_numpy(turn.as_rotvec(degrees=True)).float()
    turn_deg[~error.judged] = torch.nan
    return replace(error, turn_deg=turn_deg, shift_m=shift_m[:, 0])


def _turn_scores(
    views: PathViews,
    video: Tensor,
    ego_from_exo: np.ndarray,  # [N, 3, 4] of the frames that were drawn
    turns: np.ndarray,  # [G, 3, 3] of the exo camera
) -> np.ndarray:  # [G]
    """Score candidate rotations of the exo camera by the correlation of video and scene."""
    match = PictureMatch.of(video, views)
    scores = np.zeros(len(turns))
    rays = views.rays[GRID_PIXELS].reshape(-1, 3)
    for t, pose in enumerate(ego_from_exo):
        points = rays * views.metres[t][GRID_PIXELS].reshape(-1, 1)
        exo_points = (points - pose[:, 3]) @ pose[:, :3]
        turned_points = exo_points @ (pose[:, :3] @ turns).swapaxes(1, 2) + pose[:, 3]
        scores += match.correlations(t, *match.look_up(turned_points))
    return scores / len(ego_from_exo)
