"""locales/en/nodeDefs.json from the nodes' schemas, and what the translations lack of it and of
main.json.

The host serves ``locales/<language>/`` of every pack under ``/i18n``; main.json is what the pack's
own page says, written by hand in each language (``web/js/page_texts.mjs``). Its front end looks the
nodes' texts up as ``nodeDefs.<node>.inputs.<id>.name``; outputs are counted: ``outputs.0.name``.
Choices of a menu are not translated there, so tooltips quote them as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.setup.layout import REPO_ROOT

from .node_schemas import NodeSchema, Slot

SOURCE, NODES, PAGE = "en", "nodeDefs", "main"
TRANSLATIONS = ("ko", "zh", "ja")
HELP = REPO_ROOT / "web" / "js" / "docs"
"""A page ``<node id>.md`` of help for each node, written by hand."""


def renew(schemas: Sequence[NodeSchema], write: bool = True) -> list[str]:
    """English written (or only compared), translations compared; what is left to do, a line
    each."""
    english = node_defs(schemas)
    path, before = locale_file(SOURCE), read_locale(SOURCE)
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(english, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
        )
    to_do = [
        f"en {key}: English is new or changed, look at its translations"
        for key, text in leaves(english)
        if dict(leaves(before)).get(key) != text
    ]
    for language in TRANSLATIONS:
        for wanted, name in ((english, NODES), (read_locale(SOURCE, PAGE), PAGE)):
            missing, stale = differences(wanted, read_locale(language, name))
            to_do += [f"{language} {key}: missing" for key in missing]
            to_do += [f"{language} {key}: stale" for key in stale]
    return to_do


def locale_file(language: str, name: str = NODES) -> Path:
    return REPO_ROOT / "locales" / language / f"{name}.json"


def read_locale(language: str, name: str = NODES) -> dict[str, Any]:
    """A language's texts; empty where there is no file yet."""
    path = locale_file(language, name)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def node_defs(schemas: Sequence[NodeSchema]) -> dict[str, Any]:
    """The English texts in the front end's layout."""
    return {
        schema.id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {slot.id: _slot_texts(slot) for slot in schema.inputs},
            "outputs": {str(index): _slot_texts(slot) for index, slot in enumerate(schema.outputs)},
        }
        for schema in schemas
    }


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every text with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def differences(english: dict[str, Any], other: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Keys that the translation lacks (or leaves empty), and keys that English no longer has."""
    wanted, there = dict(leaves(english)), dict(leaves(other))
    return (
        [key for key in wanted if not str(there.get(key, "")).strip()],
        [key for key in there if key not in wanted],
    )


def _slot_texts(slot: Slot) -> dict[str, str]:
    return {"name": slot.label} | ({"tooltip": slot.tooltip} if slot.tooltip else {})
