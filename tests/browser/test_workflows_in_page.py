"""Test that every shipped workflow works in ComfyUI's page.

Its form, its translation and its layout are checked, too."""

import re

import pytest

from tests.flat_graph import all_nodes
from tests.paths import ROOT
from tools import api_forms
from tools.rigs.comfy_page import FORM_ROW, read_workflow, shipped_workflows
from tools.setup.api_client import read_prompt

from .test_lora_off import BYPASSED, OFF_SCRIPT, switch_lora

WORKFLOW_NAMES = list(shipped_workflows(ROOT))
TEMPLATE_NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
SHIPPED_GRAPHS = pytest.mark.parametrize(
    "names",
    [
        pytest.param(TEMPLATE_NAMES, id="templates"),
        pytest.param(WORKFLOW_NAMES, marks=pytest.mark.slow, id="all"),
    ],
)
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
OPTIONAL_SOCKETS = {
    "EgoX Scene and prior": {"dynamic_mask", "depth_image", "moge_geometry", "da3_geometry"},
}
"""Optional inputs of a blueprint, which users' graphs may connect."""
_SOCKET_NAMES_SCRIPT = "() => app.graph.nodes[0].inputs.map((slot) => slot.name)"
PACK = "comfyui-egox"
IGNORED_WIDGETS = {*api_forms.PAGE_WIDGETS, "filename_prefix", "viewport_state"}
"""Widgets that the page adds and the server ignores, the name into which the page writes λ_g and
seed, and the view of a 3D viewer."""
MAX_ROWS, MAX_SUBGRAPH_ROWS, MAX_FORM_ROWS = 8, 6, 11
MIN_ZOOM = 8 / 14  # the host draws no text that is smaller than 8 px

# Lists notes of which a part must be scrolled to.
_CUT_NOTES_SCRIPT = """() => [...document.querySelectorAll('.comfy-markdown .tiptap')].filter(
  (text) => text.offsetParent && text.scrollHeight > text.clientHeight).map((text) => text.innerText.slice(0, 30))"""

# Lists the editable rows of EgoX nodes and subgraphs.
_ROWS_SCRIPT = """() => app.graph.nodes.filter((n) => n.type.startsWith('EgoX') || n.isSubgraphNode?.()).map((node) => {
  const linked = (w) => node.inputs.some((slot) => slot.widget?.name === w.name && slot.link != null);
  const rows = (node.widgets ?? []).filter((w) => (node.isWidgetVisible?.(w) ?? !w.hidden) && !w.element && !linked(w)
    && w.type !== 'button');
  return [node.title, !!node.isSubgraphNode?.(), rows.map((w) => w.name)];
})"""


_IS_OPENED_SCRIPT = "(name) => app.extensionManager.workflow.activeWorkflow.filename === name"
# Lists nodes outside the visible part of the canvas.
_OUTSIDE_SCRIPT = """() => {
  const { ds, canvas } = app.canvas, box = canvas.getBoundingClientRect();
  return app.graph.nodes.filter((node) => {
    const [x, y, w, h] = node.boundingRect ?? node.getBounding();
    const left = (x + ds.offset[0]) * ds.scale, top = (y + ds.offset[1]) * ds.scale;
    return !(left >= 0 && top >= 0 && left + w * ds.scale <= box.width && top + h * ds.scale <= box.height);
  }).map((node) => node.title);
}"""
# Lists pairs of nodes that overlap, in px of the canvas, or of the page for the newer nodes.
OVERLAPS_SCRIPT = """() => {
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
# Lists the form's rows: label, node and widget, and the widget's height in px.
_FORM_SCRIPT = f"""() => [...document.querySelectorAll('{FORM_ROW}')].map((row) => [
  row.querySelector('[data-testid="builder-widget-label"]').innerText.trim(),
  row.dataset.widgetKey.split(':').slice(-2).map(decodeURIComponent),
  row.lastElementChild.getBoundingClientRect().height])"""
# Lists the lengths in px of sliders that a long label leaves no room for.
_SHORT_SLIDERS_SCRIPT = """() => [...document.querySelectorAll('[data-slot="slider-track"]')].filter(
  (track) => track.offsetParent && track.offsetWidth <= 50).map((track) => track.offsetWidth)"""
_LOCALE_SCRIPT = "(locale) => app.extensionManager.setting.set('Comfy.Locale', locale)"


def keep_relevant_inputs(prompt) -> dict[str, tuple]:
    """Reduce a prompt to the inputs that the server uses."""
    return {
        node_id: (
            node["class_type"],
            {name: node["inputs"][name] for name in node["inputs"].keys() - IGNORED_WIDGETS},
        )
        for node_id, node in prompt.items()
    }


@SHIPPED_GRAPHS
def test_every_graph_loads_and_its_api_form_is_the_pages_own(
    open_page, read_shipped, is_pinned_host, names
):
    """Check that the stored API form of each workflow equals the page's export."""
    page = open_page(size=(1600, 900), stays_open=True)
    faults = []
    for name in names:
        page.load(read_shipped(name))
        assert not page.problems(read_shipped(name)), name
        assert keep_relevant_inputs(page.to_prompt()) == keep_relevant_inputs(read_prompt(name)), (
            name
        )
        if is_pinned_host:
            faults += [(name, text) for text in page.list_lasting_faults(_CUT_NOTES_SCRIPT)]
            faults += [
                (name, title, rows)
                for title, is_subgraph, rows in page.evaluate(_ROWS_SCRIPT)
                if len(rows) > (MAX_SUBGRAPH_ROWS if is_subgraph else MAX_ROWS)
            ]
        assert page.evaluate(OFF_SCRIPT) == [], name
        switch_lora(page, BYPASSED, "distill")
        assert page.evaluate(OFF_SCRIPT) == [], f"{name}: two LoRAs, of which EgoX's is on"
    assert not faults
    assert not page.complaints()


