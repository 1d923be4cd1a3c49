"""Each node has a help page in the place where the front end looks for it, and the page names all that the node has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.texts.help_slots import PAGES, with_slots
from tools.texts.node_schemas import node_schemas

FIX = "run `python3 run.py make texts`"
SECTIONS = ("Before and after", "Inputs", "Outputs", "Tips")


@pytest.fixture(scope="module")
def schemas(pack):
    return node_schemas(pack)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}


def section(page: str, heading: str) -> str:
    """The text between this heading and the next one."""
    found = re.search(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", page)
    assert found, f"no section {heading!r}"
    return found.group(1).strip()


def listed(text: str) -> list[str]:
    return re.findall(r"(?m)^- `([^`]+)`", text)


def test_pages_lie_where_the_front_end_looks(repo_root: Path) -> None:
    """``WEB_DIRECTORY/docs/<node id>.md``, fetched as ``/extensions/<pack>/docs/<node id>.md``."""
    declared = re.search(r'WEB_DIRECTORY = "([^"]+)"', (repo_root / "__init__.py").read_text(encoding="utf-8"))
    assert declared and PAGES == (repo_root / declared.group(1)).resolve() / "docs"


def test_every_node_has_a_page_and_no_page_is_left_over(schemas, pages) -> None:
    assert set(pages) == {schema.id for schema in schemas}


def test_a_page_names_every_input_and_output(schemas, pages) -> None:
    for schema in schemas:
        page = pages[schema.id]
        assert listed(section(page, "Inputs")) == [slot.id for slot in schema.inputs], f"{schema.id}: {FIX}"
        assert listed(section(page, "Outputs")) == [slot.id for slot in schema.outputs], f"{schema.id}: {FIX}"


def test_lists_say_what_the_nodes_say(schemas, pages) -> None:
    """Defaults, types and explanations too: a page that is behind would mislead."""
    for schema in schemas:
        assert with_slots(pages[schema.id], schema) == pages[schema.id], f"{schema.id}: {FIX}"


def test_a_page_without_the_sections_is_refused(schemas) -> None:
    with pytest.raises(ValueError, match="no section 'Inputs'"):
        with_slots("# A node\n\nWhat it does.\n", schemas[0])


def test_a_page_says_what_the_node_does_and_where_it_stands(schemas, pages) -> None:
    for schema in schemas:
        page = pages[schema.id]
        title, _, rest = page.partition("\n")
        assert title == f"# {schema.display_name}"
        assert len(rest.partition("\n## ")[0].strip()) > 80, f"{schema.id}: says too little before its first section"
        assert re.findall(r"(?m)^## (.+)$", page) == list(SECTIONS), schema.id
        around = section(page, "Before and after")
        assert "- Before:" in around and "- After:" in around, schema.id
        assert section(page, "Tips").count("\n- ") >= 1, f"{schema.id}: fewer than two tips"


def test_names_in_the_text_exist(schemas, pages, comfy_host) -> None:
    """What stands in backticks as a name is an input, an output or a word of a file; our nodes go by their names."""
    slots = {slot.id for schema in schemas for slot in (*schema.inputs, *schema.outputs)}
    words = {"frame", "time_s", "look_at", "yaw_deg", "pitch_deg", "roll_deg", "interpolation", "up", "exo_camera",
             "camera_intrinsics", "camera_extrinsics", "ego_extrinsics", "torchmetrics", "uni_pc", "auto"}
    for node, page in pages.items():
        prose = re.sub(r"(?ms)^## (?:Inputs|Outputs)\n.*?(?=^## )", "", page)
        for name in re.findall(r"`([a-z][a-z0-9_]*)`", prose):
            assert name in slots | words, f"{node}: `{name}` is no input or output of any node"
        for title in re.findall(r"\*((?:EgoX|Ego|Exo)(?: [A-Z][A-Za-z]*| LoRA)+)\*", prose):
            assert title in {schema.display_name for schema in schemas}, f"{node}: there is no node {title!r}"


def test_nothing_is_loaded_from_elsewhere(pages) -> None:
    """No picture that isn't there, no address outside: pages must read well without a network."""
    for node, page in pages.items():
        assert "http://" not in page and "https://" not in page, node
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
            assert (PAGES / picture).is_file(), f"{node}: {picture} is missing"


def test_the_faq_names_real_nodes_inputs_and_headings(schemas, repo_root: Path) -> None:
    faq = (repo_root / "docs" / "faq.md").read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^## (.+)$", faq)
    linked = re.findall(r"(?m)^- \[(.+)\]\(#(.+)\)$", faq)
    assert [text for text, _ in linked] == headings
    for text, anchor in linked:
        assert anchor == re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"), text
    titles = {schema.display_name for schema in schemas}
    for title in re.findall(r"\*((?:EgoX|Ego|Exo) [A-Z][A-Za-z ]+)\*", faq.replace("\n", " ")):
        assert title in titles, f"there is no node {title!r}"
    slots = {slot.id for schema in schemas for slot in (*schema.inputs, *schema.outputs)}
    files = {"camera_intrinsics", "camera_extrinsics", "ego_intrinsics", "exo_camera", "position", "look_at"}
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)+|position)`", faq):
        assert name in slots | files, f"`{name}` is no input or output of any node"
    for target in re.findall(r"\]\(([a-z-]+\.md)\)", faq):
        assert (repo_root / "docs" / target).is_file(), target
