"""Every shipped graph works in the page: no missing nodes, no loose links, the API form that
headless runs use. Its form, its translation and its layout are checked, too."""

import re

from tests.flat_graph import all_nodes
from tests.host.prompts import inputs_of_type, run_successfully, shrink_graph, use_standin_loaders
from tests.paths import ROOT
from tools import api_forms
from tools.rigs.comfy_page import FORM_ROW, read_workflow, shipped_workflows
from tools.setup.api_client import read_prompt
from tools.setup.demo import read_node_text

NAMES = list(shipped_workflows(ROOT))
CARDS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
SOCKETS = {
    "EgoX Scene and prior": {"dynamic_mask", "depth_image", "moge_geometry", "da3_geometry"},
}
"""Of a blueprint: what graphs of one's own bring along, beside what it can't do without."""
_SOCKETS = "() => app.graph.nodes[0].inputs.map((slot) => slot.name)"
PACK = "comfyui-egox"
OF_THE_PAGE = {*api_forms.PAGE_WIDGETS, "filename_prefix", "viewport_state"}
"""Widgets that the page adds by itself and sends along, of which the server takes no notice; the
name into which it writes λ_g and seed; and what a 3D viewer was last looked at from."""
MOST_ROWS, MOST_PROMOTED, MOST_IN_FORM = 8, 6, 11
LEAST_ZOOM = 8 / 14  # the host draws no text that is smaller than 8 px

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

# Notes of which a part has to be scrolled to.
_CUT = """() => [...document.querySelectorAll('.comfy-markdown .tiptap')].filter(
  (text) => text.offsetParent && text.scrollHeight > text.clientHeight).map((text) => text.innerText.slice(0, 30))"""

# Rows that can be edited, of our nodes and of subgraphs.
_ROWS = """() => app.graph.nodes.filter((n) => n.type.startsWith('EgoX') || n.isSubgraphNode?.()).map((node) => {
  const linked = (w) => node.inputs.some((slot) => slot.widget?.name === w.name && slot.link != null);
  const rows = (node.widgets ?? []).filter((w) => (node.isWidgetVisible?.(w) ?? !w.hidden) && !w.element && !linked(w)
    && w.type !== 'button');
  return [node.title, !!node.isSubgraphNode?.(), rows.map((w) => w.name)];
})"""


_OPENED = "(name) => app.extensionManager.workflow.activeWorkflow.filename === name"
# What lies outside the canvas' part of the page.
_OUTSIDE = """() => {
  const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
  return app.graph.nodes.filter((node) => {
    const [x, y, w, h] = node.boundingRect ?? node.getBounding();
    const left = (x + ds.offset[0]) * ds.scale, top = (y + ds.offset[1]) * ds.scale;
    return !(left >= 0 && top >= 0 && left + w * ds.scale <= box.width && top + h * ds.scale <= box.height);
  }).map((node) => node.title);
}"""
# Nodes of which one covers a part of another, in px of the canvas; as the newer nodes are drawn, of the page.
OVERLAPS = """() => {
  const drawn = [...document.querySelectorAll('[data-node-id]')];
  if (LiteGraph.vueNodesMode && drawn.length !== app.graph.nodes.length) return ['nodes are not drawn yet'];
  const boxes = LiteGraph.vueNodesMode ? drawn.map((element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return [app.graph.getNodeById(element.dataset.nodeId).title, left, top, width, height];
  }) : app.graph.nodes.map((node) => [node.title, ...(node.boundingRect ?? node.getBounding())]);
  return boxes.flatMap(([a, x, y, w, h], i) => boxes.slice(i + 1).filter(([, left, top, wide, high]) =>
    Math.min(Math.min(x + w, left + wide) - Math.max(x, left),
             Math.min(y + h, top + high) - Math.max(y, top)) > (LiteGraph.vueNodesMode ? 2 : 0))
    .map(([b]) => `${a} and ${b}`));
}"""
# Of the form's rows: label, node and widget, and how high the widget is drawn, in px.
_FORM = f"""() => [...document.querySelectorAll('{FORM_ROW}')].map((row) => [
  row.querySelector('[data-testid="builder-widget-label"]').innerText.trim(),
  row.dataset.widgetKey.split(':').slice(-2).map(decodeURIComponent),
  row.lastElementChild.getBoundingClientRect().height])"""
# Sliders that a long label leaves no more than a dot, by their length in px of their own.
_SHORT = """() => [...document.querySelectorAll('[data-slot="slider-track"]')].filter(
  (track) => track.offsetParent && track.offsetWidth <= 50).map((track) => track.offsetWidth)"""
_UNBYPASS = """(type) => app.graph.nodes.flatMap((node) => node.subgraph?.nodes ?? [])
  .filter((node) => node.type === type).forEach((node) => { node.mode = 0; })"""
_LOCALE = "(locale) => app.extensionManager.setting.set('Comfy.Locale', locale)"


def heard(prompt) -> dict[str, tuple]:
    """Reduce a prompt to what the server takes notice of."""
    return {
        number: (
            node["class_type"],
            {name: node["inputs"][name] for name in node["inputs"].keys() - OF_THE_PAGE},
        )
        for number, node in prompt.items()
    }


