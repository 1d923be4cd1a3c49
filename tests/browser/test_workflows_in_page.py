"""Every shipped workflow in the page: no missing nodes, no loose links, and the API form that
headless runs use."""

import pytest

from tests.flat_graph import nodes_of
from tests.paths import ROOT
from tools import api_forms
from tools.rigs.comfy_page import read_workflow, shipped_workflows
from tools.setup.api_client import read_prompt

NAMES = list(shipped_workflows(ROOT))
CARDS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
SOCKETS = {
    "EgoX Scene and prior": {"dynamic_mask", "depth_image", "moge_geometry", "da3_geometry"},
}
"""Of a blueprint: what graphs of one's own bring along, beside what it can't do without."""
_SOCKETS = "() => app.graph.nodes[0].inputs.map((slot) => slot.name)"
PACK = "comfyui-egox"
OF_THE_PAGE = {*api_forms.OF_THE_PAGE, "filename_prefix"}
"""Widgets that the page adds by itself and sends along, of which the server takes no notice; and
the name into which it writes λ_g and seed."""
MOST_ROWS, MOST_PROMOTED = 8, 6

# Links as the classic canvas draws them: a Bezier from right to left, its handles a quarter of the
# way long.
_BEHIND = """() => {
  const found = [];
  for (const link of app.graph.links.values()) {
    const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id);
    const a = from.getOutputPos(link.origin_slot), b = to.getInputPos(link.target_slot);
    const reach = Math.hypot(b[0] - a[0], b[1] - a[1]) * 0.25;
    for (let i = 0; i <= 60; i++) {
      const t = i / 60, u = 1 - t;
      const at = (p, q, r, s) => u * u * u * p + 3 * u * u * t * q + 3 * u * t * t * r + t * t * t * s;
      const x = at(a[0], a[0] + reach, b[0] - reach, b[0]), y = at(a[1], a[1], b[1], b[1]);
      for (const node of app.graph.nodes) {
        if (node === from || node === to) continue;
        const [left, top, w, h] = node.boundingRect ?? node.getBounding();
        if (x > left && x < left + w && y > top && y < top + h)
          found.push(`${from.title} -> ${to.title}.${to.inputs[link.target_slot].name} behind ${node.title}`);
      }
    }
  }
  return [...new Set(found)];
}"""

# Rows that can be edited, of our nodes and of subgraphs.
_ROWS = """() => app.graph.nodes.filter((n) => n.type.startsWith('EgoX') || n.isSubgraphNode?.()).map((node) => {
  const linked = (w) => node.inputs.some((slot) => slot.widget?.name === w.name && slot.link != null);
  const rows = (node.widgets ?? []).filter((w) => (node.isWidgetVisible?.(w) ?? !w.hidden) && !w.element && !linked(w)
    && w.type !== 'button');
  return [node.title, !!node.isSubgraphNode?.(), rows.map((w) => w.name)];
})"""


def heard(prompt) -> dict[str, tuple]:
    """Of a prompt: what the server takes notice of."""
    return {
        number: (
            node["class_type"],
            {name: node["inputs"][name] for name in node["inputs"].keys() - OF_THE_PAGE},
        )
        for number, node in prompt.items()
    }


def compare(page, saved, name: str) -> None:
    page.load(saved)
    assert not page.problems(saved), name
    assert heard(page.to_prompt()) == heard(read_prompt(name)), name


def test_every_workflow_loads_and_its_api_form_is_the_pages_own(same_page, shipped, is_pinned_host):
    """No link runs behind a third node and few rows are seen, on the page that the graphs were laid
    out for."""
    page = same_page(size=(1600, 900))
    # A page that was open while weights were away lists them anew.
    page.evaluate("async () => { await app.refreshComboInNodes(); }")
    faults = []
    for name in NAMES:
        compare(page, shipped(name), name)
        if is_pinned_host:
            faults += [(name, link) for link in page.evaluate(_BEHIND)]
            faults += [
                (name, title, rows)
                for title, is_subgraph, rows in page.evaluate(_ROWS)
                if len(rows) > (MOST_PROMOTED if is_subgraph else MOST_ROWS)
            ]
    assert not faults


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_every_blueprint_loads_and_converts(same_page, path):
    page, saved = same_page(size=(1200, 800)), read_workflow(path)
    page.load(saved)
    assert not page.problems(saved)
    assert len(page.to_prompt()) == len(nodes_of(saved)) - 1, "all but the subgraph's own node"
    assert SOCKETS.get(path.stem, set()) <= set(page.evaluate(_SOCKETS))


def test_the_host_offers_the_blueprints(browser_client):
    entries = browser_client.get("/global_subgraphs").values()
    assert {entry["name"] for entry in entries if entry["info"]["node_pack"].endswith(PACK)} == {
        path.stem for path in BLUEPRINTS
    }
