"""Define the result of ``calibrate --check`` for one episode."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from egox_core.frozen import frozen
from egox_core.metrics import ClipTurn

from .view_motion import Motion

CERTAIN_SIGMAS = 3.5
"""Standard deviations from which on a clock is called wrong."""
LEAST_LAG_FRAMES = 1.0
"""Poses that are late by less don't matter."""
LEAST_TURN_DEG, LEAST_SHIFT_M = 5.0, 0.15
"""Turn and shift of the view from which on a camera is called wrong: depth of a network turns the
view of right cameras by up to 4 degrees."""
LEAST_LENS_SHARE = LEAST_SHIFT_M
"""Share of its focal length from which on an exo camera's lens is called wrong: it moves what is a
metre beside the camera's axis by LEAST_SHIFT_M."""
SDS_OF_INTERVAL = 1.645
"""Standard deviations within which 90 % lie."""
COLUMN_TITLES = ("episode", "sd", "late, frames", "turn, degrees", "shift, cm", "finding")


@frozen
class EpisodeResult:
    """Result of one episode: which cameras would fit better than the stated ones, and how certain
    that is."""

    name: str
    finding: str
    motion: Motion | None = None
    view: ClipTurn | None = None  # of the head camera against the scene, its lag mended
    shift_m: np.ndarray | None = None  # [3] of the same, NaN: no frame tells it
    shift_interval_m: float = np.inf  # half-width, as the turn's
    exo_turn_deg: float | None = None  # of the exo camera, at which alone the view fits
    exo_focal_factor: float | None = None  # of its focal length, with which the view fits better
    # By how many standard deviations it is mirrored or has another take's poses; None: it isn't.
    mismatch_sigmas: float | None = None

    @property
    def lag_s(self) -> float:
        """Delay of the poses in seconds, 0 unless it is certain."""
        motion = self.motion
        if motion is None or not motion.is_lag_known or motion.lag_sigmas < CERTAIN_SIGMAS:
            return 0.0
        return motion.lag_s if abs(motion.lag_s) >= LEAST_LAG_FRAMES * motion.frame_s else 0.0

    @property
    def is_clock_tested(self) -> bool:
        """True if the head's turns could tell when its poses are, or that they are others."""
        is_lag_known = self.motion is not None and self.motion.is_lag_known
        return is_lag_known or self.mismatch_sigmas is not None

    @property
    def is_exo_wrong(self) -> bool:
        """True if the view only fits with another pose or lens of the exo camera."""
        return self.exo_turn_deg is not None or self.exo_focal_factor is not None

    @property
    def is_view_tested(self) -> bool:
        """True if the view of the scene could tell a turn."""
        return self.is_exo_wrong or (self.view is not None and self.view.judged)

    @property
    def shift_length_m(self) -> float:
        """Length of the shift, NaN unless the view could tell it, and how surely."""
        is_known = self.shift_m is not None and math.isfinite(self.shift_interval_m)
        return float(np.linalg.norm(self.shift_m)) if is_known else math.nan

    @property
    def is_displaced(self) -> bool:
        """True if the view certainly differs from that of the stated cameras."""
        if self.is_exo_wrong:
            return True
        if self.view is None or not self.view.judged:
            return False
        is_turned = self.view.angle_deg >= max(LEAST_TURN_DEG, self.view.interval_deg)
        return is_turned or self.shift_length_m >= max(LEAST_SHIFT_M, self.shift_interval_m)

    @property
    def error_sigmas(self) -> float:
        """Largest error of the stated cameras, divided by its standard deviation."""
        if self.mismatch_sigmas is not None:
            return self.mismatch_sigmas
        known_lag = self.motion is not None and self.motion.is_lag_known
        lag_sigmas = self.motion.lag_sigmas if self.motion is not None and known_lag else 0.0
        turn_sigmas = 0.0
        if self.view is not None and self.view.judged:
            turn_sigmas = SDS_OF_INTERVAL * self.view.angle_deg / self.view.interval_deg
        return max(lag_sigmas, turn_sigmas)

    @property
    def is_wrong(self) -> bool:
        """True if the stated cameras have a certain error that is large enough to matter."""
        return self.mismatch_sigmas is not None or self.lag_s != 0 or self.is_displaced

    def cells(self) -> tuple[str, ...]:
        """Format the episode's result as table cells."""
        lag_text = rotation_text = shift_text = "-"
        if self.motion is not None and self.motion.is_lag_known:
            lag_frames, lag_sd_frames = (
                x / self.motion.frame_s for x in (self.motion.lag_s, self.motion.lag_sd_s)
            )
            lag_text = f"{lag_frames:+.1f} ± {lag_sd_frames:.1f}"
        if self.view is not None and self.view.judged:
            rotation_text = f"{self.view.angle_deg:.1f} ± {self.view.interval_deg:.1f}"
        if math.isfinite(self.shift_length_m):
            shift_text = f"{100 * self.shift_length_m:.0f} ± {100 * self.shift_interval_m:.0f}"
        return (
            self.name,
            f"{self.error_sigmas:.1f}",
            lag_text,
            rotation_text,
            shift_text,
            self.finding,
        )

    def to_json(self) -> dict[str, object]:
        """Build the episode's entry in the JSON report."""
        motion = self.motion
        view = self.view if self.view is not None and self.view.judged else None
        has_shift = math.isfinite(self.shift_length_m)
        return {
            "episode": self.name,
            "wrong": self.is_wrong,
            "sigmas": self.error_sigmas,
            "finding": self.finding,
            "late_s": None if motion is None or not motion.is_lag_known else motion.lag_s,
            "late_sd_s": None if motion is None or not motion.is_lag_known else motion.lag_sd_s,
            "camera": "exo" if self.is_exo_wrong else None if view is None else "ego",
            "turn_deg": None if view is None else view.turn_deg.tolist(),
            "turn_sd_deg": None if view is None else view.interval_deg / SDS_OF_INTERVAL,
            "shift_m": None if self.shift_m is None or not has_shift else self.shift_m.tolist(),
            "shift_sd_m": self.shift_interval_m / SDS_OF_INTERVAL if has_shift else None,
            "exo_turn_deg": self.exo_turn_deg,
            "exo_focal_factor": self.exo_focal_factor,
        }


def table(rows: Sequence[EpisodeResult]) -> Iterator[str]:
    """Format the results as lines of a table with aligned columns."""
    table_cells = [COLUMN_TITLES, *(row.cells() for row in rows)]
    column_widths = [max(len(line[i]) for line in table_cells) for i in range(len(COLUMN_TITLES))]
    for line in table_cells:
        padded_cells = (text.ljust(width) for text, width in zip(line, column_widths, strict=True))
        yield "  ".join(padded_cells).rstrip()
