"""Find the offset and the drift between the clocks of two recordings by their sound."""

from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from egox_core.frozen import frozen
from egox_core.video import open_video, probe_video

RATE = 16000
BAND_HZ = (150.0, 6000.0)  # below it rooms hum, above it codecs leave nothing
WINDOW_S, STEP_S = 12.0, 2.0
WINDOWS = 3
"""Of a short file: so many windows side by side, of SHORTEST_WINDOW_S or more each."""
SHORTEST_WINDOW_S = 5.0
AROUND_S = 0.3
"""Lags about the coarse offset that a window looks at: the drift of an hour at 80 ppm."""
COARSE_S = 600.0
FAINT, CLEAR, ALONE = 1.25, 1.8, 2.5
"""Highest peak of a window against the next one beyond the echo: of three windows that agree, of
two, of one. Silence and two strangers' sound have 1.0 to 1.15."""
ECHO_S = 0.02
FITS_S = 0.004  # off the line: two echoes, not the same one
MOST_DRIFT = 500e-6
SOUND_M_S = 343.0


@frozen
class Clocks:
    """Clock offset and drift of an exo video relative to the ego video."""

    offset_s: float
    drift: float
    sd_s: float
    how: str  # what it rests on, in words

    def ego_s(self, exo_s: np.ndarray) -> np.ndarray:
        """Convert times in the exo video to times in the ego video, in seconds."""
        return exo_s * (1 + self.drift) + self.offset_s


