"""Write the shipped workflows from one description of each graph.

    python3 run.py make workflows             # all of them
    python3 run.py make workflows egox_fast   # some
    python3 run.py make workflows --measure   # first each node's height in a browser: nodes changed

It starts the host with the pack. Each graph is written twice: as the page saves it, and in the API
form that is queued without a page (``workflows/api``). Widget order, socket types and defaults
come from its ``/object_info``, so that what is written is what its front end would have saved.
Node heights come from ``node_heights.json``: the larger of those in which the front end's two
renderings draw a node, so that nothing overlaps in either."""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.rigs.comfy_page import ComfyPage, open_browsers
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.environment import this_environment
from tools.setup.layout import REPO_ROOT, Layout
from tools.setup.node_inputs import NOTES
from tools.setup.server import Server
from tools.workflows.form import add_form
from tools.workflows.graph import Graph, Node
from tools.workflows.layout import Frame, arrange, place
from tools.workflows.specs import BLUEPRINTS, CARDS, SPECS

HEIGHTS = Path(__file__).with_name("node_heights.json")
SAYS_SOMETHING = frozenset(
    {
        "EgoXDepthAlign",
        "EgoXBuildScene",
        "EgoXRenderEgoPrior",
        "EgoXLoadLora",
        "EgoXText",
        "EgoXConditioning",
        "EgoXWanSampler",
        "EgoXSampleLong",
        "EgoXDecodeEgoHalf",
        "EgoXSweep",
    }
)
SAYING = 70
"""Room for the lines that a run leaves on such a node."""

# In the newer rendering a node may be higher than what is saved for it: the page's own boxes tell.
MEASURE = """() => [...app.canvas.graph.nodes].map((node) => {
  const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
  const title = 30;
  return [node.isSubgraphNode?.() ? node.title : node.type,
          Math.max(node.size[1], box ? box.height / app.canvas.ds.scale - title : 0)];
})"""
ENTER = """(number) => {
  app.canvas.setGraph(app.rootGraph ?? app.graph);
  const node = number === null ? null : app.canvas.graph.getNodeById(number);
  if (node) app.canvas.openSubgraph(node.subgraph, node);
}"""
DRAWN = """() => [...app.canvas.graph.nodes].every((n) => document.querySelector(`[data-node-id="${n.id}"]`))"""
SEARCH_WORDS = ["egox", "first person", "ego view", "exo to ego"]
BLUEPRINT_FOLDER = REPO_ROOT / "subgraphs"
PROMPT_FOLDER = REPO_ROOT / "workflows" / "api"


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if name != "--measure"] or list(SPECS)
    unknown = sorted(set(names) - set(SPECS))
    if unknown:
        sys.exit(f"no workflow {', '.join(unknown)}; there are {', '.join(SPECS)}")
    layout = Layout()
    environment = this_environment(layout)
    if environment is None:
        sys.exit("there is no ComfyUI here: run `python3 run.py demo` once, or set COMFYUI_DIR")
    with tempfile.TemporaryDirectory() as folder:
        base = make_base_dir(Path(folder), layout)
        with Server(
            environment, base, Path(folder) / "server.log", variables={"OMP_NUM_THREADS": "1"}
        ) as server:
            object_info = server.client.object_info()
            if "--measure" in arguments:
                text = json.dumps(measured_heights(server, object_info), indent=1, sort_keys=True)
                HEIGHTS.write_text(text + "\n", encoding="utf-8", newline="\n")
    heights = json.loads(HEIGHTS.read_text(encoding="utf-8"))
    for name in names:
        graph = described(name, object_info, heights)
        write(workflow_file(name), saved(graph))
        write(PROMPT_FOLDER / f"{name}.json", graph.to_prompt())
    for name in BLUEPRINTS:
        write(BLUEPRINT_FOLDER / f"{name}.json", blueprint(name, object_info, heights))
    return 0


