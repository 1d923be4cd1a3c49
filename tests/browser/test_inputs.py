"""Test the inputs of EgoX nodes in ComfyUI's page."""

from typing import Any

import pytest

from egox_core.safe_files import read_json
from tests.paths import ROOT
from tools.rigs.comfy_page import FORM_ROW

MAX_ROWS = 8  # editable rows that a node shows when it opens

# Of one node: the names of the widgets that are drawn, where each lies, and how high the node is.
_ROWS_SCRIPT = """(type) => {
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
ADVANCED_ROW = "egox_advanced_inputs"


_LINK_SCRIPT = """(type) => {
  const number = LiteGraph.createNode('PrimitiveFloat');
  app.graph.add(number);
  const node = app.graph.nodes.find((n) => n.type === type);
  number.connect(0, node, node.inputs.findIndex((input) => input.name === 'shift'));
}"""
_PLACE_SCRIPT = """(kinds) => kinds.forEach((kind, i) => {
  const node = LiteGraph.createNode(kind);
  node.pos = [(i % 6) * 600, Math.floor(i / 6) * 1100];
  app.graph.add(node);
})"""


def read_rows(page, node: str) -> dict[str, Any]:
    page.settle()
    return page.evaluate(_ROWS_SCRIPT, node)


def press_row(page, node: str, name: str) -> None:
    page.show(page.node_bounds(node))
    x, y = read_rows(page, node)["press"][name]
    page.browser_tab.mouse.click(x, y)
    page.settle()


def are_rows_packed(state: dict[str, Any]) -> bool:
    """Check that a node's input rows follow each other without a gap."""
    row_bounds = sorted(state["rows"].values())
    return (
        all(
            end <= start + 0.5 and start - end < 8
            for (_, end), (start, _) in zip(row_bounds, row_bounds[1:], strict=False)
        )
        and row_bounds[-1][1] <= state["height"] + 0.5
    )


def test_rare_inputs_are_shown_hidden_and_saved_on_the_classic_canvas(open_page, read_unpacked):
    page = open_page(size=(1200, 800), stays_open=True)
    node = "EgoXWanSampler"
    page.load(read_unpacked("egox_demo"))
    page.show(page.node_bounds(node))
    rows_before = read_rows(page, node)
    press_row(page, node, ADVANCED_ROW)
    opened_rows = read_rows(page, node)
    added_names = set(opened_rows["names"]) - set(rows_before["names"])
    assert added_names == {"gga_mode", "shift", "scheduler", "noise"} and are_rows_packed(
        opened_rows
    ), opened_rows["rows"]
    assert opened_rows["height"] > rows_before["height"] + 20 * len(added_names)
    assert opened_rows["text"] != rows_before["text"]
    page.load(page.serialize_graph())
    reloaded_rows = read_rows(page, node)
    assert (reloaded_rows["names"], reloaded_rows["values"]) == (
        opened_rows["names"],
        rows_before["values"],
    )
    press_row(page, node, ADVANCED_ROW)
    closed_rows = read_rows(page, node)
    assert (
        closed_rows["names"] == rows_before["names"]
        and closed_rows["values"] == rows_before["values"]
    )
    assert closed_rows["height"] == pytest.approx(rows_before["height"], abs=1)
    page.evaluate(_LINK_SCRIPT, node)
    assert "shift" in read_rows(page, node)["names"], "a link shows it"

    # Every node opens short and packed.
    node_types = page.evaluate("""() => Object.keys(LiteGraph.registered_node_types).filter(
      (k) => k.startsWith('EgoX') && !k.startsWith('EgoXTests'))""")
    assert len(node_types) > 20
    page.load({**read_unpacked("egox_demo"), "nodes": [], "links": [], "groups": []})
    page.evaluate(_PLACE_SCRIPT, node_types)
    page.show()
    for node_type in node_types:
        rows = read_rows(page, node_type)
        names = [
            name for name in rows["names"] if not name.startswith("egox_") and name != "upload"
        ]
        assert len(names) <= MAX_ROWS, f"{node_type}: {names}"
        assert not rows["rows"] or are_rows_packed(rows), (
            f"{node_type}: {rows['rows']}, {rows['height']}"
        )


# Of a node's row of text: its height, and the texts that are drawn in it.
_TEXT_ROW_SCRIPT = """(title) => {
  const node = app.graph.nodes.find((n) => n.title === title);
  const row = node.widgets.find((w) => w.type === 'customtext');
  const { prototype } = CanvasRenderingContext2D, { fillText } = prototype, texts = [];
  prototype.fillText = function (text, x, y) {
    const place = this.getTransform().transformPoint({ x, y }), { scale, offset } = app.canvas.ds;
    const left = place.x / scale - offset[0] - node.pos[0], top = place.y / scale - offset[1] - node.pos[1] - row.y;
    if (left > 0 && left < node.size[0] && top > 0 && top < 20) texts.push(text);
    return fillText.apply(this, arguments);
  };
  app.canvas.draw(true, true);
  prototype.fillText = fillText;
  return [row.computedHeight, texts];
}"""


# λ_g on the canvas, and the type of the subgraph's node that has it.
_SLIDER_SCRIPT = """() => {
  const { value, type, options } = app.graph.nodes.flatMap((n) => n.widgets ?? []).find((w) => w.name === 'lambda_g');
  return { value, type, min: options.min, max: options.max };
}"""
_SUBGRAPH_SCRIPT = "() => app.graph.nodes.find((n) => n.title === 'EgoX').type"


def read_slider(page) -> dict[str, Any]:
    return page.evaluate(_SLIDER_SCRIPT)


