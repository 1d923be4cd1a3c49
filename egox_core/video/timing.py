"""Compute frame times and frame rates of videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STANDARD_RATES = (
    *(number / 1.001 for number in (24, 30, 48, 60, 120)),
    *(5.0, 6.0, 7.5, 8.0, 10.0, 12.0, 12.5, 15.0, 16.0, 18.0, 20.0, 24.0, 25.0, 30.0, 48.0, 50.0),
    *(60.0, 90.0, 100.0, 120.0, 240.0),
)
NEAR_STANDARD = 0.01
"""Share by which times that scatter, or lack a frame, may at most be off the rate meant."""
MIN_SHARE = 0.9
"""Share of frames on a line that a few at a cut, with gaps beside them, have left."""
ROUNDING_S = 0.0006
"""Of time stamps in milliseconds, and a little."""
JOIN_S = 0.1
"""Stamps of sound that go back by more begin another recording."""
MIN_RECORDING = 8
"""Frames, on average, of recordings put end to end; stamps that go back more often are none."""


def frame_rate(
    times_s: Sequence[float] | np.ndarray,  # [T] rising, seconds
    stated: float = 0.0,  # by the container, or the source of these frames; 0: not known
) -> float:
    """Find the frame rate that explains the time stamps.

    The stated rate where each frame lies within half a frame of its number over it, counted from
    the first; else, from any beginning, that one or a standard one as near as the times scatter, or
    the slope of a line on which they lie; else the stated or the usual one if MIN_SHARE of them do.
    Where they lie on no line (10 a second, then 30), frames over their time. 0: not known.
    """
    times = np.asarray(times_s, dtype=np.float64)
    numbers = np.arange(len(times))
    times = times - times[:1]
    if stated > 0 and (np.abs(np.round(times, 4) * stated - numbers) <= 0.5).all():
        return stated
    if len(times) < 2 or times[-1] <= 0:
        return max(stated, 0.0)
    fitted_rate = float(1 / np.polyfit(numbers, times, 1)[0])
    scatter = np.ptp(times - numbers / fitted_rate) + ROUNDING_S
    tolerance = min(NEAR_STANDARD, float(scatter / times[-1]))
    standard_rates = sorted(STANDARD_RATES, key=lambda rate: abs(rate - fitted_rate))
    near_rates = [
        rate for rate in (stated, *standard_rates) if abs(rate / fitted_rate - 1) <= tolerance
    ]
    likely_rates = (*near_rates, stated, fitted_rate)
    for rate in likely_rates:
        if rate > 0 and np.ptp(times - numbers / rate) <= 1 / rate + ROUNDING_S:
            return rate
    # A few at a cut lie beside it, where pictures between them are missing.
    usual_rate = float(1 / max(np.median(np.diff(times)), ROUNDING_S))
    for rate in (stated, usual_rate):
        if rate > 0:
            delays = times - numbers / rate
            if np.mean(np.abs(delays - np.median(delays)) <= 0.5 / rate + ROUNDING_S) >= MIN_SHARE:
                return rate
    return float((len(times) - 1) / times[-1])


def joined_times(
    stamps_s: Sequence[float],  # [T] in the order in which the frames are shown
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Compute continuous frame times where a file joins several recordings end to end.

    Also the seconds added to the stamps of each that goes back by over JOIN_S. None where the
    stamps make no times.
    """
    stamps = np.asarray(stamps_s, dtype=np.float64)
    steps = np.diff(stamps)
    recording_starts = np.flatnonzero(steps <= 0) + 1
    if len(recording_starts) * MIN_RECORDING > len(stamps):
        return None
    added_s = np.zeros(len(stamps))
    usual_step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    for recording_start in recording_starts:
        added_s[recording_start:] = (
            stamps[recording_start - 1]
            + added_s[recording_start - 1]
            + usual_step
            - stamps[recording_start]
        )
    late_joins = recording_starts[steps[recording_starts - 1] < -JOIN_S]
    return tuple((stamps - stamps[0] + added_s).tolist()), tuple(added_s[late_joins].tolist())
