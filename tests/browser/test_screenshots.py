"""Remakes docs/img: ``python3 run.py test --browser --screenshots``. Skipped otherwise.

With ``EGOX_SCREENSHOTS=small`` in the environment the graphs run small, to try the pictures out;
never commit those. Every picture shows the synthetic sample only, with the classic nodes in the dark
theme. Each picture has to be looked at before it is committed."""

import os

import pytest

from tests.browser.page import PageUnderTest
from tests.paths import ROOT

from .editor_page import NODE, EditorPage, editor_graph
from .head_graph import add_head
from .preview_graph import choose_view, connect_everything
from .small_graph import HEIGHT, make_small
from .test_workflows_in_page import NAMES, PACK

SMALL = os.environ.get("EGOX_SCREENSHOTS") == "small"
pytestmark = pytest.mark.skipif(
    os.environ.get("EGOX_SCREENSHOTS") not in ("1", "small"),
    reason="remakes docs/img: python3 run.py test --browser --screenshots",
)

IMG = ROOT / "docs" / "img"
WIDE = (2400, 1500)
PREVIEWS = {
    "depth": "EgoXDepthAlign",
    "prior": "EgoXRenderEgoPrior",
    "ego": "EgoXDecodeEgoHalf",
}
RUN_S = 1800.0


def run(page: PageUnderTest) -> None:
    if SMALL:
        make_small(page)
    page.queue()
    page.wait_for_run(RUN_S)
    page.page.wait_for_timeout(3000)  # previews are fetched, and "Job completed" goes away


# The take's own truth, in place of what stands for it in the tests.
TRUTH = """() => {
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


def picture_of_node(page: PageUnderTest, node: str, name: str, width: int) -> None:
    x, y, w, h = page.node_bounds(node)
    bounds = (x, y - 28, w, h + 28)  # the badge stands above the title
    page.show(bounds)
    page.page.wait_for_timeout(1200)
    page.save_picture(IMG / f"{name}.jpg", page.on_page(bounds), width=width, quality=76)


def picture_of_graph(page: PageUnderTest, name: str) -> None:
    bounds = page.graph_bounds()
    page.show(bounds)
    page.page.wait_for_timeout(1500)
    page.save_picture(
        IMG / f"workflow_{name}_dark.jpg", page.on_page(bounds), width=1900, quality=66
    )


def test_workflows(open_page, shipped):
    page = open_page(size=WIDE)
    for name in NAMES:
        if name != "egox_demo":
            page.load(shipped(name))
            picture_of_graph(page, name)


def test_demo_previews(open_page, shipped, unpacked):
    page = open_page(size=WIDE, webgl=True)
    page.load(shipped("egox_demo"))
    run(page)
    picture_of_graph(page, "egox_demo")
    page.load(unpacked("egox_demo"))
    page.evaluate(TRUTH)
    run(page)
    page.show(page.node_bounds("EgoXDecodeEgoHalf"))
    choose_view(page, "EgoXDecodeEgoHalf", "side")  # after a second run: the difference
    for name, node in PREVIEWS.items():
        picture_of_node(page, node, f"preview_{name}_dark", 560)
    connect_everything(page)
    for name in ("ego_x", "ego_y"):
        page.set_widget("EgoXAttentionView", name, HEIGHT // 2 if SMALL else 128)
    run(page)
    picture_of_node(page, "EgoXAttentionView", "preview_attention_dark", 560)


def test_editor(open_page, unpacked):
    """An estimate with what the wearer looks at in two frames."""
    page = open_page(size=(1500, 900), webgl=True)
    page.load(editor_graph(unpacked("egox_demo")))
    add_head(page)
    page.set_widget(NODE, "source", "estimated")
    editor = EditorPage(page).open(load=True)
    page.page.wait_for_function(f"() => {editor.script('exo.step')} === 'look'")
    for place in ((0.545, 0.655), (0.56, 0.64)):
        editor.click_exo(place)
        editor.at("look-next").click()
    editor.wait_until_seen()
    page.page.wait_for_timeout(3000)
    page.save_picture(IMG / "editor_dark.jpg", width=1300, quality=78)


def test_form(open_page, shipped):
    """The demo as a form, after a run: what the README begins with."""
    page = open_page(size=(1600, 900))
    page.open_form(shipped("egox_demo"))
    if SMALL:
        make_small(page)
    page.run_form(RUN_S)
    page.page.wait_for_timeout(3000)
    page.save_picture(IMG / "form.jpg", width=1300, quality=78)


def test_template_cards(open_page):
    page = open_page(size=(1700, 1250))  # so that no card is cut off
    page.open_templates(PACK)
    page.page.wait_for_timeout(2500)
    page.save_picture(IMG / "templates_dark.jpg", width=1200, quality=78)


def test_tutorial_steps(open_page, unpacked):
    """The pictures of docs/tutorial.md that no other picture shows."""
    page = open_page(size=(1500, 900))
    page.load(unpacked("egox_demo"))
    run(page)
    for node in ("EgoXLoadExoVideo", "EgoXWanSampler"):
        picture_of_node(page, node, f"tutorial_{node.removeprefix('EgoX').lower()}", 520)
