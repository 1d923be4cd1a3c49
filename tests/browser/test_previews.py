"""Test the previews on nodes by mouse and keyboard."""

import re

import pytest

from egox_core.gga.options import DEFAULT_LAMBDA

from .editor_page import keep_nodes
from .preview_graph import choose_view, connect_everything, find_preview_part, read_preview
from .small_graph import FRAMES, HEIGHT, shrink_graph_on_canvas

STREAM_NAMES = {
    "EgoXDepthAlign": ["depth", "plot"],
    "EgoXEstimateHeadPose": ["head"],
    "EgoXRenderEgoPrior": ["prior", "coverage", "depth", "exo"],
    "EgoXDecodeEgoHalf": ["exo", "prior", "ego", "truth"],
    "EgoXAttentionView": ["ego", "weight", "guided", "plain"],
}


def show_node(page, node: str) -> None:
    page.show(page.node_bounds(node))
    page.settle(6)


def test_previews_show_their_streams_and_react_to_keys_and_clicks(open_page, read_unpacked):
    page = open_page(vue_nodes=True, theme="light", stays_open=True)
    graph = read_unpacked("egox_demo")
    # Players of saved films would draw as long as the page is open.
    page.load(keep_nodes(graph, [node for node in graph["nodes"] if node["type"] != "SaveVideo"]))
    empty_state = read_preview(page, "EgoXRenderEgoPrior")
    assert "Run the graph" in empty_state["message"]
    assert empty_state["streams"] == []
    backgrounds = page.evaluate(
        "() => [...document.querySelectorAll('.egox-ed-button')].map((e) => "
        "getComputedStyle(e).backgroundColor)"
    )
    assert backgrounds and all(
        min(map(int, re.findall(r"\d+", colour))) > 220 for colour in backgrounds
    )
    shrink_graph_on_canvas(page)
    connect_everything(page)
    preview_address = re.compile(r"/view\?.*subfolder=egox")
    page.browser_tab.route(preview_address, lambda route: route.fulfill(status=404))
    page.queue()
    page.wait_for_run()
    missing_note = page.browser_tab.locator(".egox-preview", has_text="files are gone")
    missing_note.first.wait_for(state="attached")
    page.browser_tab.unroute(preview_address)
    # The next run is in the server's cache.
    page.queue()
    page.wait_for_run()
    page.wait_until(
        (
            "(types) => types.every((type) => app.graph.nodes.find((n) => n.type === "
            "type).egoxPreview.clips.length)"
        ),
        list(STREAM_NAMES),
    )
    live_state = read_preview(page, "EgoXWanSampler")
    assert live_state["streams"] == [] and "During sampling" in live_state["message"], (
        "the result is there"
    )
    for node, streams in STREAM_NAMES.items():
        show_node(page, node)
        preview = read_preview(page, node)
        assert preview["streams"] == streams and not preview["message"], node
        assert preview["deviation"] > 5, f"{node}: an empty stage"
        assert min(preview["shown"]) > 100 and not preview["cut"], (
            f"{node}: cut off {preview['cut']}"
        )
        preview_stage = find_preview_part(page, node, "egox-preview-stage")
        assert preview_stage.evaluate("(stage) => stage.clientHeight") >= 144, (
            f"{node}: no room is left"
        )

    scrub_and_wipe(page)
    pick_a_pixel(page)
    check_lambda_follows_mode(page)
    saved_nodes = {node["type"]: node for node in page.serialize_graph()["nodes"]}
    saved_view = saved_nodes["EgoXDecodeEgoHalf"]["properties"]["egox_preview_view"]
    assert saved_view == "ego", "a saved workflow opens as it was left"
    values = saved_nodes["EgoXRenderEgoPrior"]["widgets_values"]
    assert len(values) == 4, "the preview is no value of the workflow"


