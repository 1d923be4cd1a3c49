"""What a forward of the full-size transformer is held to, and what it means for a whole clip."""

from __future__ import annotations

GEOMETRY_BAR = 1.08
"""Time with geometry, of the time without: attention is a little under half of a forward's work."""
FLOP_BAR = 1.35
"""Time of the work's multiplications at the rate of one large matrix product: attention and norms run slower."""
STEPS, PASSES_A_STEP = 50, 2  # as released; CFG takes two passes


def clip_minutes(forward_seconds: float) -> float:
    """Minutes of sampling a clip as released."""
    return STEPS * PASSES_A_STEP * forward_seconds / 60
