"""The shipped workflows as forms (the host's app mode): every row is on the page, and the graph is
one click away."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tools.rigs.comfy_page import FORM_ROW, PageError
from tools.setup.api_client import read_prompt
from tools.workflows.form import MOST

from .small_graph import make_small
from .test_workflows_in_page import CARDS, NAMES, heard

LABEL = '[data-testid="builder-widget-label"]'

# Of the form's rows: node and widget, and how high the widget is drawn, in px.
_DRAWN = f"""() => [...document.querySelectorAll('{FORM_ROW}')].map((row) => [
  row.dataset.widgetKey.split(':').slice(-2).map(decodeURIComponent),
  row.lastElementChild.getBoundingClientRect().height])"""
_VIEW = "() => [app.canvas.ds.scale, ...app.canvas.ds.offset]"


def labels(page) -> list[str]:
    return [text.strip() for text in page.page.locator(LABEL).all_inner_texts()]


def open_form(page, saved: dict[str, Any]) -> None:
    page.load(saved, form=True)
    page.page.locator(FORM_ROW).nth(len(saved["extra"]["linearData"]["inputs"]) - 1).wait_for(
        timeout=30_000
    )


def to_graph(page) -> tuple[float, float, float]:
    """Zoom and place of the graph, after the one click that leads to it."""
    page.page.get_by_role("button", name="Enter node graph").first.click()
    page.page.wait_for_selector("canvas#graph-canvas", state="visible")
    page.page.wait_for_timeout(1500)  # the fit is animated
    return tuple(value if value is not None else math.nan for value in page.evaluate(_VIEW))


@pytest.mark.parametrize(
    "names",
    [pytest.param(CARDS, id="cards"), pytest.param(NAMES, id="all", marks=pytest.mark.slow)],
)
def test_every_workflow_opens_as_a_form_with_all_its_rows(same_page, shipped, names):
    page = same_page(size=(1600, 900))
    for name in names:
        saved = shipped(name)
        open_form(page, saved)
        shown, rows = labels(page), saved["extra"]["linearData"]["inputs"]
        assert len(shown) == len(rows) <= MOST, f"{name}: {shown}"
        assert len(set(shown)) == len(shown) and not any(
            "_" in text.replace("λ_g", "") for text in shown
        ), shown
        assert [[int(number), widget] for (number, widget), _ in page.evaluate(_DRAWN)] == rows, (
            name
        )
        page.page.wait_for_function(f"() => ({_DRAWN})().every(([, height]) => height > 20)")


def test_the_demo_s_form_has_its_button_and_players_and_leads_to_the_graph(same_page, shipped):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    assert page.page.get_by_role("button", name="Open pose editor").first.is_visible()
    assert page.page.get_by_test_id("egox-preview-stage").count() >= 2
    scale, *offset = to_graph(page)
    assert scale > 0.2 and all(map(math.isfinite, offset))
    assert not page.problems(shipped("egox_demo"))


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


def test_a_form_keeps_the_values(same_page, shipped):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    assert heard(page.to_prompt()) == heard(read_prompt("egox_demo"))


def test_a_run_tells_its_progress_and_can_be_cancelled(same_page, shipped):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    make_small(page, steps=900)
    page.evaluate("() => { window.egoxSeen.length = 0; }")
    page.page.get_by_role("button", name="Run", exact=True).last.click()
    page.page.wait_for_function(
        """() => {
      const bars = [...document.querySelectorAll('[data-testid="linear-progress-node"]')];
      return bars.some((bar) => bar.getBoundingClientRect().width > 2);
    }""",
        timeout=120_000,
    )
    page.page.get_by_test_id("linear-cancel-run").first.click()
    with pytest.raises(PageError, match="interrupted"):
        page.wait_for_run()
    page.page.get_by_test_id("linear-cancel-run").first.wait_for(state="hidden", timeout=30_000)
