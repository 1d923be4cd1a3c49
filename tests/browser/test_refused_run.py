"""A run that the server refuses, as the form shows it: which node, which field, and what to do."""

import shutil
from pathlib import Path

import pytest

from tests.browser.test_form import open_form
from tests.browser.upload_page import LOADER, choose, set_value, told
from tools.rigs.comfy_page import FORM_ROW

# The second is a newer page's.
TOASTS = """() => [...document.querySelectorAll('.p-toast-message, [data-testid="toast"]')].map((e) => e.innerText)"""
# But for what became of an upload.
OURS = f"() => ({TOASTS})().filter((text) => text.includes('EgoX') && !text.includes('Set in'))"
# Of each message, and of the button that lies nearest to them.
BOXES = """() => [...document.querySelectorAll('.p-toast-message, [data-testid="toast"]')].map(
  (message) => [message, document.querySelector('[data-widget-key] [data-testid="egox-upload"]')].map(
    (element) => element.getBoundingClientRect().toJSON()))"""
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
        f"(words) => ({TOASTS})().some((text) => text.includes(words))", arg=words
    )
    return next(text for text in page.evaluate(TOASTS) if words in text)


def press_run(page) -> None:
    page.page.get_by_role("button", name="Run", exact=True).last.click()


def test_the_form_names_the_field_and_the_next_click(same_page, shipped, lone_video, uploads):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    choose(page, LOADER, lone_video)
    told(page, LOADER, "Set in")
    toast_of(page, "Set in")
    boxes = page.evaluate(BOXES)
    assert all(box["right"] <= button["left"] for box, button in boxes), boxes
    press_run(page)
    said = toast_of(page, "Ego Pose Input: file")
    assert "Open pose editor" in said and "Load scene" in said
    assert said.index("Upload own files") < said.index("Ego Pose Input"), "what to do first"
    assert "(0.66 GB)" in said and "prior is made" not in said
    assert page.evaluate(MARKED) == ["Head: place and gaze"]
    only, boxes = page.evaluate(OURS), page.evaluate(BOXES)
    assert len(only) == 1, only
    assert all(box["right"] <= button["left"] for box, button in boxes), boxes

    set_value(page, LOADER, "file", "egox/lone/gone.mp4")
    press_run(page)
    said = toast_of(page, "Load Exo Video: Exo video")
    assert said.count("not there") == 1
    assert "Exo video" in page.evaluate(MARKED)
