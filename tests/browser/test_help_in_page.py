"""The nodes' help in the page itself: tips on what subgraphs show, and the side panel."""

from tests.browser.test_form import open_form
from tools.rigs.comfy_page import FORM_ROW

# A widget of a node at the top level: its place on the page, and the player's in the graph.
_WIDGET = """([title, name]) => {
  const node = app.graph.nodes.find((n) => n.title === title), { ds, canvas } = app.canvas;
  const box = canvas.getBoundingClientRect(), widget = node.widgets.find((w) => w.name === name);
  return [(node.pos[0] + 150 + ds.offset[0]) * ds.scale + box.left,
          (node.pos[1] + widget.y + 12 + ds.offset[1]) * ds.scale + box.top];
}"""
_PLAYER = """() => { const node = app.graph.nodes.find((n) => n.title === 'EgoX');
  const { width, y } = node.widgets.find((w) => w.name === 'egox_preview'); return [width ?? null, y]; }"""
STEPS = "Sampling steps; the authors use 50."


def test_help_on_what_a_subgraph_s_node_shows(same_page, shipped):
    """On the classic canvas by the host's own tip, on the rows of nodes 2.0 and of the form by the
    browser's."""
    page = same_page(size=(1400, 900))
    open_form(page, shipped("egox_demo"))
    for label, tip in (("Steps", STEPS), ("λ_g", "0 none")):
        row = page.page.locator(FORM_ROW).filter(has_text=label).first
        row.hover()
        assert tip in row.get_attribute("title")
    page = same_page(size=(1400, 900))
    page.load(shipped("egox_demo"))
    page.show()
    x, y = page.evaluate(_WIDGET, ["EgoX", "steps"])
    page.page.mouse.move(x - 5, y)
    page.page.mouse.move(x, y)
    page.page.locator(".node-tooltip", has_text=STEPS).wait_for()
    newer = same_page(size=(1400, 900), vue_nodes=True)
    newer.load(shipped("egox_demo"))
    newer.show()
    row = newer.page.locator('[data-testid="node-widget"][data-widget-name="steps"]')
    row.hover()
    assert row.get_attribute("title") == STEPS


def test_the_side_panel_leaves_the_player_its_place(same_page, shipped):
    page = same_page(size=(1400, 900))
    page.load(shipped("egox_demo"))
    page.show()
    before = page.evaluate(_PLAYER)
    page.evaluate(
        "() => { app.canvas.deselectAll(); "
        "app.canvas.selectNode(app.graph.nodes.find((n) => n.title === 'EgoX')); }"
    )
    page.page.get_by_test_id("info-button").first.click()
    page.page.get_by_text("Ego video while it is sampled").first.wait_for()
    page.settle(10)
    assert page.evaluate(_PLAYER) == before and before[0] is None