def workflow_file(name: str) -> Path:
    """Folder of a workflow: the host makes a card of each file in ``workflows`` itself."""
    return REPO_ROOT / "workflows" / ("" if name in CARDS else "more") / f"{name}.json"


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{path.relative_to(REPO_ROOT).as_posix()}: {len(text) / 1000:.0f} kB")


def described(name: str, object_info: dict[str, Any], heights: dict[str, float]) -> Graph:
    """One workflow with its places and its form.

    Raises:
        KeyError: a node type whose height is not known: run with ``--measure``.
    """
    graph = Graph(object_info, name)
    page = SPECS[name](graph)
    place_all(graph, page.frames, heights)
    add_form(graph)
    return graph


def saved(graph: Graph) -> dict[str, Any]:
    """The file of the page; with a fixed id per name, so that writing a graph twice gives the same
    file."""
    return graph.to_json(str(uuid.uuid5(uuid.NAMESPACE_URL, f"egox/{graph.name}")))


def blueprint(name: str, object_info: dict[str, Any], heights: dict[str, float]) -> dict[str, Any]:
    """One subgraph of the host's node library: a workflow of the one node."""
    graph = Graph(object_info, f"blueprint/{name}")
    inside = BLUEPRINTS[name](graph)
    node = graph.add_subgraph(inside, 400)
    place_all(graph, lambda _: [Frame("", 0, 0, [node])], heights)
    extra = {"BlueprintDescription": inside.description, "BlueprintSearchAliases": SEARCH_WORDS}
    return saved(graph) | {"extra": extra}


def place_all(
    graph: Graph, frames: Callable[[dict[int, float]], list[Frame]], heights: dict[str, float]
) -> None:
    """Give the nodes of the canvas and of its subgraphs their places."""
    place(graph, frames(heights_of(graph, heights)), heights_of(graph, heights))
    for inside in graph.insides.values():
        arrange(inside, inside.rows, heights_of(inside, heights))


def heights_of(graph: Graph, heights: dict[str, float]) -> dict[int, float]:
    """Number -> height, with room for what a run says on the node."""
    return {
        node.number: heights[height_key(graph, node)] + SAYING * (node.kind in SAYS_SOMETHING)
        for node in graph.nodes
        if node.kind not in NOTES
    }


def height_key(graph: Graph, node: Node) -> str:
    """A node's kind; a subgraph has none that stays, so its title stands for it."""
    return node.title if node.number in graph.insides else node.kind


def measured_heights(server: Server, object_info: dict[str, Any]) -> dict[str, float]:
    """Node type -> how high it is drawn, classic or newer rendering, whichever is more."""
    browser_file = find_browser()
    if browser_file is None:
        sys.exit(f"node heights are read off a browser: {install_advice()}")
    heights: dict[str, float] = {}
    with open_browsers(browser_file) as browser:
        for vue_nodes in (False, True):
            page = ComfyPage(browser(False), server.client, vue_nodes=vue_nodes).open()
            for name, describe in SPECS.items():
                graph = Graph(object_info, name)
                page_of = describe(graph)
                for part in (graph, *graph.insides.values()):
                    for node in part.nodes:
                        node.wanted = (
                            node.wanted[0],
                            10,
                        )  # as high as it must be, not as we would like it
                place(graph, page_of.frames({}), {})
                for inside in graph.insides.values():
                    arrange(inside, inside.rows)
                page.load(graph.to_json("measured"))
                for number in (None, *graph.insides):
                    page.evaluate(ENTER, number)
                    page.settle(6)
                    page.show()
                    if vue_nodes:  # they come one after the other, on a busy machine seconds later
                        page.page.wait_for_function(DRAWN, timeout=60_000)
                    page.page.wait_for_timeout(1500)
                    for kind, height in page.evaluate(MEASURE):
                        if kind not in NOTES:
                            heights[kind] = max(heights.get(kind, 0.0), round(height))
            page.close()
    return heights


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
