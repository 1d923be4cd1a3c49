"""Drive ComfyUI's page in a real browser, for tests and pictures.

Needs Playwright (the extra ``dev``) and a browser (:mod:`tools.setup.browser`).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tools.setup.api_client import ApiClient
from tools.setup.browser import ARGUMENTS

WAIT_LIMIT_S = 120.0  # limit of one wait, long enough for a busy machine
QUIET_PATH = "/system_stats"
FORM_ROW = '[data-testid="app-mode-widget-item"]'
LOOPBACK = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
"""Beginnings of the addresses that a page may request without leaving the machine."""

SETTINGS = {
    "Comfy.OnboardingCoachmarks.Seen": ["appMode"],  # newer pages lay a tour over the first form
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

_EMPTY_SCRIPT = """async (settings) => {
  if (!window.app?.extensionManager) return false;
  window.egoxWake?.();
  const { command, setting, toast, workflow } = app.extensionManager;
  app.canvas.pause_rendering = false;
  (toast.dismissAll ?? toast.removeAll)();
  await command.execute('Comfy.NewBlankWorkflow');
  if (app.lastNodeErrors) return false;  // older pages mark the nodes of the next graph, too
  for (const tab of [...workflow.openWorkflows]) if (tab !== workflow.activeWorkflow) await workflow.closeWorkflow(tab);
  localStorage.clear();
  sessionStorage.clear();
  for (const [name, value] of Object.entries(settings)) await setting.set(name, value);
  await app.reloadNodeDefs();  // refreshComboInNodes shows a message, after which the page is slow
  return true;
}"""
"""Empties an open page, and sets its settings as a new user's."""

_REST_SCRIPT = """async () => {
  if (!window.app?.extensionManager) return;
  await app.extensionManager.command.execute('Comfy.NewBlankWorkflow');
  app.canvas.pause_rendering = true;
  const frame = window.requestAnimationFrame, waiting = [];
  window.requestAnimationFrame = (step) => waiting.push(step);
  window.egoxWake = () => {
    window.requestAnimationFrame = frame;
    waiting.splice(0).forEach((step) => frame(step));
  };
}"""
"""Leaves a page nothing to draw, and lets none of its loops look in each frame whether there is."""

_BOUNDS_SCRIPT = """() => {
  const boxes = [...app.graph.nodes].map((n) => n.boundingRect ?? n.getBounding())
    .concat([...app.graph.groups].map((g) => g.boundingRect ?? g._bounding));
  const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
  const right = Math.max(...boxes.map((b) => b[0] + b[2])), bottom = Math.max(...boxes.map((b) => b[1] + b[3]));
  return [left, top, right - left, bottom - top];
}"""

_SHOW_SCRIPT = """([left, top, width, height, margin]) => {
  const canvas = app.canvas.canvas, ds = app.canvas.ds;
  const w = canvas.clientWidth, h = canvas.clientHeight;
  // The page's own bars are over the canvas.
  const room = { left: 70, top: 110, right: 20, bottom: 70 };
  ds.scale = Math.min((w - room.left - room.right) / (width + 2 * margin),
                      (h - room.top - room.bottom) / (height + 2 * margin), 1.6);
  ds.offset[0] = room.left / ds.scale - left + margin;
  ds.offset[1] = room.top / ds.scale - top + margin;
  app.canvas.setDirty(true, true);
  return ds.scale;
}"""


class PageError(RuntimeError):
    """Report that the page did not do what was requested."""


class PagePool:
    """Keep the pages of a headless browser open, since ComfyUI's page takes long to start."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._free: list[Any] = []

    def take(self, size: tuple[int, int]) -> Any:
        """Return a browser page of the given size, in which ComfyUI's page may be open."""
        viewport_size = dict(zip(("width", "height"), size, strict=True))
        if self._free:
            page = self._free.pop()
            page.set_viewport_size(viewport_size)
            return page
        return self._browser.new_context(viewport=viewport_size, reduced_motion="reduce").new_page()

    def give_back(self, page: Any, address: str, *, stays_open: bool) -> None:
        """Keep a browser page for reuse, with or without ComfyUI's page."""
        from playwright.sync_api import Error

        try:
            page.unroute_all(behavior="ignoreErrors")
            page.mouse.move(0, 0)
            if stays_open:
                page.evaluate(_REST_SCRIPT)
            else:
                page.goto(address + QUIET_PATH)
        except Error:  # a page that a failed test left in the middle of something
            page.context.close()
        else:
            self._free.append(page)