def read_mono(path: Path) -> np.ndarray | None:  # [N] float32
    """Read a file's sound as mono samples, or return None if it has no sound.

    Raises:
        EgoXInputError: the file can't be decoded.
    """
    import av

    start = probe_video(path).start_s
    with open_video(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono")
        sample_blocks, sample_rate, end_s = [], stream.rate, start
        for frame in container.decode(stream):
            for resampled_frame in resampler.resample(frame):
                values = resampled_frame.to_ndarray()[0]
                begin_s = frame.time if frame.time is not None else end_s
                gap_samples = round((begin_s - end_s) * sample_rate)
                if gap_samples > 0.03 * sample_rate:
                    sample_blocks.append(np.zeros(gap_samples, np.float32))
                elif not sample_blocks and gap_samples < 0:  # heard before the first picture
                    values, begin_s = values[-gap_samples:], end_s
                sample_blocks.append(values)
                end_s = begin_s + len(values) / sample_rate
    if not sample_blocks:
        return None
    joined_samples, common_divisor = (
        np.concatenate(sample_blocks).astype(np.float32),
        gcd(sample_rate, RATE),
    )
    return resample_poly(
        joined_samples, RATE // common_divisor, sample_rate // common_divisor
    ).astype(np.float32)


def clocks_by_sound(exo: np.ndarray, ego: np.ndarray) -> Clocks | None:
    """Find the offset and the drift between two sounds [N], or return None if they don't match."""
    coarse_samples = round(COARSE_S * RATE)
    coarse_lag, _ = _lag(exo[:coarse_samples], ego[:coarse_samples], None)
    window_s = float(np.clip(len(exo) / RATE / WINDOWS, SHORTEST_WINDOW_S, WINDOW_S))
    window_samples, step = round(window_s * RATE), round(window_s / WINDOW_S * STEP_S * RATE)
    margin_samples = round(AROUND_S * RATE)
    window_times_s, window_lags_s, peak_ratios = [], [], []
    for window_start in range(0, max(len(exo) - window_samples // 2, 1), step):
        exo_window = exo[window_start : window_start + window_samples]
        start = window_start + coarse_lag - margin_samples
        ego_window = ego[max(start, 0) : max(start + window_samples + 2 * margin_samples, 0)]
        if len(exo_window) < RATE or len(ego_window) < RATE:
            continue
        window_lag, peak_ratio = _lag(
            exo_window, ego_window, (margin_samples + min(start, 0), margin_samples)
        )
        if peak_ratio >= FAINT:
            window_times_s.append((window_start + len(exo_window) / 2) / RATE)
            window_lags_s.append((max(start, 0) + window_lag - window_start) / RATE)
            peak_ratios.append(peak_ratio)
    if not window_times_s:
        return None
    return _line(np.array(window_times_s), np.array(window_lags_s), np.array(peak_ratios), window_s)


def _line(
    times: np.ndarray, lags: np.ndarray, ratios: np.ndarray, window_s: float
) -> Clocks | None:
    """Fit a clock's offset and drift to the time lags of sound windows, ignoring outliers."""
    time_span_s = np.ptp(times)
    inlier_mask = np.abs(lags - np.median(lags)) < FITS_S + MOST_DRIFT * time_span_s / 2
    drift = 0.0
    if inlier_mask.sum() >= 3 and time_span_s > window_s:
        slopes = [
            (lags[j] - lags[i]) / (times[j] - times[i])
            for i in range(len(times))
            for j in range(i + 1, len(times))
            if inlier_mask[i] and inlier_mask[j] and times[j] - times[i] > time_span_s / 4
        ]
        drift = float(np.clip(np.median(slopes), -MOST_DRIFT, MOST_DRIFT)) if slopes else 0.0
    offset_s = float(np.median((lags - drift * times)[inlier_mask])) if inlier_mask.any() else 0.0
    fitting_mask = np.abs(lags - drift * times - offset_s) < FITS_S
    count = int(fitting_mask.sum())
    sorted_ratios = np.sort(ratios[fitting_mask])[::-1]
    has_agreement = (
        (count >= 3 and 2 * count > len(times))
        or (count >= 2 and sorted_ratios[1] >= CLEAR)
        or (count >= 1 and sorted_ratios[0] >= ALONE)
    )
    if not has_agreement:
        return None
    if count >= 3 and time_span_s > window_s:
        slope, offset_s = np.polyfit(times[fitting_mask], lags[fitting_mask], 1)
        drift = float(np.clip(slope, -MOST_DRIFT, MOST_DRIFT))
        offset_s = float(np.mean(lags[fitting_mask] - drift * times[fitting_mask]))
        description = f"by sound, {count} of {len(times)} windows, drift {1e6 * drift:.0f} ppm"
    else:
        offset_s, drift = float(np.median(lags[fitting_mask])), 0.0
        description = f"by sound, {count} windows, drift unknown"
    residual_sd_s = (
        float(np.std(lags[fitting_mask] - drift * times[fitting_mask] - offset_s))
        if count > 2
        else 0.0005
    )
    return Clocks(offset_s=offset_s, drift=drift, sd_s=max(residual_sd_s, 2e-4), how=description)


def _lag(
    part: np.ndarray,  # [N]
    heard: np.ndarray,  # [M]
    # (middle, how far to both sides) in samples; None: anywhere.
    where: tuple[int, int] | None,
) -> tuple[int, float]:
    """Find the time lag between two sounds in samples by cross-correlation, and rate how distinct
    it is."""
    size = 1 << (len(part) + len(heard) - 1).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size))
    frequencies_hz = np.fft.rfftfreq(size, 1 / RATE)
    band_mask = (frequencies_hz > BAND_HZ[0]) & (frequencies_hz < BAND_HZ[1])
    spectrum_magnitude = np.abs(spectrum)
    spectrum = np.where(
        band_mask,
        spectrum / np.maximum(spectrum_magnitude, 1e-12 + 1e-6 * spectrum_magnitude.max()),
        0,
    )
    correlation_peaks = np.abs(np.fft.irfft(spectrum, size))
    lags = np.arange(size)
    lags = np.where(lags < size - len(part), lags, lags - size)
    possible_mask = lags < len(heard)
    if where is not None:
        possible_mask &= np.abs(lags - where[0]) <= where[1]
    correlation_peaks = np.where(possible_mask, correlation_peaks, 0)
    best_index = int(correlation_peaks.argmax())
    other_peaks = correlation_peaks[np.abs(lags - lags[best_index]) > ECHO_S * RATE]
    return int(lags[best_index]), float(
        correlation_peaks[best_index] / max(other_peaks.max(initial=0.0), 1e-12)
    )


def way_sd_s(distance_m: float) -> float:
    """Estimate the error in seconds that the unknown travel time of sound causes."""
    return distance_m / SOUND_M_S / np.sqrt(3)
