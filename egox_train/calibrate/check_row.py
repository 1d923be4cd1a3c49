"""Define the result of ``calibrate --check`` for one episode."""

from collections.abc import Iterator, Sequence

from egox_core.frozen import frozen

from .view_motion import Motion
from .view_pose import LEAST_SHIFT_M, SDS_OF_RADIUS, ViewPose

CERTAIN_SIGMAS = 3.5
"""Standard deviations from which on a clock is called wrong."""
LEAST_LAG_FRAMES = 1.0
"""Poses that are late by less don't matter."""
LEAST_LENS_SHARE = LEAST_SHIFT_M
"""Share of its focal length from which on an exo camera's lens is called wrong: it moves what is a
metre beside the camera's axis by LEAST_SHIFT_M."""
COLUMN_TITLES = ("episode", "sd", "late, frames", "turn, degrees", "shift, cm", "finding")


@frozen
class EpisodeResult:
    """Result of one episode: which cameras would fit better than the stated ones, and how certain
    that is."""

    name: str
    finding: str
    motion: Motion | None = None
    # Of the head camera against the scene, its lag mended; None: it isn't like the scene.
    view: ViewPose | None = None
    is_exo_searched: bool = False  # the view is like the scene with another exo pose alone
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
        return self.exo_focal_factor is not None or (self.is_exo_searched and self.is_displaced)

    @property
    def is_view_tested(self) -> bool:
        """True if the view of the scene could tell a turn."""
        return self.exo_focal_factor is not None or self.view is not None

    @property
    def is_displaced(self) -> bool:
        """True if the view certainly differs from that of the stated cameras."""
        return self.exo_focal_factor is not None or (self.view is not None and self.view.is_off)

    @property
    def error_sigmas(self) -> float:
        """Largest error of the stated cameras, divided by its standard deviation."""
        if self.mismatch_sigmas is not None:
            return self.mismatch_sigmas
        known_lag = self.motion is not None and self.motion.is_lag_known
        lag_sigmas = self.motion.lag_sigmas if self.motion is not None and known_lag else 0.0
        turn_sigmas = 0.0
        if self.view is not None:
            turn_sigmas = SDS_OF_RADIUS * self.view.angle_deg / self.view.turn_interval_deg
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
        if self.view is not None:
            rotation_text = f"{self.view.angle_deg:.1f} ± {self.view.turn_interval_deg:.1f}"
            shift_text = f"{100 * self.view.length_m:.0f} ± {100 * self.view.shift_interval_m:.0f}"
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
        view = self.view
        return {
            "episode": self.name,
            "wrong": self.is_wrong,
            "sigmas": self.error_sigmas,
            "finding": self.finding,
            "late_s": None if motion is None or not motion.is_lag_known else motion.lag_s,
            "late_sd_s": None if motion is None or not motion.is_lag_known else motion.lag_sd_s,
            "camera": "exo" if self.is_exo_wrong else None if view is None else "ego",
            "turn_deg": None if view is None else view.turn_deg.tolist(),
            "turn_sd_deg": None if view is None else view.turn_interval_deg / SDS_OF_RADIUS,
            "shift_m": None if view is None else view.shift_m.tolist(),
            "shift_sd_m": None if view is None else view.shift_interval_m / SDS_OF_RADIUS,
            "exo_turn_deg": view.angle_deg
            if view is not None and view.is_turned and self.is_exo_searched
            else None,
            "exo_focal_factor": self.exo_focal_factor,
        }


def table(rows: Sequence[EpisodeResult]) -> Iterator[str]:
    """Format the results as lines of a table with aligned columns."""
    table_cells = [COLUMN_TITLES, *(row.cells() for row in rows)]
    column_widths = [max(len(line[i]) for line in table_cells) for i in range(len(COLUMN_TITLES))]
    for line in table_cells:
        padded_cells = (text.ljust(width) for text, width in zip(line, column_widths, strict=True))
        yield "  ".join(padded_cells).rstrip()
