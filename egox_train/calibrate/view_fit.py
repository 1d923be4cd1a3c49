"""Fit of an ego video to what the scene of exo's pictures and depth shows from the stated path."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egox_core.metrics import PathViews, exo_turned_error
from egox_core.progress import Progress
from egox_core.stages import scene
from egox_core.take import Take
from egox_core.types import CameraTrajectory, DepthVideo
from egox_core.video import decode_frames, probe_video

from .check_row import Row
from .deviation import Deviation, as_exo, composed, moved, path_deviation, size_of
from .frames import poses_at, sensor_poses

DRAWN_VIEWS = 9
"""Frames of the scene that are drawn."""
LIKE_SCENE, BETTER = 0.65, 0.15
"""Correlation of an ego video with its scene, and how much better a mirrored one must be."""
PATCHES = 60
"""Parts of a picture whose likeness counts as independent."""


def fit_view(
    row: Row,
    take: Take,
    ego_video: Path,
    times_s: np.ndarray,  # [T] of the ego video
    w2c: np.ndarray,  # [T, 3, 4] upright
    progress: Progress,
) -> tuple[Row, str]:
    """Compare the ego video with the scene, its poses' lag mended."""
    info = probe_video(ego_video)
    path = take.trajectory.beside(take.depth.exo)
    indices = path.frames.indices.numpy()
    indices = indices[indices < len(times_s)]
    used = len(indices) - (len(indices) - 1) % 4
    indices = indices[:used]
    if used < 5:
        return row, "turn and shift are not testable: fewer than 5 frames"
    path = replace(path, ego=path.ego.resized(info.width, info.height))
    if row.lag_s:
        better = torch.from_numpy(poses_at(times_s, w2c, times_s[indices] + row.lag_s))
        whole = torch.cat([sensor_poses(path.ego, better), path.ego.w2c[used:]])
        path = replace(path, ego=replace(path.ego, w2c=whole))
    ego = np.stack([picture for _, picture in decode_frames(ego_video, info, indices.tolist())])
    ego = torch.from_numpy(ego).float() / 255
    if used < len(path):
        ego = torch.cat([ego, ego[-1:].expand(len(path) - used, *ego.shape[1:])])
    exo = take.read_exo(progress)
    deviation, score = _deviation(exo, take.depth, path, ego, progress)
    if score < LIKE_SCENE:
        flipped = replace(take.depth, depth_m=take.depth.depth_m.flip(2))
        ways = (
            ("its own picture", exo, take.depth, ego.flip(2)),
            ("exo's picture", exo.flip(2), take.depth, ego),
            ("exo's picture and depth", exo.flip(2), flipped, ego),
        )
        for what, pictures, depth, video in ways:
            _, other = _deviation(pictures, depth, path, video, progress, search=False)
            if other >= max(LIKE_SCENE, score + BETTER):
                sigmas = (math.atanh(other) - math.atanh(max(score, 0.0))) * math.sqrt(PATCHES)
                words = f"mirrored: {what} ({other:.2f} like the scene, {score:.2f} as stated)"
                return replace(row, strange_sigmas=sigmas), words
    if deviation is None or score < LIKE_SCENE:
        return row, f"turn and shift are not testable: too little like the scene ({score:.2f})"
    by_exo = as_exo(deviation, path)
    of_exo = size_of(by_exo) < size_of(deviation)
    row = replace(row, deviation=by_exo if of_exo else deviation, of_exo=of_exo)
    words = (
        f"{'exo' if of_exo else 'head'} camera turned or moved"
        if row.displaced
        else "its view fits"
    )
    return row, words


def _deviation(
    exo: Tensor,  # [T, H, W, 3] uint8
    depth: DepthVideo,
    path: CameraTrajectory,
    ego: Tensor,  # [T, h, w, 3] float
    progress: Progress,
    search: bool = True,
) -> tuple[Deviation | None, float]:
    """Measure how far an ego video is off its scene, and how alike they are."""
    points, _ = scene(exo, depth, progress=progress)
    views = PathViews.of(points, path, most=DRAWN_VIEWS, progress=progress)
    error = views.error(ego)
    score = float(error.score.median())
    if score < LIKE_SCENE and search:
        turned = exo_turned_error(points, path, ego, progress)
        if float(turned.score.median()) > max(score, LIKE_SCENE):
            first = np.concatenate(
                [
                    np.radians(turned.turn_deg.nanmedian(0).values.numpy()),
                    turned.shift_m.nanmedian(0).values.numpy(),
                ]
            )
            poses = torch.from_numpy(moved(path.ego.upright_w2c.numpy(), first))
            ego_path = replace(path.ego, w2c=sensor_poses(path.ego, poses))
            nearer = replace(path, ego=ego_path)
            rest, score = _deviation(exo, depth, nearer, ego, progress, search=False)
            return rest and replace(rest, value=composed(first, rest.value)), score
    return path_deviation(views, ego, error, path), score
