"""Find the offset and the drift between the clocks of two recordings by their sound."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import resample_poly
from scipy.signal.windows import hann

from egox_core.frozen import frozen
from egox_core.video import open_video, probe_video

SAMPLE_RATE_HZ = 16000
BAND_HZ = (150.0, 6000.0)  # below it rooms hum, above it codecs leave nothing
WINDOW_S, STEP_S = 12.0, 2.0
FEWEST_WINDOWS = 3
"""Of a short file: so many windows side by side, of SHORTEST_WINDOW_S or more each."""
SHORTEST_WINDOW_S = 5.0
LAG_MARGIN_S = 0.3
"""Lags about the coarse offset that a window looks at: the drift of an hour at 80 ppm."""
COARSE_S = 600.0
LEAST_PEAK_RATIO, TWO_WINDOWS_RATIO, ONE_WINDOW_RATIO = 1.25, 1.8, 2.5
"""Highest peak of a window against the next one beyond the echo: of three windows that agree, of
two, of one. Silence and two strangers' sound have 1.0 to 1.15."""
ECHO_S = 0.02
LEAST_SD_S = 2e-4
PEAK_S = 0.001  # half of a match's width
NEAR_SDS = 3.0
"""Of what tells the offset beside sound: the right one is not farther from it."""
LAG_TOLERANCE_S = 0.004  # off the line: two echoes, not the same one
MOST_DRIFT = 500e-6  # that one round measures
UNKNOWN_DRIFT = 1e-3
"""Standard deviation where windows tell no drift: a film of 30 pictures a second that plays at
29.97 drifts by so much."""
MOST_ROUNDS, SETTLED_DRIFT = 5, 20e-6
"""Rounds in which the drift is applied and measured anew, and the rest that is then none. So is
one that moves a short sound's ends by less than a match is wide."""
RIVAL_S, RIVAL_RATIO = 0.15, 0.5
"""Distance from its offset at which a match is another one, and ratio from which it may be the
right one: all common sound fits at the right offset, so that a wrong one can't be twice as good."""
RATED_RIVALS = 5
"""Best matches elsewhere that are rated, and as many that are nearest."""
LEAST_SHARED_S = 8.0
"""Sound of one moment that a clock needs, as pictures do."""
SPEED_OF_SOUND_M_S = 343.0


@frozen
class Clocks:
    """Clock offset and drift of an exo video relative to the ego video."""

    offset_s: float
    drift: float
    sd_s: float  # over the whole exo video
    how_found: str  # what it rests on, in words
    drift_sd: float = 0.0

    def ego_s(self, exo_s: np.ndarray) -> np.ndarray:
        """Convert times in the exo video to times in the ego video, in seconds."""
        return exo_s * (1 + self.drift) + self.offset_s


def read_mono(path: Path) -> np.ndarray | None:  # [N] float32
    """Read a file's sound as mono samples, or return None if it has no sound.

    Raises:
        EgoXInputError: the file can't be decoded.
    """
    import av

    first_picture_s = probe_video(path).start_s
    with open_video(path) as container:
        if not container.streams.audio:
            return None
        sound_stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono")
        sample_blocks, sample_rate, end_s = [], sound_stream.rate, first_picture_s
        for frame in container.decode(sound_stream):
            for resampled_frame in resampler.resample(frame):
                sample_values = resampled_frame.to_ndarray()[0]
                begin_s = frame.time if frame.time is not None else end_s
                gap_samples = round((begin_s - end_s) * sample_rate)
                if gap_samples > 0.03 * sample_rate:
                    sample_blocks.append(np.zeros(gap_samples, np.float32))
                elif not sample_blocks and gap_samples < 0:  # heard before the first picture
                    sample_values, begin_s = sample_values[-gap_samples:], end_s
                sample_blocks.append(sample_values)
                end_s = begin_s + len(sample_values) / sample_rate
    if not sample_blocks:
        return None
    joined_samples = np.concatenate(sample_blocks).astype(np.float32)
    common_divisor = math.gcd(sample_rate, SAMPLE_RATE_HZ)
    return resample_poly(
        joined_samples, SAMPLE_RATE_HZ // common_divisor, sample_rate // common_divisor
    ).astype(np.float32)


