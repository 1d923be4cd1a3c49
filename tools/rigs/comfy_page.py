"""The host's page in a real browser: a workflow loaded, run by its button, looked at. For tests and for pictures.

Needs Playwright (the extra ``dev``) and a browser (:mod:`tools.setup.browser`).
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.setup.api_client import ApiClient
from tools.setup.browser import ARGUMENTS

READY_S = 90.0
LOOPBACK = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
"""Where a page that loads nothing from outside the machine may ask."""

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the template chooser covers the first page
    "Comfy.Locale": "en",
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Workflow.WarnBlueprintOverwrite": False,
    "Comfy.Queue.MaxHistoryItems": 4,
    # Text is drawn at every zoom: a picture of a whole graph is not much use without it.
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    "LiteGraph.Canvas.MaximumFps": 20,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,  # a help page that was opened before leaves it open
}

_LISTEN = """() => {
  window.egoxSeen = [];
  for (const kind of ['execution_start', 'execution_cached', 'executed', 'execution_success', 'execution_error',
                      'execution_interrupted']) {
    app.api.addEventListener(kind, (event) => window.egoxSeen.push({ kind, data: event.detail }));
  }
}"""

_PROBLEMS = """(saved) => {
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

_BOUNDS = """() => {
  const boxes = [...app.graph.nodes].map((n) => n.boundingRect ?? n.getBounding())
    .concat([...app.graph.groups].map((g) => g.boundingRect ?? g._bounding));
  const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
  const right = Math.max(...boxes.map((b) => b[0] + b[2])), bottom = Math.max(...boxes.map((b) => b[1] + b[3]));
  return [left, top, right - left, bottom - top];
}"""

_SHOW = """([left, top, width, height, margin]) => {
  const canvas = app.canvas.canvas, ds = app.canvas.ds;
  const w = canvas.clientWidth, h = canvas.clientHeight;
  // The page's own bars lie over the canvas.
  const room = { left: 70, top: 110, right: 20, bottom: 70 };
  ds.scale = Math.min((w - room.left - room.right) / (width + 2 * margin),
                      (h - room.top - room.bottom) / (height + 2 * margin), 1.6);
  ds.offset[0] = room.left / ds.scale - left + margin;
  ds.offset[1] = room.top / ds.scale - top + margin;
  app.canvas.setDirty(true, true);
  return ds.scale;
}"""


class PageError(RuntimeError):
    """The page did not do what was asked of it."""


@contextmanager
def open_browser(executable: Path) -> Iterator[Any]:
    """One headless browser (a Playwright ``Browser``), closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=list(ARGUMENTS), headless=True)
        try:
            yield browser
        finally:
            browser.close()


class ComfyPage:
    """One page of the running server. What it asked for outside this machine is in ``outside``, its faults in
    ``faults``; a test looks at both at its end (:meth:`check`)."""

    def __init__(self, browser: Any, client: ApiClient, *, size: tuple[int, int] = (1600, 1000), theme: str = "dark",
                 vue_nodes: bool = False, touch: bool = False) -> None:
        self.client, self.address, self.vue_nodes = client, client.address, vue_nodes
        self.outside: list[str] = []
        self.faults: list[str] = []
        self.said: list[str] = []
        """What the page wrote into its console, for a failing test's message."""
        client.post("/settings", {**SETTINGS, "Comfy.ColorPalette": theme, "Comfy.VueNodes.Enabled": vue_nodes})
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, has_touch=touch,
                                           reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.on("request", self._on_request)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        # What would leave the machine is stopped as well as noted: a test may run where there is a network.
        self.context.route(lambda url: not url.startswith(LOOPBACK), lambda route: route.abort())

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(LOOPBACK):
            self.outside.append(request.url)

    def open(self, path: str = "/") -> ComfyPage:
        """Go to the page and wait until the graph can be used."""
        self.page.goto(self.address + path, wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.app?.graph && window.app?.canvas && window.app?.extensionManager "
                                    "&& Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 200 "
                                    "&& 'EgoXLoadExoVideo' in window.LiteGraph.registered_node_types",
                                    timeout=READY_S * 1000)
        self.page.wait_for_selector("canvas#graph-canvas", state="visible")
        self.page.evaluate(_LISTEN)
        self.settle()
        return self

    def close(self) -> None:
        self.context.close()

    def check(self) -> None:
        """Refuse a page that asked outside the machine, or in which a script failed.

        Raises:
            PageError: with the addresses or the errors.
        """
        if self.outside:
            raise PageError("the page asked outside this machine: " + ", ".join(self.outside))
        if self.faults:
            raise PageError("scripts of the page failed: " + "; ".join(self.faults))

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def settle(self, frames: int = 3) -> None:
        """Let the page draw."""
        self.page.evaluate("(n) => new Promise((done) => { const step = () => n-- > 0 ? requestAnimationFrame(step) : "
                           "done(); step(); })", frames)

    # -- workflows

    def load(self, workflow: dict[str, Any]) -> None:
        """Load a saved workflow as the page's own file menu would."""
        self.page.evaluate("async (saved) => { await app.loadGraphData(saved, true, true, 'egox'); }", workflow)
        self.settle()

    def problems(self, workflow: dict[str, Any]) -> list[str]:
        """What is wrong with the graph on the canvas, held to the file that it was loaded from; empty if nothing."""
        return self.page.evaluate(_PROBLEMS, workflow)

    def to_prompt(self) -> dict[str, Any]:
        """The graph in the API form, as the page itself would send it."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def saved(self) -> dict[str, Any]:
        """The graph as the page would save it."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")

    def set_widget(self, kind: str, name: str, value: Any) -> None:
        """Set a widget of every node of a type, as a user's hand would."""
        count = self.page.evaluate("""([kind, name, value]) => {
          let count = 0;
          for (const node of app.graph.nodes.filter((n) => n.type === kind)) {
            const widget = node.widgets?.find((w) => w.name === name);
            if (!widget) continue;
            widget.value = value;
            widget.callback?.(value, app.canvas, node);
            count += 1;
          }
          app.canvas.setDirty(true, true);
          return count;
        }""", [kind, name, value])
        if not count:
            raise PageError(f"no node of type {kind} with a widget {name}")

    def open_templates(self, pack: str) -> None:
        """The template chooser, at the cards of a pack."""
        self.page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.BrowseTemplates'); }")
        self.page.get_by_text(pack, exact=True).first.click(timeout=30_000)
        self.page.wait_for_selector('[data-testid^="template-workflow-"]', timeout=30_000)
        self.settle()

    # -- running

    def queue(self) -> None:
        """Click the page's own button."""
        self.page.evaluate("() => { window.egoxSeen.length = 0; }")
        # A mouse that rests on the page's login button (where the editor's close button was) holds a hint open there,
        # on newer pages over this button.
        size = self.page.viewport_size
        self.page.mouse.move(size["width"] / 2, size["height"] * 0.9)
        self.page.get_by_test_id("queue-button").first.click()

    def wait_for_run(self, timeout: float = 240.0) -> list[dict[str, Any]]:
        """Wait for the end of the run; the messages that the page got from the server.

        Raises:
            PageError: the run failed, or did not end in time.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            seen = self.page.evaluate("() => window.egoxSeen")
            kinds = [event["kind"] for event in seen]
            if "execution_success" in kinds:
                self.settle()
                return seen
            if "execution_error" in kinds or "execution_interrupted" in kinds:
                failed = seen[-1]["data"]
                raise PageError(f"{failed.get('node_type')}: {failed.get('exception_message', 'interrupted')}")
            self.page.wait_for_timeout(200)
        raise PageError(f"the run did not end within {timeout:.0f} s; seen: {kinds}; console: {self.said[-8:]}")

    def wait_for_node(self, kind: str, timeout: float = 240.0) -> dict[str, Any]:
        """Wait until a node of a type has given its result to the page; that result."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            output = self.page.evaluate("""(kind) => {
              for (const { kind: what, data } of window.egoxSeen) {
                if (what !== 'executed') continue;
                if (app.graph.getNodeById(Number(data.node))?.type === kind) return data.output;
              }
              return null;
            }""", kind)
            if output is not None:
                return output
            self.page.wait_for_timeout(200)
        raise PageError(f"{kind} gave the page no result within {timeout:.0f} s")

    # -- looking

    def set_theme(self, theme: str) -> None:
        """"dark" or "light"."""
        self.setting("Comfy.ColorPalette", theme)

    def set_vue_nodes(self, on: bool) -> None:
        """The newer node rendering (DOM) or the classic one (canvas)."""
        self.setting("Comfy.VueNodes.Enabled", on)

    def setting(self, name: str, value: Any) -> None:
        self.page.evaluate("async ([name, value]) => { await app.extensionManager.setting.set(name, value); }",
                           [name, value])
        self.settle(10)

    def graph_bounds(self) -> tuple[float, float, float, float]:
        """(x, y, width, height) of all nodes and groups, in the graph's own units."""
        return tuple(self.page.evaluate(_BOUNDS))

    def show(self, bounds: tuple[float, float, float, float] | None = None, margin: float = 20.0) -> float:
        """Pan and zoom so that a part of the graph (x, y, width, height; all of it) fills the page; the zoom."""
        scale = self.page.evaluate(_SHOW, [*(bounds or self.graph_bounds()), margin])
        self.settle(6)
        return scale

    def node_bounds(self, kind: str) -> tuple[float, float, float, float]:
        """(x, y, width, height) of the one node of a type, in the graph's own units, title included."""
        nodes = self.page.evaluate("(kind) => app.graph.nodes.filter((n) => n.type === kind)"
                                   ".map((n) => [...(n.boundingRect ?? n.getBounding())])", kind)
        if len(nodes) != 1:
            raise PageError(f"{len(nodes)} nodes of type {kind}")
        return tuple(nodes[0])

    def on_page(self, bounds: tuple[float, float, float, float], margin: float = 12.0) -> dict[str, float]:
        """A part of the graph as a rectangle of the page, for a picture of it alone."""
        x, y, w, h = bounds
        left, top, scale = self.page.evaluate("([x, y]) => { const ds = app.canvas.ds, box = "
                                              "app.canvas.canvas.getBoundingClientRect(); return [(x + ds.offset[0]) * "
                                              "ds.scale + box.left, (y + ds.offset[1]) * ds.scale + box.top, "
                                              "ds.scale]; }", [x, y])
        size = self.page.viewport_size
        left, top = max(0.0, left - margin), max(0.0, top - margin)
        return {"x": left, "y": top, "width": min(size["width"] - left, w * scale + 2 * margin),
                "height": min(size["height"] - top, h * scale + 2 * margin)}

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """What is on the page now, as PNG."""
        return self.page.screenshot(type="png", clip=clip, animations="disabled", caret="hide")

    def save_picture(self, path: Path, clip: dict[str, float] | None = None, *, width: int = 0,
                     quality: int = 82) -> None:
        """A JPEG of the page (or a part), scaled down to ``width`` px."""
        from PIL import Image

        image = Image.open(io.BytesIO(self.picture(clip))).convert("RGB")
        if width and image.width > width:
            image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=quality, optimize=True, progressive=True)


def read_workflow(path: Path) -> dict[str, Any]:
    """A saved workflow."""
    return json.loads(path.read_text(encoding="utf-8"))
