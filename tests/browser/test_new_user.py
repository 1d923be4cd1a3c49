"""A new user: from the first page to a finished demo, and what another LoRA strength changes, in
the form."""

import pytest

from tests.browser.page import PageUnderTest
from tools.rigs.comfy_page import FORM_ROW

from .small_graph import make_small
from .test_workflows_in_page import PACK

# The ego video in the middle.
_SHOWN = """() => [...document.querySelectorAll('video')].find(
  (video) => /ego_lambda3_lora[01]_seed1234_/.test(video.src) && video.getBoundingClientRect().width > 700)?.src"""

_DESCRIBED = "(card) => getComputedStyle(card.querySelector('div:has(> h3)'), '::after').content"


@pytest.fixture
def first_page(browser, browser_client, open_page) -> PageUnderTest:
    """Open a page of a host that was never opened before."""
    page = PageUnderTest(browser(False), browser_client, size=(1600, 900))
    browser_client.post("/settings", {"Comfy.TutorialCompleted": False})
    try:
        yield page.open()
        page.check()
    finally:
        page.close()
        browser_client.post("/settings", {"Comfy.TutorialCompleted": True})


def row(page: PageUnderTest, label: str):
    return page.page.locator(FORM_ROW).filter(has_text=label)


def test_three_clicks_to_a_video_and_one_drag_to_a_difference(first_page):
    page = first_page
    page.page.get_by_text(PACK, exact=True).first.click()
    card = page.page.get_by_test_id("template-workflow-egox_demo")
    card.scroll_into_view_if_needed()
    cards = page.page.locator('[data-testid^="template-workflow-egox_"]')
    assert cards.first.get_attribute("data-testid") == "template-workflow-egox_demo"
    assert "No download" in card.evaluate(_DESCRIBED)
    card.click()
    row(page, "λ_g: trust in geometry (little here)").locator('[role="slider"]').wait_for()
    make_small(page)
    page.run_form()
    first = page.page.wait_for_function(_SHOWN).json_value()

    slider = page.page.locator(FORM_ROW, has=page.page.locator('[role="slider"]')).first
    assert "LoRA strength (trained: 1)" in slider.inner_text(), "which shows more than λ_g here"
    thumb = slider.locator('[role="slider"]')
    thumb.scroll_into_view_if_needed()
    box, track = thumb.bounding_box(), slider.locator('[data-slot="slider-track"]').bounding_box()
    middle = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.page.mouse.down()
    page.page.mouse.move(track["x"] - 20, middle, steps=5)
    page.settle()  # a busy page may take the first moves as one, and drop it
    page.page.mouse.move(track["x"] - 21, middle)
    slider.locator('[role="slider"][aria-valuenow="0"]').wait_for()
    page.page.mouse.up()
    page.run_form()
    about = page.page.get_by_test_id("egox-preview-about").filter(has_text="strength 1 → 0")
    about.wait_for()
    assert float(about.inner_text().split("mean difference ")[1].split(" ")[0]) > 8
    stage = about.locator("xpath=..").get_by_test_id("egox-preview-stage").bounding_box()
    run_button = page.page.get_by_role("button", name="Run", exact=True).last.bounding_box()
    assert about.bounding_box()["y"] > 0 and stage["y"] + stage["height"] <= run_button["y"], (
        "in sight, not below"
    )
    # The prior came from the server's cache; the ego video is shown, which was made after it.
    page.page.wait_for_function(f"(first) => ![first, undefined].includes(({_SHOWN})())", arg=first)
