"""Write the tables of inputs and outputs into the nodes' help pages, from the nodes themselves.

    python tools/make_help_tables.py

A page is ``web/js/docs/<node id>.md``: the front end fetches it as ``/extensions/<pack>/docs/<node id>.md`` and shows
it as the node's help. All but the sections *Inputs* and *Outputs* is written by hand and stays as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.node_schemas import NodeSchema, Slot, pack_schemas  # noqa: E402  (the path comes first)

PAGES = ROOT / "web" / "js" / "docs"
LONGEST_DEFAULT = 24  # characters; longer ones would make the column wider than the explanation
TYPE_NAMES = {"COMBO": "menu"}


def main() -> int:
    """Every page's tables renewed; nodes without a page are named and make the exit code 1."""
    missing = []
    for schema in pack_schemas():
        page = PAGES / f"{schema.id}.md"
        if not page.is_file():
            missing.append(schema.id)
            continue
        text = with_tables(page.read_text(encoding="utf-8"), schema)
        page.write_text(text, encoding="utf-8", newline="\n")
    print("\n".join(f"no page for {node}" for node in missing) or "all pages have their tables")
    return 1 if missing else 0


def with_tables(page: str, schema: NodeSchema) -> str:
    """The page with its sections Inputs and Outputs written anew.

    Raises:
        ValueError: the page lacks one of the two headings.
    """
    for heading, table in (("Inputs", input_table(schema.inputs)), ("Outputs", output_table(schema.outputs))):
        section = re.compile(rf"(?ms)^## {heading}\n.*?(?=^## |\Z)")
        if not section.search(page):
            raise ValueError(f"the page of {schema.id} has no section {heading!r}")
        written = f"## {heading}\n\n{table}\n\n"
        page = section.sub(lambda _, written=written: written, page, count=1)
    return page.rstrip("\n") + "\n"


def input_table(inputs: Sequence[Slot]) -> str:
    rows = ["| input | type | default | what it means |", "|---|---|---|---|"]
    for slot in inputs:
        notes = "".join((" (optional)" if slot.optional else "", " (advanced)" if slot.advanced else ""))
        rows.append(f"| `{slot.id}`{notes} | {_type(slot)} | {_default(slot)} | {_cell(slot.tooltip)} |")
    return "\n".join(rows)


def output_table(outputs: Sequence[Slot]) -> str:
    rows = ["| output | type | what it is |", "|---|---|---|"]
    return "\n".join(rows + [f"| `{slot.id}` | {_type(slot)} | {_cell(slot.tooltip) or '–'} |" for slot in outputs])


def _type(slot: Slot) -> str:
    return TYPE_NAMES.get(slot.socket, slot.socket)


def _default(slot: Slot) -> str:
    if slot.default is None:
        return "–"
    text = {True: "on", False: "off"}[slot.default] if isinstance(slot.default, bool) else str(slot.default)
    if not text:
        return "empty"
    return "an example" if "\n" in text else "a list" if len(text) > LONGEST_DEFAULT else f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