def clocks_by_sound(
    exo_sound: np.ndarray,
    ego_sound: np.ndarray,
    # Offset that something else tells, and its sd: sound that repeats fits at several.
    near_s: tuple[float, float] | None = None,
) -> tuple[Clocks | None, str]:
    """Find the offset and the drift between two sounds [N], or explain why they aren't known.

    What windows tell is applied and looked at again, since a drift blurs them."""
    clocks = _clocks_by_windows(exo_sound, ego_sound, near_s)
    for _ in range(MOST_ROUNDS):
        if clocks is None:
            return None, "no sound of one moment"
        first, exo_shared, ego_shared = _on_one_clock(exo_sound, ego_sound, clocks)
        if len(exo_shared) < LEAST_SHARED_S * SAMPLE_RATE_HZ:
            return None, f"less than {LEAST_SHARED_S:g} s of sound of one moment"
        # What is left is less than a window's margin, and a loop fits farther away, too.
        rest_s = LAG_MARGIN_S / NEAR_SDS if near_s is None else near_s[1]
        rest = _clocks_by_windows(exo_shared, ego_shared, (0.0, rest_s))
        if rest is None:
            return None, "no sound of one moment"
        if rest.drift_sd == UNKNOWN_DRIFT and abs(clocks.drift) >= MOST_DRIFT:
            return None, "windows of it tell different drifts"
        first_s = first / SAMPLE_RATE_HZ
        clocks = replace(
            rest,
            offset_s=clocks.offset_s + (1 + clocks.drift) * (rest.offset_s - first_s * rest.drift),
            drift=(1 + clocks.drift) * (1 + rest.drift) - 1,
        )
        shared_s = len(exo_shared) / SAMPLE_RATE_HZ
        if abs(rest.drift) < max(SETTLED_DRIFT, PEAK_S / shared_s):
            break
    else:
        return None, "windows of it tell different drifts"
    rival_distances_s = _rival_distances_s(exo_sound, ego_sound, clocks, near_s)
    if len(rival_distances_s):
        return None, f"the sound repeats every {np.abs(rival_distances_s).min():.2g} s"
    measured_s = len(exo_sound) / SAMPLE_RATE_HZ
    middle_s = first_s + shared_s / 2
    if clocks.drift_sd == UNKNOWN_DRIFT:  # of windows that may lie anywhere
        middle_s = 0.0
    farthest_s = max(middle_s, measured_s - middle_s)
    clocks = replace(clocks, sd_s=math.hypot(clocks.sd_s, clocks.drift_sd * farthest_s))
    if "drift" not in clocks.how_found:
        clocks = replace(
            clocks, how_found=f"{clocks.how_found}, drift {1e6 * clocks.drift:.0f} ppm"
        )
    return clocks, ""


def _on_one_clock(
    exo_sound: np.ndarray, ego_sound: np.ndarray, clocks: Clocks
) -> tuple[int, np.ndarray, np.ndarray]:
    """Cut out what both files recorded, ego's on exo's clock: its first exo sample, and both."""
    exo_times_s = np.arange(len(exo_sound)) / SAMPLE_RATE_HZ
    ego_samples = clocks.ego_s(exo_times_s) * SAMPLE_RATE_HZ
    shared = np.flatnonzero((ego_samples >= 0) & (ego_samples <= len(ego_sound) - 1))
    ego_shared = np.interp(ego_samples[shared], np.arange(len(ego_sound)), ego_sound)
    return int(shared[0]) if len(shared) else 0, exo_sound[shared], ego_shared.astype(np.float32)


