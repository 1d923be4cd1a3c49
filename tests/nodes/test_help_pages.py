"""Each node has a help page with a picture where the front end looks for them."""

from __future__ import annotations

import re

import pytest

from tools.texts.help_slots import PAGES, with_slots
from tools.texts.node_schemas import node_schemas

FIX = "run `python3 run.py make texts`"
SECTIONS = ["Before and after", "Inputs", "Outputs", "Tips"]
@pytest.fixture(scope="module")
def schemas(pack):
    return node_schemas(pack)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}


def test_pages_lie_where_the_front_end_looks(schemas, pages, repo_root):
    """``WEB_DIRECTORY/docs/<node id>.md``, fetched as ``/extensions/<pack>/docs/<node id>.md``."""
    declared = re.search(r'WEB_DIRECTORY = "([^"]+)"', (repo_root / "__init__.py").read_text(encoding="utf-8"))
    assert declared and PAGES == (repo_root / declared.group(1)).resolve() / "docs"
    assert set(pages) == {schema.id for schema in schemas}


def test_lists_say_what_the_nodes_say(schemas, pages):
    """Defaults, types and explanations too: a page that is behind would mislead."""
    for schema in schemas:
        page = pages[schema.id]
        assert with_slots(page, schema) == page, f"{schema.id}: {FIX}"
        assert page.startswith(f"# {schema.display_name}\n")
        assert re.findall(r"(?m)^## (.+)$", page) == SECTIONS, schema.id
