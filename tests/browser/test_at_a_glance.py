"""The shipped graphs as one sees them: opened by their card and switched to the graph, and what
lies over what."""

from tools.rigs.comfy_page import FORM_ROW

from .test_form import sliders
from .test_workflows_in_page import CARDS, PACK

LEAST_ZOOM = 0.6

# What lies outside the canvas' part of the page.
_OUTSIDE = """() => {
  const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
  return app.graph.nodes.filter((node) => {
    const [x, y, w, h] = node.boundingRect ?? node.getBounding();
    const left = (x + ds.offset[0]) * ds.scale, top = (y + ds.offset[1]) * ds.scale;
    return !(left >= 0 && top >= 0 && left + w * ds.scale <= box.width && top + h * ds.scale <= box.height);
  }).map((node) => node.title);
}"""

_OPENED = "(name) => app.extensionManager.workflow.activeWorkflow.filename === name"
_ALL_DRAWN = "() => document.querySelectorAll('[data-node-id]').length === app.graph.nodes.length"
# Nodes of which one covers a part of the other, in the classic canvas and as the newer nodes are
# drawn.
CLASSIC = (
    "app.graph.nodes.map((node) => [node.title, ...(node.boundingRect ?? node.getBounding())])"
)
_DRAWN = """[...document.querySelectorAll('[data-node-id]')].map((element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return [app.graph.getNodeById(element.dataset.nodeId).title, left, top, width, height];
  })"""


def overlaps(boxes: str, allowed: float = 0.0) -> str:
    """An expression: who covers whom, by more than some px."""
    return f"""(() => {{
      const boxes = {boxes};
      return boxes.flatMap(([a, x, y, w, h], i) => boxes.slice(i + 1).filter(([, left, top, wide, high]) =>
        Math.min(Math.min(x + w, left + wide) - Math.max(x, left),
                 Math.min(y + h, top + high) - Math.max(y, top)) > {allowed}).map(([b]) => `${{a}} and ${{b}}`));
    }})()"""


def test_all_of_a_card_s_graph_is_seen(open_page, shipped, pinned_host):
    """By its address and by its card, one after the other: the host fits the second into a canvas
    that isn't there, while the first one's form is open."""
    first, second = CARDS[:2]
    page = open_page(f"/?template={first}&source={PACK}", size=(1600, 900))
    for name in (first, second):
        if name == second:
            page.open_templates(PACK)
            for card in CARDS:
                picture = page.page.get_by_test_id(f"template-workflow-{card}").locator("img").first
                picture.scroll_into_view_if_needed()
                page.page.wait_for_function(
                    "(img) => img.complete && img.naturalWidth > 100", arg=picture.element_handle()
                )
            page.page.get_by_test_id(f"template-workflow-{name}").click()
        page.page.wait_for_function(_OPENED, arg=name)
        page.page.locator(FORM_ROW).first.wait_for()
        page.page.get_by_role("button", name="Enter node graph").first.click()
        page.page.wait_for_selector("canvas#graph-canvas", state="visible")
        page.page.wait_for_function(  # the fit is animated
            f"() => app.canvas.ds.scale >= {LEAST_ZOOM} && !({_OUTSIDE})().length"
        )
        assert not page.problems(shipped(name)), name


def test_in_the_newer_nodes_none_covers_another(same_page, shipped, pinned_host):
    """There a note is as high as its text."""
    page = same_page(vue_nodes=True, size=(1600, 900))
    for name in CARDS:
        page.load(shipped(name))
        page.show()
        page.page.wait_for_function(_ALL_DRAWN)
        page.page.wait_for_function(f"() => !({overlaps(_DRAWN, allowed=2.0)}).length")
        assert min(sliders(page)) > 50, name
