"""A node's inputs as /object_info describes them: those that are widgets, in the editor's order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ALWAYS, MUTED, BYPASSED = 0, 2, 4
"""Modes of a node in the editor's file."""
NOTES = frozenset({"Note", "MarkdownNote"})
WIDGET_TYPES = frozenset(
    {
        "INT",
        "FLOAT",
        "STRING",
        "BOOLEAN",
        "COMBO",
        "COLOR",
        "MARKDOWN",
        "TEXTAREA",
        "CURVE",
        "COMFY_DYNAMICCOMBO_V3",
    }
)


def input_specs(info: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """List (name, specification) of the inputs in the editor's order: required, then optional."""
    for group in ("required", "optional"):
        yield from info.get("input", {}).get(group, {}).items()


def is_widget(spec: Any) -> bool:
    """Check whether the editor shows this input as a widget, and so saves a value for it."""
    options = spec_options(spec)
    shown = spec_kind(spec) in WIDGET_TYPES or bool(options.get("socketless"))
    return shown and not options.get("forceInput")


def control_count(name: str, spec: Any) -> int:
    """Count the values that the editor saves after this one for its "control after generate"."""
    control = spec_options(spec).get("control_after_generate")
    if spec_kind(spec) == "COMBO":
        return 2 if control else 0  # the control and its filter
    if spec_kind(spec) == "INT":
        return 1 if (name in ("seed", "noise_seed") if control is None else control) else 0
    return 1 if control and spec_kind(spec) == "FLOAT" else 0


def spec_kind(spec: Any) -> str:
    return "COMBO" if isinstance(spec[0], list) else str(spec[0])


def spec_options(spec: Any) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}


def default_value(spec: Any) -> Any:
    options = spec_options(spec)
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        first = choices[0]
        return first["key"] if isinstance(first, dict) else first
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(spec_kind(spec))
