"""A path of many poses as few keyframes, by the frames of a clip."""

from __future__ import annotations

import numpy as np
import scipy
from torch import Tensor

from ..cameras import camera_centre
from ..frames import Frames
from .keyframes import DEFAULT_UP, pose_angles
from .path import interpolate_poses

TOLERANCE_M, TOLERANCE_DEG = 0.005, 0.5  # of a fitted path
MAX_KEYFRAMES = 200
"""Beyond that nobody edits keyframes by hand, and fitting takes long: every pose becomes one."""


def keyframes_of_path(
    upright_w2c: Tensor,  # [T, 3, 4]
    clip: Frames,
    up=DEFAULT_UP,  # [3] the world's upward direction
) -> tuple[dict, str]:
    """Fit a keyframe document to a path of a clip.

    Returns:
        the document (clock: source frames); a sentence on how close it is.
    """
    index = clip.indices.double()
    distinct = index.diff(prepend=index[:1] - 1) > 0
    w2c, index = upright_w2c.double()[distinct], index[distinct]
    is_still = len(w2c) > 1 and float((w2c - w2c[:1]).abs().max()) < 1e-9
    if is_still:
        w2c, index = w2c[:1], index[:1]
    keys = fit_keyframes(w2c, index)
    off_m, off_deg = (deviation.max() for deviation in deviations(w2c, index, keys))
    keyframes = []
    for i in keys:
        yaw, pitch, roll = (round(v, 5) + 0.0 for v in pose_angles(w2c[i], up))  # + 0.0: no "-0.0"
        keyframes.append(
            {
                "frame": int(index[i]),
                "position": [round(v, 6) for v in camera_centre(w2c[i]).tolist()],
                "yaw_deg": yaw,
                "pitch_deg": pitch,
                "roll_deg": roll,
            }
        )
    document = {"up": [float(v) for v in up], "interpolation": "spline", "keyframes": keyframes}
    note = f"{len(upright_w2c)} poses as {len(keys)} keyframes, at most {1000 * off_m:.1f} mm and {off_deg:.2f}° off"
    return document, note


def fit_keyframes(
    w2c: Tensor,  # [T, 3, 4]
    moments: Tensor,  # [T] rising
) -> list[int]:
    """Choose rising indices of the poses to keep so that the smooth path through them passes all
    others within :data:`TOLERANCE_M` and :data:`TOLERANCE_DEG`.

    Greedy: the pose that is missed by most is added until none is missed. The first and the last
    are always kept."""
    count = len(w2c)
    if count < 3:
        return list(range(count))
    keys = [0, count - 1]
    while len(keys) < min(count, MAX_KEYFRAMES):
        off_m, off_deg = deviations(w2c, moments, keys)
        excess = np.maximum(off_m / TOLERANCE_M, off_deg / TOLERANCE_DEG)
        excess[keys] = 0
        if excess.max() <= 1:
            return keys
        keys = sorted([*keys, int(excess.argmax())])
    return keys if len(keys) == count else list(range(count))


def deviations(w2c: Tensor, moments: Tensor, keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Measure the metres [T] and degrees [T] from each pose to the smooth path through the poses
    ``keys``."""
    path = interpolate_poses(w2c[keys], moments[keys], moments)
    turns = (path[:, :, :3] @ w2c[:, :, :3].mT).numpy()
    off_m = (camera_centre(path) - camera_centre(w2c)).norm(dim=-1).numpy()
    return off_m, np.degrees(scipy.spatial.transform.Rotation.from_matrix(turns).magnitude())
