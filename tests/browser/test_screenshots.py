"""Take the pictures of docs/img, if they are requested.

With ``EGOX_SCREENSHOTS=small`` in the environment the graphs run small, to try the pictures out;
never commit those. Every picture shows the synthetic sample only, with the classic nodes in the
dark theme. Each picture has to be looked at before it is committed."""

import os

import pytest

from tests.browser.page import PageUnderTest
from tests.paths import ROOT

from .editor_page import POSE_NODE, EditorPage, editor_graph
from .head_graph import add_head
from .preview_graph import choose_view, connect_everything
from .small_graph import HEIGHT, shrink_graph_on_canvas
from .test_workflows_in_page import PACK, WORKFLOW_NAMES

IS_SMALL = os.environ.get("EGOX_SCREENSHOTS") == "small"
pytestmark = pytest.mark.skipif(
    os.environ.get("EGOX_SCREENSHOTS") not in ("1", "small"),
    reason="remakes docs/img: python3 run.py test --browser --screenshots",
)

IMG = ROOT / "docs" / "img"
WIDE_SIZE = (2400, 1500)
PREVIEW_NODES = {
    "depth": "EgoXDepthAlign",
    "prior": "EgoXRenderEgoPrior",
    "ego": "EgoXDecodeEgoHalf",
}
RUN_LIMIT_S = 1800.0


def run_graph(page: PageUnderTest) -> None:
    if IS_SMALL:
        shrink_graph_on_canvas(page)
    page.queue()
    page.wait_for_run(RUN_LIMIT_S)
    page.browser_tab.wait_for_timeout(3000)  # previews are fetched, and "Job completed" goes away


# Connects the take's true ego video, which other tests replace by the prior.
LOAD_TRUTH_SCRIPT = """() => {
  const load = app.graph.nodes.find((n) => n.type === 'EgoXLoadExoVideo');
  const decode = app.graph.nodes.find((n) => n.type === 'EgoXDecodeEgoHalf');
  const truth = LiteGraph.createNode('EgoXLoadExoVideo');
  app.graph.add(truth);
  truth.pos = [decode.pos[0] + 500, 3000];
  const value = (node, name) => node.widgets.find((widget) => widget.name === name);
  value(truth, 'file').value = value(load, 'file').value.replace('exo.mp4', 'ego_ground_truth.mp4');
  for (const name of ['start_frame', 'frame_count', 'target_fps', 'height'])
    value(truth, name).value = value(load, name).value;
  value(truth, 'width').value = value(load, 'height').value;
  truth.connect(0, decode, decode.inputs.findIndex((slot) => slot.name === 'ground_truth'));
}"""


def save_node_picture(page: PageUnderTest, node: str, name: str, width: int) -> None:
    x, y, w, h = page.node_bounds(node)
    bounds = (x, y - 28, w, h + 28)  # the badge stands above the title
    page.show(bounds)
    page.browser_tab.wait_for_timeout(1200)
    page.save_picture(IMG / f"{name}.jpg", page.page_rectangle(bounds), width=width, quality=76)


def save_graph_picture(page: PageUnderTest, name: str) -> None:
    bounds = page.graph_bounds()
    page.show(bounds)
    page.browser_tab.wait_for_timeout(1500)
    page.save_picture(
        IMG / f"workflow_{name}_dark.jpg", page.page_rectangle(bounds), width=1900, quality=66
    )


def test_pictures_of_the_workflows(open_page, read_shipped):
    page = open_page(size=WIDE_SIZE)
    for name in WORKFLOW_NAMES:
        if name != "egox_demo":
            page.load(read_shipped(name))
            if name == "egox_scene_3d":  # its viewers are empty before
                run_graph(page)
            save_graph_picture(page, name)


def test_pictures_of_the_demos_previews(open_page, read_shipped, read_unpacked):
    page = open_page(size=WIDE_SIZE)
    page.load(read_shipped("egox_demo"))
    run_graph(page)
    save_graph_picture(page, "egox_demo")
    page.load(read_unpacked("egox_demo"))
    page.evaluate(LOAD_TRUTH_SCRIPT)
    run_graph(page)
    page.show(page.node_bounds("EgoXDecodeEgoHalf"))
    choose_view(page, "EgoXDecodeEgoHalf", "side")  # after a second run: the difference
    for name, node in PREVIEW_NODES.items():
        save_node_picture(page, node, f"preview_{name}_dark", 560)
    connect_everything(page)
    for name in ("ego_x", "ego_y"):
        page.set_widget("EgoXAttentionView", name, HEIGHT // 2 if IS_SMALL else 128)
    run_graph(page)
    save_node_picture(page, "EgoXAttentionView", "preview_attention_dark", 560)


def test_picture_of_the_editor(open_page, read_unpacked):
    """Take a picture of the pose editor with a corrected path."""
    page = open_page(size=(1500, 900))
    page.load(editor_graph(read_unpacked("egox_demo")))
    add_head(page)
    page.set_widget(POSE_NODE, "source", "estimated")
    editor = EditorPage(page).open(load=True)
    page.wait_until(f"() => {editor.script('exo.step')} === 'look'")
    for place in ((0.545, 0.655), (0.56, 0.64)):
        editor.click_exo(place)
        editor.find("look-next").click()
    editor.wait_for_prior()
    page.browser_tab.wait_for_timeout(3000)
    page.save_picture(IMG / "editor_dark.jpg", width=1300, quality=78)


def test_picture_of_the_form(open_page, read_shipped):
    """Take a picture of the demo's form for the README."""
    page = open_page(size=(1600, 900))
    page.open_form(read_shipped("egox_demo"))
    if IS_SMALL:
        shrink_graph_on_canvas(page)
    page.run_form(RUN_LIMIT_S)
    page.browser_tab.wait_for_timeout(3000)
    page.save_picture(IMG / "form.jpg", width=1300, quality=78)


def test_picture_of_the_template_cards(open_page):
    page = open_page(size=(1700, 1250))  # so that no card is cut off
    page.open_templates(PACK)
    page.browser_tab.wait_for_timeout(2500)
    page.save_picture(IMG / "templates_dark.jpg", width=1200, quality=78)


def test_pictures_of_the_tutorial(open_page, read_unpacked):
    """Take the pictures of docs/tutorial.md."""
    page = open_page(size=(1500, 900))
    page.load(read_unpacked("egox_demo"))
    run_graph(page)
    for node in ("EgoXLoadExoVideo", "EgoXWanSampler"):
        save_node_picture(page, node, f"tutorial_{node.removeprefix('EgoX').lower()}", 520)