def test_every_graph_loads_and_its_api_form_is_the_pages_own(
    open_page, api_client, read_shipped, is_pinned_host
):
    """No link runs behind a third node, no note is cut and few rows are seen, on the page that the graphs were laid
    out for."""
    page, faults = open_page(size=(1600, 900)), []
    for name in NAMES:
        page.load(read_shipped(name))
        assert not page.problems(read_shipped(name)), name
        assert heard(page.to_prompt()) == heard(read_prompt(name)), name
        if is_pinned_host:
            faults += [(name, link) for link in page.evaluate(_BEHIND)]
            faults += [(name, text) for text in page.lasting(_CUT)]
            faults += [
                (name, title, rows)
                for title, is_subgraph, rows in page.evaluate(_ROWS)
                if len(rows) > (MOST_PROMOTED if is_subgraph else MOST_ROWS)
            ]
    assert not faults
    assert not page.complaints()
    for path in BLUEPRINTS:
        saved = read_workflow(path)
        page.load(saved)
        assert not page.problems(saved), path
        run = [n for n in all_nodes(saved) if not n["mode"] and n["type"] != "MarkdownNote"]
        assert len(page.to_prompt()) == len(run) - 1, "all but the subgraph's own node"
        assert SOCKETS.get(path.stem, set()) <= set(page.evaluate(_SOCKETS))
    offered = api_client.get("/global_subgraphs").values()
    assert {entry["name"] for entry in offered if entry["info"]["node_pack"].endswith(PACK)} == {
        path.stem for path in BLUEPRINTS
    }


def test_the_faster_group_takes_less_than_a_third(open_page, api_client, read_shipped):
    """As its note says: 24 steps, *recompute exo* 4, CFG Override un-bypassed where it lies, in the
    subgraph. A kept forward is .446 of a full one (on an H100)."""
    page = open_page(size=(1600, 900))
    page.load(read_shipped("egox_basic"))
    assert "CFGOverride" not in {node["class_type"] for node in page.to_prompt().values()}
    page.evaluate(_UNBYPASS, "CFGOverride")
    prompt = use_standin_loaders(shrink_graph(page.to_prompt(), frames=5, steps=24))
    inputs_of_type(prompt, "EgoXWanSampler")["recompute_exo"] = 4
    assert inputs_of_type(prompt, "CFGOverride")["start_percent"] == 0.727
    text = read_node_text(run_successfully(api_client, prompt), prompt, "EgoXWanSampler")
    full, forwards = map(int, re.search(r"exo computed in (\d+) of (\d+) forwards", text).groups())
    assert (full, forwards) == (6, 24) and full + (forwards - full) * 0.446 < 50 / 3


def test_every_graph_is_a_form_with_all_its_rows_in_the_page_s_language(open_page, read_shipped):
    """Also those of a graph that a page in another language saved."""
    page = open_page(size=(1600, 900))
    for name in NAMES:
        saved = read_shipped(name)
        page.open_form(saved)
        page.page.wait_for_function(f"() => ({_FORM})().every(([, , height]) => height > 20)")
        labels, places, _ = zip(*page.evaluate(_FORM), strict=True)
        rows = saved["extra"]["linearData"]["inputs"]
        assert [[int(number), widget] for number, widget in places] == rows, name
        assert len(set(labels)) == len(labels) <= MOST_IN_FORM
        assert not any("_" in text.replace("λ_g", "") for text in labels), labels
        assert not page.evaluate(_SHORT), name
        assert heard(page.to_prompt()) == heard(read_prompt(name)), name
    assert not page.complaints()
    page.evaluate(_LOCALE, "ja")
    try:
        page.open_form(saved)
        for text, *_ in page.evaluate(_FORM):
            assert re.search("[ぁ-ヶ一-鿿]", text), text
        japanese = page.saved() | {"extra": saved["extra"]}
    finally:
        page.evaluate(_LOCALE, "en")
    page.open_form(japanese)
    assert tuple(text for text, *_ in page.evaluate(_FORM)) == labels


def test_all_of_a_card_s_graph_is_seen(open_page, read_shipped, pinned_host):
    """By its address, by its card and by its address, one after the other: the host fits the later
    ones into a canvas that isn't there, while an earlier one's form is open."""
    first, second, third = CARDS[:3]
    page = open_page(f"/?template={first}&source={PACK}", size=(1440, 900))
    for name in (first, second, third):
        if name == third:
            page.open(f"/?template={third}&source={PACK}")
        if name == second:
            page.open_templates(PACK)
            for card in CARDS:
                picture = page.page.get_by_test_id(f"template-workflow-{card}").locator("img").first
                picture.scroll_into_view_if_needed()
                page.page.wait_for_function(
                    "(img) => img.complete && img.naturalWidth > 100", arg=picture.element_handle()
                )
            page.page.get_by_test_id(f"template-workflow-{name}").click()
        page.page.wait_for_function(_OPENED, arg=name)
        page.page.locator(FORM_ROW).first.wait_for()
        page.page.get_by_role("button", name="Enter node graph").first.click()
        page.page.wait_for_function(  # the fit is animated
            f"() => app.canvas.ds.scale >= {LEAST_ZOOM} && !({_OUTSIDE})().length"
        )
        assert not page.problems(read_shipped(name)), name


def test_in_the_newer_nodes_none_covers_another(open_page, read_shipped, pinned_host):
    """There a note is as high as its text."""
    page = open_page(vue_nodes=True, size=(1600, 900))
    for name in CARDS:
        page.load(read_shipped(name))
        page.show()
        page.page.wait_for_function(f"() => !({OVERLAPS})().length")
        assert not page.evaluate(_SHORT), name
