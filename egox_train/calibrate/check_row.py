"""One episode's line of ``calibrate --check``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from egox_core.frozen import frozen

from .deviation import SURE, Deviation, matters
from .view_motion import Motion

LEAST_FRAMES = 1.0
"""Poses that are late by less don't matter."""
TITLES = ("episode", "sd", "late, frames", "turn, degrees", "shift, cm", "finding")


@frozen
class Row:
    """One episode: what would fit better than what is stated, and how sure that is."""

    name: str
    words: str
    folder: Path | None = None  # of a take, whose meta.json can be mended
    motion: Motion | None = None
    deviation: Deviation | None = None  # of the head camera against the scene, its lag mended
    of_exo: bool = False  # it is less as a turn and shift of the exo camera
    # By how many standard deviations it is mirrored or has another take's poses; None: it isn't.
    strange_sigmas: float | None = None

    @property
    def lag_s(self) -> float:
        """Seconds by which the poses are surely late, 0 if they are not."""
        late = self.motion
        if late is None or not late.lag_known or late.lag_sigmas < SURE:
            return 0.0
        return late.lag_s if abs(late.lag_s) >= LEAST_FRAMES * late.frame_s else 0.0

    @property
    def displaced(self) -> bool:
        """True where the camera is surely turned or shifted."""
        off = self.deviation
        return off is not None and off.sigmas >= SURE and matters(off)

    @property
    def sigmas(self) -> float:
        """By how many standard deviations the largest deviation is not chance."""
        if self.strange_sigmas is not None:
            return self.strange_sigmas
        known_lag = self.motion is not None and self.motion.lag_known
        lag = self.motion.lag_sigmas if self.motion is not None and known_lag else 0.0
        return max(lag, 0.0 if self.deviation is None else self.deviation.sigmas)

    @property
    def wrong(self) -> bool:
        """True where a fault is sure, and large enough to matter."""
        return self.strange_sigmas is not None or self.lag_s != 0 or self.displaced

    @property
    def mendable(self) -> bool:
        """True where other poses in the take's ``meta.json`` mend the fault."""
        return self.wrong and self.strange_sigmas is None and self.folder is not None

    def cells(self) -> tuple[str, ...]:
        """Format the row's line of the table."""
        late = turn = shift = "-"
        if self.motion is not None and self.motion.lag_known:
            frames, sd = (
                x / self.motion.frame_s for x in (self.motion.lag_s, self.motion.lag_sd_s)
            )
            late = f"{frames:+.1f} ± {sd:.1f}"
        if (off := self.deviation) is not None:
            turn = f"{off.turn_deg:.1f} ± {off.turn_sd_deg:.1f}"
            shift = f"{100 * off.shift_m:.0f} ± {100 * off.shift_sd_m:.0f}"
        return self.name, f"{self.sigmas:.1f}", late, turn, shift, self.words

    def to_json(self) -> dict[str, object]:
        """Build the row's entry of the report."""
        late, off = self.motion, self.deviation
        return {
            "episode": self.name,
            "wrong": self.wrong,
            "sigmas": self.sigmas,
            "finding": self.words,
            "late_s": None if late is None or not late.lag_known else late.lag_s,
            "late_sd_s": None if late is None or not late.lag_known else late.lag_sd_s,
            "camera": None if off is None else "exo" if self.of_exo else "ego",
            "turn_deg": None if off is None else np.degrees(off.value[:3]).tolist(),
            "turn_sd_deg": None if off is None else off.turn_sd_deg,
            "shift_m": None if off is None else off.value[3:].tolist(),
            "shift_sd_m": None if off is None else off.shift_sd_m,
        }


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lay rows out in columns."""
    cells = [TITLES, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(TITLES))]
    for line in cells:
        parts = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        yield "  ".join(parts).rstrip()