def read_prompt_lambda(page) -> float:
    nodes = page.to_prompt().values()
    return next(
        node["inputs"]["lambda_g"] for node in nodes if node["class_type"] == "EgoXWanSampler"
    )


def test_a_value_beyond_the_slider_stays_and_any_number_can_be_typed(open_page, read_shipped):
    page = open_page(size=(1600, 900), stays_open=True)
    page.load(read_shipped("egox_demo"))
    assert read_slider(page) == {"value": 3, "type": "slider", "min": 0, "max": 10}
    node = page.evaluate(_SUBGRAPH_SCRIPT)
    page.show(page.node_bounds(node))
    for _ in range(10):  # a page that isn't drawn yet takes a click for one beside the slider
        x, y = read_rows(page, node)["press"]["lambda_g"]
        page.browser_tab.mouse.click(x, y)
        page.settle()
        if (dragged_value := read_slider(page)["value"]) != 3:
            break
    assert dragged_value == pytest.approx(5, abs=0.3) and dragged_value == pytest.approx(
        round(dragged_value, 1)
    )
    number_field = double_click_for_field(page, x, y)
    assert float(number_field.input_value()) == dragged_value
    number_field.fill("3.25")
    number_field.press("Enter")
    assert read_slider(page)["value"] == 3.25
    page.set_widget("EgoXWanSampler", "lambda_g", 25)
    for _ in range(2):
        page.load(page.serialize_graph())
        assert read_slider(page) == {"value": 25, "type": "slider", "min": 0, "max": 25}
    assert read_prompt_lambda(page) == 25

    page.open_form(read_shipped("egox_demo"))
    number_field = page.browser_tab.locator('input[aria-label="lambda_g"]').first
    for number in (25, 3.25):
        number_field.click()
        number_field.press("Control+a")
        page.browser_tab.keyboard.type(str(number))
        page.browser_tab.keyboard.press("Enter")
        page.settle()
        assert read_slider(page)["value"] == number == read_prompt_lambda(page)
        assert float(number_field.input_value()) == number


def double_click_for_field(page, x: float, y: float):
    """Double-click until an input field opens."""
    number_field = page.browser_tab.locator(".graphdialog input")
    for _ in range(10):
        page.browser_tab.wait_for_timeout(1000)
        if number_field.is_visible():
            break
        page.browser_tab.mouse.dblclick(x, y)
    return number_field


SAMPLER_TEXTS = read_json(ROOT / "locales" / "en" / "nodeDefs.json")["EgoXWanSampler"]["inputs"]
STEPS_TOOLTIP = SAMPLER_TEXTS["steps"]["tooltip"]
_PLAYER_SCRIPT = """() => { const player = app.graph.nodes.find((n) => n.title === 'EgoX').widgets.find(
  (w) => w.name === 'egox_preview'); return [player.width ?? null, player.y]; }"""
_HAS_ROW_ELEMENTS_SCRIPT = "() => !!document.querySelector('[data-testid=node-widget]')"


def test_a_subgraphs_inputs_show_names_and_tooltips(open_page, read_shipped):
    """Check the tooltips on the classic canvas, in the form and in the help panel, and the name of
    a text that a link fills."""
    page = open_page(size=(1400, 900), stays_open=True)
    page.load(read_shipped("egox_basic"))
    page.show()
    page.settle()
    height, texts = page.evaluate(_TEXT_ROW_SCRIPT, "EgoX")
    assert height == 20 and [text.lower() for text in texts] == ["prompt"]

    page.load(read_shipped("egox_demo"))
    page.show()
    player_place = page.evaluate(_PLAYER_SCRIPT)
    node = page.evaluate(_SUBGRAPH_SCRIPT)
    x, y = read_rows(page, node)["press"]["steps"]
    page.browser_tab.mouse.move(x - 5, y)
    page.browser_tab.mouse.move(x, y)
    page.browser_tab.locator(".node-tooltip", has_text=STEPS_TOOLTIP).wait_for()
    page.browser_tab.mouse.click(x, page.page_rectangle(page.node_bounds(node), 0)["y"] + 12)
    page.browser_tab.get_by_test_id("info-button").first.click()
    page.browser_tab.get_by_text("Ego video while it is sampled").first.wait_for()
    page.settle(10)
    assert page.evaluate(_PLAYER_SCRIPT) == player_place
    assert player_place[0] is None
    page.open_form(read_shipped("egox_demo"))
    for label, tip in (("Steps", STEPS_TOOLTIP), ("λ_g", SAMPLER_TEXTS["lambda_g"]["tooltip"])):
        row = page.browser_tab.locator(FORM_ROW).filter(has_text=label).first
        row.hover()
        assert tip in row.get_attribute("title")


def test_the_newer_nodes_show_names_and_tooltips(open_page, read_shipped):
    page = open_page(size=(1400, 900), stays_open=True, vue_nodes=True)
    page.load(read_shipped("egox_basic"))
    page.show(page.node_bounds(page.evaluate(_SUBGRAPH_SCRIPT)))
    page.browser_tab.locator("[data-node-id]").get_by_text("prompt").first.wait_for()
    page.load(read_shipped("egox_demo"))
    page.show()
    page.browser_tab.locator("[data-node-id]").first.wait_for()
    if page.evaluate(_HAS_ROW_ELEMENTS_SCRIPT):  # the rows of older pages can't be told apart
        label = page.browser_tab.get_by_test_id("widget-layout-field-label").filter(
            has_text="Steps"
        )
        row = page.browser_tab.get_by_test_id("node-widget").filter(has=label).first
        row.hover()
        assert row.get_attribute("title") == STEPS_TOOLTIP
