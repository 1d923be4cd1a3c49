"""The inputs of our nodes in the page: rare ones out of sight, sliders, help, and the same values,
whatever is shown."""

from typing import Any

import pytest

from egox_core.safe_files import read_json
from tests.paths import ROOT
from tools.rigs.comfy_page import FORM_ROW

MOST = 8  # rows of a node that can be edited, as it opens

# Of one node: the names of the widgets that are drawn, where each lies, and how high the node is.
_SEEN = """(type) => {
  const node = app.graph.nodes.find((n) => n.type === type);
  const drawn = (w) => node.isWidgetRowVisible?.(w) ?? node.isWidgetVisible(w);
  const shown = (node.widgets ?? []).filter(drawn);
  const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
  return { names: shown.map((w) => w.name), height: node.size[1], needed: node.computeSize()[1],
           rows: Object.fromEntries(shown.map((w) => [w.name, [w.y, w.y + (w.computedHeight ?? 20)]])),
           // Where the row is pressed, on the page.
           press: Object.fromEntries(shown.map((w) => [w.name,
             [(node.pos[0] + node.size[0] / 2 + ds.offset[0]) * ds.scale + box.left,
              (node.pos[1] + w.y + 10 + ds.offset[1]) * ds.scale + box.top]])),
           values: Object.fromEntries((node.widgets ?? []).filter((w) => w.serialize !== false)
             .map((w) => [w.name, w.value])),
           text: node.widgets?.find((w) => w.name === 'egox_advanced_inputs')?.label };
}"""
ROW = "egox_advanced_inputs"


_LINK = """(type) => {
  const number = LiteGraph.createNode('PrimitiveFloat');
  app.graph.add(number);
  const node = app.graph.nodes.find((n) => n.type === type);
  number.connect(0, node, node.inputs.findIndex((input) => input.name === 'shift'));
}"""
_PLACE = """(kinds) => kinds.forEach((kind, i) => {
  const node = LiteGraph.createNode(kind);
  node.pos = [(i % 6) * 600, Math.floor(i / 6) * 1100];
  app.graph.add(node);
})"""


def seen(page, node: str) -> dict[str, Any]:
    page.settle()
    return page.evaluate(_SEEN, node)


def press(page, node: str, name: str) -> None:
    page.show(page.node_bounds(node))
    x, y = seen(page, node)["press"][name]
    page.page.mouse.click(x, y)
    page.settle()


def packed(state: dict[str, Any]) -> bool:
    """Check that rows follow each other without a gap, and that none is below the node's edge."""
    rows = sorted(state["rows"].values())
    return (
        all(
            end <= start + 0.5 and start - end < 8
            for (_, end), (start, _) in zip(rows, rows[1:], strict=False)
        )
        and rows[-1][1] <= state["height"] + 0.5
    )


def test_rare_inputs_come_go_and_are_saved_on_the_classic_canvas(open_page, unpacked):
    page, node = open_page(size=(1200, 800)), "EgoXWanSampler"
    page.load(unpacked("egox_demo"))
    page.show(page.node_bounds(node))
    before = seen(page, node)
    press(page, node, ROW)
    opened = seen(page, node)
    come = set(opened["names"]) - set(before["names"])
    assert come == {"gga_mode", "shift", "scheduler", "noise"} and packed(opened), opened["rows"]
    assert opened["height"] > before["height"] + 20 * len(come)
    assert opened["text"] != before["text"]
    page.load(page.saved())
    again = seen(page, node)
    assert (again["names"], again["values"]) == (opened["names"], before["values"])
    press(page, node, ROW)
    after = seen(page, node)
    assert after["names"] == before["names"] and after["values"] == before["values"]
    assert after["height"] == pytest.approx(before["height"], abs=1)
    page.evaluate(_LINK, node)
    assert "shift" in seen(page, node)["names"], "a link shows it"

    # Every node opens short and packed.
    kinds = page.evaluate("""() => Object.keys(LiteGraph.registered_node_types).filter(
      (k) => k.startsWith('EgoX') && !k.startsWith('EgoXTests'))""")
    assert len(kinds) > 20
    page.load({**unpacked("egox_demo"), "nodes": [], "links": [], "groups": []})
    page.evaluate(_PLACE, kinds)
    page.show()
    for kind in kinds:
        state = seen(page, kind)
        names = [n for n in state["names"] if not n.startswith("egox_") and n != "upload"]
        assert len(names) <= MOST, f"{kind}: {names}"
        assert not state["rows"] or packed(state), f"{kind}: {state['rows']}, {state['height']}"


