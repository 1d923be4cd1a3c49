"""Test a new user's way from the first page to a finished demo."""

from tests.browser.page import PageUnderTest
from tools.rigs.comfy_page import FORM_ROW

from .small_graph import shrink_graph_on_canvas
from .test_workflows_in_page import PACK

# Returns the address of the film in the middle of the form, once the page draws its four pictures.
_FILM_SCRIPT = """() => [...document.querySelectorAll('video')].find((video) =>
  /side_by_side_lambda3_lora[01]_seed1234_/.test(video.src) && video.videoWidth > 3 * video.videoHeight &&
  video.getBoundingClientRect().width > 700)?.src"""

_CARD_TEXT_SCRIPT = (
    "(card) => getComputedStyle(card.querySelector('div:has(> h3)'), '::after').content"
)


def find_form_row(page: PageUnderTest, label: str):
    return page.browser_tab.locator(FORM_ROW).filter(has_text=label)


def test_three_clicks_make_a_video_and_one_drag_changes_it(open_page):
    page = open_page(size=(1600, 900), is_first_visit=True, stays_open=True)
    page.browser_tab.get_by_text(PACK, exact=True).first.click()
    demo_card = page.browser_tab.get_by_test_id("template-workflow-egox_demo")
    demo_card.scroll_into_view_if_needed()
    cards = page.browser_tab.locator('[data-testid^="template-workflow-egox_"]')
    assert cards.first.get_attribute("data-testid") == "template-workflow-egox_demo"
    assert "No download" in demo_card.evaluate(_CARD_TEXT_SCRIPT)
    demo_card.click()
    find_form_row(page, "λ_g: trust in geometry (little here)").locator(
        '[role="slider"]'
    ).wait_for()
    shrink_graph_on_canvas(page, frames=1)
    page.run_form()
    first_address = page.wait_until(_FILM_SCRIPT).json_value()

    slider = page.browser_tab.locator(
        FORM_ROW, has=page.browser_tab.locator('[role="slider"]')
    ).first
    assert "LoRA strength (trained: 1)" in slider.inner_text(), "which shows more than λ_g here"
    slider_thumb = slider.locator('[role="slider"]')
    slider_thumb.scroll_into_view_if_needed()
    thumb_box, slider_track = (
        slider_thumb.bounding_box(),
        slider.locator('[data-slot="slider-track"]').bounding_box(),
    )
    middle_y = thumb_box["y"] + thumb_box["height"] / 2
    page.browser_tab.mouse.move(thumb_box["x"] + thumb_box["width"] / 2, middle_y)
    page.browser_tab.mouse.down()
    page.browser_tab.mouse.move(slider_track["x"] - 20, middle_y, steps=5)
    page.settle()  # a busy page may take the first moves as one, and drop it
    page.browser_tab.mouse.move(slider_track["x"] - 21, middle_y)
    slider.locator('[role="slider"][aria-valuenow="0"]').wait_for()
    page.browser_tab.mouse.up()
    page.run_form()
    comparison_note = page.browser_tab.get_by_test_id("egox-preview-about").filter(
        has_text="strength 1 → 0"
    )
    comparison_note.wait_for()
    assert float(comparison_note.inner_text().split("mean difference ")[1].split(" ")[0]) > 8
    stage_box = (
        comparison_note.locator("xpath=..").get_by_test_id("egox-preview-stage").bounding_box()
    )
    run_button = page.browser_tab.get_by_role("button", name="Run", exact=True).last.bounding_box()
    assert (
        comparison_note.bounding_box()["y"] > 0
        and stage_box["y"] + stage_box["height"] <= run_button["y"]
    ), "in sight, not below"
    # The prior came from the server's cache; the film is shown, which was made after it.
    page.wait_until(f"(first) => ![first, undefined].includes(({_FILM_SCRIPT})())", first_address)
