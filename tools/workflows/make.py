"""Write the shipped workflows from one description of each graph.

    python3 run.py make workflows             # all of them
    python3 run.py make workflows egox_fast   # some
    python3 run.py make workflows --measure   # first measure each node's height in a browser (nodes have changed)

It starts the host with the pack. Widget order, socket types and defaults come from its ``/object_info``, so that what
is written is what its front end would have saved. Node heights come from ``node_heights.json``: the larger of
those in which the front end's two renderings draw a node, so that nothing overlaps in either.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from tools.rigs.comfy_page import ComfyPage, open_browser
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.environment import this_environment
from tools.setup.layout import REPO_ROOT, Layout
from tools.setup.server import Server
from tools.setup.workflow import NOTES
from tools.workflows.form import add_form
from tools.workflows.graph import Graph
from tools.workflows.layout import arrange
from tools.workflows.specs import SPECS

HEIGHTS = Path(__file__).with_name("node_heights.json")
SAYS_SOMETHING = frozenset({"EgoXDepthAlign", "EgoXBuildScene", "EgoXRenderEgoPrior", "EgoXLoadLora",
                            "EgoXText", "EgoXConditioning", "EgoXWanSampler", "EgoXDecodeEgoHalf", "EgoXSweep",
                            "EgoXAttentionView"})
SAYING = 70
"""Room for the lines that a run leaves on such a node."""

# In the newer rendering a node may be higher than what is saved for it: the page's own boxes tell.
MEASURE = """() => [...app.graph.nodes].map((node) => {
  const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
  const title = 30;
  return [node.type, Math.max(node.size[1], box ? box.height / app.canvas.ds.scale - title : 0)];
})"""


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
        with Server(environment, base, Path(folder) / "server.log", variables={"OMP_NUM_THREADS": "1"}) as server:
            object_info = server.client.object_info()
            if "--measure" in arguments:
                text = json.dumps(measured_heights(server, object_info), indent=1, sort_keys=True)
                HEIGHTS.write_text(text + "\n", encoding="utf-8", newline="\n")
    heights = json.loads(HEIGHTS.read_text(encoding="utf-8"))
    for name in names:
        saved = described(name, object_info, heights)
        path = REPO_ROOT / "workflows" / f"{name}.json"
        path.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        print(f"{path.relative_to(REPO_ROOT)}: {len(saved['nodes'])} nodes, {len(saved['links'])} links")
    return 0


def described(name: str, object_info: dict[str, Any], heights: dict[str, float]) -> dict[str, Any]:
    """One workflow as it ships.

    Raises:
        KeyError: a node type whose height is not known: run with ``--measure``.
    """
    graph = Graph(object_info)
    rows = SPECS[name](graph)
    arrange(graph, rows, {node.number: heights[node.kind] + SAYING * (node.kind in SAYS_SOMETHING)
                          for node in graph.nodes if node.kind not in NOTES})
    add_form(graph)
    # A fixed id a name: writing the same graph twice must give the same file.
    return graph.to_json(str(uuid.uuid5(uuid.NAMESPACE_URL, f"egox/{name}")))


def measured_heights(server: Server, object_info: dict[str, Any]) -> dict[str, float]:
    """Node type -> how high it is drawn, classic or newer rendering, whichever is more."""
    browser_file = find_browser()
    if browser_file is None:
        sys.exit(f"node heights are read off a browser: {install_advice()}")
    heights: dict[str, float] = {}
    with open_browser(browser_file) as browser:
        for vue_nodes in (False, True):
            page = ComfyPage(browser, server.client, vue_nodes=vue_nodes).open()
            for describe in SPECS.values():
                graph = Graph(object_info)
                rows = describe(graph)
                for node in graph.nodes:
                    node.wanted = (node.wanted[0], 10)  # as high as it must be, not as we would like it
                arrange(graph, rows)
                page.load(graph.to_json("measured"))
                page.show()
                if vue_nodes:  # they come one after the other, on a busy machine seconds later
                    page.page.wait_for_function(
                        "() => [...app.graph.nodes].every((n) => document.querySelector(`[data-node-id=\"${n.id}\"]`))")
                page.page.wait_for_timeout(1500)
                for kind, height in page.evaluate(MEASURE):
                    if kind not in NOTES:
                        heights[kind] = max(heights.get(kind, 0.0), round(height))
            page.close()
    return heights


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
