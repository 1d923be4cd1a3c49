"""The shipped graphs as one sees them: opened by their card and switched to the graph, and what
lies over what."""

from __future__ import annotations

import math

import pytest

from tools.rigs.comfy_page import FORM_ROW

from .renderers import CLASSIC
from .small_graph import make_small
from .test_form import to_graph
from .test_workflows_in_page import CARDS, NAMES, PACK

LEAST_ZOOM = 0.6

# What lies outside the canvas' part of the page.
_OUTSIDE = """() => {
  const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
  return app.graph.nodes.filter((node) => {
    const [x, y, w, h] = node.boundingRect ?? node.getBounding();
    const left = (x + ds.offset[0]) * ds.scale, top = (y + ds.offset[1]) * ds.scale;
    return !(left >= 0 && top >= 0 && left + w * ds.scale <= box.width && top + h * ds.scale <= box.height);
  }).map((node) => node.title);
}"""

_OPENED = "(name) => app.extensionManager.workflow.activeWorkflow.filename === name"
_ALL_DRAWN = "() => document.querySelectorAll('[data-node-id]').length === app.graph.nodes.length"
# Nodes of which one covers a part of the other, in the classic canvas and as the newer nodes are
# drawn.
_CLASSIC = (
    "app.graph.nodes.map((node) => [node.title, ...(node.boundingRect ?? node.getBounding())])"
)
_DRAWN = """[...document.querySelectorAll('[data-node-id]')].map((element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return [app.graph.getNodeById(element.dataset.nodeId).title, left, top, width, height];
  })"""


def overlaps(page, boxes: str, allowed: float = 0.0) -> list[str]:
    return page.evaluate(
        f"""(allowed) => {{
      const boxes = {boxes};
      return boxes.flatMap(([a, x, y, w, h], i) => boxes.slice(i + 1).filter(([, left, top, wide, high]) =>
        Math.min(Math.min(x + w, left + wide) - Math.max(x, left),
                 Math.min(y + h, top + high) - Math.max(y, top)) > allowed).map(([b]) => `${{a}} and ${{b}}`));
    }}""",
        allowed,
    )


# The players on subgraphs: on the outer node, or the inner node's own where the page draws that one
# there.
_PLAYERS = """() => app.graph.nodes.filter((node) => node.isSubgraphNode?.()).map((node) => {
  const inner = node.subgraph.nodes.find((n) => n.inputs.some((s) => s.name === 'egox_preview' && s.link != null));
  const preview = node.egoxPreview ?? inner.egoxPreview, box = preview.element.getBoundingClientRect();
  return { title: node.title, clips: preview.clips.map((clip) => clip.name), shown: box.width * box.height };
})"""


@pytest.mark.parametrize(
    "names",
    [pytest.param(CARDS[:2], id="two"), pytest.param(CARDS, id="all", marks=pytest.mark.slow)],
)
def test_all_of_each_card_s_graph_is_seen(open_page, pinned_host, names):
    """Opened one after the other: the host fits the second into a canvas that isn't there, while
    the first one's form is open."""
    page = open_page(f"/?template={names[0]}&source={PACK}", size=(1600, 900))
    for name in names:
        if name != names[0]:
            page.open_templates(PACK)
            card = page.page.get_by_test_id(f"template-workflow-{name}")
            card.scroll_into_view_if_needed(timeout=30_000)
            card.click()
        page.page.wait_for_function(_OPENED, arg=name)
        page.page.locator(FORM_ROW).first.wait_for(timeout=60_000)
        scale, *offset = to_graph(page)
        assert scale >= LEAST_ZOOM and all(map(math.isfinite, offset)), (name, scale, offset)
        assert not page.evaluate(_OUTSIDE), name


@pytest.mark.parametrize(
    "names",
    [pytest.param(CARDS, id="cards"), pytest.param(NAMES, id="all", marks=pytest.mark.slow)],
)
def test_in_the_newer_nodes_none_covers_another(same_page, shipped, pinned_host, names):
    """There a note is as high as its text."""
    page = same_page(vue_nodes=True, size=(1600, 900))
    faults = []
    for name in names:
        page.load(shipped(name))
        page.show()
        page.page.wait_for_function(_ALL_DRAWN)
        page.page.wait_for_timeout(1000)
        faults += [(name, pair) for pair in overlaps(page, _DRAWN, allowed=2.0)]
    assert not faults


@pytest.mark.parametrize("vue_nodes", CLASSIC)
def test_a_subgraph_s_player_shows_what_its_inner_node_gives(
    open_page, shipped, request, vue_nodes
):
    if vue_nodes:
        request.getfixturevalue("pinned_host")  # the newer nodes of older pages don't draw it
    page = open_page(vue_nodes=vue_nodes, size=(1600, 900))
    page.load(shipped("egox_demo"))
    make_small(page)
    page.set_widget(
        "EgoXWanSampler", "seed", 5 + vue_nodes
    )  # what the server has sampled before isn't live again
    page.queue()
    shown = f"() => {{ const all = ({_PLAYERS})(); return all.every((player) => player.clips.length) && all; }}"
    prior, ego = page.page.wait_for_function(shown, timeout=60_000).json_value()
    page.wait_for_run()
    page.page.wait_for_function(
        f"() => !({_PLAYERS})()[1].clips.length"
    )  # the result is on Decode Ego Half
    assert (prior["title"], ego["title"]) == ("Scene and prior", "EgoX")
    assert prior["clips"] == ["prior", "coverage", "depth", "exo"] and ego["clips"] == ["ego"]
    assert min(prior["shown"], ego["shown"]) > 1000, "px of the page"
    if not vue_nodes:  # what a run shows makes nodes higher
        page.page.wait_for_function(
            "() => app.graph.nodes.find((n) => n.type === 'SaveVideo').size[1] > 250"
        )
        assert not overlaps(page, _CLASSIC)
