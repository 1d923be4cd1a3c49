"""The previews on the nodes, by hand: they appear after a run, scrub, wipe, take keys and clicks,
and come back."""

import json
import re

import pytest

from .preview_graph import NODES, choose_view, connect_everything, part, state
from .small_graph import FRAMES, HEIGHT, make_small

STREAMS = {
    "EgoXDepthAlign": ["depth", "plot"],
    "EgoXEstimateHeadPose": ["head"],
    "EgoXRenderEgoPrior": ["prior", "coverage", "depth", "exo"],
    "EgoXDecodeEgoHalf": ["exo", "prior", "ego", "truth"],
    "EgoXAttentionView": ["ego", "weight", "guided", "plain"],
}


def look_at(page, node: str) -> None:
    page.show(page.node_bounds(node))
    page.settle(6)


def test_previews_show_and_obey(open_page, unpacked):
    page = open_page(vue_nodes=True, theme="light")
    page.load(unpacked("egox_demo"))
    empty = state(page, "EgoXRenderEgoPrior")
    assert "Run the graph" in empty["message"] and empty["streams"] == []
    grounds = page.evaluate(
        "() => [...document.querySelectorAll('.egox-ed-button')].map((e) => getComputedStyle(e).backgroundColor)"
    )
    assert grounds and all(min(map(int, re.findall(r"\d+", each))) > 220 for each in grounds)
    make_small(page)
    connect_everything(page)
    of_previews = re.compile(r"/view\?.*subfolder=egox")
    page.page.route(of_previews, lambda route: route.fulfill(status=404))
    page.queue()
    page.wait_for_run()
    gone = page.page.locator(".egox-preview", has_text="files are gone")
    gone.first.wait_for(state="attached")
    page.page.unroute(of_previews)
    # The next run is in the server's cache.
    page.queue()
    page.wait_for_run()
    page.page.wait_for_function(
        "(types) => types.every((type) => app.graph.nodes.find((n) => n.type === type).egoxPreview.clips.length)",
        arg=[name for name in NODES if name != "EgoXWanSampler"],
    )
    live = state(page, "EgoXWanSampler")
    assert live["streams"] == [] and "While sampling" in live["message"], (
        "put away: the result is there"
    )
    for node in NODES:
        if node == "EgoXWanSampler":
            continue
        look_at(page, node)
        seen = state(page, node)
        assert seen["streams"] == STREAMS[node] and not seen["message"], node
        assert seen["deviation"] > 5, f"{node}: an empty stage"
        assert min(seen["shown"]) > 100 and not seen["cut"], f"{node}: cut off {seen['cut']}"

    scrub_and_wipe(page)
    pick_a_pixel(page)
    follow_the_mode(page)
    saved = next(node for node in page.saved()["nodes"] if node["type"] == "EgoXDecodeEgoHalf")
    assert saved["properties"]["egox_preview_view"] == "ego", (
        "a saved workflow opens as it was left"
    )
    widgets = next(node for node in page.saved()["nodes"] if node["type"] == "EgoXRenderEgoPrior")[
        "widgets_values"
    ]
    assert len(widgets) == 4, "the preview is no value of the workflow"


def scrub_and_wipe(page) -> None:
    """By keys, by the slider, by dragging."""
    node = "EgoXDecodeEgoHalf"
    look_at(page, node)
    first = state(page, node)
    assert first["view"] == "side" and first["count"] == FRAMES
    stage = part(page, node, "egox-preview-stage")
    stage.click(position={"x": 10, "y": 10})
    page.page.keyboard.press("ArrowRight")
    second = state(page, node)
    assert second["frame"] == 1 and second["hash"] != first["hash"]
    page.page.keyboard.press("End")
    assert state(page, node)["frame"] == FRAMES - 1
    part(page, node, "egox-preview-frame").fill("2")
    assert state(page, node)["frame"] == 2
    page.page.keyboard.press("w")
    wiped = state(page, node)
    assert wiped["view"] == "wipe"
    box = stage.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.62, box["y"] + box["height"] / 2, steps=4)
    page.page.mouse.up()
    moved = state(page, node)
    assert moved["wipe"] > 0.55 and moved["hash"] != wiped["hash"]
    part(page, node, "egox-preview-wipe").focus()
    page.page.keyboard.press("ArrowLeft")
    assert state(page, node)["wipe"] == pytest.approx(moved["wipe"] - 0.02)
    choose_view(page, node, "ego")
    assert state(page, node)["view"] == "ego"


def pick_a_pixel(page) -> None:
    """A click into the ego picture sets the widgets."""
    node = "EgoXAttentionView"
    look_at(page, node)
    choose_view(page, node, "ego")
    stage = part(page, node, "egox-preview-stage")
    box = stage.bounding_box()
    side = min(box["width"], box["height"])
    # A quarter of the picture's side from its middle, to the left and upwards.
    stage.click(position={"x": box["width"] / 2 - side / 4, "y": box["height"] / 2 - side / 4})
    mark = state(page, node)["mark"]
    assert mark["x"] == pytest.approx(HEIGHT / 4, abs=4) and mark["y"] == pytest.approx(
        HEIGHT / 4, abs=4
    )
    inputs = next(n["inputs"] for n in page.to_prompt().values() if n["class_type"] == node)
    assert (inputs["ego_x"], inputs["ego_y"], inputs["frame"]) == (
        mark["x"],
        mark["y"],
        mark["frame"],
    )


def follow_the_mode(page) -> None:
    """λ_g starts where the mode starts, until the user says otherwise."""
    value = (
        "() => app.graph.nodes.find((n) => n.type === 'EgoXWanSampler')"
        ".widgets.find((w) => w.name === 'lambda_g').value"
    )
    for mode, expected in (
        ("paper", 1),
        ("off", 1),
        ("released", 3),
        ("power", 1),
        ("released", 3),
    ):
        page.set_widget("EgoXWanSampler", "gga_mode", mode)
        assert page.evaluate(value) == expected, mode
    page.set_widget("EgoXWanSampler", "lambda_g", 2.5)
    page.set_widget("EgoXWanSampler", "gga_mode", "paper")
    assert page.evaluate(value) == 2.5, "what the user has set stays"


def test_the_modes_start_values_are_the_cores(repo_root):
    from egox_core.gga.options import DEFAULT_LAMBDA

    script = (repo_root / "web" / "js" / "lambda_default.js").read_text("utf-8")
    written = re.search(r"DEFAULTS = (\{[^}]*\})", script).group(1)
    values = json.loads(re.sub(r"(\w+):", r'"\1":', written))
    assert values == {mode: DEFAULT_LAMBDA[mode] for mode in values} and set(values) == {
        "released",
        "paper",
        "power",
    }
