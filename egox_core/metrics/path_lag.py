"""Measure the delay of an ego video against its camera path.

The views that the path meter found are held against the path at other moments. A camera that is
turned explains them, too, by one turn for the whole clip: a lag is named only where it explains
them better than any such turn.
"""

from __future__ import annotations

import math

import numpy as np

from ..cameras import CameraPath
from ..frozen import frozen
from .off_path import PathError

LONGEST_FRAMES, STEP_FRAMES = 8.0, 0.25
MIN_FRAMES = 0.75
"""A lag below is none that anybody could mend."""
LEFT_SHARE = 0.5
"""Of what is off as the path is stated, and as one turn leaves it, at most so much may be left."""
MIN_JUDGED = 4


@frozen
class PathLag:
    """Delay in frames, positive if the ego video is late, with the angle that remains."""

    frames: float
    left_deg: float  # median over the judged frames

    def text(self) -> str:
        """Describe the delay in one line."""
        direction = "late" if self.frames > 0 else "early"
        return (
            f"The ego video is about {abs(self.frames):.0f} frames {direction}: against the path "
            f"of those moments its view is {self.left_deg:.1f}° off. Cut it to the exo video's "
            "moments"
        )


def path_lag(error: PathError, ego: CameraPath) -> PathLag | None:
    """Find a delay that explains most of a video's deviation from its path, or return None.

    Args:
        ego: the ordered path.
    """
    from scipy.spatial.transform import Rotation, Slerp

    judged_frames = np.flatnonzero(error.judged.numpy())
    if len(judged_frames) < MIN_JUDGED or not ego.moves:
        return None
    path_rotations = Rotation.from_matrix(ego.upright_w2c[:, :3, :3].numpy())
    frame_numbers = judged_frames * error.step
    last_frame = len(path_rotations) - 1
    turns_off_path = Rotation.from_rotvec(error.turn_deg[judged_frames].numpy(), degrees=True)
    shown_turns = turns_off_path * path_rotations[frame_numbers]
    path_at = Slerp(np.arange(len(path_rotations)), path_rotations)
    lags = np.arange(-LONGEST_FRAMES, LONGEST_FRAMES + STEP_FRAMES, STEP_FRAMES)
    left_medians = []
    for lag in lags:
        # Where the path has no moment, nothing is known.
        known_mask = (frame_numbers - lag >= 0) & (frame_numbers - lag <= last_frame)
        left_turns = shown_turns[known_mask] * path_at(frame_numbers[known_mask] - lag).inv()
        has_enough = known_mask.sum() >= MIN_JUDGED
        left_medians.append(float(np.median(left_turns.magnitude())) if has_enough else math.inf)
    best_index = int(np.argmin(left_medians))
    lag = float(lags[best_index])
    tried_lags = lags[np.isfinite(left_medians)]
    # The least at a border of the search is none.
    if abs(lag) < MIN_FRAMES or lag in (tried_lags.min(), tried_lags.max()):
        return None
    turns_off_path = turns_off_path[
        (frame_numbers - lag >= 0) & (frame_numbers - lag <= last_frame)
    ]
    stated_rad, turned_rad = (
        np.median(turns.magnitude())
        for turns in (turns_off_path, turns_off_path * turns_off_path.mean().inv())
    )
    if left_medians[best_index] > LEFT_SHARE * min(stated_rad, turned_rad):
        return None
    return PathLag(frames=lag, left_deg=math.degrees(left_medians[best_index]))
