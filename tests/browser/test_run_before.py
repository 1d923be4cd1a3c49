"""This run beside the one before, on the player of the ego video."""

from __future__ import annotations

import pytest

from .preview_graph import part, state
from .renderers import CLASSIC
from .small_graph import make_small

NODE = "EgoXDecodeEgoHalf"
_PIXELS = """() => {
  const preview = app.graph.nodes.find((n) => n.type === 'EgoXDecodeEgoHalf').egoxPreview;
  const read = (clip) => {
    const [image, x, y, w, h] = clip.frame(1);
    const canvas = Object.assign(document.createElement('canvas'), { width: w, height: h });
    const context = canvas.getContext('2d');
    context.drawImage(image, x, y, w, h, 0, 0, w, h);
    return [...context.getImageData(0, 0, w, h).data];
  };
  return { ...Object.fromEntries(preview.pictures.map((clip) => [clip.name, read(clip)])),
           factor: preview.difference?.factor, mean: preview.difference?.mean };
}"""


def run(page) -> dict:
    page.queue()
    page.wait_for_run()
    page.page.wait_for_timeout(1500)  # the pictures are fetched
    return state(page, NODE)


def about(page) -> str:
    return part(page, NODE, "egox-preview-about").inner_text()


@pytest.mark.parametrize("vue_nodes", CLASSIC)
def test_a_second_run_is_shown_beside_the_first(open_page, unpacked, vue_nodes: bool) -> None:
    page = open_page(vue_nodes=vue_nodes)
    page.load(unpacked("egox_demo"))
    make_small(page)
    first = run(page)
    page.show(page.node_bounds(NODE))
    assert first["view"] == "side" and "runs" in first["views"] and "before" not in first["views"]
    part(page, NODE, "egox-preview-view").select_option("runs")
    assert "no run before" in state(page, NODE)["message"]
    page.set_widget("EgoXWanSampler", "lambda_g", 0)
    second = run(page)
    assert second["view"] == "runs" and not second["message"] and second["deviation"] > 5
    assert about(page).startswith("λ_g 3 → 0 · mean difference ")

    seen = page.evaluate(_PIXELS)
    assert seen["factor"] == 8 and seen["mean"] > 0.2
    for before, now, difference in zip(seen["before"], seen["ego"], seen["difference"], strict=True):
        if (before, now) != (255, 255):  # all but the opaque alpha
            assert difference == min(255, 8 * abs(now - before)) or difference == 255

    obey(page)
    another_run(page, unpacked)


def obey(page) -> None:
    """Menu, keys, the enlargement."""
    part(page, NODE, "egox-preview-stage").click(position={"x": 10, "y": 10})
    page.page.keyboard.press("d")
    before = state(page, NODE)
    assert before["view"] == "difference"
    part(page, NODE, "egox-preview-factor").select_option("32")
    assert state(page, NODE)["hash"] != before["hash"]
    part(page, NODE, "egox-preview-stage").click(position={"x": 10, "y": 10})
    page.page.keyboard.press("w")
    assert state(page, NODE)["view"] == "wipe" and "λ_g 3 → 0" in about(page), "the wipe is of the two runs"
    page.page.keyboard.press("1")
    assert about(page) == ""


def another_run(page, unpacked) -> None:
    """The chosen view stays; a page that loads its graph again has the run before still; other sizes say so."""
    page.page.keyboard.press("b")
    page.set_widget("EgoXWanSampler", "lambda_g", 5)
    assert run(page)["view"] == "runs" and about(page).startswith("λ_g 0 → 5")
    page.load(page.saved())
    page.page.wait_for_timeout(1500)
    assert state(page, NODE)["view"] == "runs" and about(page).startswith("λ_g 0 → 5")
    page.set_widget("EgoXLoadExoVideo", "frame_count", 1)
    last = run(page)
    assert "1 frames" in about(page) and "no difference" in about(page), about(page)
    assert "before" in last["views"] and "difference" not in last["views"]


def test_a_strip_that_was_cancelled_can_be_made_again(open_page, unpacked) -> None:
    page = open_page()
    page.load(unpacked("egox_demo"))
    make_small(page)
    run(page)
    page.show(page.node_bounds(NODE))
    part(page, NODE, "egox-preview-view").select_option("strip")
    maker = part(page, NODE, "egox-preview-make")
    for _ in range(2):
        page.evaluate("() => { window.egoxSeen.length = 0; }")
        maker.click()
        assert maker.is_disabled()
        page.page.wait_for_function("() => window.egoxSeen.some(({ kind }) => kind === 'executed')", timeout=60_000)
        page.evaluate("() => app.api.interrupt()")
        page.page.wait_for_function("(maker) => !maker.disabled", arg=maker.element_handle(), timeout=60_000)
        assert "Cancelled" in state(page, NODE)["message"] or "Cancelled" in about(page)
