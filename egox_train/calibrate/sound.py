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
    """Relation of two clocks: the moment ``t`` of the exo file is ``t (1 + drift) + offset_s`` of
    the ego file."""

    offset_s: float
    drift: float
    sd_s: float
    how: str  # what it rests on, in words

    def ego_s(self, exo_s: np.ndarray) -> np.ndarray:
        """Convert seconds of the exo file to seconds of the ego file."""
        return exo_s * (1 + self.drift) + self.offset_s


def read_mono(path: Path) -> np.ndarray | None:  # [N] float32
    """Read a file's sound as mono at RATE, starting at the first video frame, None if it has no
    sound.

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
        parts, rate, end = [], stream.rate, start
        for frame in container.decode(stream):
            for piece in resampler.resample(frame):
                values = piece.to_ndarray()[0]
                begin = frame.time if frame.time is not None else end
                gap = round((begin - end) * rate)
                if gap > 0.03 * rate:
                    parts.append(np.zeros(gap, np.float32))
                elif not parts and gap < 0:  # heard before the first picture
                    values, begin = values[-gap:], end
                parts.append(values)
                end = begin + len(values) / rate
    if not parts:
        return None
    sound, common = np.concatenate(parts).astype(np.float32), gcd(rate, RATE)
    return resample_poly(sound, RATE // common, rate // common).astype(np.float32)


def clocks_by_sound(exo: np.ndarray, ego: np.ndarray) -> Clocks | None:
    """Find the offset and the drift between two sounds [N] at RATE, None if they weren't recorded
    together."""
    most = round(COARSE_S * RATE)
    coarse, _ = _lag(exo[:most], ego[:most], None)
    window_s = float(np.clip(len(exo) / RATE / WINDOWS, SHORTEST_WINDOW_S, WINDOW_S))
    span, step = round(window_s * RATE), round(window_s / WINDOW_S * STEP_S * RATE)
    around = round(AROUND_S * RATE)
    times, lags, ratios = [], [], []
    for begin in range(0, max(len(exo) - span // 2, 1), step):
        part = exo[begin : begin + span]
        start = begin + coarse - around
        heard = ego[max(start, 0) : max(start + span + 2 * around, 0)]
        if len(part) < RATE or len(heard) < RATE:
            continue
        lag, ratio = _lag(part, heard, (around + min(start, 0), around))
        if ratio >= FAINT:
            times.append((begin + len(part) / 2) / RATE)
            lags.append((max(start, 0) + lag - begin) / RATE)
            ratios.append(ratio)
    if not times:
        return None
    return _line(np.array(times), np.array(lags), np.array(ratios), window_s)


def _line(
    times: np.ndarray, lags: np.ndarray, ratios: np.ndarray, window_s: float
) -> Clocks | None:
    """Fit the line lag = offset + drift · t to the lags of windows, ignoring outliers."""
    span = np.ptp(times)
    best = np.abs(lags - np.median(lags)) < FITS_S + MOST_DRIFT * span / 2
    drift = 0.0
    if best.sum() >= 3 and span > window_s:
        slopes = [
            (lags[j] - lags[i]) / (times[j] - times[i])
            for i in range(len(times))
            for j in range(i + 1, len(times))
            if best[i] and best[j] and times[j] - times[i] > span / 4
        ]
        drift = float(np.clip(np.median(slopes), -MOST_DRIFT, MOST_DRIFT)) if slopes else 0.0
    level = float(np.median((lags - drift * times)[best])) if best.any() else 0.0
    fits = np.abs(lags - drift * times - level) < FITS_S
    count = int(fits.sum())
    clear = np.sort(ratios[fits])[::-1]
    agreed = (
        (count >= 3 and 2 * count > len(times))
        or (count >= 2 and clear[1] >= CLEAR)
        or (count >= 1 and clear[0] >= ALONE)
    )
    if not agreed:
        return None
    if count >= 3 and span > window_s:
        slope, level = np.polyfit(times[fits], lags[fits], 1)
        drift = float(np.clip(slope, -MOST_DRIFT, MOST_DRIFT))
        level = float(np.mean(lags[fits] - drift * times[fits]))
        how = f"by sound, {count} of {len(times)} windows, drift {1e6 * drift:.0f} ppm"
    else:
        level, drift = float(np.median(lags[fits])), 0.0
        how = f"by sound, {count} windows, drift unknown"
    rest = float(np.std(lags[fits] - drift * times[fits] - level)) if count > 2 else 0.0005
    return Clocks(offset_s=level, drift=drift, sd_s=max(rest, 2e-4), how=how)


def _lag(
    part: np.ndarray,  # [N]
    heard: np.ndarray,  # [M]
    # (middle, how far to both sides) in samples; None: anywhere.
    where: tuple[int, int] | None,
) -> tuple[int, float]:
    """Find the lag of one sound in another in samples (GCC-PHAT), and how distinct its peak is."""
    size = 1 << (len(part) + len(heard) - 1).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size))
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    inside = (hertz > BAND_HZ[0]) & (hertz < BAND_HZ[1])
    strength = np.abs(spectrum)
    spectrum = np.where(inside, spectrum / np.maximum(strength, 1e-12 + 1e-6 * strength.max()), 0)
    peaks = np.abs(np.fft.irfft(spectrum, size))
    lags = np.arange(size)
    lags = np.where(lags < size - len(part), lags, lags - size)
    possible = lags < len(heard)
    if where is not None:
        possible &= np.abs(lags - where[0]) <= where[1]
    peaks = np.where(possible, peaks, 0)
    best = int(peaks.argmax())
    others = peaks[np.abs(lags - lags[best]) > ECHO_S * RATE]
    return int(lags[best]), float(peaks[best] / max(others.max(initial=0.0), 1e-12))


def way_sd_s(distance_m: float) -> float:
    """Compute the standard deviation in seconds that the unknown path of the sound to two cameras
    ``distance_m`` apart adds."""
    return distance_m / SOUND_M_S / np.sqrt(3)
