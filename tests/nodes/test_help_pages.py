"""Each node has a help page with a picture where the front end looks for them, and pages name nodes and inputs that
exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.texts.help_slots import PAGES, with_slots
from tools.texts.node_schemas import node_schemas

FIX = "run `python3 run.py make texts`"
SECTIONS = ["Before and after", "Inputs", "Outputs", "Tips"]
TITLE = re.compile(r"\*((?:EgoX|Ego|Exo|Load Exo|Wan EgoX)(?: [A-Z][A-Za-z]*| LoRA)+)\*")
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


def test_names_in_the_text_exist(schemas, pages, repo_root: Path) -> None:
    """What stands in backticks as a name is an input, an output or a word of a file; our nodes go by their names."""
    slots = {slot.id for schema in schemas for slot in (*schema.inputs, *schema.outputs)}
    words = {"frame", "time_s", "look_at", "yaw_deg", "pitch_deg", "roll_deg", "interpolation", "up", "exo_camera",
             "camera_intrinsics", "camera_extrinsics", "ego_extrinsics", "ego_intrinsics", "position", "torchmetrics",
             "uni_pc", "auto", "made_on"}
    titles = {schema.display_name for schema in schemas}
    faq, tutorial = ((repo_root / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("faq", "tutorial"))
    for node, page in pages.items():
        prose = re.sub(r"(?ms)^## (?:Inputs|Outputs)\n.*?(?=^## )", "", page)
        unknown = set(re.findall(r"`([a-z][a-z0-9_]*)`", prose)) - slots - words
        assert not unknown, f"{node}: no inputs or outputs of any node: {unknown}"
    assert not set(re.findall(r"`([a-z]+(?:_[a-z]+)+|position)`", faq)) - slots - words
    for text in (*pages.values(), faq, tutorial):
        assert not set(TITLE.findall(text.replace("\n", " "))) - titles
    shipped = {path.name.split(".")[0] for path in (repo_root / "workflows").rglob("egox_*.json")}
    assert set(re.findall(r"`(egox_[a-z_]+)`", tutorial)) == shipped, "the tutorial leads to every workflow"
