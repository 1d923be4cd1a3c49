"""The error that run.py shows as plain text, without a traceback."""

from __future__ import annotations


class SetupError(RuntimeError):
    """Something outside this code is not as needed; the message says what, and what to do."""
