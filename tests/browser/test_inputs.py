"""The inputs of our nodes in the page: rare ones out of sight, the same values, whatever is shown."""

from __future__ import annotations

from typing import Any

import pytest

MOST = 8  # rows of a node that can be edited, as it opens

# Of one node: the names of the widgets that are drawn, where each lies, and how high the node is.
_SEEN = """(type) => {
  const node = app.graph.nodes.find((n) => n.type === type);
  const shown = (node.widgets ?? []).filter((w) => node.isWidgetVisible(w));
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
    return (all(end <= start + 0.5 and start - end < 8 for (_, end), (start, _) in zip(rows, rows[1:], strict=False))
            and rows[-1][1] <= state["height"] + 0.5)


def test_rare_inputs_come_and_go_on_the_classic_canvas(open_page, unpacked) -> None:
    page = open_page()
    page.load(unpacked("egox_demo"))
    node = "EgoXWanSampler"
    page.show(page.node_bounds(node))
    before = seen(page, node)
    assert "gga_mode" not in before["names"] and "lambda_g" in before["names"] and ROW in before["names"]
    assert len(edited(before["names"])) <= MOST and packed(before), before["rows"]
    press(page, node, ROW)
    opened = seen(page, node)
    assert {"gga_mode", "rays", "shift", "backend"} <= set(opened["names"]) and packed(opened), opened["rows"]
    assert opened["height"] > before["height"] + 200 and opened["text"] != before["text"]
    press(page, node, ROW)
    after = seen(page, node)
    assert after["names"] == before["names"] and after["height"] == pytest.approx(before["height"], abs=1)
    assert after["values"] == opened["values"] == before["values"]


def test_every_node_opens_short_and_packed(open_page, unpacked) -> None:
    page = open_page(size=(1200, 800))
    kinds = page.evaluate("""() => Object.keys(LiteGraph.registered_node_types).filter(
      (k) => k.startsWith('EgoX') && !k.startsWith('EgoXTests'))""")
    assert len(kinds) > 20
    page.load({**unpacked("egox_demo"), "nodes": [], "links": [], "groups": []})
    page.evaluate("""(kinds) => kinds.forEach((kind, i) => {
      const node = LiteGraph.createNode(kind);
      node.pos = [(i % 6) * 600, Math.floor(i / 6) * 1100];
      app.graph.add(node);
    })""", kinds)
    page.show()
    for kind in kinds:
        state = seen(page, kind)
        assert len(edited(state["names"])) <= MOST, f"{kind}: {state['names']}"
        assert not state["rows"] or packed(state), f"{kind}: {state['rows']}, {state['height']}"


def test_a_link_or_the_hosts_setting_shows_a_rare_input(open_page, unpacked) -> None:
    page = open_page(size=(1200, 800))
    page.load(unpacked("egox_demo"))
    node = "EgoXWanSampler"
    page.evaluate("""(type) => {
      const number = LiteGraph.createNode('PrimitiveFloat');
      app.graph.add(number);
      const node = app.graph.nodes.find((n) => n.type === type);
      number.connect(0, node, node.inputs.findIndex((input) => input.name === 'shift'));
    }""", node)
    assert "shift" in seen(page, node)["names"]
    setting = "Comfy.Node.AlwaysShowAdvancedWidgets"
    page.evaluate("(name) => app.extensionManager.setting.set(name, true)", setting)
    try:
        always = seen(page, node)
        assert "backend" in always["names"] and ROW not in always["names"]
    finally:
        page.evaluate("(name) => app.extensionManager.setting.set(name, false)", setting)


def test_saved_with_rare_inputs_open_or_shut_the_values_are_the_same(open_page, unpacked) -> None:
    page = open_page(size=(1200, 800))
    saved = unpacked("egox_basic")
    page.load(saved)
    first = page.saved()
    sampler = next(node for node in first["nodes"] if node["type"] == "EgoXWanSampler")
    page.evaluate("() => app.graph.nodes.filter((n) => n.hasAdvancedWidgets()).forEach((n) => n.toggleAdvanced())")
    page.load(page.saved())
    again = page.saved()
    for node in saved["nodes"]:
        for loaded in (first, again):
            other = next(n for n in loaded["nodes"] if n["id"] == node["id"])
            assert other.get("widgets_values") == node.get("widgets_values"), node["type"]
    assert next(n for n in again["nodes"] if n["id"] == sampler["id"])["showAdvanced"] is True
    assert "backend" in seen(page, "EgoXWanSampler")["names"]


def slider(page) -> dict[str, Any]:
    return page.evaluate("""() => {
      const { value, type, options } = app.graph.nodes.find((n) => n.type === 'EgoXWanSampler').widgets
        .find((w) => w.name === 'lambda_g');
      return { value, type, min: options.min, max: options.max };
    }""")


def with_lambda(saved: dict[str, Any], value: float) -> dict[str, Any]:
    """A saved graph with that λ_g: 3.0 stands once among the sampler's values."""
    sampler = next(node for node in saved["nodes"] if node["type"] == "EgoXWanSampler")
    sampler["widgets_values"][sampler["widgets_values"].index(3.0)] = value
    return saved