def test_every_blueprint_loads_and_is_offered(open_page, api_client):
    page = open_page(size=(1600, 900), stays_open=True)
    for path in BLUEPRINTS:
        saved_graph = read_workflow(path)
        page.load(saved_graph)
        assert not page.problems(saved_graph), path
        active_nodes = [
            node
            for node in all_nodes(saved_graph)
            if not node["mode"] and node["type"] != "MarkdownNote"
        ]
        assert len(page.to_prompt()) == len(active_nodes) - 1, "all but the subgraph's own node"
        assert OPTIONAL_SOCKETS.get(path.stem, set()) <= set(page.evaluate(_SOCKET_NAMES_SCRIPT))
    offered_blueprints = api_client.get("/global_subgraphs").values()
    assert {
        entry["name"] for entry in offered_blueprints if entry["info"]["node_pack"].endswith(PACK)
    } == {path.stem for path in BLUEPRINTS}


@SHIPPED_GRAPHS
def test_every_graph_is_a_form_with_all_its_rows_in_the_page_s_language(
    open_page, read_shipped, names
):
    """Check the form of shipped graphs, and of a graph that a Japanese page saved."""
    page = open_page(size=(1600, 900), stays_open=True)
    for name in names:
        saved_graph = read_shipped(name)
        page.open_form(saved_graph)
        page.wait_until(f"() => ({_FORM_SCRIPT})().every(([, , height]) => height > 20)")
        labels, row_widgets, _ = zip(*page.evaluate(_FORM_SCRIPT), strict=True)
        form_rows = saved_graph["extra"]["linearData"]["inputs"]
        assert [[int(number), widget] for number, widget in row_widgets] == form_rows, name
        assert len(set(labels)) == len(labels) <= MAX_FORM_ROWS
        assert not any("_" in text.replace("λ_g", "") for text in labels), labels
        assert not set(labels) & {widget for _, widget in row_widgets}, "an input's raw name"
        assert not page.evaluate(_SHORT_SLIDERS_SCRIPT), name
        assert keep_relevant_inputs(page.to_prompt()) == keep_relevant_inputs(read_prompt(name)), (
            name
        )
    assert not page.complaints()
    page.evaluate(_LOCALE_SCRIPT, "ja")
    try:
        page.open_form(saved_graph)
        for text, *_ in page.evaluate(_FORM_SCRIPT):
            assert re.search("[ぁ-ヶ一-鿿]", text), text
        japanese_graph = page.serialize_graph() | {"extra": saved_graph["extra"]}
    finally:
        page.evaluate(_LOCALE_SCRIPT, "en")
    page.open_form(japanese_graph)
    assert tuple(text for text, *_ in page.evaluate(_FORM_SCRIPT)) == labels


def test_the_whole_graph_of_a_template_is_visible(open_page, read_shipped, pinned_host):
    """Check that an opened template fills the view."""
    first_name, second_name, third_name = TEMPLATE_NAMES[:3]
    page = open_page(f"/?template={first_name}&source={PACK}", size=(1440, 900), stays_open=True)
    for name in (first_name, second_name, third_name):
        if name != first_name:
            page.open_templates(PACK)
        if name == second_name:
            for card in TEMPLATE_NAMES:
                picture = (
                    page.browser_tab.get_by_test_id(f"template-workflow-{card}")
                    .locator("img")
                    .first
                )
                picture.scroll_into_view_if_needed()
                page.wait_until(
                    "(img) => img.complete && img.naturalWidth > 100", picture.element_handle()
                )
        if name != first_name:
            page.browser_tab.get_by_test_id(f"template-workflow-{name}").click()
        page.wait_until(_IS_OPENED_SCRIPT, name)
        page.browser_tab.locator(FORM_ROW).first.wait_for()
        page.browser_tab.get_by_role("button", name="Enter node graph").first.click()
        page.wait_until(  # the fit is animated
            f"() => app.canvas.ds.scale >= {MIN_ZOOM} && !({_OUTSIDE_SCRIPT})().length"
        )
        assert not page.problems(read_shipped(name)), name


def test_the_newer_nodes_do_not_overlap(open_page, read_shipped, pinned_host):
    """Check that nodes don't overlap in ComfyUI's newer node design."""
    page = open_page(vue_nodes=True, size=(1000, 600), stays_open=True)
    for name in TEMPLATE_NAMES:
        page.load(read_shipped(name))
        page.show()
        page.wait_until(f"() => !({OVERLAPS_SCRIPT})().length")
        assert not page.evaluate(_SHORT_SLIDERS_SCRIPT), name
