"""Test the demo workflow in the page: run, watch, compare, and save a clip."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from .page import read_picture
from .preview_graph import choose_view, find_preview_part, read_preview, wait_for_preview
from .small_graph import FRAMES, HEIGHT, WIDTH, shrink_graph_on_canvas
from .test_workflows_in_page import OVERLAPS_SCRIPT

DECODE_NODE, SEED = "EgoXDecodeEgoHalf", 71

# Returns size, length and brightness deviation of a video, which the page itself reads and draws.
VIDEO_STATE_SCRIPT = """async (name) => {
  const find = () => [...document.querySelectorAll('video')].find((v) => (v.currentSrc || v.src ||
    v.querySelector('source')?.src || '').includes(name));
  const later = () => new Promise((done) => setTimeout(done, 100));
  for (let tries = 0; tries < 900 && !find(); tries++) await later();  // the page shows it some time after the run
  const video = find();
  if (!video) return null;
  if (video.readyState < 2) await new Promise((done) => video.addEventListener('loadeddata', done, { once: true }));
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext('2d');
  const spread = () => {
    context.drawImage(video, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0, squares = 0;
    for (let i = 0; i < data.length; i += 4) { sum += data[i]; squares += data[i] * data[i]; }
    const n = data.length / 4;
    return Math.sqrt(squares / n - (sum / n) ** 2);
  };
  // A busy software renderer has a frame's data some time before it has the frame.
  for (let tries = 0; tries < 900 && spread() < 1; tries++) await later();
  // The video is loaded before the page has laid it out.
  for (let tries = 0; tries < 900 && !video.getBoundingClientRect().width; tries++) await later();
  const box = video.getBoundingClientRect();
  return { width: video.videoWidth, height: video.videoHeight, seconds: video.duration,
           deviation: spread(), shown: box.width * box.height };
}"""


# Lists the players of subgraphs, which the page draws on the outer node or on the inner one.
_PLAYERS_SCRIPT = """() => app.graph.nodes.filter((node) => node.isSubgraphNode?.()).map((node) => {
  const inner = node.subgraph.nodes.find((n) => n.inputs.some((s) => s.name === 'egox_preview' && s.link != null));
  const preview = node.egoxPreview ?? inner.egoxPreview, box = preview.element.getBoundingClientRect();
  return { title: node.title, clips: preview.clips.map((clip) => clip.name), shown: box.width * box.height };
})"""


# Lists nodes that reach below the group that they begin in.
_OUT_OF_GROUP_SCRIPT = """() => {
  const { ds, canvas } = app.canvas, top = canvas.getBoundingClientRect().top;
  return app.graph.nodes.filter((node) => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const end = drawn ? (drawn.bottom - top) / ds.scale - ds.offset[1] : node.pos[1] + node.size[1];
    return app.graph.groups.some(({ pos: [x, y], size: [w, h] }) => node.pos[0] > x && node.pos[0] < x + w &&
      node.pos[1] > y && node.pos[1] < y + h && end > y + h);
  }).map((node) => node.title);
}"""


# Returns, as data URLs, a frame of each clip of a player, and the difference of two runs.
_PIXELS_SCRIPT = """([type, number]) => {
  const preview = app.graph.nodes.find((n) => n.type === type).egoxPreview;
  const read = (clip) => {
    const [image, x, y, w, h] = clip.frame(number);
    const canvas = Object.assign(document.createElement('canvas'), { width: w, height: h });
    const context = canvas.getContext('2d');
    context.drawImage(image, x, y, w, h, 0, 0, w, h);
    return canvas.toDataURL();
  };
  return { ...Object.fromEntries(preview.pictures.map((clip) => [clip.name, read(clip)])), fps: preview.fps,
           factor: preview.difference?.factor, mean: preview.difference?.mean };
}"""
# Returns the type of the node on the canvas that shows the prior's player.
_PRIOR_NODE_SCRIPT = """() => app.graph.nodes.find((node) =>
  node.subgraph?.nodes.some((inner) => inner.type === 'EgoXRenderEgoPrior')).type"""
_CELL_COUNT_SCRIPT = (
    f"""() => app.graph.nodes.find((n) => n.type === '{DECODE_NODE}').egoxPreview.strip?.length"""
)


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic nodes", "newer nodes"])
def test_a_click_on_run_shows_the_ego_video(
    open_page, read_shipped, browser_server, is_pinned_host, vue_nodes
):
    """Check that the subgraph's player shows frames during sampling, and that ego video and film are
    saved at the end."""
    page = open_page(vue_nodes=vue_nodes, size=(1200, 700), stays_open=True)
    page.load(read_shipped("egox_demo"))
    shrink_graph_on_canvas(page, frames=FRAMES if vue_nodes else 1)
    page.set_widget("EgoXWanSampler", "seed", SEED)
    page.queue()
    if is_pinned_host or not vue_nodes:  # the newer nodes of older pages draw no player there
        has_clips = (
            f"() => {{ const all = ({_PLAYERS_SCRIPT})(); return all.every((p) => p.clips.length) "
            "&& all; }"
        )
        prior, ego = page.wait_until(has_clips).json_value()
        assert (prior["title"], ego["title"]) == ("Scene and prior", "EgoX")
        assert prior["clips"] == ["prior", "coverage", "depth", "exo"]
        assert ego["clips"] == ["ego"]
        assert min(prior["shown"], ego["shown"]) > 1000, "px of the page"
        page.wait_for_run()
        # The result is on Decode Ego Half.
        page.wait_until(f"() => !({_PLAYERS_SCRIPT})()[1].clips.length")
    page.wait_for_run()
    page.show()
    player = page.evaluate(VIDEO_STATE_SCRIPT, "side_by_side_")
    assert player["width"] > WIDTH + 3 * HEIGHT, "exo, prior, ego and truth"
    assert len(list((browser_server.base.output / "egox_demo").glob("ego_*.mp4"))) >= 1
    assert player["seconds"] > 0
    assert player["shown"] > 100
    assert player["deviation"] > 5, "one flat colour"
    page.wait_until(f"() => !({_OUT_OF_GROUP_SCRIPT})().length")
    check_report_is_whole(page)
    if not vue_nodes:  # what a run shows makes nodes higher
        page.wait_until("() => app.graph.nodes.find((n) => n.title === 'Save film').size[1] > 200")
        page.wait_until(f"() => !({OVERLAPS_SCRIPT})().length")
        check_comparison_of_two_runs(page)
    elif is_pinned_host:
        check_weights_follow_pointer(page)
        check_marks_of_pixels(page)
        check_saved_clip(page, browser_server.base.output)


def check_report_is_whole(page) -> None:
    """Check that the report on the node needs no scrolling, nor its folded part once opened."""
    report = find_preview_part(page, DECODE_NODE, "egox-preview-note")
    for is_open in (True, False):
        report.evaluate(
            "(part, isOpen) => part.querySelectorAll('details').forEach((each) => { each.open = isOpen; })",
            is_open,
        )
        shown, needed = report.evaluate("(part) => [part.clientHeight, part.scrollHeight]")
        assert needed <= shown, f"{needed} px of text in {shown}, opened: {is_open}"


def run_and_wait(page) -> dict:
    page.queue()
    page.wait_for_run()
    return wait_for_preview(page, DECODE_NODE)


def read_about(page) -> str:
    return find_preview_part(page, DECODE_NODE, "egox-preview-about").inner_text()


def check_comparison_of_two_runs(page) -> None:
    page.show(page.node_bounds(DECODE_NODE))
    first_preview = wait_for_preview(page, DECODE_NODE)
    assert first_preview["view"] == "side"
    assert "before" not in first_preview["views"]
    page.set_widget("EgoXWanSampler", "lambda_g", 0)
    second_preview = run_and_wait(page)
    assert (
        second_preview["view"] == "wipe"
        and not second_preview["message"]
        and second_preview["deviation"] > 5
    )
    assert read_about(page).startswith("λ_g 3 → 0 · mean difference ")
    pixels = page.evaluate(_PIXELS_SCRIPT, [DECODE_NODE, 0])
    assert pixels["factor"] == 8
    assert pixels["mean"] > 0.2
    earlier_pixels, current_pixels, difference = (
        read_picture(pixels[name]) for name in ("before", "ego", "difference")
    )
    expected = np.minimum(8 * np.abs(current_pixels - earlier_pixels), 255)
    opaque = (earlier_pixels == 255) & (current_pixels == 255)
    assert ((difference == expected) | (difference == 255) | opaque).all()

    preview_stage = find_preview_part(page, DECODE_NODE, "egox-preview-stage")
    preview_stage.click(position={"x": 10, "y": 10})
    page.browser_tab.keyboard.press("d")
    difference_preview = read_preview(page, DECODE_NODE)
    assert difference_preview["view"] == "difference"
    find_preview_part(page, DECODE_NODE, "egox-preview-factor").select_option("32")
    assert read_preview(page, DECODE_NODE)["hash"] != difference_preview["hash"]
    preview_stage.click(position={"x": 10, "y": 10})
    page.browser_tab.keyboard.press("1")
    assert read_about(page) == ""
    # The chosen view stays; a page that loads its graph again has the run before still.
    page.browser_tab.keyboard.press("b")
    page.set_widget("EgoXWanSampler", "lambda_g", 5)
    assert run_and_wait(page)["view"] == "before"
    assert read_about(page).startswith("λ_g 0 → 5")
    page.load(page.serialize_graph())
    assert wait_for_preview(page, DECODE_NODE)["view"] == "before" and read_about(page).startswith(
        "λ_g 0 → 5"
    )
    choose_view(page, DECODE_NODE, "wipe")
    side_menus = [
        find_preview_part(page, DECODE_NODE, f"egox-preview-{side}") for side in ("left", "right")
    ]
    option_texts = dict(
        option.split("|")
        for option in side_menus[0].evaluate(
            "(list) => [...list].map((o) => `${o.value}|${o.text}`)"
        )
    )
    for name, value in (("ego", 5), ("before", 0), ("run2", 3)):
        assert (
            f" · λ_g {value} · " in f" · {option_texts[name]}" and "LoRA" not in option_texts[name]
        ), option_texts
        assert option_texts[name].endswith(("dB", "°")), option_texts
    for side_menu, name in zip(side_menus, ("run2", "before"), strict=True):
        side_menu.select_option(name)
    find_preview_part(page, DECODE_NODE, "egox-preview-about").filter(
        has_text="λ_g 3 → 0"
    ).wait_for()

    choose_view(page, DECODE_NODE, "strip")
    make_button = find_preview_part(page, DECODE_NODE, "egox-preview-make")
    make_button.click()
    assert "8 runs, about" in read_about(page)
    make_button.click()
    page.wait_until("(maker) => maker.textContent.startsWith('Make')", make_button.element_handle())
    assert page.evaluate(_CELL_COUNT_SCRIPT) == 8
    assert read_about(page) == ""
    # A run of another video is compared with nothing, whatever view was chosen.
    choose_view(page, DECODE_NODE, "before")
    page.set_widget("EgoXLoadExoVideo", "file", "sample/synthetic_room/exo.mp4")
    other_video_preview = run_and_wait(page)
    assert "before" not in other_video_preview["views"]
    assert other_video_preview["deviation"] > 5


def check_weights_follow_pointer(page) -> None:
    """Check that shown attention weights follow the mouse pointer without a new run."""
    for node in (page.evaluate(_PRIOR_NODE_SCRIPT), DECODE_NODE):
        wait_for_preview(page, node)
        page.set_widget("EgoXWanSampler", "lambda_g", 3)
        page.show(page.node_bounds(node))
        page.settle(6)
        choose_view(page, node, "geometry")
        about_line = find_preview_part(page, node, "egox-preview-about")
        first_preview = read_preview(page, node)
        assert (
            first_preview["view"] == "geometry"
            and first_preview["deviation"] > 5
            and not first_preview["message"]
        )
        assert about_line.inner_text().startswith("λ_g 3 (released) · weight "), (
            about_line.inner_text()
        )
        box = page.evaluate(
            "(type) => app.graph.nodes.find((n) => n.type === type).egoxPreview.boxes[1].box", node
        )
        preview_stage = find_preview_part(page, node, "egox-preview-stage")
        zoom = preview_stage.bounding_box()["width"] / preview_stage.evaluate(
            "(stage) => stage.offsetWidth"
        )
        preview_stage.hover(
            position={"x": zoom * (box[0] + box[2] * 0.8), "y": zoom * (box[1] + box[3] * 0.8)}
        )
        pointed_preview = read_preview(page, node)
        assert pointed_preview["hash"] != first_preview["hash"], "another pixel, another picture"
        preview_stage.focus()
        page.browser_tab.keyboard.press("Shift+ArrowLeft")
        moved_preview = read_preview(page, node)
        assert (
            moved_preview["hash"] != pointed_preview["hash"]
            and moved_preview["frame"] == pointed_preview["frame"]
        )
        for value, expected_text in (4, "λ_g 4 (released)"), (0, "weight 1 to 1"):
            page.set_widget("EgoXWanSampler", "lambda_g", value)
            about_line.filter(has_text=expected_text).wait_for()


def check_marks_of_pixels(page) -> None:
    choose_view(page, DECODE_NODE, "ego")
    bare_hash = read_preview(page, DECODE_NODE)["hash"]
    marks_switch = find_preview_part(page, DECODE_NODE, "egox-preview-seen")
    assert marks_switch.get_attribute("aria-pressed") == "false"
    marks_switch.click()
    marked_hash = read_preview(page, DECODE_NODE)["hash"]
    assert marked_hash != bare_hash
    assert marks_switch.get_attribute("aria-pressed") == "true"
    about_text = read_about(page)
    assert about_text.startswith("This frame: ")
    now_percent, redrawn_percent, *other_percents = (
        int(share) for share in re.findall(r"(\d+) %", about_text)
    )
    assert redrawn_percent <= now_percent and sum((now_percent, *other_percents)) in range(
        98, 103
    ), about_text
    preview_stage, note = (
        find_preview_part(page, DECODE_NODE, f"egox-preview-{name}") for name in ("stage", "note")
    )
    assert preview_stage.evaluate("(stage) => stage.clientHeight") > 140, (
        "legend and note take no more"
    )
    assert note.get_attribute("title") == note.text_content()
    for view in ("exo", "geometry", "strip"):
        choose_view(page, DECODE_NODE, view)
        assert not marks_switch.is_visible() and "This frame: " not in read_about(page), view
    choose_view(page, DECODE_NODE, "ego")
    assert read_preview(page, DECODE_NODE)["hash"] == marked_hash
    page.browser_tab.keyboard.press("o")
    assert read_preview(page, DECODE_NODE)["hash"] == bare_hash


def check_saved_clip(page, output: Path) -> None:
    """Check that saving a shown clip writes a video with the run's workflow."""
    import av

    node = page.evaluate(_PRIOR_NODE_SCRIPT)
    page.show(page.node_bounds(node))
    page.set_widget("EgoXWanSampler", "seed", SEED + 1)  # not the run's
    for view in ("prior", "side"):
        choose_view(page, node, view)
        frame = read_preview(page, node)["frame"]
        pixels = page.evaluate(_PIXELS_SCRIPT, [node, 2])
        find_preview_part(page, node, "egox-preview-save").click()
        message = find_preview_part(page, node, "egox-preview-about").filter(has_text="aved: ")
        message.wait_for()
        saved_path = output.parent / message.inner_text().partition(": ")[2].partition(",")[0]
        assert saved_path.parent.name == "egox_previews"
        assert saved_path.name.startswith(f"{view}_")
        with av.open(str(saved_path)) as container:
            frames = np.stack(
                [
                    frame_picture.to_ndarray(format="rgb24")
                    for frame_picture in container.decode(video=0)
                ]
            )
            assert float(container.streams.video[0].average_rate) == pytest.approx(
                pixels["fps"], rel=0.01
            )
            prompt = json.loads(container.metadata["prompt"])
            graph = json.loads(container.metadata["workflow"])
        assert len(frames) == FRAMES
        assert frames[2].std() > 5
        if view == "prior":
            expected_picture = read_picture(pixels[view])[..., :3]
            assert np.abs(frames[2] - expected_picture.astype(float)).mean() < 8, "two lossy steps"
        assert read_preview(page, node)["frame"] == frame, "the player stays where it was"
    subgraph_names = {subgraph["name"] for subgraph in graph["definitions"]["subgraphs"]}
    assert subgraph_names == {"Scene and prior", "EgoX"}
    inputs_by_class = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert inputs_by_class["EgoXWanSampler"]["seed"] == SEED
