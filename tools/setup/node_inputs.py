"""A node's inputs as /object_info describes them."""

from collections.abc import Iterator
from typing import Any

BYPASSED = 4
"""Mode of a node in the editor's file."""


def input_specs(info: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """List (name, specification) of the inputs in the editor's order: required, then optional."""
    for group in ("required", "optional"):
        yield from info.get("input", {}).get(group, {}).items()


def spec_kind(spec: Any) -> str:
    return "COMBO" if isinstance(spec[0], list) else str(spec[0])


def spec_options(spec: Any) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
