"""Judge by how much a head camera's view differs from that of the stated cameras."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import f

from egox_core.cameras import CameraModel, sensor_from_upright
from egox_core.frozen import frozen
from egox_core.metrics import SceneFit

LEAST_TURN_DEG, LEAST_SHIFT_M = 5.0, 0.15
"""Turn and shift from which on cameras are called wrong, if their intervals are shorter: turning a
view back by less gains nothing (``egox_core/metrics/straighten.py``), and such a shift moves what
is 1.7 metres away as far."""
CERTAINTY = 0.99
"""Share of clips in which an interval holds by its covariance (95 % of drawn right ones)."""
SDS_OF_RADIUS = math.sqrt(f.ppf(CERTAINTY, 3, 9))
"""Standard deviations of a fit's error in its interval."""


@frozen
class ViewPose:
    """Pose of an ego video's camera against the stated one: a point p is at turn (p + shift).

    Axes of the upright picture. What exo's pose would have to be changed by for the same is
    ``exo_shift_m`` beside the same turn.
    """

    turn_deg: np.ndarray  # [3] rotation vector
    turn_interval_deg: float  # the truth is within this of it, with CERTAINTY
    shift_m: np.ndarray  # [3]
    shift_interval_m: float
    exo_shift_m: float
    exo_shift_interval_m: float

    @classmethod
    def of_fit(cls, fit: SceneFit, ego_from_exo: np.ndarray, camera: CameraModel) -> ViewPose:
        """Take the pose of a fit, with the joint uncertainty of turn, shift and size."""
        axes = sensor_from_upright(camera.quarter_turns).numpy()
        place = ego_from_exo[:, 3]
        exo_shift = fit.rotation @ (place + fit.shift_m) - place
        # To first order in the turn, which is about the ego camera.
        exo_slope = np.concatenate((np.cross(np.eye(3), place).T, np.eye(3)), 1)
        covariance = fit.covariance[:6, :6]
        return cls(
            turn_deg=Rotation.from_matrix(fit.rotation).as_rotvec(degrees=True) @ axes,
            turn_interval_deg=math.degrees(radius(covariance[:3, :3], fit.freedom)),
            shift_m=fit.shift_m @ axes,
            shift_interval_m=radius(covariance[3:, 3:], fit.freedom),
            exo_shift_m=float(np.linalg.norm(exo_shift)),
            exo_shift_interval_m=radius(exo_slope @ covariance @ exo_slope.T, fit.freedom),
        )

    @property
    def angle_deg(self) -> float:
        """Angle of the turn."""
        return float(np.linalg.norm(self.turn_deg))

    @property
    def length_m(self) -> float:
        """Length of the shift."""
        return float(np.linalg.norm(self.shift_m))

    @property
    def is_turned(self) -> bool:
        """True if there certainly is a turn that matters."""
        return self.angle_deg >= max(LEAST_TURN_DEG, self.turn_interval_deg)

    @property
    def is_off(self) -> bool:
        """True if there certainly is a turn or a shift that matters."""
        return self.is_turned or self.length_m >= self.least_move_m

    @property
    def least_move_m(self) -> float:
        """Length from which on a shift is told."""
        return max(self.shift_interval_m, LEAST_SHIFT_M)

    def limit_text(self) -> str:
        """Say which moves can't be told."""
        return f"a move below {100 * self.least_move_m:.0f} cm can't be told"

    def needed_text(self) -> str:
        """Say what mends exo's pose, as far as turn and move can be told apart."""
        needs = []
        if self.is_turned:
            needs.append(f"turned by {self.angle_deg:.0f} degrees")
        if self.exo_shift_m >= max(LEAST_SHIFT_M, self.exo_shift_interval_m):
            needs.append(f"moved by {100 * self.exo_shift_m:.0f} cm")
        if not needs:
            return "exo's pose is off, but a turn and a move of it can't be told apart"
        return f"its view fits if exo is {' and '.join(needs)}"


def radius(covariance: np.ndarray, freedom: int) -> float:  # [n, n]
    """Compute the radius of the ball that holds CERTAINTY of the errors, by the F distribution that
    has the mean and variance of their squares."""
    mean, half_variance = np.trace(covariance), np.square(covariance).sum()
    if mean <= 0:
        return 0.0
    return math.sqrt(mean * f.ppf(CERTAINTY, mean**2 / half_variance, freedom))
