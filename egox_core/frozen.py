"""Values that stages hand on: given by name, and changed by nobody."""

from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(kind: type[T]) -> type[T]:
    """A dataclass with slots, whose fields are given by name and never change."""
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)