def _rival_distances_s(
    exo_sound: np.ndarray,
    ego_sound: np.ndarray,
    clocks: Clocks,
    near_s: tuple[float, float] | None,
) -> np.ndarray:  # [R] seconds from the clock's offset
    """Find other offsets at which two sounds match about as well as at a clock's.

    At each offset what both files have of it is cut out and tapered, so that none is preferred for
    where the files begin and end. Where ``near_s`` is given, only offsets near it are looked at."""
    exo_sound = exo_sound[: round(COARSE_S * SAMPLE_RATE_HZ)]
    begin_s, end_s = (
        (ego_s - clocks.offset_s) / (1 + clocks.drift)
        for ego_s in (0, (len(ego_sound) - 1) / SAMPLE_RATE_HZ)
    )
    own_lag = -math.ceil(begin_s * SAMPLE_RATE_HZ)
    last = min(math.floor(end_s * SAMPLE_RATE_HZ), 2 * len(exo_sound))
    exo_clock_s = np.arange(-own_lag, last + 1) / SAMPLE_RATE_HZ
    ego_sound = np.interp(
        clocks.ego_s(exo_clock_s) * SAMPLE_RATE_HZ, np.arange(len(ego_sound)), ego_sound
    ).astype(np.float32)
    length = next_fast_len(len(exo_sound) + len(ego_sound), real=True)
    match = np.abs(
        _correlate_phases(rfft(exo_sound, length), rfft(ego_sound, length), length)
    ).astype(np.float32)
    lags = np.arange(length)
    lags[lags >= length - len(exo_sound)] -= length
    overlap = np.minimum(len(exo_sound), len(ego_sound) - lags) - np.maximum(-lags, 0)
    distances = lags - own_lag
    is_rated = overlap >= LEAST_SHARED_S * SAMPLE_RATE_HZ
    if near_s is not None:
        offsets_s = clocks.offset_s + distances / SAMPLE_RATE_HZ
        is_rated &= np.abs(offsets_s - near_s[0]) <= NEAR_SDS * near_s[1]
    least_distance = round(RIVAL_S * SAMPLE_RATE_HZ)
    own_match = match[np.abs(distances) < ECHO_S * SAMPLE_RATE_HZ].max()
    is_rated &= np.abs(distances) > least_distance
    match = np.where(is_rated, match / np.maximum(overlap, 1), 0)
    own_match /= max(overlap[distances == 0][0], 1)
    candidates = []
    for by_distance in (False, True):
        left = match.copy()
        for _ in range(RATED_RIVALS):
            if by_distance:
                is_good = left >= RIVAL_RATIO * own_match
                if not is_good.any():
                    break
                nearest = np.abs(distances[is_good]).min()
                is_close = np.abs(np.abs(distances) - nearest) <= least_distance
                best = int(np.where(is_close, left, 0).argmax())
            else:
                best = int(left.argmax())
            if left[best] <= 0:
                break
            candidates.append(int(lags[best]))
            left[np.abs(lags - lags[best]) <= least_distance] = 0
    own_rating = _rate_lag(exo_sound, ego_sound, own_lag)
    return np.array(
        [
            (lag - own_lag) / SAMPLE_RATE_HZ
            for lag in sorted(set(candidates))
            if _rate_lag(exo_sound, ego_sound, lag) >= RIVAL_RATIO * own_rating
        ]
    )


def _rate_lag(exo_sound: np.ndarray, ego_sound: np.ndarray, lag: int) -> float:
    """Correlate what two sounds share at a lag, tapered."""
    first, last = max(0, -lag), min(len(exo_sound), len(ego_sound) - lag)
    taper = hann(last - first).astype(np.float32)
    length = next_fast_len(2 * len(taper), real=True)
    match = np.abs(
        _correlate_phases(
            rfft(taper * exo_sound[first:last], length),
            rfft(taper * ego_sound[first + lag : last + lag], length),
            length,
        )
    )
    reach = round(PEAK_S * SAMPLE_RATE_HZ)
    return float(max(match[:reach].max(), match[-reach:].max()))