# λ_g on the canvas, and the type of the subgraph's node that has it.
_SLIDER = """() => {
  const { value, type, options } = app.graph.nodes.flatMap((n) => n.widgets ?? []).find((w) => w.name === 'lambda_g');
  return { value, type, min: options.min, max: options.max };
}"""
_SUBGRAPH = "() => app.graph.nodes.find((n) => n.title === 'EgoX').type"


def slider(page) -> dict[str, Any]:
    return page.evaluate(_SLIDER)


def saved_lambda(page) -> float:
    nodes = page.to_prompt().values()
    return next(n["inputs"]["lambda_g"] for n in nodes if n["class_type"] == "EgoXWanSampler")


def test_a_value_beyond_the_slider_stays_and_any_number_can_be_typed(open_page, shipped):
    page = open_page(size=(1600, 900))
    page.load(shipped("egox_demo"))
    assert slider(page) == {"value": 3, "type": "slider", "min": 0, "max": 10}
    node = page.evaluate(_SUBGRAPH)
    page.show(page.node_bounds(node))
    x, y = seen(page, node)["press"]["lambda_g"]
    for _ in range(10):  # a page that isn't drawn yet takes a click for one beside the slider
        page.page.mouse.click(x, y)
        page.settle()
        if (dragged := slider(page)["value"]) != 3:
            break
    assert dragged == pytest.approx(5, abs=0.3) and dragged == pytest.approx(round(dragged, 1))
    field = double_clicked(page, x, y)
    assert float(field.input_value()) == dragged
    field.fill("3.25")
    field.press("Enter")
    assert slider(page)["value"] == 3.25
    page.set_widget("EgoXWanSampler", "lambda_g", 25)
    for _ in range(2):
        page.load(page.saved())
        assert slider(page) == {"value": 25, "type": "slider", "min": 0, "max": 25}
    assert saved_lambda(page) == 25

    page.open_form(shipped("egox_demo"))
    field = page.page.locator('input[aria-label="lambda_g"]').first
    for number in (25, 3.25):
        field.click()
        field.press("Control+a")
        page.page.keyboard.type(str(number))
        page.page.keyboard.press("Enter")
        page.settle()
        assert slider(page)["value"] == number == saved_lambda(page)
        assert float(field.input_value()) == number


def double_clicked(page, x: float, y: float):
    """Double-click, and return the field that opens. A page that is slow between the two clicks
    takes them for single ones, so this is tried again."""
    field = page.page.locator(".graphdialog input")
    for _ in range(10):
        page.page.wait_for_timeout(1000)
        if field.is_visible():
            break
        page.page.mouse.dblclick(x, y)
    return field


TIPS = read_json(ROOT / "locales" / "en" / "nodeDefs.json")["EgoXWanSampler"]["inputs"]
STEPS = TIPS["steps"]["tooltip"]
_PLAYER = """() => { const player = app.graph.nodes.find((n) => n.title === 'EgoX').widgets.find(
  (w) => w.name === 'egox_preview'); return [player.width ?? null, player.y]; }"""
_HELP_ON_ROWS = "() => !!document.querySelector('[data-testid=node-widget]')"


def test_help_on_what_a_subgraph_s_node_shows(open_page, shipped):
    """On the classic canvas by the host's own tip, on the rows of the form and of nodes 2.0 by the
    browser's. The side panel with the node's help leaves the player its place."""
    page = open_page(size=(1400, 900))
    page.load(shipped("egox_demo"))
    page.show()
    player = page.evaluate(_PLAYER)
    node = page.evaluate(_SUBGRAPH)
    x, y = seen(page, node)["press"]["steps"]
    page.page.mouse.move(x - 5, y)
    page.page.mouse.move(x, y)
    page.page.locator(".node-tooltip", has_text=STEPS).wait_for()
    page.page.mouse.click(x, page.on_page(page.node_bounds(node), 0)["y"] + 12)
    page.page.get_by_test_id("info-button").first.click()
    page.page.get_by_text("Ego video while it is sampled").first.wait_for()
    page.settle(10)
    assert page.evaluate(_PLAYER) == player and player[0] is None
    page.open_form(shipped("egox_demo"))
    for label, tip in (("Steps", STEPS), ("λ_g", TIPS["lambda_g"]["tooltip"])):
        row = page.page.locator(FORM_ROW).filter(has_text=label).first
        row.hover()
        assert tip in row.get_attribute("title")
    newer = open_page(size=(1400, 900), vue_nodes=True)
    newer.load(shipped("egox_demo"))
    newer.show()
    newer.page.locator("[data-node-id]").first.wait_for()
    if newer.evaluate(_HELP_ON_ROWS):  # the rows of older pages can't be told apart
        label = newer.page.get_by_test_id("widget-layout-field-label").filter(has_text="Steps")
        row = newer.page.get_by_test_id("node-widget").filter(has=label).first
        row.hover()
        assert row.get_attribute("title") == STEPS
