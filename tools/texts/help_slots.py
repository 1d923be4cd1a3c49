"""Inputs and outputs in the nodes' help pages, written from the nodes' schemas.

A page is ``web/js/docs/<node id>.md``: the front end fetches it as ``/extensions/<pack>/docs/<node id>.md`` and shows
it as the node's help. All but the sections *Inputs* and *Outputs* is written by hand and stays as it is.

Lists, not tables: the panel that shows a page is about 260 px wide. A table with types and defaults runs out of it to
the right, and what an input means is then out of sight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tools.setup.layout import REPO_ROOT

from .node_schemas import NodeSchema, Slot

PAGES = REPO_ROOT / "web" / "js" / "docs"
LONGEST_DEFAULT = 32  # characters; longer ones would drown the explanation
TYPE_NAMES = {"COMBO": "menu"}


def renew(schemas: Sequence[NodeSchema], write: bool = True) -> list[str]:
    """Every page's lists renewed (or only compared); what is left to do, a line each."""
    to_do = []
    for schema in schemas:
        page = PAGES / f"{schema.id}.md"
        if not page.is_file():
            to_do.append(f"no help page for {schema.id}")
            continue
        before = page.read_text(encoding="utf-8")
        text = with_slots(before, schema)
        if write:
            page.write_text(text, encoding="utf-8", newline="\n")
        elif text != before:
            to_do.append(f"the help page of {schema.id} is behind its schema")
    return to_do


def with_slots(page: str, schema: NodeSchema) -> str:
    """The page with its sections Inputs and Outputs written anew.

    Raises:
        ValueError: the page lacks one of the two headings.
    """
    for heading, slots in (("Inputs", schema.inputs), ("Outputs", schema.outputs)):
        section = re.compile(rf"(?ms)^## {heading}\n.*?(?=^## |\Z)")
        if not section.search(page):
            raise ValueError(f"the page of {schema.id} has no section {heading!r}")
        written = f"## {heading}\n\n" + "\n".join(map(_entry, slots)) + "\n\n"
        page = section.sub(lambda _, written=written: written, page, count=1)
    return page.rstrip("\n") + "\n"


def _entry(slot: Slot) -> str:
    """Name, type and default in the first line, the explanation below."""
    notes = "".join((" (optional)" if slot.optional else "", " (advanced)" if slot.advanced else ""))
    first = f"- `{slot.id}`{notes}: {TYPE_NAMES.get(slot.socket, slot.socket)}{_default(slot)}"
    return f"{first}<br>{slot.tooltip}" if slot.tooltip else first


def _default(slot: Slot) -> str:
    if slot.default is None:
        return ""
    text = {True: "on", False: "off"}[slot.default] if isinstance(slot.default, bool) else str(slot.default)
    if not text:
        return ", default empty"
    if "\n" in text:
        return ", default an example"
    return ", default a longer text" if len(text) > LONGEST_DEFAULT else f", default `{text}`"
