"""locales/en/nodeDefs.json from the nodes' schemas, and what the translations lack of it and of
main.json.

The host serves ``locales/<language>/`` of every pack under ``/i18n``; main.json is what the pack's
own page says, written by hand in each language (``web/js/page_texts.mjs``). Its front end looks the
nodes' texts up as ``nodeDefs.<node>.inputs.<id>.name``; outputs are counted: ``outputs.0.name``.
Choices of a menu are not translated there, so tooltips quote them as they are."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.setup.layout import REPO_ROOT

SOURCE, NODES, PAGE = "en", "nodeDefs", "main"
TRANSLATIONS = ("ko", "zh", "ja")
HELP = REPO_ROOT / "web" / "js" / "docs"
"""A page ``<node id>.md`` of help for each node, written by hand."""
MARKS = Path(__file__).with_name("translated.json")
"""By language and key: hashes of the English text and of its translation when they last agreed. A
translation that still says the same after a change of English: take its line out."""


def renew(schemas: Sequence[Any], write: bool = True) -> tuple[list[str], list[str]]:
    """Write the English texts and the marks of the translations (or only compare).

    Returns:
        A line each: translations that are missing, which the page shows in English; what is wrong.
    """
    english = node_defs(schemas)
    missing, wrong, marks = review(english)
    for path, now in ((locale_file(SOURCE), english), (MARKS, marks)):
        if write:
            _write(path, now)
        elif json.loads(path.read_text("utf-8")) != now:
            wrong.append(f"{path.relative_to(REPO_ROOT).as_posix()}: not up to date")
    return missing, wrong


def review(nodes: dict[str, Any]) -> tuple[list[str], list[str], dict[str, dict[str, str]]]:
    """Compare the translations with the English texts of ``nodes`` and of the page.

    Returns:
        Lines of what is missing and of what is wrong, and what MARKS should hold.
    """
    was = json.loads(MARKS.read_text("utf-8"))
    english = _texts(nodes, read_locale(SOURCE, PAGE))
    missing, wrong, marks = [], [], {}
    for language in TRANSLATIONS:
        texts = _texts(read_locale(language), read_locale(language, PAGE))
        marks[language], old_marks = {}, was.get(language, {})
        missing += [f"{language} {key}: missing" for key in english if key not in texts]
        wrong += [
            f"{language} {key}: English no longer has it" for key in texts if key not in english
        ]
        for key in english:
            if key not in texts:
                continue
            now = [_mark(english[key]), _mark(texts[key])]
            then = old_marks.get(key, " ".join(now)).split()
            if then[0] != now[0] and then[1] == now[1]:
                wrong.append(f"{language} {key}: English has changed")
                now = then
            marks[language][key] = " ".join(now)
    return missing, wrong, marks


def _texts(nodes: dict[str, Any], page: dict[str, Any]) -> dict[str, str]:
    """Collect the texts by their dotted keys, empty ones left out."""
    return {key: text for key, text in leaves({NODES: nodes, PAGE: page}) if text.strip()}


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, "utf-8", newline="\n")


def locale_file(language: str, name: str = NODES) -> Path:
    return REPO_ROOT / "locales" / language / f"{name}.json"


def read_locale(language: str, name: str = NODES) -> dict[str, Any]:
    """Read a language's texts, empty where there is no file yet."""
    path = locale_file(language, name)
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def node_defs(schemas: Sequence[Any]) -> dict[str, Any]:
    """List the English texts of the host's schemas, in the front end's layout."""
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


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _slot_texts(slot: Any, name: str | None) -> dict[str, str]:
    return {"name": name or slot.id} | ({"tooltip": slot.tooltip} if slot.tooltip else {})