def scrub_and_wipe(page) -> None:
    """Move through a preview's frames and compare two pictures by keys and mouse."""
    node = "EgoXDecodeEgoHalf"
    show_node(page, node)
    first_state = read_preview(page, node)
    assert first_state["view"] == "side"
    assert first_state["count"] == FRAMES
    preview_stage = find_preview_part(page, node, "egox-preview-stage")
    keyboard = page.browser_tab.keyboard
    preview_stage.click(position={"x": 10, "y": 10})
    shown_time = find_preview_part(page, node, "egox-preview-now")
    text_node = shown_time.evaluate_handle("(time) => time.firstChild")
    keyboard.press("ArrowRight")
    second_state = read_preview(page, node)
    assert second_state["frame"] == 1
    assert second_state["hash"] != first_state["hash"]
    assert text_node.evaluate("(text) => text.isConnected && text.data").startswith("1 /"), (
        "another text node would have the page styled anew at each frame"
    )
    keyboard.press("End")
    assert read_preview(page, node)["frame"] == FRAMES - 1
    find_preview_part(page, node, "egox-preview-frame").fill("2")
    keyboard.press("w")
    wipe_state = read_preview(page, node)
    assert (wipe_state["view"], wipe_state["frame"]) == ("wipe", 2)
    stage_box = preview_stage.bounding_box()
    middle_y = stage_box["y"] + stage_box["height"] / 2
    page.browser_tab.mouse.move(stage_box["x"] + stage_box["width"] / 2, middle_y)
    page.browser_tab.mouse.down()
    page.browser_tab.mouse.move(stage_box["x"] + stage_box["width"] * 0.62, middle_y, steps=4)
    page.browser_tab.mouse.up()
    moved_state = read_preview(page, node)
    assert moved_state["wipe"] > 0.55
    assert moved_state["hash"] != wipe_state["hash"]
    find_preview_part(page, node, "egox-preview-wipe").focus()
    keyboard.press("ArrowLeft")
    assert read_preview(page, node)["wipe"] == pytest.approx(moved_state["wipe"] - 0.02)
    choose_view(page, node, "ego")


def pick_a_pixel(page) -> None:
    """Click into a preview's ego picture, and check that the click sets the node's pixel
    widgets."""
    node = "EgoXAttentionView"
    show_node(page, node)
    choose_view(page, node, "ego")
    preview_stage = find_preview_part(page, node, "egox-preview-stage")
    stage_box = preview_stage.bounding_box()
    shorter_side = min(stage_box["width"], stage_box["height"])
    # A quarter of the picture's side from its middle, to the left and upwards.
    preview_stage.click(
        position={
            "x": stage_box["width"] / 2 - shorter_side / 4,
            "y": stage_box["height"] / 2 - shorter_side / 4,
        }
    )
    picked_mark = read_preview(page, node)["mark"]
    assert [picked_mark["x"], picked_mark["y"]] == pytest.approx([HEIGHT / 4] * 2, abs=4)
    inputs = next(
        node_entry["inputs"]
        for node_entry in page.to_prompt().values()
        if node_entry["class_type"] == node
    )
    widget_names = {"x": "ego_x", "y": "ego_y", "frame": "frame"}
    assert all(inputs[name] == picked_mark[coordinate] for coordinate, name in widget_names.items())


def check_lambda_follows_mode(page) -> None:
    """Check that λ_g has the mode's default until the user sets another value."""
    node = "EgoXWanSampler"
    for mode, default_mode in (
        ("paper", "paper"),
        ("off", "paper"),
        ("released", "released"),
        ("power", "power"),
        ("released", "released"),
    ):
        page.set_widget(node, "gga_mode", mode)
        assert page.widget(node, "lambda_g") == DEFAULT_LAMBDA[default_mode], mode
    page.set_widget(node, "lambda_g", 2.5)
    page.set_widget(node, "gga_mode", "paper")
    assert page.widget(node, "lambda_g") == 2.5, "what the user has set stays"