def saved_lambda(page) -> float:
    return next(n["inputs"]["lambda_g"] for n in page.to_prompt().values() if n["class_type"] == "EgoXWanSampler")


def test_a_value_beyond_the_slider_stays_and_any_number_can_be_typed(open_page, unpacked) -> None:
    page = open_page()
    page.load(unpacked("egox_demo"))
    assert slider(page) == {"value": 3, "type": "slider", "min": 0, "max": 10}
    x, y = pressed(page)
    page.page.mouse.click(x, y)
    dragged = slider(page)["value"]
    assert dragged == pytest.approx(5, abs=0.3) and dragged * 10 == pytest.approx(round(dragged * 10))
    page.page.wait_for_timeout(700)
    page.page.mouse.dblclick(x, y)
    field = page.page.locator(".graphdialog input")
    assert float(field.input_value()) == dragged
    field.fill("3.25")
    field.press("Enter")
    assert slider(page)["value"] == 3.25

    saved = with_lambda(unpacked("egox_demo"), 25)
    page.load(saved)
    assert slider(page) == {"value": 25, "type": "slider", "min": 0, "max": 25}
    again = page.saved()
    page.load(again)
    assert slider(page)["value"] == 25 and saved_lambda(page) == 25
    values = {n["id"]: n.get("widgets_values") for n in again["nodes"]}
    assert values == {n["id"]: n.get("widgets_values") for n in saved["nodes"]}


def pressed(page) -> list[float]:
    page.show(page.node_bounds("EgoXWanSampler"))
    return seen(page, "EgoXWanSampler")["press"]["lambda_g"]


def test_the_same_in_the_newer_nodes(open_page, unpacked) -> None:
    page = open_page(vue_nodes=True)
    page.load(with_lambda(unpacked("egox_demo"), 25))
    page.show(page.node_bounds("EgoXWanSampler"))
    field = page.page.locator('input[aria-label="lambda_g"]').first
    field.wait_for(timeout=30_000)
    assert float(field.input_value()) == 25
    field.focus()
    field.blur()
    assert slider(page)["value"] == 25 and saved_lambda(page) == 25
    field.press("Control+a")
    page.page.keyboard.type("3.25")
    page.page.keyboard.press("Tab")
    page.settle()
    assert slider(page)["value"] == 3.25


@pytest.mark.parametrize("leave", ["Enter", "Tab"])
def test_a_number_beyond_the_slider_is_typed_in_the_newer_nodes(open_page, shipped, leave: str) -> None:
    page = open_page(vue_nodes=True)
    page.load(shipped("egox_demo"))
    page.show(page.node_bounds("EgoXWanSampler"))
    field = page.page.locator('input[aria-label="lambda_g"]').first
    field.wait_for(timeout=30_000)
    for number in (25, 4, 60):
        field.click()
        field.press("Control+a")
        page.page.keyboard.type(str(number))
        page.page.keyboard.press(leave)
        page.settle()
        assert slider(page)["value"] == number == saved_lambda(page)
        assert float(field.input_value()) == number
