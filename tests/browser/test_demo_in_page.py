"""egox_demo is run by a click on the page's own button, and the ego video is seen in the page. Then
its players compare two runs, show weights under the pointer, and *Save*."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from .preview_graph import choose_view, find_preview_part, read_preview, wait_for_preview
from .small_graph import FRAMES, HEIGHT, shrink_graph_on_canvas
from .test_workflows_in_page import OVERLAPS

NODE, SEED = "EgoXDecodeEgoHalf", 71

# A video element draws into a canvas of the page's own; the file is read by the page, not by us.
SEEN = """async (name) => {
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


# The players on subgraphs: on the outer node, or the inner node's own where the page draws that one
# there.
_PLAYERS = """() => app.graph.nodes.filter((node) => node.isSubgraphNode?.()).map((node) => {
  const inner = node.subgraph.nodes.find((n) => n.inputs.some((s) => s.name === 'egox_preview' && s.link != null));
  const preview = node.egoxPreview ?? inner.egoxPreview, box = preview.element.getBoundingClientRect();
  return { title: node.title, clips: preview.clips.map((clip) => clip.name), shown: box.width * box.height };
})"""


# Nodes that reach below the group that they begin in.
_OUT_OF_GROUP = """() => {
  const { ds, canvas } = app.canvas, top = canvas.getBoundingClientRect().top;
  return app.graph.nodes.filter((node) => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const end = drawn ? (drawn.bottom - top) / ds.scale - ds.offset[1] : node.pos[1] + node.size[1];
    return app.graph.groups.some(({ pos: [x, y], size: [w, h] }) => node.pos[0] > x && node.pos[0] < x + w &&
      node.pos[1] > y && node.pos[1] < y + h && end > y + h);
  }).map((node) => node.title);
}"""


# A frame of each clip of a player, as numbers; and what it says of the difference of two runs.
_PIXELS = """([type, number]) => {
  const preview = app.graph.nodes.find((n) => n.type === type).egoxPreview;
  const read = (clip) => {
    const [image, x, y, w, h] = clip.frame(number);
    const canvas = Object.assign(document.createElement('canvas'), { width: w, height: h });
    const context = canvas.getContext('2d');
    context.drawImage(image, x, y, w, h, 0, 0, w, h);
    return [...context.getImageData(0, 0, w, h).data];
  };
  return { ...Object.fromEntries(preview.pictures.map((clip) => [clip.name, read(clip)])), fps: preview.fps,
           factor: preview.difference?.factor, mean: preview.difference?.mean };
}"""
# The node on the canvas that has the prior's player.
_PRIOR = """() => app.graph.nodes.find((node) =>
  node.subgraph?.nodes.some((inner) => inner.type === 'EgoXRenderEgoPrior')).type"""
_CELLS = f"""() => app.graph.nodes.find((n) => n.type === '{NODE}').egoxPreview.strip?.length"""


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic nodes", "newer nodes"])
def test_a_click_on_run_shows_the_ego_video(
    open_page, read_shipped, browser_server, is_pinned_host, vue_nodes
):
    """While it is sampled on the subgraph's player, then from the file."""
    page = open_page(vue_nodes=vue_nodes, size=(1600, 900))
    page.load(read_shipped("egox_demo"))
    shrink_graph_on_canvas(page)
    page.set_widget("EgoXWanSampler", "seed", SEED)
    page.queue()
    if is_pinned_host or not vue_nodes:  # the newer nodes of older pages draw no player there
        has_clips = f"() => {{ const all = ({_PLAYERS})(); return all.every((p) => p.clips.length) && all; }}"
        prior, ego = page.page.wait_for_function(has_clips).json_value()
        assert (prior["title"], ego["title"]) == ("Scene and prior", "EgoX")
        assert prior["clips"] == ["prior", "coverage", "depth", "exo"] and ego["clips"] == ["ego"]
        assert min(prior["shown"], ego["shown"]) > 1000, "px of the page"
        page.wait_for_run()
        # The result is on Decode Ego Half.
        page.page.wait_for_function(f"() => !({_PLAYERS})()[1].clips.length")
    page.wait_for_run()
    page.show()
    player = page.evaluate(SEEN, "ego_")
    assert (player["width"], player["height"]) == (HEIGHT, HEIGHT)
    assert player["seconds"] > 0 and player["shown"] > 100
    assert player["deviation"] > 5, "one flat colour"
    page.page.wait_for_function(f"() => !({_OUT_OF_GROUP})().length")
    if not vue_nodes:  # what a run shows makes nodes higher
        page.page.wait_for_function(
            "() => app.graph.nodes.find((n) => n.type === 'SaveVideo').size[1] > 250"
        )
        page.page.wait_for_function(f"() => !({OVERLAPS})().length")
        two_runs_are_compared(page)
    elif is_pinned_host:
        weights_follow_pointer_and_strength(page)
        marks_tell_how_each_pixel_is_known(page)
        a_player_is_saved(page, browser_server.base.output)


def run(page) -> dict:
    page.queue()
    page.wait_for_run()
    return wait_for_preview(page, NODE)


def about(page) -> str:
    return find_preview_part(page, NODE, "egox-preview-about").inner_text()


def two_runs_are_compared(page) -> None:
    page.show(page.node_bounds(NODE))
    first = wait_for_preview(page, NODE)
    assert first["view"] == "side" and "before" not in first["views"]
    page.set_widget("EgoXWanSampler", "lambda_g", 0)
    second = run(page)
    assert second["view"] == "wipe" and not second["message"] and second["deviation"] > 5
    assert about(page).startswith("λ_g 3 → 0 · mean difference ")
    pixels = page.evaluate(_PIXELS, [NODE, 1])
    assert pixels["factor"] == 8 and pixels["mean"] > 0.2
    before, now, difference = (np.array(pixels[name]) for name in ("before", "ego", "difference"))
    expected = np.minimum(8 * np.abs(now - before), 255)
    opaque = (before == 255) & (now == 255)
    assert ((difference == expected) | (difference == 255) | opaque).all()

    stage = find_preview_part(page, NODE, "egox-preview-stage")
    stage.click(position={"x": 10, "y": 10})
    page.page.keyboard.press("d")
    before = read_preview(page, NODE)
    assert before["view"] == "difference"
    find_preview_part(page, NODE, "egox-preview-factor").select_option("32")
    assert read_preview(page, NODE)["hash"] != before["hash"]
    stage.click(position={"x": 10, "y": 10})
    page.page.keyboard.press("1")
    assert about(page) == ""
    # The chosen view stays; a page that loads its graph again has the run before still.
    page.page.keyboard.press("b")
    page.set_widget("EgoXWanSampler", "lambda_g", 5)
    assert run(page)["view"] == "before" and about(page).startswith("λ_g 0 → 5")
    page.load(page.saved())
    assert wait_for_preview(page, NODE)["view"] == "before" and about(page).startswith("λ_g 0 → 5")
    choose_view(page, NODE, "wipe")
    sides = [find_preview_part(page, NODE, f"egox-preview-{side}") for side in ("left", "right")]
    listed = dict(
        option.split("|")
        for option in sides[0].evaluate("(list) => [...list].map((o) => `${o.value}|${o.text}`)")
    )
    for name, value in (("ego", 5), ("before", 0), ("run2", 3)):
        assert f" · λ_g {value} · " in f" · {listed[name]}" and "LoRA" not in listed[name], listed
        assert listed[name].endswith(("dB", "°")), listed
    for side, name in zip(sides, ("run2", "before"), strict=True):
        side.select_option(name)
    find_preview_part(page, NODE, "egox-preview-about").filter(has_text="λ_g 3 → 0").wait_for()

    choose_view(page, NODE, "strip")
    maker = find_preview_part(page, NODE, "egox-preview-make")
    maker.click()
    assert "8 runs, about" in about(page)
    maker.click()
    page.page.wait_for_function(
        "(maker) => maker.textContent.startsWith('Make')", arg=maker.element_handle()
    )
    assert page.evaluate(_CELLS) == 8 and about(page) == ""
    # A run of another video is compared with nothing, whatever view was chosen.
    choose_view(page, NODE, "before")
    page.set_widget("EgoXLoadExoVideo", "file", "sample/synthetic_room/exo.mp4")
    other = run(page)
    assert "before" not in other["views"] and other["deviation"] > 5


def weights_follow_pointer_and_strength(page) -> None:
    """Check that weights follow pointer and strength without a run."""
    for node in (page.evaluate(_PRIOR), NODE):
        wait_for_preview(page, node)
        page.set_widget("EgoXWanSampler", "lambda_g", 3)
        page.show(page.node_bounds(node))
        page.settle(6)
        choose_view(page, node, "geometry")
        about = find_preview_part(page, node, "egox-preview-about")
        first = read_preview(page, node)
        assert first["view"] == "geometry" and first["deviation"] > 5 and not first["message"]
        assert about.inner_text().startswith("λ_g 3 (released) · weight "), about.inner_text()
        box = page.evaluate(
            "(type) => app.graph.nodes.find((n) => n.type === type).egoxPreview.boxes[1].box", node
        )
        stage = find_preview_part(page, node, "egox-preview-stage")
        zoom = stage.bounding_box()["width"] / stage.evaluate("(stage) => stage.offsetWidth")
        stage.hover(
            position={"x": zoom * (box[0] + box[2] * 0.8), "y": zoom * (box[1] + box[3] * 0.8)}
        )
        pointed = read_preview(page, node)
        assert pointed["hash"] != first["hash"], "another pixel, another picture"
        stage.focus()
        page.page.keyboard.press("Shift+ArrowLeft")
        moved = read_preview(page, node)
        assert moved["hash"] != pointed["hash"] and moved["frame"] == pointed["frame"]
        for value, words in (4, "λ_g 4 (released)"), (0, "weight 1 to 1"):
            page.set_widget("EgoXWanSampler", "lambda_g", value)
            about.filter(has_text=words).wait_for()


def marks_tell_how_each_pixel_is_known(page) -> None:
    choose_view(page, NODE, "ego")
    bare, switch = (
        read_preview(page, NODE)["hash"],
        find_preview_part(page, NODE, "egox-preview-seen"),
    )
    assert switch.get_attribute("aria-pressed") == "false"
    switch.click()
    marked_hash = read_preview(page, NODE)["hash"]
    assert marked_hash != bare and switch.get_attribute("aria-pressed") == "true"
    text = about(page)
    assert text.startswith("This frame: ")
    now, redrawn, *others = (int(share) for share in re.findall(r"(\d+) %", text))
    assert redrawn <= now and sum((now, *others)) in range(98, 103), text
    stage, note = (
        find_preview_part(page, NODE, f"egox-preview-{name}") for name in ("stage", "note")
    )
    assert stage.evaluate("(stage) => stage.clientHeight") > 140, "legend and note take no more"
    assert note.get_attribute("title") == note.text_content()
    for view in ("exo", "geometry", "strip"):
        choose_view(page, NODE, view)
        assert not switch.is_visible() and "This frame: " not in about(page), view
    choose_view(page, NODE, "ego")
    assert read_preview(page, NODE)["hash"] == marked_hash
    page.page.keyboard.press("o")
    assert read_preview(page, NODE)["hash"] == bare


def a_player_is_saved(page, output: Path) -> None:
    """Check that the shown pictures become a video in the output folder, with the workflow of the
    run that made it."""
    import av

    node = page.evaluate(_PRIOR)
    page.show(page.node_bounds(node))
    page.set_widget("EgoXWanSampler", "seed", SEED + 1)  # not the run's
    for view in ("prior", "side"):
        choose_view(page, node, view)
        frame, pixels = read_preview(page, node)["frame"], page.evaluate(_PIXELS, [node, 2])
        find_preview_part(page, node, "egox-preview-save").click()
        message = find_preview_part(page, node, "egox-preview-about").filter(has_text="aved: ")
        message.wait_for()
        path = output.parent / message.inner_text().partition(": ")[2].partition(",")[0]
        assert path.parent.name == "egox_previews" and path.name.startswith(f"{view}_")
        with av.open(str(path)) as file:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])
            assert float(file.streams.video[0].average_rate) == pytest.approx(
                pixels["fps"], rel=0.01
            )
            prompt = json.loads(file.metadata["prompt"])
            graph = json.loads(file.metadata["workflow"])
        assert len(frames) == FRAMES and frames[2].std() > 5
        if view == "prior":
            prior = np.array(pixels[view]).reshape(HEIGHT, HEIGHT, 4)[..., :3]
            assert np.abs(frames[2] - prior.astype(float)).mean() < 8, "two lossy steps"
        assert read_preview(page, node)["frame"] == frame, "the player stays where it was"
    names = {inside["name"] for inside in graph["definitions"]["subgraphs"]}
    assert names == {"Scene and prior", "EgoX"}
    kinds = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert kinds["EgoXWanSampler"]["seed"] == SEED
