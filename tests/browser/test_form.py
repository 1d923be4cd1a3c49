"""The shipped workflows as forms (the host's app mode): every row is on the page, and the graph is
one click away."""

import re
from typing import Any

from tools.rigs.comfy_page import FORM_ROW
from tools.setup.api_client import read_prompt

from .test_workflows_in_page import CARDS, heard

MOST_ROWS = 11  # of a form
LABEL = '[data-testid="builder-widget-label"]'

# Of the form's rows: node and widget, and how high the widget is drawn, in px.
_DRAWN = f"""() => [...document.querySelectorAll('{FORM_ROW}')].map((row) => [
  row.dataset.widgetKey.split(':').slice(-2).map(decodeURIComponent),
  row.lastElementChild.getBoundingClientRect().height])"""


def labels(page) -> list[str]:
    return [text.strip() for text in page.page.locator(LABEL).all_inner_texts()]


def sliders(page) -> list[float]:
    """Lengths of the page's sliders, px of their own: a long label leaves one a dot."""
    return page.evaluate(
        "() => [...document.querySelectorAll('[data-slot=\"slider-track\"]')]"
        ".filter((track) => track.offsetParent).map((track) => track.offsetWidth)"
    )


def open_form(page, saved: dict[str, Any]) -> None:
    page.load(saved, form=True)
    page.page.locator(FORM_ROW).nth(len(saved["extra"]["linearData"]["inputs"]) - 1).wait_for()


def test_every_card_opens_as_a_form_with_all_its_rows_and_values(same_page, shipped):
    page = same_page(size=(1600, 900))
    for name in CARDS:
        saved = shipped(name)
        open_form(page, saved)
        shown, rows = labels(page), saved["extra"]["linearData"]["inputs"]
        assert len(shown) == len(rows) <= MOST_ROWS, f"{name}: {shown}"
        assert len(set(shown)) == len(shown) and not any(
            "_" in text.replace("λ_g", "") for text in shown
        ), shown
        assert [[int(number), widget] for (number, widget), _ in page.evaluate(_DRAWN)] == rows, (
            name
        )
        page.page.wait_for_function(f"() => ({_DRAWN})().every(([, height]) => height > 20)")
        assert min(sliders(page), default=99) > 50, name
        assert heard(page.to_prompt()) == heard(read_prompt(name)), name
        if name == "egox_demo":
            assert page.page.get_by_role("button", name="Open pose editor").first.is_visible()
            assert page.page.get_by_test_id("egox-preview-stage").count() >= 2


_LOCALE = "(locale) => app.extensionManager.setting.set('Comfy.Locale', locale)"


def test_the_rows_are_in_the_page_s_language(same_page, shipped):
    """Also those of a graph that a page in another language saved."""
    page = same_page(size=(1600, 900))
    form = shipped("egox_basic")
    page.evaluate(_LOCALE, "ja")
    try:
        open_form(page, form)
        for text in labels(page):
            assert re.search("[ぁ-ヶ一-鿿]", text), text
        saved = page.saved() | {"extra": form["extra"]}
    finally:
        page.evaluate(_LOCALE, "en")
    open_form(page, saved)
    assert {"Exo video", "λ_g (3 as trained)", "Seed"} <= set(labels(page))
