"""Smooth motion: rests and moves of hands, sway of head and light. Times in seconds."""

from __future__ import annotations

import numpy as np


def sway(rng: np.random.Generator, times_s: np.ndarray, *, size: float, slowest_s: float = 4.0,
         fastest_s: float = 1.2) -> np.ndarray:
    """A wandering value [T] of about ``size``: four sines between the two periods, zero on the whole."""
    value = np.zeros_like(times_s)
    for _ in range(4):
        period = rng.uniform(fastest_s, slowest_s)
        value += rng.normal() * np.sin(2 * np.pi * times_s / period + rng.uniform(0, 2 * np.pi))
    return value * size / np.sqrt(2.0)


def ease(share: np.ndarray) -> np.ndarray:
    """0...1 with still ends: the minimum-jerk profile of a reaching hand."""
    x = np.clip(share, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)


def reach_path(times_s: np.ndarray, stops: np.ndarray, *, period_s: float, offset_s: float, lift_m: float,
               move_share: float = 0.7) -> np.ndarray:
    """A hand that goes from stop to stop [K, 3], rests at each, lifts between them and begins again: [T, 3] metres.

    ``period_s`` is one move and one rest; ``move_share`` of it is the move.
    """
    leg = (times_s + offset_s) / period_s
    number = np.floor(leg).astype(int)
    share = ease((leg - number) / move_share)
    begin, end = stops[number % len(stops)], stops[(number + 1) % len(stops)]
    path = begin + share[:, None] * (end - begin)
    path[:, 2] += lift_m * np.sin(np.pi * share) ** 2
    return path
