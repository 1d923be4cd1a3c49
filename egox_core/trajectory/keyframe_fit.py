"""Convert a camera path of many poses to a few keyframes."""

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
    """Fit a keyframe document to a camera path.

    Returns:
        the document (clock: source frames); a sentence on how close it is.
    """
    frame_numbers = clip.indices.double()
    distinct_mask = frame_numbers.diff(prepend=frame_numbers[:1] - 1) > 0
    w2c = upright_w2c.double()[distinct_mask]
    frame_numbers = frame_numbers[distinct_mask]
    is_still = len(w2c) > 1 and float((w2c - w2c[:1]).abs().max()) < 1e-9
    if is_still:
        w2c, frame_numbers = w2c[:1], frame_numbers[:1]
    key_indices = fit_keyframes(w2c, frame_numbers)
    errors_m, errors_deg = (
        deviation.max() for deviation in deviations(w2c, frame_numbers, key_indices)
    )
    keyframes = []
    for key in key_indices:
        yaw, pitch, roll = (
            round(value, 5) + 0.0 for value in pose_angles(w2c[key], up)
        )  # + 0.0: no "-0.0"
        keyframes.append(
            {
                "frame": int(frame_numbers[key]),
                "position": [round(value, 6) for value in camera_centre(w2c[key]).tolist()],
                "yaw_deg": yaw,
                "pitch_deg": pitch,
                "roll_deg": roll,
            }
        )
    document = {
        "up": [float(value) for value in up],
        "interpolation": "spline",
        "keyframes": keyframes,
    }
    note = (
        f"{len(upright_w2c)} poses as {len(key_indices)} keyframes, "
        f"at most {1000 * errors_m:.1f} mm and {errors_deg:.2f}° off"
    )
    return document, note


def fit_keyframes(
    w2c: Tensor,  # [T, 3, 4]
    moments: Tensor,  # [T] rising
) -> list[int]:
    """Choose a few poses through which a smooth path stays within :data:`TOLERANCE_M` and
    :data:`TOLERANCE_DEG` of all others.

    Greedy: the pose that is missed by most is added until none is missed. The first and the last
    are always kept."""
    count = len(w2c)
    if count < 3:
        return list(range(count))
    key_indices = [0, count - 1]
    while len(key_indices) < min(count, MAX_KEYFRAMES):
        errors_m, errors_deg = deviations(w2c, moments, key_indices)
        excess = np.maximum(errors_m / TOLERANCE_M, errors_deg / TOLERANCE_DEG)
        excess[key_indices] = 0
        if excess.max() <= 1:
            return key_indices
        key_indices = sorted([*key_indices, int(excess.argmax())])
    return key_indices if len(key_indices) == count else list(range(count))


def deviations(w2c: Tensor, moments: Tensor, keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Measure how far each pose is from the smooth path through the chosen key poses, in metres and
    degrees."""
    path = interpolate_poses(w2c[keys], moments[keys], moments)
    turns = (path[:, :, :3] @ w2c[:, :, :3].mT).numpy()
    errors_m = (camera_centre(path) - camera_centre(w2c)).norm(dim=-1).numpy()
    return errors_m, np.degrees(scipy.spatial.transform.Rotation.from_matrix(turns).magnitude())
