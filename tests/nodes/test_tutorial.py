"""The tutorial names what is there: nodes, workflows, keys of the page, pictures; and its pictures stay small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.rigs.comfy_page import shipped_workflows
from tools.texts.node_schemas import node_schemas

LIMIT = 4_000_000


@pytest.fixture(scope="module")
def tutorial(repo_root: Path) -> str:
    return (repo_root / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_every_picture_and_link_is_there(tutorial: str, repo_root: Path) -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", tutorial)
    assert len(pictures) > 10
    for picture in pictures:
        assert (repo_root / "docs" / picture).is_file(), f"{picture}: python3 run.py test --browser --screenshots"
    for target, anchor in re.findall(r"(?<!!)\[[^\]]+\]\(([a-z-]*\.?(?:md)?)#?([^)]*)\)", tutorial):
        text = (repo_root / "docs" / target).read_text(encoding="utf-8") if target else tutorial
        headings = re.findall(r"(?m)^#+ (.+)$", text)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{target}#{anchor}"


def test_pictures_stay_small(repo_root: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in (repo_root / "docs" / "img").iterdir()}
    assert sum(sizes.values()) < LIMIT, sorted(sizes.items(), key=lambda entry: -entry[1])[:8]


def test_names_are_real(tutorial: str, repo_root: Path, pack) -> None:
    titles = {schema.display_name for schema in node_schemas(pack)}
    for title in re.findall(r"\*((?:EgoX|Ego|Exo|Load Exo|Wan EgoX) [A-Z][A-Za-z ]*)\*", tutorial.replace("\n", " ")):
        assert title in titles, f"there is no node {title!r}"
    shipped = set(shipped_workflows(repo_root))
    named = set(re.findall(r"`(egox_[a-z_]+)`", tutorial))
    assert named == shipped, "the tutorial leads to every workflow, and to no other"


def test_the_editors_words_are_the_editors(tutorial: str, repo_root: Path) -> None:
    said = (repo_root / "web" / "js" / "editor" / "texts" / "en.mjs").read_text(encoding="utf-8")
    for words in ("Open pose editor", "Load scene", "Place head", "Done", "Look through", "Move", "Turn"):
        assert words.lower() in tutorial.lower().replace("**", "") and words.lower() in said.lower(), words
