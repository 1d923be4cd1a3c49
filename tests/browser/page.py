"""Drive ComfyUI's page in tests: find faults, run graphs and take pictures."""

import base64
import io
import re
import time
from typing import Any

import numpy as np

from tools.rigs.comfy_page import FORM_ROW, ComfyPage, PageError

_LISTEN_SCRIPT = """() => {
  const listens = window.egoxSeen;
  window.egoxSeen = [];
  if (listens) return;
  for (const kind of ['execution_start', 'execution_cached', 'executed', 'execution_success', 'execution_error',
                      'execution_interrupted']) {
    app.api.addEventListener(kind, (event) => window.egoxSeen.push({ kind, data: event.detail }));
  }
}"""

_PROBLEMS_SCRIPT = """(saved) => {
  const faults = [];
  for (const node of app.graph.nodes) {
    if (!(node.type in LiteGraph.registered_node_types)) faults.push(`node ${node.id}: no node type ${node.type}`);
    if (node.has_errors) faults.push(`node ${node.id} (${node.type}) is marked as faulty`);
  }
  const links = [...app.graph.links.values()];
  if (app.graph.nodes.length !== saved.nodes.length)
    faults.push(`${app.graph.nodes.length} nodes on the canvas, ${saved.nodes.length} in the file`);
  if (links.length !== saved.links.length)
    faults.push(`${links.length} links on the canvas, ${saved.links.length} in the file`);
  for (const link of links) {
    const from = app.graph.getNodeById(link.origin_id)?.outputs?.[link.origin_slot];
    const to = app.graph.getNodeById(link.target_id)?.inputs?.[link.target_slot];
    if (!from || !to || to.link !== link.id || !from.links?.includes(link.id))
      faults.push(`link ${link.id} is loose`);
    else if (!LiteGraph.isValidConnection(from.type, to.type))
      faults.push(`link ${link.id}: ${from.type} into ${to.type}`);
  }
  return faults;
}"""


_PAUSE_SCRIPT = """(pause) => {
  const before = app.canvas.pause_rendering;
  app.canvas.pause_rendering = pause;
  return before;
}"""
END_KINDS = {"execution_success", "execution_error", "execution_interrupted"}


def read_picture(data_url: str) -> np.ndarray:  # [H, W, 4] int, RGBA
    """Read the pixels of a canvas from its data URL, since a list of numbers takes a second."""
    from PIL import Image

    png_bytes = base64.b64decode(data_url.partition(",")[2])
    return np.array(Image.open(io.BytesIO(png_bytes)).convert("RGBA"), dtype=int)


