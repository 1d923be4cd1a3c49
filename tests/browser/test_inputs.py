"""The inputs of our nodes in the page: rare ones out of sight, the same values, whatever is
shown."""

from typing import Any

import pytest

from .test_form import open_form

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


def seen(page, node: str) -> dict[str, Any]:
    page.settle()
    return page.evaluate(_SEEN, node)


def edited(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("egox_") and name != "upload"]


def press(page, node: str, name: str) -> None:
    page.show(page.node_bounds(node))
    x, y = seen(page, node)["press"][name]
    page.page.mouse.click(x, y)
    page.settle()


def packed(state: dict[str, Any]) -> bool:
    """Row under row without a gap, and none below the node's edge."""
    rows = sorted(state["rows"].values())
    return (
        all(
            end <= start + 0.5 and start - end < 8
            for (_, end), (start, _) in zip(rows, rows[1:], strict=False)
        )
        and rows[-1][1] <= state["height"] + 0.5
    )


def test_rare_inputs_come_go_and_are_saved_on_the_classic_canvas(same_page, unpacked):
    page = same_page(size=(1200, 800))
    page.load(unpacked("egox_demo"))
    node = "EgoXWanSampler"
    page.show(page.node_bounds(node))
    before = seen(page, node)
    assert (
        "gga_mode" not in before["names"]
        and "lambda_g" in before["names"]
        and ROW in before["names"]
    )
    assert len(edited(before["names"])) <= MOST and packed(before), before["rows"]
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


def test_every_node_opens_short_and_packed(same_page, unpacked):
    page = same_page(size=(1200, 800))
    kinds = page.evaluate("""() => Object.keys(LiteGraph.registered_node_types).filter(
      (k) => k.startsWith('EgoX') && !k.startsWith('EgoXTests'))""")
    assert len(kinds) > 20
    page.load({**unpacked("egox_demo"), "nodes": [], "links": [], "groups": []})
    page.evaluate(
        """(kinds) => kinds.forEach((kind, i) => {
      const node = LiteGraph.createNode(kind);
      node.pos = [(i % 6) * 600, Math.floor(i / 6) * 1100];
      app.graph.add(node);
    })""",
        kinds,
    )
    page.show()
    for kind in kinds:
        state = seen(page, kind)
        assert len(edited(state["names"])) <= MOST, f"{kind}: {state['names']}"
        assert not state["rows"] or packed(state), f"{kind}: {state['rows']}, {state['height']}"


# Of the node that has λ_g on the canvas: the sampler, or the subgraph around it.
_SLIDER = """() => {
  const of = (node) => node.widgets?.find((w) => w.name === 'lambda_g');
  const node = app.graph.nodes.find(of), { value, type, options } = of(node);
  return { node: node.type, value, type, min: options.min, max: options.max };
}"""


def slider(page) -> dict[str, Any]:
    seen = page.evaluate(_SLIDER)
    del seen["node"]
    return seen


def with_lambda(saved: dict[str, Any], value: float) -> dict[str, Any]:
    """A saved graph with that λ_g: 3.0 stands once among the values of a node that has it. Older
    pages keep a subgraph's value in the node within it."""
    graphs = [saved, *saved.get("definitions", {}).get("subgraphs", [])]
    for node in (node for graph in graphs for node in graph["nodes"]):
        if any(slot["name"] == "lambda_g" for slot in node["inputs"]):
            node["widgets_values"][node["widgets_values"].index(3.0)] = value
    return saved


def saved_lambda(page) -> float:
    return next(
        n["inputs"]["lambda_g"]
        for n in page.to_prompt().values()
        if n["class_type"] == "EgoXWanSampler"
    )


def test_a_value_beyond_the_slider_stays_and_any_number_can_be_typed(same_page, shipped):
    page = same_page(size=(1200, 800))
    page.load(shipped("egox_demo"))
    assert slider(page) == {"value": 3, "type": "slider", "min": 0, "max": 10}
    x, y = pressed(page)
    page.page.mouse.click(x, y)
    dragged = slider(page)["value"]
    assert dragged == pytest.approx(5, abs=0.3) and dragged * 10 == pytest.approx(
        round(dragged * 10)
    )
    field = double_clicked(page, x, y)
    assert float(field.input_value()) == dragged
    field.fill("3.25")
    field.press("Enter")
    assert slider(page)["value"] == 3.25

    saved = with_lambda(shipped("egox_demo"), 25)
    page.load(saved)
    assert slider(page) == {"value": 25, "type": "slider", "min": 0, "max": 25}
    again = page.saved()
    page.load(again)
    assert slider(page)["value"] == 25 and saved_lambda(page) == 25


def pressed(page) -> list[float]:
    node = page.evaluate(_SLIDER)["node"]
    page.show(page.node_bounds(node))
    return seen(page, node)["press"]["lambda_g"]


def double_clicked(page, x: float, y: float):
    """The field that opens; a page that is slow between the two clicks takes them for two, as it
    would a person's."""
    field = page.page.locator(".graphdialog input")
    for _ in range(10):
        page.page.wait_for_timeout(1000)
        if field.is_visible():
            break
        page.page.mouse.dblclick(x, y)
    return field


def test_any_number_can_be_typed_in_the_form(same_page, shipped):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_demo"))
    field = page.page.locator('input[aria-label="lambda_g"]').first
    for number in (25, 3.25):
        field.click()
        field.press("Control+a")
        page.page.keyboard.type(str(number))
        page.page.keyboard.press("Enter")
        page.settle()
        assert slider(page)["value"] == number == saved_lambda(page)
        assert float(field.input_value()) == number
