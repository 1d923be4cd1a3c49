"""Shared helper of tests of refusals."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refuses(words: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Expect an EgoXInputError with these words: of the core, or of the pack as the host imports
    it."""
    with pytest.raises(Exception, match=words) as raised:
        yield raised
    assert "EgoXInputError" in {kind.__name__ for kind in type(raised.value).__mro__}