class PageUnderTest(ComfyPage):
    """Drive a page and record the messages that it gets from the server."""

    def open(self, path: str = "/", *, anew: bool = False) -> "PageUnderTest":
        """Open ComfyUI's page and start recording its messages."""
        super().open(path, anew=anew)
        self.evaluate(_LISTEN_SCRIPT)
        return self

    def open_form(self, saved_graph: dict[str, Any]) -> None:
        """Load a workflow as ComfyUI's form, and wait until all rows of the form are shown."""
        self.load(saved_graph, form=True)
        rows = len(saved_graph["extra"]["linearData"]["inputs"])
        self.browser_tab.locator(FORM_ROW).nth(rows - 1).wait_for()

    def problems(self, workflow: dict[str, Any]) -> list[str]:
        """List how the graph on the canvas differs from the file that it was loaded from."""
        return self.evaluate(_PROBLEMS_SCRIPT, workflow)

    def complaints(self) -> list[str]:
        """List errors and warnings of this pack and its nodes in the console.

        The newest page writes a note wherever a form's row belongs to a subgraph, although the
        row is there."""
        pack_message = re.compile(
            r"^(error|warning): (?!\[appModeStore\]).*(egox|comfyui-egox)", re.I | re.S
        )
        return [line for line in self.console_lines if pack_message.match(line)]

    def widget(self, kind: str, name: str) -> Any:
        """Read the value of a widget on the only node of a type, at the top level."""
        return self.evaluate(
            "([kind, name]) => app.graph.nodes.find((n) => n.type === kind)"
            ".widgets.find((w) => w.name === name).value",
            [kind, name],
        )

    def serialize_graph(self) -> dict[str, Any]:
        """Serialize the graph as the page would save it."""
        return self.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")

    def open_templates(self, pack: str) -> None:
        """Open the template chooser at the cards of a pack."""
        self.evaluate(
            "async () => { await app.extensionManager.command.execute('Comfy.BrowseTemplates'); }"
        )
        self.browser_tab.get_by_text(pack, exact=True).first.click()
        self.browser_tab.wait_for_selector('[data-testid^="template-workflow-"]')
        self.settle()

    # -- running

    def queue(self) -> None:
        """Click the Run button of ComfyUI's page."""
        self.evaluate("() => { window.egoxSeen.length = 0; }")
        # A mouse that rests on the page's login button (where the editor's close button was) holds
        # a hint open there, on newer pages over this button.
        viewport_size = self.browser_tab.viewport_size
        self.browser_tab.mouse.move(viewport_size["width"] / 2, viewport_size["height"] * 0.9)
        self.browser_tab.get_by_test_id("queue-button").first.click()

    def run_form(self, timeout: float = 600.0) -> None:
        """Click the Run button of the form, and wait for the end of the run."""
        self.evaluate("() => { window.egoxSeen.length = 0; }")
        self.browser_tab.get_by_role("button", name="Run", exact=True).last.click()
        self.wait_for_run(timeout)

    def wait_for_run(self, timeout: float = 600.0) -> list[dict[str, Any]]:
        """Wait until the run has ended, and return the server's messages.

        Raises:
            PageError: the run failed, or did not end in time.
        """
        was_paused = self.evaluate(_PAUSE_SCRIPT, True)  # nobody looks at it
        try:
            event_kinds = self._wait_for_last_event(timeout)
        finally:
            self.evaluate(_PAUSE_SCRIPT, was_paused)
        events = self.evaluate("() => window.egoxSeen")
        if "execution_success" not in event_kinds:
            error_data = events[-1]["data"]
            raise PageError(
                f"{error_data.get('node_type')}: "
                f"{error_data.get('exception_message', 'interrupted')}"
            )
        self.settle()
        return events

    def _wait_for_last_event(self, timeout: float) -> list[str]:
        """Wait until the run has ended, and list the kinds of the server's messages."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            event_kinds = self.evaluate("() => window.egoxSeen.map(({ kind }) => kind)")
            if END_KINDS & {*event_kinds}:
                return event_kinds
            self.browser_tab.wait_for_timeout(500)
        raise PageError(
            f"the run did not end within {timeout:.0f} s; seen: {event_kinds}; console: "
            f"{self.console_lines[-8:]}"
        )

    def wait_for_node(self, kind: str) -> dict[str, Any]:
        """Wait until the only node of a type has sent its result to the page, and return it."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            output = self.evaluate(
                """(kind) => {
              for (const { kind: what, data } of window.egoxSeen) {
                if (what !== 'executed') continue;
                let node = null, graph = app.graph;
                for (const part of String(data.node).split(':')) {
                  node = graph?.getNodeById(Number(part));
                  graph = node?.subgraph;
                }
                if (node?.type === kind) return data.output;
              }
              return null;
            }""",
                kind,
            )
            if output is not None:
                return output
            self.browser_tab.wait_for_timeout(200)
        raise PageError(f"{kind} gave the page no result within 600 s")

    def list_lasting_faults(self, script: str, timeout: float = 10.0) -> list[Any]:
        """Repeat a script that lists faults until it finds none or the time is up."""
        deadline = time.monotonic() + timeout
        while (faults := self.evaluate(script)) and time.monotonic() < deadline:
            self.browser_tab.wait_for_timeout(200)
        return faults

    def page_rectangle(
        self, bounds: tuple[float, float, float, float], margin: float = 12.0
    ) -> dict[str, float]:
        """Convert a rectangle of the graph to pixels of the page."""
        x, y, w, h = bounds
        left, top, scale = self.evaluate(
            "([x, y]) => { const ds = app.canvas.ds, box = "
            "app.canvas.canvas.getBoundingClientRect(); return [(x + ds.offset[0]) * "
            "ds.scale + box.left, (y + ds.offset[1]) * ds.scale + box.top, "
            "ds.scale]; }",
            [x, y],
        )
        viewport_size = self.browser_tab.viewport_size
        left, top = max(0.0, left - margin), max(0.0, top - margin)
        return {
            "x": left,
            "y": top,
            "width": min(viewport_size["width"] - left, w * scale + 2 * margin),
            "height": min(viewport_size["height"] - top, h * scale + 2 * margin),
        }

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """Take a screenshot of the page, as PNG."""
        return self.browser_tab.screenshot(
            type="png", clip=clip, animations="disabled", caret="hide"
        )
