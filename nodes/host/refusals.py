"""Shorten ComfyUI's log of expected errors to one line without a traceback."""

import logging
import sys
import traceback

from ...egox_core.errors import EgoXInputError


def log_refusals_in_one_line() -> None:
    """Remove the tracebacks that ComfyUI logs for refused input."""
    logging.getLogger().addFilter(_is_no_refusals_traceback)


def _is_no_refusals_traceback(record: logging.LogRecord) -> bool:
    return not (
        isinstance(sys.exc_info()[1], EgoXInputError)
        and record.getMessage() == traceback.format_exc()
    )
