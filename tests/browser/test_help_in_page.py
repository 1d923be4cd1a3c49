"""The nodes' help in the page itself: opened by its button, each page shows its picture, whole and
in shape."""

from typing import Any

from tests.browser.page import PageUnderTest
from tests.browser.test_form import open_form
from tools.rigs.comfy_page import FORM_ROW
from tools.setup.base_dir import PACK_NAME
from tools.texts.locales import HELP

NODES = sorted(path.stem for path in HELP.glob("*.md"))

_ADD = """(type) => {
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.pos = [400, 300];
  return node.id;
}"""

_SELECT = """() => {
  const node = app.graph.nodes[0];
  app.canvas.deselectAll();
  app.canvas.selectNode(node);
  app.canvas.setDirty(true, true);
}"""

# The picture as the panel shows it, once it has been fetched and decoded.
_PICTURE = """([type, timeout]) => new Promise((done) => {
  const begun = performance.now();
  const look = () => {
    const image = document.querySelector(`.node-help-content img[src$="/img/${type}.webp"]`);
    if (image && image.complete) {
      const box = image.getBoundingClientRect(), panel = image.closest('.node-help-content').getBoundingClientRect();
      done({ source: image.getAttribute('src'), alt: image.alt, natural: [image.naturalWidth, image.naturalHeight],
             shown: [box.width, box.height], cut: box.left < panel.left - 1 || box.right > panel.right + 1 });
    } else if (performance.now() - begun > timeout) done(null);
    else setTimeout(look, 100);
  };
  look();
})"""


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


def open_help(page: PageUnderTest, node: str) -> dict[str, Any]:
    """A node of this type alone on the canvas, its help opened by the button above it; the picture
    in it."""
    page.evaluate(_ADD, node)
    page.settle()
    page.show(page.node_bounds(node), margin=160)
    page.evaluate(_SELECT)
    page.settle()
    page.page.get_by_test_id("info-button").first.click()
    picture = page.evaluate(_PICTURE, [node, 20_000])
    assert picture is not None, f"{node}: the help shows no picture; console: {page.said[-4:]}"
    return picture


def test_a_help_page_shows_its_picture(open_page):
    page = open_page(size=(1400, 900))
    for node in NODES[::8]:
        picture = open_help(page, node)
        assert picture["source"] == f"/extensions/{PACK_NAME}/docs/img/{node}.webp"
        assert picture["natural"][0] > 300 and picture["natural"][1] > 100, node
        assert not picture["cut"] and picture["shown"][0] > 150, (
            f"{node}: cut off or tiny, {picture}"
        )
        across, down = (
            shown / natural
            for shown, natural in zip(picture["shown"], picture["natural"], strict=True)
        )
        assert abs(across / down - 1) < 0.02, f"{node}: drawn out of shape"
        assert len(picture["alt"]) > 20, node


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
