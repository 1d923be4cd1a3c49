"""The previews on the nodes, by hand: they appear after a run, scrub, wipe, take keys and clicks,
and come back."""

import re

import pytest

from egox_core.gga.options import DEFAULT_LAMBDA

from .preview_graph import choose_view, connect_everything, part, state
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
        arg=list(STREAMS),
    )
    live = state(page, "EgoXWanSampler")
    assert live["streams"] == [] and "During sampling" in live["message"], "the result is there"
    for node, streams in STREAMS.items():
        look_at(page, node)
        preview = state(page, node)
        assert preview["streams"] == streams and not preview["message"], node
        assert preview["deviation"] > 5, f"{node}: an empty stage"
        assert min(preview["shown"]) > 100 and not preview["cut"], (
            f"{node}: cut off {preview['cut']}"
        )
        stage = part(page, node, "egox-preview-stage")
        assert stage.evaluate("(stage) => stage.clientHeight") >= 144, f"{node}: no room is left"

    scrub_and_wipe(page)
    pick_a_pixel(page)
    follow_the_mode(page)
    saved = {node["type"]: node for node in page.saved()["nodes"]}
    view = saved["EgoXDecodeEgoHalf"]["properties"]["egox_preview_view"]
    assert view == "ego", "a saved workflow opens as it was left"
    values = saved["EgoXRenderEgoPrior"]["widgets_values"]
    assert len(values) == 4, "the preview is no value of the workflow"


def scrub_and_wipe(page) -> None:
    """Scrub and wipe by keys, by the slider, and by dragging."""
    node = "EgoXDecodeEgoHalf"
    look_at(page, node)
    first = state(page, node)
    assert first["view"] == "side" and first["count"] == FRAMES
    stage, keys = part(page, node, "egox-preview-stage"), page.page.keyboard
    stage.click(position={"x": 10, "y": 10})
    keys.press("ArrowRight")
    second = state(page, node)
    assert second["frame"] == 1 and second["hash"] != first["hash"]
    keys.press("End")
    assert state(page, node)["frame"] == FRAMES - 1
    part(page, node, "egox-preview-frame").fill("2")
    keys.press("w")
    wiped = state(page, node)
    assert (wiped["view"], wiped["frame"]) == ("wipe", 2)
    box = stage.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.62, middle, steps=4)
    page.page.mouse.up()
    moved = state(page, node)
    assert moved["wipe"] > 0.55 and moved["hash"] != wiped["hash"]
    part(page, node, "egox-preview-wipe").focus()
    keys.press("ArrowLeft")
    assert state(page, node)["wipe"] == pytest.approx(moved["wipe"] - 0.02)
    choose_view(page, node, "ego")


def pick_a_pixel(page) -> None:
    """Click into the ego picture, which sets the widgets."""
    node = "EgoXAttentionView"
    look_at(page, node)
    choose_view(page, node, "ego")
    stage = part(page, node, "egox-preview-stage")
    box = stage.bounding_box()
    side = min(box["width"], box["height"])
    # A quarter of the picture's side from its middle, to the left and upwards.
    stage.click(position={"x": box["width"] / 2 - side / 4, "y": box["height"] / 2 - side / 4})
    mark = state(page, node)["mark"]
    assert [mark["x"], mark["y"]] == pytest.approx([HEIGHT / 4] * 2, abs=4)
    inputs = next(n["inputs"] for n in page.to_prompt().values() if n["class_type"] == node)
    names = {"x": "ego_x", "y": "ego_y", "frame": "frame"}
    assert all(inputs[name] == mark[coordinate] for coordinate, name in names.items())


def follow_the_mode(page) -> None:
    """Check that λ_g starts at the core's value for the mode, until the user sets another."""
    node = "EgoXWanSampler"
    for mode, start in (
        ("paper", "paper"),
        ("off", "paper"),
        ("released", "released"),
        ("power", "power"),
        ("released", "released"),
    ):
        page.set_widget(node, "gga_mode", mode)
        assert page.widget(node, "lambda_g") == DEFAULT_LAMBDA[start], mode
    page.set_widget(node, "lambda_g", 2.5)
    page.set_widget(node, "gga_mode", "paper")
    assert page.widget(node, "lambda_g") == 2.5, "what the user has set stays"
