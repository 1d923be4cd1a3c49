"""Write the nodes' English texts, and list missing translations.

ComfyUI serves ``locales/<language>/`` of every pack under ``/i18n``. main.json contains the
texts of the pack's own page, written by hand in each language (``web/js/page_texts.mjs``). The
front end looks up nodes' texts as ``nodeDefs.<node>.inputs.<id>.name``, and outputs by number:
``outputs.0.name``. Choices of a menu are not translated there, so tooltips quote them unchanged."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.setup.layout import REPO_ROOT

SOURCE, NODES, PAGE = "en", "nodeDefs", "main"
TRANSLATIONS = ("ko", "zh", "ja")
HELP = REPO_ROOT / "web" / "js" / "docs"
"""Folder with a hand-written help page ``<node id>.md`` for each node."""
MARKS = Path(__file__).with_name("translated.json")
"""File with hashes of each English text and its translation when they last agreed, by language and
key. If a translation stays correct after a change of English, remove its line."""


def renew(schemas: Sequence[Any], write: bool = True) -> tuple[list[str], list[str]]:
    """Update the English texts and translation marks, or report differences.

    Returns:
        A line each: translations that are missing, which the page shows in English; what is wrong.
    """
    english = node_defs(schemas)
    missing_lines, outdated_lines, marks = review(english)
    for path, content in ((locale_file(SOURCE), english), (MARKS, marks)):
        if write:
            _write_json_file(path, content)
        elif json.loads(path.read_text("utf-8")) != content:
            outdated_lines.append(f"{path.relative_to(REPO_ROOT).as_posix()}: not up to date")
    return missing_lines, outdated_lines


def review(nodes: dict[str, Any]) -> tuple[list[str], list[str], dict[str, dict[str, str]]]:
    """List translations that are missing or older than their English text.

    Returns:
        Lines of what is missing and of what is wrong, and what MARKS should hold.
    """
    all_old_marks = json.loads(MARKS.read_text("utf-8"))
    english = _collect_texts(nodes, read_locale(SOURCE, PAGE))
    missing_lines = []
    outdated_lines = []
    marks = {}
    for language in TRANSLATIONS:
        texts = _collect_texts(read_locale(language), read_locale(language, PAGE))
        marks[language], old_marks = {}, all_old_marks.get(language, {})
        missing_lines += [f"{language} {key}: missing" for key in english if key not in texts]
        outdated_lines += [
            f"{language} {key}: English no longer has it" for key in texts if key not in english
        ]
        for key in english:
            if key not in texts:
                continue
            current_mark = [_hash_text(english[key]), _hash_text(texts[key])]
            old_mark = old_marks.get(key, " ".join(current_mark)).split()
            if old_mark[0] != current_mark[0] and old_mark[1] == current_mark[1]:
                outdated_lines.append(f"{language} {key}: English has changed")
                current_mark = old_mark
            marks[language][key] = " ".join(current_mark)
    return missing_lines, outdated_lines, marks


def _collect_texts(nodes: dict[str, Any], page: dict[str, Any]) -> dict[str, str]:
    """Collect the texts by their dotted keys, without empty ones."""
    return {key: text for key, text in leaves({NODES: nodes, PAGE: page}) if text.strip()}


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _write_json_file(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, "utf-8", newline="\n")


def locale_file(language: str, name: str = NODES) -> Path:
    return REPO_ROOT / "locales" / language / f"{name}.json"


def read_locale(language: str, name: str = NODES) -> dict[str, Any]:
    """Read the texts of one language, an empty dictionary if its file doesn't exist."""
    path = locale_file(language, name)
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def node_defs(schemas: Sequence[Any]) -> dict[str, Any]:
    """Collect the English texts of all nodes in the browser page's layout."""
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {
                slot.id: _slot_texts(slot, slot.as_dict().get("display_name"))
                for declared in schema.inputs
                for slot in declared.get_all()
            },
            "outputs": {
                str(index): _slot_texts(slot, slot.display_name)
                for index, slot in enumerate(schema.outputs)
            },
        }
        for schema in schemas
    }


def leaves(tree: dict[str, Any], key_prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a nested dictionary with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{key_prefix}{key}.")
        else:
            yield f"{key_prefix}{key}", value


def _slot_texts(slot: Any, name: str | None) -> dict[str, str]:
    return {"name": name or slot.id} | ({"tooltip": slot.tooltip} if slot.tooltip else {})
