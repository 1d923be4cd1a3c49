"""A run that the server refuses, as the page shows it: which node, which field, and what to do,
also in the form."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.browser.renderers import CLASSIC
from tests.browser.test_form import open_form
from tests.browser.upload_page import LOADER, POSES, choose, set_value, told
from tools.rigs.comfy_page import FORM_ROW

# The second is a newer page's.
TOASTS = """() => [...document.querySelectorAll('.p-toast-message, [data-testid="toast"]')].map((e) => e.innerText)"""
# Of the form's rows: the label of each that the page marks as faulty.
MARKED = f"""() => [...document.querySelectorAll('{FORM_ROW}')].filter(
  (row) => row.querySelector('[class*="ring-node-stroke-error"], .ring-destructive')).map(
  (row) => row.querySelector('[data-testid="builder-widget-label"]').innerText.trim())"""


@pytest.fixture
def lone_video(tmp_path, repo_root) -> Path:
    """A video with neither depth nor poses."""
    return Path(
        shutil.copy(repo_root / "sample" / "synthetic_room" / "exo.mp4", tmp_path / "lone.mp4")
    )


def toast_of(page, words: str) -> str:
    page.page.wait_for_function(
        f"(words) => ({TOASTS})().some((text) => text.includes(words))", arg=words, timeout=30_000
    )
    return next(text for text in page.evaluate(TOASTS) if words in text)


def press_run(page) -> None:
    page.page.get_by_role("button", name="Run", exact=True).last.click()


def test_the_form_names_the_field_and_the_next_click(same_page, shipped, lone_video, uploads):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    choose(page, LOADER, lone_video)
    told(page, LOADER, "Set in")
    press_run(page)
    poses = toast_of(page, "Ego Pose Input: file")
    assert "Open pose editor" in poses and "Load scene" in poses
    assert "Upload own files" in toast_of(page, "Depth Align: depth_file")
    assert page.evaluate(MARKED) == ["Head: place and gaze"]

    set_value(page, LOADER, "file", "egox/lone/gone.mp4")
    press_run(page)
    assert "not there" in toast_of(page, "Load Exo Video: Exo video")
    assert "Exo video" in page.evaluate(MARKED)


@pytest.mark.parametrize("vue_nodes", CLASSIC)
def test_the_graph_names_it_too(same_page, shipped, vue_nodes):
    page = same_page(vue_nodes=vue_nodes, size=(1200, 800))
    page.load(shipped("egox_demo"))
    set_value(page, POSES, "source", "keyframes")
    set_value(page, POSES, "keyframes", "[3]")
    page.queue()
    said = toast_of(page, "Ego Pose Input")
    assert "keyframes" in said and "Fix:" in said
    assert page.evaluate(
        "() => app.graph.nodes.filter((n) => n.has_errors).map((n) => n.type)"
    ) == [POSES]
