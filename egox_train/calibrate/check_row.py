"""Define the result of ``calibrate --check`` for one episode."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from egox_core.frozen import frozen

from .deviation import CERTAIN_SIGMAS, Deviation, matters
from .view_motion import Motion

LEAST_LAG_FRAMES = 1.0
"""Poses that are late by less don't matter."""
COLUMN_TITLES = ("episode", "sd", "late, frames", "turn, degrees", "shift, cm", "finding")


@frozen
class EpisodeResult:
    """Result of one episode: which cameras would fit better than the stated ones, and how certain
    that is."""

    name: str
    finding: str
    folder: Path | None = None  # of a take, whose meta.json can be mended
    motion: Motion | None = None
    deviation: Deviation | None = None  # of the head camera against the scene, its lag mended
    is_exo_deviation: bool = False  # it is less as a turn and shift of the exo camera
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
    def is_view_tested(self) -> bool:
        """True if the view of the scene could tell a turn and a shift."""
        return self.deviation is not None

    @property
    def is_displaced(self) -> bool:
        """True if the camera's measured pose certainly differs from the stated one."""
        deviation = self.deviation
        return (
            deviation is not None
            and deviation.error_sigmas >= CERTAIN_SIGMAS
            and matters(deviation)
        )

    @property
    def error_sigmas(self) -> float:
        """Largest error of the stated cameras, divided by its standard deviation."""
        if self.mismatch_sigmas is not None:
            return self.mismatch_sigmas
        known_lag = self.motion is not None and self.motion.is_lag_known
        lag_sigmas = self.motion.lag_sigmas if self.motion is not None and known_lag else 0.0
        return max(lag_sigmas, 0.0 if self.deviation is None else self.deviation.error_sigmas)

    @property
    def is_wrong(self) -> bool:
        """True if the stated cameras have a certain error that is large enough to matter."""
        return self.mismatch_sigmas is not None or self.lag_s != 0 or self.is_displaced

    @property
    def is_correctable(self) -> bool:
        """True if the error can be corrected by replacing the poses in the take's ``meta.json``."""
        return self.is_wrong and self.mismatch_sigmas is None and self.folder is not None

    def cells(self) -> tuple[str, ...]:
        """Format the episode's result as table cells."""
        lag_text = rotation_text = shift_text = "-"
        if self.motion is not None and self.motion.is_lag_known:
            lag_frames, lag_sd_frames = (
                x / self.motion.frame_s for x in (self.motion.lag_s, self.motion.lag_sd_s)
            )
            lag_text = f"{lag_frames:+.1f} ± {lag_sd_frames:.1f}"
        if (deviation := self.deviation) is not None:
            rotation_text = f"{deviation.turn_deg:.1f} ± {deviation.turn_sd_deg:.1f}"
            shift_text = f"{100 * deviation.shift_m:.0f} ± {100 * deviation.shift_sd_m:.0f}"
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
        motion, deviation = self.motion, self.deviation
        return {
            "episode": self.name,
            "wrong": self.is_wrong,
            "sigmas": self.error_sigmas,
            "finding": self.finding,
            "late_s": None if motion is None or not motion.is_lag_known else motion.lag_s,
            "late_sd_s": None if motion is None or not motion.is_lag_known else motion.lag_sd_s,
            "camera": None if deviation is None else "exo" if self.is_exo_deviation else "ego",
            "turn_deg": None
            if deviation is None
            else np.degrees(deviation.rotation_and_shift[:3]).tolist(),
            "turn_sd_deg": None if deviation is None else deviation.turn_sd_deg,
            "shift_m": None if deviation is None else deviation.rotation_and_shift[3:].tolist(),
            "shift_sd_m": None if deviation is None else deviation.shift_sd_m,
        }


def table(rows: Sequence[EpisodeResult]) -> Iterator[str]:
    """Format the results as lines of a table with aligned columns."""
    table_cells = [COLUMN_TITLES, *(row.cells() for row in rows)]
    column_widths = [max(len(line[i]) for line in table_cells) for i in range(len(COLUMN_TITLES))]
    for line in table_cells:
        padded_cells = (text.ljust(width) for text, width in zip(line, column_widths, strict=True))
        yield "  ".join(padded_cells).rstrip()
