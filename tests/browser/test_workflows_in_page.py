"""Every shipped workflow in the page: no missing nodes, no loose links, and the API form that headless runs use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.rigs.comfy_page import read_workflow, shipped_workflows
from tools.setup.workflow import NOTES, to_prompt

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = list(shipped_workflows(ROOT))
CARDS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
PACK = "comfyui-egox"
OF_THE_PAGE = {"video-preview", "egox_preview"}
"""Widgets that the page adds by itself and sends along; the server takes no notice."""


def compare(page, saved, object_info, name: str) -> None:
    page.load(saved)
    assert not page.problems(saved), name
    shown, ours = page.to_prompt(), to_prompt(saved, object_info)
    assert shown.keys() == ours.keys(), name
    for node_id, node in ours.items():
        assert shown[node_id]["class_type"] == node["class_type"]
        sent = {key: value for key, value in shown[node_id]["inputs"].items() if key not in OF_THE_PAGE}
        assert sent == node["inputs"], f"{name}, node {node_id} ({node['class_type']})"


def test_every_workflow_loads_and_converts(open_page, shipped, browser_object_info) -> None:
    page = open_page(size=(1200, 800))
    for name in NAMES:
        compare(page, shipped(name), browser_object_info, name)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_every_blueprint_loads_and_converts(open_page, browser_object_info, path: Path) -> None:
    compare(open_page(size=(1200, 800)), read_workflow(path), browser_object_info, path.stem)


def test_the_host_offers_the_blueprints(browser_client) -> None:
    entries = browser_client.get("/global_subgraphs").values()
    assert {entry["name"] for entry in entries if entry["info"]["node_pack"].endswith(PACK)} == {
        path.stem for path in BLUEPRINTS}


def test_the_largest_in_the_newer_rendering(open_page, shipped, browser_object_info) -> None:
    page = open_page(vue_nodes=True, size=(1200, 800))
    largest = max(NAMES, key=lambda name: len(shipped(name)["nodes"]))
    saved = shipped(largest)
    compare(page, saved, browser_object_info, largest)
    page.page.wait_for_function("(n) => document.querySelectorAll('[data-node-id]').length >= n",
                                arg=len(saved["nodes"]) - 2, timeout=30_000)


def test_a_broken_file_is_noticed(open_page, shipped) -> None:
    """The check itself: an unknown node and a lost link."""
    page = open_page(size=(1200, 800))
    saved = shipped("egox_demo")
    saved["nodes"][1]["type"] = "NoSuchNodeAnywhere"
    saved["links"].pop()
    page.load(saved)
    assert any("NoSuchNodeAnywhere" in problem for problem in page.problems(saved))
    # The host's own page looks a node that it doesn't know up in its registry; no shipped workflow makes it do so.
    page.page.wait_for_timeout(3000)
    page.outside[:] = [address for address in page.outside if "NoSuchNodeAnywhere" not in address]


@pytest.mark.parametrize("name", NAMES)
def test_notes_are_no_part_of_the_prompt(name: str, shipped, browser_object_info) -> None:
    saved = shipped(name)
    notes = {str(node["id"]) for node in saved["nodes"] if node["type"] in NOTES}
    assert notes and not notes & to_prompt(saved, browser_object_info).keys()


def test_cards_under_templates(open_page) -> None:
    """Templates -> Extensions -> the pack: a card for each workflow, each with its picture."""
    page = open_page()
    page.open_templates(PACK)
    assert len(CARDS) <= 5
    for name in CARDS:
        card = page.page.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed(timeout=20_000)
        picture = card.locator("img").first
        page.page.wait_for_function("(img) => img.complete && img.naturalWidth > 100", arg=picture.element_handle(),
                                    timeout=20_000)


def test_a_template_opens_by_its_address(open_page, shipped) -> None:
    page = open_page(f"/?template=egox_basic&source={PACK}")
    page.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'EgoXDecodeEgoHalf')",
                                timeout=30_000)
    assert not page.problems(shipped("egox_basic"))
