"""Check that bad input is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refuses(message_pattern: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Expect an EgoXInputError, of the core or of the pack imported by ComfyUI, that matches a
    pattern."""
    with pytest.raises(Exception, match=message_pattern) as raised:
        yield raised
    assert "EgoXInputError" in {error_class.__name__ for error_class in type(raised.value).__mro__}
