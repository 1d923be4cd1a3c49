"""Report progress and cancel long work through one callback type."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""``progress(count, total, stage)``; called at least once a frame by every long loop.

To cancel, the callback raises (the host's interrupt exception, or any other); loops let it pass
through and leave nothing half-written behind.
"""


def no_progress(count: int, total: int, stage: str) -> None:
    """Ignore the progress (the default callback)."""
