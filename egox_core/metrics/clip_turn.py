"""Hold the one turn of a whole clip's view against its camera path, with how surely it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras import CameraModel, compose, sensor_from_upright
from ..errors import EgoXInputError
from ..frozen import frozen
from ..types import CameraTrajectory

LEAST_DEG = 5.0
"""Of real outputs, turning back less gains nothing."""
SHIFTED_DEG = 8.0
"""Angle between the turns of near and far points, from which on the view is shifted as well."""
NOT_ONE_DEG = 8.0
"""Angle between the turns of two chunks of a video, from which on it isn't one turn."""
SMALLEST_PART = 0.5
"""A direction is named if its part of the turn is at least so large, of the largest part."""
_DIRECTIONS = (
    ("downwards", "upwards"),
    ("to the left", "to the right"),
    ("clockwise", "anticlockwise"),
)
"""What a picture does whose camera is turned by a positive and by a negative rotation of points
about x (right), y (down) and z (forward)."""


@frozen
class ClipTurn:
    """Rotation from a clip's ordered cameras to its video's, one for all frames.

    Axes of the upright picture: x right, y down, z forward. A point p of an ordered camera is at
    ``rotation @ p`` in the video's, seen from the same place.
    """

    turn_deg: Tensor  # [3] float64 rotation vector; NaN: not judged
    interval_deg: float  # the true rotation is within this angle of it, in 90 % of clips
    score: float  # correlation with the scene at the best turn, judged or not
    near_deg: Tensor  # [3] float64, of the nearer half of the points alone; NaN: not judged
    far_deg: Tensor  # [3] float64, of the farther half
    reason: str = ""  # why it isn't judged; "": it is
    estimated: bool = False  # the ordered path itself was estimated, so that it may be what is off

    @classmethod
    def unjudged(cls, reason: str, score: float = 0.0) -> ClipTurn:
        """Make the result for a clip that can't be judged."""
        unknown = torch.full((3,), math.nan, dtype=torch.float64)
        return cls(
            turn_deg=unknown,
            interval_deg=math.nan,
            score=score,
            near_deg=unknown,
            far_deg=unknown,
            reason=reason,
        )

    @classmethod
    def of_chunks(cls, turns: Sequence[ClipTurn]) -> ClipTurn:
        """Join the turns of a long video's chunks to one, if they agree."""
        judged_turns = [turn for turn in turns if turn.judged]
        if 2 * len(judged_turns) <= len(turns):
            reason = f"{len(turns) - len(judged_turns)} of {len(turns)} chunks can't be judged"
            return cls.unjudged(turns[0].reason if len(turns) == 1 else reason)
        apart_deg = max(
            angle_between(one.turn_deg, other.turn_deg)
            for one in judged_turns
            for other in judged_turns
        )
        widest_deg = max(turn.interval_deg for turn in judged_turns)
        if apart_deg > max(NOT_ONE_DEG, 2 * widest_deg):
            return cls.unjudged(f"not one turn: the chunks differ by {apart_deg:.0f}°")
        middle_turn = sorted(judged_turns, key=lambda turn: turn.score)[len(judged_turns) // 2]
        mean_deg = torch.stack([turn.turn_deg for turn in judged_turns]).mean(0)
        interval_deg = max(widest_deg, apart_deg / 2)
        return replace(middle_turn, turn_deg=mean_deg, interval_deg=interval_deg)

    @classmethod
    def unmeasured(cls) -> ClipTurn:
        """Make the result where nobody looked for a turn."""
        return cls.unjudged("it wasn't measured")

    @property
    def judged(self) -> bool:
        """Whether the clip has a turn that can be used."""
        return not self.reason

    @property
    def angle_deg(self) -> float:
        """Angle of the turn in degrees, NaN if not judged."""
        return float(self.turn_deg.norm())

    @property
    def rotation(self) -> Tensor:  # [3, 3] float64, video_from_ordered
        """Rotation from the ordered camera to the video's, the identity if not judged."""
        return _rotation(self.turn_deg.nan_to_num(0.0))

    def sensor_rotation(self, camera: CameraModel) -> Tensor:  # [3, 3] float64
        """Compute the rotation in the sensor's axes, as poses have them."""
        axes = sensor_from_upright(camera.quarter_turns).double()
        return axes @ self.rotation @ axes.T

    def correct_path(self, trajectory: CameraTrajectory) -> CameraTrajectory:
        """Turn a camera path to what the video shows.

        Raises:
            EgoXInputError: a turn that isn't judged.
        """
        if not self.judged:
            raise EgoXInputError(
                "turn of the view",
                got=self.reason,
                expected="a turn that could be measured",
                fix="leave the camera path as it is",
            )
        ego = trajectory.ego
        rotation = self.sensor_rotation(ego.camera).to(ego.w2c)
        target_from_source = torch.cat((rotation, rotation.new_zeros(3, 1)), 1)[None]
        before_deg = self.turn_deg.new_tensor(trajectory.corrected_deg or (0, 0, 0))
        right, down, forward = joined_turns(self.turn_deg, before_deg).tolist()
        return replace(
            trajectory,
            ego=replace(ego, w2c=compose(target_from_source, ego.w2c)),
            corrected_deg=(right, down, forward),
        )

    @property
    def depth_gap_deg(self) -> float:
        """Angle between the turns of near and far points, NaN if not judged."""
        return angle_between(self.near_deg, self.far_deg)

    @property
    def is_shifted(self) -> bool:
        """Whether near and far are turned differently, so that the camera's place is off, too."""
        return self.depth_gap_deg > SHIFTED_DEG

    def text(self) -> str:
        """Describe the turn in one line."""
        path_name = "estimated" if self.estimated else "ordered"
        if not self.judged:
            return f"Whether the whole clip is turned can't be judged: {self.reason}"
        sentence = (
            f"The picture is turned by {self.angle_deg:.0f}° ± {self.interval_deg:.0f} "
            f"{self._direction()} {path_name} path"
        )
        if self.angle_deg <= self.interval_deg:
            sentence = (
                f"The picture follows the {path_name} path to within "
                f"{self.angle_deg + self.interval_deg:.0f}°"
            )
        if self.is_shifted:
            sentence += (
                f", and shifted: what is near is turned {self.depth_gap_deg:.0f}° otherwise than "
                "what is far"
            )
        return sentence

    def _direction(self) -> str:
        parts = self.turn_deg.tolist()
        largest = max(map(abs, parts))
        directions = " and ".join(
            names[part < 0]
            for part, names in zip(parts, _DIRECTIONS, strict=True)
            if abs(part) >= SMALLEST_PART * largest
        )
        return f"{directions} {'of' if 'to the' in directions else 'from'} the"


def joined_turns(second_deg: Tensor, first_deg: Tensor) -> Tensor:  # [..., 3]
    """Join rotation vectors in degrees to that of the first rotation and then the second."""
    from scipy.spatial.transform import Rotation

    first, second = (
        Rotation.from_rotvec(turn_deg.double().numpy(), degrees=True)
        for turn_deg in (first_deg.nan_to_num(0.0), second_deg.nan_to_num(0.0))
    )
    joined_deg = torch.from_numpy((second * first).as_rotvec(degrees=True))
    return joined_deg.where(torch.isfinite(first_deg + second_deg), torch.nan)


def _rotation(turn_deg: Tensor) -> Tensor:  # [3] -> [3, 3]
    from scipy.spatial.transform import Rotation

    return torch.from_numpy(Rotation.from_rotvec(turn_deg.numpy(), degrees=True).as_matrix())


def angle_between(first_deg: Tensor, second_deg: Tensor) -> float:
    """Compute the angle in degrees between two rotations, given as rotation vectors."""
    if not bool(torch.isfinite(first_deg + second_deg).all()):
        return math.nan
    relative = _rotation(first_deg).T @ _rotation(second_deg)
    return math.degrees(math.acos(max(-1.0, min(1.0, (float(relative.trace()) - 1) / 2))))
