"""Provide a context manager that expects bad input to be refused."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refuses(message_pattern: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Expect an EgoXInputError whose message matches a pattern."""
    with pytest.raises(Exception, match=message_pattern) as error_info:
        yield error_info
    assert "EgoXInputError" in {
        error_class.__name__ for error_class in type(error_info.value).__mro__
    }