def _correlate_phases(spectrum: np.ndarray, other_spectrum: np.ndarray, length: int) -> np.ndarray:
    """Correlate two sounds by the phases of their spectra, without the frequencies that no file
    keeps."""
    cross_spectrum = other_spectrum * np.conj(spectrum)
    frequencies_hz = rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    band_mask = (frequencies_hz > BAND_HZ[0]) & (frequencies_hz < BAND_HZ[1])
    magnitude = np.abs(cross_spectrum)
    return irfft(
        np.where(
            band_mask, cross_spectrum / np.maximum(magnitude, 1e-12 + 1e-6 * magnitude.max()), 0
        ),
        length,
    )


def _clocks_by_windows(
    exo_sound: np.ndarray, ego_sound: np.ndarray, near_s: tuple[float, float] | None
) -> Clocks | None:
    """Find the offset and the drift at which windows of two sounds agree, or return None."""
    coarse_samples = round(COARSE_S * SAMPLE_RATE_HZ)
    if near_s is None:
        coarse_lag, _ = _find_lag(exo_sound[:coarse_samples], ego_sound[:coarse_samples], None)
        margin_s = LAG_MARGIN_S
    else:
        coarse_lag = round(near_s[0] * SAMPLE_RATE_HZ)
        margin_s = min(LAG_MARGIN_S, max(NEAR_SDS * near_s[1], 2 * ECHO_S))
    window_s = float(
        np.clip(len(exo_sound) / SAMPLE_RATE_HZ / FEWEST_WINDOWS, SHORTEST_WINDOW_S, WINDOW_S)
    )
    window_samples, step_samples = (
        round(window_s * SAMPLE_RATE_HZ),
        round(window_s / WINDOW_S * STEP_S * SAMPLE_RATE_HZ),
    )
    margin_samples = round(margin_s * SAMPLE_RATE_HZ)
    window_times_s, window_lags_s, peak_ratios = [], [], []
    for window_start in range(0, max(len(exo_sound) - window_samples // 2, 1), step_samples):
        exo_window = exo_sound[window_start : window_start + window_samples]
        ego_window_start = window_start + coarse_lag - margin_samples
        ego_window = ego_sound[
            max(ego_window_start, 0) : max(
                ego_window_start + window_samples + 2 * margin_samples, 0
            )
        ]
        if len(exo_window) < SAMPLE_RATE_HZ or len(ego_window) < SAMPLE_RATE_HZ:
            continue
        window_lag, peak_ratio = _find_lag(
            exo_window, ego_window, (margin_samples + min(ego_window_start, 0), margin_samples)
        )
        if peak_ratio >= LEAST_PEAK_RATIO:
            window_times_s.append((window_start + len(exo_window) / 2) / SAMPLE_RATE_HZ)
            window_lags_s.append(
                (max(ego_window_start, 0) + window_lag - window_start) / SAMPLE_RATE_HZ
            )
            peak_ratios.append(peak_ratio)
    if not window_times_s:
        return None
    return _fit_clock(
        np.array(window_times_s),
        np.array(window_lags_s),
        np.array(peak_ratios),
        window_s,
    )


def _fit_clock(
    window_times_s: np.ndarray,
    window_lags_s: np.ndarray,
    peak_ratios: np.ndarray,
    window_s: float,
) -> Clocks | None:
    """Fit a clock's offset and drift to the time lags of sound windows, ignoring outliers."""
    time_span_s = np.ptp(window_times_s)
    inlier_mask = (
        np.abs(window_lags_s - np.median(window_lags_s))
        < LAG_TOLERANCE_S + MOST_DRIFT * time_span_s / 2
    )
    drift = 0.0
    if inlier_mask.sum() >= 3 and time_span_s > window_s:
        slopes = [
            (window_lags_s[j] - window_lags_s[i]) / (window_times_s[j] - window_times_s[i])
            for i in range(len(window_times_s))
            for j in range(i + 1, len(window_times_s))
            if inlier_mask[i]
            and inlier_mask[j]
            and window_times_s[j] - window_times_s[i] > time_span_s / 4
        ]
        drift = float(np.clip(np.median(slopes), -MOST_DRIFT, MOST_DRIFT)) if slopes else 0.0
    offset_s = (
        float(np.median((window_lags_s - drift * window_times_s)[inlier_mask]))
        if inlier_mask.any()
        else 0.0
    )
    fitting_mask = np.abs(window_lags_s - drift * window_times_s - offset_s) < LAG_TOLERANCE_S
    fitting_count = int(fitting_mask.sum())
    sorted_ratios = np.sort(peak_ratios[fitting_mask])[::-1]
    has_agreement = (
        (fitting_count >= 3 and 2 * fitting_count > len(window_times_s))
        or (fitting_count >= 2 and sorted_ratios[1] >= TWO_WINDOWS_RATIO)
        or (fitting_count >= 1 and sorted_ratios[0] >= ONE_WINDOW_RATIO)
    )
    if not has_agreement:
        return None
    drift_sd = UNKNOWN_DRIFT
    residual_sd_s = 0.0005
    if fitting_count >= 3 and time_span_s > window_s:
        slope, offset_s = np.polyfit(window_times_s[fitting_mask], window_lags_s[fitting_mask], 1)
        drift = float(np.clip(slope, -MOST_DRIFT, MOST_DRIFT))
        offset_s = float(
            np.mean(window_lags_s[fitting_mask] - drift * window_times_s[fitting_mask])
        )
        fitting_times_s = window_times_s[fitting_mask]
        residual_sd_s = max(
            float(np.std(window_lags_s[fitting_mask] - drift * fitting_times_s - offset_s)),
            LEAST_SD_S,
        )
        # Windows that overlap by more than half tell the same.
        separate_count = max(np.ptp(fitting_times_s) / (window_s / 2), 1.0)
        drift_sd = residual_sd_s / (float(np.std(fitting_times_s)) * math.sqrt(separate_count))
        description = f"by sound, {fitting_count} of {len(window_times_s)} windows"
    else:
        offset_s, drift = float(np.median(window_lags_s[fitting_mask])), 0.0
        description = f"by sound, {fitting_count} windows, drift unknown"
    return Clocks(
        offset_s=offset_s,
        drift=drift,
        sd_s=max(residual_sd_s, LEAST_SD_S),
        drift_sd=drift_sd,
        how_found=description,
    )


def _find_lag(
    sound_window: np.ndarray,  # [N]
    other_sound: np.ndarray,  # [M]
    # (middle, how far to both sides) in samples; None: anywhere.
    lag_range: tuple[int, int] | None,
) -> tuple[int, float]:
    """Find the time lag between two sounds in samples by cross-correlation, and rate how distinct
    it is."""
    transform_length = 1 << (len(sound_window) + len(other_sound) - 1).bit_length()
    spectrum, other_spectrum = (
        rfft(sound, transform_length) for sound in (sound_window, other_sound)
    )
    correlation_peaks = np.abs(_correlate_phases(spectrum, other_spectrum, transform_length))
    lag_samples = np.arange(transform_length)
    lag_samples = np.where(
        lag_samples < transform_length - len(sound_window),
        lag_samples,
        lag_samples - transform_length,
    )
    possible_mask = lag_samples < len(other_sound)
    if lag_range is not None:
        possible_mask &= np.abs(lag_samples - lag_range[0]) <= lag_range[1]
    correlation_peaks = np.where(possible_mask, correlation_peaks, 0)
    best_index = int(correlation_peaks.argmax())
    other_peaks = correlation_peaks[
        np.abs(lag_samples - lag_samples[best_index]) > ECHO_S * SAMPLE_RATE_HZ
    ]
    return int(lag_samples[best_index]), float(
        correlation_peaks[best_index] / max(other_peaks.max(initial=0.0), 1e-12)
    )


def sound_travel_sd_s(distance_m: float) -> float:
    """Estimate the error in seconds that the unknown travel time of sound causes."""
    return distance_m / SPEED_OF_SOUND_M_S / np.sqrt(3)
