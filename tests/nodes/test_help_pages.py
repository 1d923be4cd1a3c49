"""Each node has a help page with a picture where the front end looks for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.texts.help_slots import PAGES, with_slots
from tools.texts.node_schemas import node_schemas

FIX = "run `python3 run.py make texts`"
SECTIONS = ["Before and after", "Inputs", "Outputs", "Tips"]
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def schemas(pack):
    return node_schemas(pack)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}


def test_pages_lie_where_the_front_end_looks(schemas, pages, repo_root: Path) -> None:
    """``WEB_DIRECTORY/docs/<node id>.md``, fetched as ``/extensions/<pack>/docs/<node id>.md``."""
    declared = re.search(r'WEB_DIRECTORY = "([^"]+)"', (repo_root / "__init__.py").read_text(encoding="utf-8"))
    assert declared and PAGES == (repo_root / declared.group(1)).resolve() / "docs"
    assert set(pages) == {schema.id for schema in schemas}


def test_lists_say_what_the_nodes_say(schemas, pages) -> None:
    """Defaults, types and explanations too: a page that is behind would mislead."""
    for schema in schemas:
        page = pages[schema.id]
        assert with_slots(page, schema) == page, f"{schema.id}: {FIX}"
        assert page.startswith(f"# {schema.display_name}\n")
        assert re.findall(r"(?m)^## (.+)$", page) == SECTIONS, schema.id


def test_every_page_has_its_picture_before_the_first_section() -> None:
    """In other languages the same one, which the front end takes from ``docs/`` on."""
    for page in PAGES.rglob("*.md"):
        node = page.stem if page.parent == PAGES else page.parent.name
        text = page.read_text(encoding="utf-8")
        (words, address), = PICTURE.findall(text.split("\n## ")[0])
        assert address == f"img/{node}.webp" and (PAGES / address).is_file()
        # The front end writes the words into the HTML as they are.
        assert 40 <= len(words) <= 160 and not set(words) & set('"<>&'), f"{page.name}: {words!r}"
        assert "http://" not in text and "https://" not in text, f"{page.name}: must read well without a network"
