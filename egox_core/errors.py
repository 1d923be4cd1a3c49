"""The one error type that users meet: what was got, what is expected, how to fix it."""

from __future__ import annotations


class EgoXInputError(ValueError):
    """Bad input, found before any long work has started.

    The message always has the same three parts, so that a node's error box can be acted on without reading code.
    """

    def __init__(self, what: str, *, got: object, expected: object, fix: str) -> None:
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        super().__init__(f"{what}: got {got}; expected {expected}. Fix: {fix}")
