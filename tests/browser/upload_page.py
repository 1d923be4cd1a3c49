"""The upload on nodes by hand: its button, a drop, what it says, and the widgets that it sets at
any depth."""

from pathlib import Path
from typing import Any

from tests.browser.page import PageUnderTest

LOADER, DEPTH, POSES = "EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXEgoPoseInput"
# ``node`` is the one of ``kind``, ``widget(name)`` one of its widgets.
_NODE = """const nodes = [];
  const walk = (graph) => { for (const n of graph.nodes) { nodes.push(n); if (n.subgraph) walk(n.subgraph); } };
  walk(app.rootGraph ?? app.graph);
  const node = nodes.find((n) => n.type === kind);
  const widget = (name) => node.widgets.find((w) => w.name === name);"""
_ELEMENT = "(kind) => { " + _NODE + " return widget('egox_upload').element; }"
_SET = (
    """([kind, name, value]) => { """
    + _NODE
    + """
  const link = node.graph.getLink(node.inputs.find((i) => i.widget?.name === name)?.link);
  const entry = node.graph.inputNode;
  const outer = link && link.origin_id === entry?.id ? entry.slots[link.origin_slot].name : null;
  const holders = nodes.filter((n) => outer && n.subgraph === node.graph).map((n) => [n, outer]);
  for (const [holder, own] of [...holders, [node, name]]) {
    const widget = holder.widgets.find((w) => w.name === own);
    if (widget) { widget.value = value; widget.callback?.(value, app.canvas, holder); }
  }
}"""
)
_VALUE = "([kind, name]) => { " + _NODE + " return widget(name).value; }"
_SAID = "widget('egox_upload').element.querySelector('[data-testid=egox-upload-note]').textContent"
_NOTE = "(kind) => { " + _NODE + f" return {_SAID}; }}"


# The second is a newer page's.
TOASTS = """() => [...document.querySelectorAll('.p-toast-message, [data-testid="toast"]')].map((e) => e.innerText)"""


def toast_of(page: PageUnderTest, words: str) -> str:
    """Wait for the page's message with these words, and return its text."""
    page.page.wait_for_function(
        f"(words) => ({TOASTS})().some((text) => text.includes(words))", arg=words
    )
    return next(text for text in page.evaluate(TOASTS) if words in text)


def value(page: PageUnderTest, kind: str, name: str) -> Any:
    return page.evaluate(_VALUE, [kind, name])


def set_value(page: PageUnderTest, kind: str, name: str, to: Any) -> None:
    """Set a value as a hand would, on the sub-graph's own node if the input is there."""
    page.evaluate(_SET, [kind, name, to])


def choose(page: PageUnderTest, kind: str, *files: Path) -> None:
    """Choose files by the node's button."""
    button = page.page.evaluate_handle(_ELEMENT, kind).as_element().query_selector("button")
    with page.page.expect_file_chooser() as chooser:
        button.click()
    offered = chooser.value.element.get_attribute("accept").split(",")
    assert {file.suffix for file in files} <= set(offered), offered
    chooser.value.set_files(list(files))


def told(page: PageUnderTest, kind: str, words: str) -> str:
    """Wait until the node's text contains these words, and return it."""
    page.page.wait_for_function(
        f"([kind, words]) => {{ {_NODE} return {_SAID}.includes(words); }}", arg=[kind, words]
    )
    return page.evaluate(_NOTE, kind)


def drop_from_desktop(page: PageUnderTest, place: tuple[float, float], *paths: Path) -> None:
    """Drop files as a file manager does, folders too."""
    data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
    session = page.page.context.new_cdp_session(page.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent", {"type": kind, "x": place[0], "y": place[1], "data": data}
        )
        page.page.wait_for_timeout(100)


def on_node(page: PageUnderTest, kind: str) -> tuple[float, float]:
    """Find a place of the page on a node's upper edge, below its title."""
    bounds = page.node_bounds(kind)
    page.show(bounds)
    rectangle = page.on_page((bounds[0], bounds[1], bounds[2], bounds[3]), 0)
    return rectangle["x"] + rectangle["width"] / 2, rectangle["y"] + 12
