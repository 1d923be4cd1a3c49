"""Check whether ego poses are some frames early or late compared with the detected head."""

import numpy as np

from egox_core.cameras import CameraPath, transform
from egox_core.remarks import Remark, RemarkKind
from egox_core.trajectory import HEAD_HALF, HeadPoints, worn_points

MOST_SHIFT_FRAMES = 8
"""Shifts that are tried, to both sides. The outermost is none: a longer one might fit better."""


def check_pose_shift(
    points: HeadPoints,
    # Measured Aria glasses, numbered as the frames of the exo video.
    ego: CameraPath,
    # The points are pixels of its stored picture.
    exo: CameraPath,
) -> tuple[Remark, ...]:
    """Compare the detected head with the ego poses at several time shifts, and warn if another
    shift fits better.

    The poses are not changed. A shift must explain more of the squared offsets than it leaves: of
    206 drawn takes in step (any posture and exo place, points with two detectors' errors) two have
    such a shift, and of those that are shifted by two frames 92 % are found, by three 97 %.

    A head that moves by less than its own height tells nothing.
    """
    if ego.stands:
        return ()
    common_count = min(len(points.uv), len(ego.w2c))
    head_points = worn_points(ego.w2c[:common_count])
    heads_in_exo = transform(exo.poses(common_count), head_points)
    expected_uv, is_projected = (
        values.numpy() for values in exo.camera.project(heads_in_exo)
    )  # [T, 5, 2], [T, 5]
    head_columns = slice(head_points.shape[1])
    head_uv, seen_mask = (
        points.uv[:common_count, head_columns].numpy(),
        points.seen[:common_count, head_columns].numpy(),
    )
    in_picture = is_projected.all(1)
    if in_picture.sum() < 2 * MOST_SHIFT_FRAMES:
        return ()
    head_height_px = (
        2 * HEAD_HALF[1] * exo.camera.fx / float(heads_in_exo[in_picture, :, 2].median())
    )
    if np.ptp(expected_uv[in_picture].mean(1), axis=0).max() < head_height_px:
        return ()

    def offset_px(shift: int) -> float:
        pose_indices = np.arange(max(0, -shift), min(common_count, common_count - shift))
        pose_indices = pose_indices[
            in_picture[pose_indices] & seen_mask[pose_indices + shift].any(1)
        ]
        visible_shares = seen_mask[pose_indices + shift] / seen_mask[pose_indices + shift].sum(
            1, keepdims=True
        )
        path_differences_px = (
            (head_uv[pose_indices + shift] - expected_uv[pose_indices]) * visible_shares[..., None]
        ).sum(1)
        path_differences_px -= np.median(path_differences_px, axis=0)
        return (
            float(np.median(np.linalg.norm(path_differences_px, axis=-1)))
            if len(pose_indices)
            else np.inf
        )

    frame_shifts = range(-MOST_SHIFT_FRAMES, MOST_SHIFT_FRAMES + 1)
    best_shift = min(frame_shifts, key=offset_px)
    # A shift must explain more of the squared offsets than it leaves.
    is_explained = 2 * offset_px(best_shift) ** 2 < offset_px(0) ** 2
    if abs(best_shift) == MOST_SHIFT_FRAMES or not is_explained:
        return ()
    shift_direction = "later" if best_shift > 0 else "earlier"
    text = (
        f"out of step: the head in the exo video fits the ego poses best {abs(best_shift)} frames "
        f"{shift_direction} (off by {offset_px(best_shift):.1f} px instead of {offset_px(0):.1f}); "
        "nothing is shifted"
    )
    return (Remark(text, RemarkKind.WARNING),)