@contextmanager
def open_browser(executable: Path) -> Iterator[PagePool]:
    """Start a headless browser, and close it at the end."""
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=str(executable), args=list(ARGUMENTS), headless=True
        ) as browser,
    ):
        yield PagePool(browser)


class ComfyPage:
    """Drive one browser page of the running ComfyUI server.

    ``outside`` lists its requests to other machines, and ``faults`` its errors, which
    :meth:`check` reports at the end of a test.
    """

    def __init__(
        self,
        pages: PagePool,
        client: ApiClient,
        *,
        size: tuple[int, int] = (1600, 1000),
        theme: str = "dark",
        vue_nodes: bool = False,
        is_first_visit: bool = False,
    ) -> None:
        self.client = client
        self.address = client.address
        self.vue_nodes = vue_nodes
        self._tabs: dict[Any, int] = {}
        self.outside: list[str] = []
        self.faults: list[str] = []
        self.console_lines: list[str] = []
        """Console output of the page, for a failing test's message."""
        self._settings = {
            **SETTINGS,
            "Comfy.ColorPalette": theme,
            "Comfy.VueNodes.Enabled": vue_nodes,
            "Comfy.TutorialCompleted": not is_first_visit,  # until then the template chooser opens
        }
        client.post("/settings", self._settings)
        self.browser_tab = pages.take(size)
        self.browser_tab.set_default_timeout(WAIT_LIMIT_S * 1000)
        self._give_back = partial(pages.give_back, self.browser_tab, self.address)
        self._listeners = {
            "request": self._on_request,
            "pageerror": self._on_error,
            "console": self._on_console,
        }
        for event, listener in self._listeners.items():
            self.browser_tab.on(event, listener)

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(LOOPBACK):
            self.outside.append(request.url)

    def _on_error(self, error: Any) -> None:
        self.faults.append(str(error))

    def _on_console(self, message: Any) -> None:
        self.console_lines.append(f"{message.type}: {message.text}")

    def open(self, path: str = "/", *, anew: bool = False) -> "ComfyPage":
        """Open ComfyUI's page, or empty the one that is open, and wait for its first workflow.

        With ``anew``, and for another address than the first page's, it starts as a new user's."""
        if path == "/" and not anew and self.evaluate(_EMPTY_SCRIPT, self._settings):
            self.settle()
            return self
        self.browser_tab.goto(self.address + QUIET_PATH)  # no script of the host's that could write
        self.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        devtools_session = self.browser_tab.context.new_cdp_session(self.browser_tab)
        all_data = {"origin": self.address, "storageTypes": "all"}
        devtools_session.send("Storage.clearDataForOrigin", all_data)
        devtools_session.detach()
        self.browser_tab.goto(self.address + path, wait_until="domcontentloaded")
        self.wait_until(
            "() => window.app?.graph && window.app?.canvas && window.app?.extensionManager "
            "&& Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 200 "
            "&& 'EgoXLoadExoVideo' in window.LiteGraph.registered_node_types "
            "&& app.extensionManager.workflow?.activeWorkflow && !app.extensionManager.spinner",
        )
        # A template may open as a form, which covers the canvas.
        self.browser_tab.locator(
            f"canvas#graph-canvas:visible, {FORM_ROW}:visible"
        ).first.wait_for()
        self.settle()
        return self

    def close(self, *, stays_open: bool = False) -> None:
        """Return the browser page to the pool without its listeners."""
        for event, listener in self._listeners.items():
            self.browser_tab.remove_listener(event, listener)
        self._give_back(stays_open=stays_open)

    def check(self) -> None:
        """Fail if the page sent a request to the network or a script failed.

        Raises:
            PageError: with the addresses or the errors.
        """
        if self.outside:
            raise PageError("the page asked outside this machine: " + ", ".join(self.outside))
        if self.faults:
            raise PageError("scripts of the page failed: " + "; ".join(self.faults))

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run a JavaScript function in the page, and fail if it doesn't answer in time."""
        timeout_script = (
            f"setTimeout(fail, {WAIT_LIMIT_S * 1000}, Error('no answer in {WAIT_LIMIT_S:.0f} s'))"
        )
        return self.browser_tab.evaluate(
            (
                f"(argument) => Promise.race([({script})(argument), new Promise((_, fail) => "
                f"{timeout_script})])"
            ),
            argument,
        )

    def wait_until(self, script: str, argument: Any = None) -> Any:
        """Wait until a JavaScript function returns something true, and return its handle."""
        # By the clock: looking at each frame would make the page draw all the time.
        return self.browser_tab.wait_for_function(script, arg=argument, polling=100)

    def settle(self, frames: int = 3) -> None:
        """Wait until the page has drawn some frames."""
        self.evaluate(
            "(n) => new Promise((done) => { const step = () => n-- > 0 ? "
            "requestAnimationFrame(step) : done(); step(); })",
            frames,
        )

    # -- workflows

    def load(self, workflow: dict[str, Any], *, form: bool = False) -> None:
        """Load a saved workflow into the page, as a graph or as a form.

        A graph has a tab of its own, a form a new one each time: newer pages open a file of the
        active tab's name in that tab, in its last view."""
        if not form:
            workflow = {**workflow, "extra": {**workflow.get("extra", {}), "linearMode": False}}
        new_number = len(self._tabs) + 1
        tab_number = self._tabs.setdefault(new_number if form else workflow.get("id"), new_number)
        self.evaluate(
            "async ([saved, name]) => { await app.loadGraphData(saved, true, true, name); }",
            [workflow, f"egox {tab_number}"],
        )
        self.settle()

    def set_widget(self, kind: str, name: str, value: Any) -> None:
        """Set a widget of every node of a type as a user does."""
        count = self.evaluate(
            """([kind, name, value]) => {
          let count = 0;
          const set = (node, name) => {
            const widget = node.widgets?.find((w) => w.name === name);
            if (!widget) return;
            widget.value = value;
            widget.callback?.(value, app.canvas, node);
            count += 1;
          };
          const walk = (graph, host) => {
            for (const node of graph.nodes) {
              if (node.subgraph) walk(node.subgraph, node);
              if (node.type !== kind) continue;
              const link = host && graph.getLink?.(node.inputs.find((slot) => slot.widget?.name === name)?.link);
              if (link && link.origin_id == graph.inputNode.id) set(host, graph.inputNode.slots[link.origin_slot].name);
              else set(node, name);
            }
          };
          walk(app.graph, null);
          app.canvas.setDirty(true, true);
          return count;
        }""",
            [kind, name, value],
        )
        if not count:
            raise PageError(f"no node of type {kind} with a widget {name}")

    def to_prompt(self) -> dict[str, Any]:
        """Export the page's graph in the API form."""
        return self.evaluate("async () => (await app.graphToPrompt()).output")

    # -- looking

    def graph_bounds(self) -> tuple[float, float, float, float]:
        """Measure (x, y, width, height) of all nodes and groups, in graph units."""
        return tuple(self.evaluate(_BOUNDS_SCRIPT))

    def show(
        self, bounds: tuple[float, float, float, float] | None = None, margin: float = 20.0
    ) -> float:
        """Pan and zoom the canvas until a part of the graph fills the page.

        The part is (x, y, width, height), or the whole graph.
        """
        zoom = self.evaluate(_SHOW_SCRIPT, [*(bounds or self.graph_bounds()), margin])
        self.settle(6)
        return zoom

    def node_bounds(self, kind: str) -> tuple[float, float, float, float]:
        """Measure (x, y, width, height) of a type's only node, title included, in graph units."""
        bounds_of_nodes = self.evaluate(
            "(kind) => app.graph.nodes.filter((n) => n.type === kind)"
            ".map((n) => [...(n.boundingRect ?? n.getBounding())])",
            kind,
        )
        if len(bounds_of_nodes) != 1:
            raise PageError(f"{len(bounds_of_nodes)} nodes of type {kind}")
        return tuple(bounds_of_nodes[0])


def shipped_workflows(repo: Path) -> dict[str, Path]:
    """List shipped workflow files by name."""
    folder = repo / "workflows"
    return {
        path.stem: path for path in sorted([*folder.glob("*.json"), *folder.glob("more/*.json")])
    }


def read_workflow(path: Path) -> dict[str, Any]:
    """Read a saved workflow."""
    return json.loads(path.read_text("utf-8"))
