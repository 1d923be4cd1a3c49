"""The path meter where the exo camera's pose is wrong by a turn.

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
from .off_path import PICKED, PathError, PathViews, PictureMatch

ROUNDS = ((12, 3), (4, 2))
"""Reach and step of the grids about each axis, degrees: the second around the best of the first."""
KEPT, APART_DEG = 4, 5.0
"""Best turns of the first grid, and the least angle between two of them."""
SEARCHED = 3
"""Frames of a clip that the grids are compared in: the turn is one throughout."""


def exo_turned_error(
    scene: PointCloud,
    trajectory: CameraTrajectory,
    video: Tensor,  # [T, H, W, 3] float 0...1, stored (upright) orientation
    progress: Progress = no_progress,
) -> PathError:
    """Turn and shift of an ego video's frames, by way of the exo camera's best turn.

    The scene is drawn turned about that camera as the video fits it best; the result is against the
    ordered poses, as :meth:`PathViews.error` has it.

    Raises:
        EgoXInputError: another count of frames than the scene's.
    """
    from scipy.spatial.transform import Rotation

    tied = trajectory.tied(scene.exo)
    exo = tied.known_exo
    ego_from_exo = tied.ego.seen_from(exo)

    def turned(by: Rotation) -> CameraTrajectory:
        about = torch.cat((torch.from_numpy(by.as_matrix()), torch.zeros(3, 1)), 1)
        w2c = compose(compose(ego_from_exo, about), exo.poses(len(ego_from_exo)))
        return replace(tied, ego=replace(tied.ego, w2c=w2c))

    best = [Rotation.identity()]
    for reach, step in ROUNDS:
        axis = np.arange(-reach, reach + 1, step)
        turns = Rotation.from_rotvec(
            np.array(np.meshgrid(axis, axis, axis)).reshape(3, -1).T, degrees=True
        )
        tried = []
        for before in best:
            path = turned(before)
            views = PathViews.of(scene, path, most=SEARCHED, progress=progress)
            of_exo = path.ego.seen_from(exo)[:: views.step].numpy()
            scores = _scores(views, video, of_exo, turns.as_matrix())
            for _ in range(KEPT):
                top = int(scores.argmax())
                tried.append((scores[top], before * turns[top]))
                near = (turns * turns[top].inv()).magnitude() < np.deg2rad(APART_DEG)
                scores[near] = -1.0
        tried.sort(key=lambda each: -each[0])
        best = [turn for _, turn in tried[:KEPT]]
    path = turned(best[0])
    views = PathViews.of(scene, path, progress=progress)
    found = views.error(video)
    moved = path.ego.upright.seen_from(tied.ego.upright)[:: views.step].float()
    turn = Rotation.from_rotvec(found.turn_deg.nan_to_num().numpy(), degrees=True)
    turn = turn * Rotation.from_matrix(moved[..., :3].numpy())
    shift_m = (moved[..., 3] + found.shift_m)[:, None] @ moved[..., :3]
    turn_deg = torch.from_numpy(turn.as_rotvec(degrees=True)).float()
    turn_deg[~found.judged] = torch.nan
    return replace(found, turn_deg=turn_deg, shift_m=shift_m[:, 0])


def _scores(
    views: PathViews,
    video: Tensor,
    ego_from_exo: np.ndarray,  # [N, 3, 4] of the frames that were drawn
    turns: np.ndarray,  # [G, 3, 3] of the exo camera
) -> np.ndarray:  # [G]
    """Mean correlation of the video with a scene that is turned about the exo camera."""
    match, scores = PictureMatch.of(video, views), np.zeros(len(turns))
    rays = views.rays[PICKED].reshape(-1, 3)
    for t, pose in enumerate(ego_from_exo):
        points = rays * views.metres[t][PICKED].reshape(-1, 1)
        of_exo = (points - pose[:, 3]) @ pose[:, :3]
        there = of_exo @ (pose[:, :3] @ turns).swapaxes(1, 2) + pose[:, 3]
        scores += match.correlations(t, *match.look_up(there))
    return scores / len(ego_from_exo)
