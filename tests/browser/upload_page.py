"""Operate the upload controls of nodes on an open page."""

from pathlib import Path
from typing import Any

from tests.browser.page import PageUnderTest

LOADER, DEPTH, POSES = "EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXEgoPoseInput"
# Defines ``node``, the only one of type ``kind``, and ``widget(name)``, which finds one of its
# widgets.
_NODE_SCRIPT = """const nodes = [];
  const walk = (graph) => { for (const n of graph.nodes) { nodes.push(n); if (n.subgraph) walk(n.subgraph); } };
  walk(app.rootGraph ?? app.graph);
  const node = nodes.find((n) => n.type === kind);
  const widget = (name) => node.widgets.find((w) => w.name === name);"""
_ELEMENT_SCRIPT = "(kind) => { " + _NODE_SCRIPT + " return widget('egox_upload').element; }"
_SET_SCRIPT = (
    """([kind, name, value]) => { """
    + _NODE_SCRIPT
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
_VALUE_SCRIPT = "([kind, name]) => { " + _NODE_SCRIPT + " return widget(name).value; }"
_NOTE_EXPRESSION = (
    "widget('egox_upload').element.querySelector('[data-testid=egox-upload-note]').textContent"
)
_NOTE_SCRIPT = "(kind) => { " + _NODE_SCRIPT + f" return {_NOTE_EXPRESSION}; }}"


# The second is a newer page's.
TOASTS = """() => [...document.querySelectorAll('.p-toast-message, [data-testid="toast"]')].map((e) => e.innerText)"""


def wait_for_toast(page: PageUnderTest, words: str) -> str:
    """Wait for the page's message that contains these words, and return its text."""
    page.wait_until(f"(words) => ({TOASTS})().some((text) => text.includes(words))", words)
    return next(text for text in page.evaluate(TOASTS) if words in text)


def read_value(page: PageUnderTest, kind: str, name: str) -> Any:
    return page.evaluate(_VALUE_SCRIPT, [kind, name])


def set_value(page: PageUnderTest, kind: str, name: str, new_value: Any) -> None:
    """Set a node's value as a user does."""
    page.evaluate(_SET_SCRIPT, [kind, name, new_value])


def choose_files(page: PageUnderTest, kind: str, *files: Path) -> None:
    """Choose files by the node's upload button."""
    button = (
        page.browser_tab.evaluate_handle(_ELEMENT_SCRIPT, kind)
        .as_element()
        .query_selector("button")
    )
    with page.browser_tab.expect_file_chooser() as file_chooser:
        button.click()
    accepted_suffixes = file_chooser.value.element.get_attribute("accept").split(",")
    assert {file.suffix for file in files} <= set(accepted_suffixes), accepted_suffixes
    file_chooser.value.set_files(list(files))


def wait_for_upload_note(page: PageUnderTest, kind: str, words: str) -> str:
    """Wait until the node's upload note contains these words, and return its text."""
    page.wait_until(
        f"([kind, words]) => {{ {_NODE_SCRIPT} return {_NOTE_EXPRESSION}.includes(words); }}",
        [kind, words],
    )
    return page.evaluate(_NOTE_SCRIPT, kind)


def drop_from_desktop(page: PageUnderTest, place: tuple[float, float], *paths: Path) -> None:
    """Drop files and folders on the page as a file manager does."""
    data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
    session = page.browser_tab.context.new_cdp_session(page.browser_tab)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent", {"type": kind, "x": place[0], "y": place[1], "data": data}
        )
        page.browser_tab.wait_for_timeout(100)


def point_on_node(page: PageUnderTest, kind: str) -> tuple[float, float]:
    """Find a point of the page on a node's upper edge, below its title."""
    bounds = page.node_bounds(kind)
    page.show(bounds)
    rectangle = page.page_rectangle((bounds[0], bounds[1], bounds[2], bounds[3]), 0)
    return rectangle["x"] + rectangle["width"] / 2, rectangle["y"] + 12
