"""One comparison with a golden number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """What was compared, the largest difference found, and the largest that is allowed."""

    name: str
    difference: float
    bound: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.difference <= self.bound
