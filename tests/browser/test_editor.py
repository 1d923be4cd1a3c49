"""The pose editor by hand: a scene, a path made, changed, undone, saved, loaded again, and what a
run makes of it."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from egox_core.cameras.presets import preset_camera
from egox_core.exchange.trajectory_files import read_trajectory, write_trajectory
from egox_core.prior.options import prior_preset
from egox_core.prior.render import render_ego_prior
from egox_core.scene.build import build_scene
from egox_core.take import load_take
from tests.browser.editor_page import NODE, EditorPage, editor_graph
from tests.browser.head_graph import add_head
from tests.browser.small_graph import HEIGHT, WIDTH

FRAMES = 9
CUT_OFF = """() => {
  const controls = ':is(button, select, input, canvas, output)';
  const seen = [...document.querySelectorAll(`[data-testid=egox-editor] ${controls}`)].filter(
    (e) => e.offsetParent !== null && getComputedStyle(e).visibility !== 'hidden' && e.getBoundingClientRect().width);
  const cut = seen.filter((e) => {
    const box = e.getBoundingClientRect();
    const outside = box.left < -1 || box.top < -1 || box.right > innerWidth + 1 || box.bottom > innerHeight + 1;
    return outside || (e.tagName === 'BUTTON' && e.scrollWidth > e.clientWidth + 1);
  });
  return cut.map((e) => e.dataset.testid ?? e.tagName);
}"""
"""Controls that reach out of the page, or whose words don't fit."""


def differ(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def start(open_page, unpacked, **options) -> EditorPage:
    page = open_page(size=(1400, 900), webgl=True, **options)
    page.load(editor_graph(unpacked("egox_demo")))
    # Whatever the demo itself is made for: the sample's own rate and the released prior.
    for kind, name, value in (
        ("EgoXLoadExoVideo", "file", "sample/synthetic_room/exo.mp4"),
        ("EgoXLoadExoVideo", "start_frame", 0),
        ("EgoXLoadExoVideo", "target_fps", 0.0),
        ("EgoXLoadExoVideo", "frame_count", FRAMES),
        ("EgoXLoadExoVideo", "height", HEIGHT),
        ("EgoXLoadExoVideo", "width", WIDTH),
        (NODE, "source", "file"),
        ("EgoXDepthAlign", "preset", "released"),
        ("EgoXRenderEgoPrior", "dynamic", "preset"),
    ):
        page.set_widget(kind, name, value)
    return EditorPage(page)


def test_a_path_from_the_first_click_to_the_rendered_prior(
    open_page, unpacked, browser_server, repo_root, tmp_path
):
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    page.set_widget(NODE, "source", "keyframes")
    editor.open(load=True)
    assert editor.ask("view.cloud.count") > 10_000 and not hands.evaluate(CUT_OFF)

    # The head by two clicks in the exo picture, then a second keyframe by numbers.
    editor.at("place").click()
    editor.click_exo((0.6, 0.25), (0.4, 0.65))
    first = editor.prior()
    assert first.std() > 10, "the coarse prior shows something"
    editor.go_to_frame(FRAMES - 1)
    editor.type_into("z", 1.6)
    editor.type_into("yaw", json.loads(editor.keyframes())["keyframes"][0]["yaw_deg"] + 40)
    document = json.loads(editor.keyframes())
    assert [k["frame"] if "frame" in k else k["time_s"] for k in document["keyframes"]][0] == 0
    assert len(document["keyframes"]) == 2 and document["up"] == [0, 0, 1]
    assert differ(editor.prior(), first) > 5, "the side view follows"

    # A keyframe is dragged: the frame between is passed at another pose, and undo brings the old
    # one back.
    editor.go_to_frame(3)
    text, seen = editor.keyframes(), editor.prior()
    editor.drag_key(1, -3)
    assert editor.ask("state.frameOfKey(1)") == FRAMES - 4
    dragged = editor.keyframes()
    assert dragged != text
    editor.go_to_frame(3)
    assert differ(editor.prior(), seen) > 2
    hands.keyboard.press("Control+z")
    assert editor.keyframes() == text and differ(editor.prior(), seen) < 0.01
    hands.keyboard.press("Control+Shift+z")
    assert editor.keyframes() == dragged

    # Looking through the camera: a drag turns the head of this frame, as one step to undo.
    editor.at("tool-look").click()
    editor.drag(editor.in_box("view", 0.5, 0.5), (90, 25))
    hands.wait_for_function(f"() => {editor.script('state.content.keys.length')} === 3")
    assert differ(editor.prior(), seen) > 2
    looked = editor.keyframes()
    editor.at("undo").click()
    assert editor.keyframes() == dragged
    editor.at("redo").click()
    assert editor.keyframes() == looked
    editor.at("tool-move").click()
    with hands.expect_download() as download:
        editor.at("export").select_option("trajectory")
    exported = tmp_path / "exported.json"
    download.value.save_as(exported)
    assert browser_server.is_running()
    editor.close()
    assert hands.evaluate("() => app.canvas.pause_rendering") is False

    # Saved and loaded again it is the same path, and that is what a run renders.
    saved = page.saved()
    page.load(saved)
    assert editor.keyframes() == looked
    editor.open(load=False)
    assert json.loads(editor.ask("state.text")) == json.loads(looked)
    editor.close()
    names = render_in_page(page)
    rendered = [
        np.asarray(Image.open(browser_server.base.output / name)).astype(np.float64)
        for name in names
    ]
    truth = headless_prior(repo_root, exported)
    assert len(rendered) == FRAMES == len(truth)
    for picture, expected in zip(rendered, truth, strict=True):
        psnr = 10 * np.log10(255**2 / max(np.mean((picture - expected) ** 2), 1e-9))
        assert psnr >= 40, psnr
    assert differ(rendered[0], rendered[-1]) > 3, "the path moves"


def render_in_page(page) -> list[str]:
    """Save the prior's frames by the host's own node, by the queue button; the files' names."""
    page.evaluate("""() => {
      const node = LiteGraph.createNode('SaveImage');
      app.graph.add(node);
      app.graph.nodes.find((n) => n.type === 'EgoXRenderEgoPrior').connect(0, node, 0);
      node.widgets.find((w) => w.name === 'filename_prefix').value = 'editor/prior';
    }""")
    page.queue()
    page.wait_for_run()
    images = page.wait_for_node("SaveImage")["images"]
    return [f"{image['subfolder']}/{image['filename']}" for image in images]


def headless_prior(repo_root: Path, exported: Path) -> np.ndarray:
    """[T, H, W, 3] 0...255: the sample's prior along the exported path, by the core alone."""
    take = load_take(
        repo_root / "sample" / "synthetic_room",
        frame_count=FRAMES,
        size=(WIDTH, HEIGHT),
        ego_size=HEIGHT,
    )
    path, _ = read_trajectory(exported, preset_camera("aria_released", HEIGHT), take.frames)
    path = replace(
        path, camera=path.camera.rescale(HEIGHT, HEIGHT)
    )  # as the graph does, to the height of exo
    scene = build_scene(take.read_exo(), take.depth)
    with torch.inference_mode():
        prior = render_ego_prior(scene, path, prior_preset("released"))
    return (prior.rgb * 255).clamp(0, 255).numpy().astype(np.uint8).astype(np.float64)


def test_without_a_scene_it_says_what_to_do(open_page, unpacked):
    editor = start(open_page, unpacked, vue_nodes=True)
    hands = editor.hands
    assert "Path from: file" in editor.at("node-note").first.inner_text()
    editor.open(load=False)
    assert "Load scene" in editor.at("empty").inner_text() and not hands.evaluate(CUT_OFF)
    assert "file" in editor.at("banner").inner_text()
    hands.keyboard.press("Escape")
    hands.wait_for_selector("[data-testid=egox-editor]", state="detached")
    hands.evaluate(
        f"() => {{ const n = app.graph.nodes.find((n) => n.type === '{NODE}'); "
        "n.disconnectInput(n.inputs.findIndex((i) => i.name === 'scene')); }"
    )
    editor.open(load=False)
    assert "Build Scene" in editor.at("empty").inner_text() and editor.at("load-empty").count() == 0
    # A path can be made without a scene.
    editor.type_into("x", 0.5)
    assert json.loads(editor.keyframes())["keyframes"][0]["position"][0] == 0.5
    assert (
        editor.hands.evaluate(
            f"() => app.graph.nodes.find((n) => n.type === '{NODE}')"
            ".widgets.find((w) => w.name === 'source').value"
        )
        == "keyframes"
    )
    editor.close()


def test_a_scene_that_is_gone_is_said_and_comes_back(open_page, unpacked, browser_client):
    editor = start(open_page, unpacked)
    editor.open(load=True)
    # Where no keyframes were written it begins with the file's path, and leaves the node's value
    # alone.
    editor.hands.wait_for_function(f"() => {editor.script('state.content.keys.length')} >= 2")
    assert "look_at" in editor.keyframes() and editor.prior().std() > 10
    # What the node told is of a server that has since dropped the scene.
    editor.hands.evaluate(
        f"() => {{ {editor.script('scene.known')}.token = 'x'.repeat(32); "
        f"{editor.script('side.scene')}.token = 'x'.repeat(32); {editor.script('side')}.again(); }}"
    )
    editor.hands.wait_for_selector("[data-testid=egox-load-empty]")
    assert "Run the graph again" in editor.at("empty").inner_text()
    editor.at("load-empty").click()
    editor.wait_for_scene()
    # The path of the file is taken over as keyframes.
    editor.at("take-over").click()
    editor.hands.wait_for_function(f"() => {editor.script('state.undoable.length')} === 1")
    assert len(json.loads(editor.keyframes())["keyframes"]) >= 2
    editor.close()


def test_a_scene_of_an_earlier_run_takes_no_click(open_page, unpacked):
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    editor.open(load=True)
    assert not editor.at("prior-moving").is_checked(), "as the released prior"
    editor.close()

    page.set_widget("EgoXLoadExoVideo", "start_frame", 8)
    page.set_widget("EgoXDepthAlign", "preset", "released_wild")
    editor.open(load=False)
    hands.wait_for_selector("[data-testid=egox-load-stale]")
    assert "earlier run" in editor.at("banner").inner_text() and not hands.evaluate(CUT_OFF)
    editor.at("exo-large").click()
    assert editor.at("banner").bounding_box()["width"] > 280, "its line is no column of words"
    editor.at("exo-large").click()
    assert all(editor.at(name).is_disabled() for name in ("place", "tool-snap", "tool-aim"))
    for key in "hs":
        hands.keyboard.press(key)
        hands.mouse.click(*editor.in_box("exo", 0.6, 0.25))
        hands.mouse.click(*editor.in_box("view", 0.5, 0.5))
    assert editor.ask("exo.step") is None and editor.ask("view.tool") == "move"
    old = editor.ask("scene.known.token")
    editor.at("load-stale").click()
    hands.wait_for_function(
        f"() => {editor.script('scene.trusted')} && "
        f"{editor.script('scene.known.token')} !== {json.dumps(old)}"
    )
    editor.at("place").click()
    editor.click_exo((0.6, 0.3), (0.4, 0.65))
    hands_and_no_face(editor)
    editor.close()


def hands_and_no_face(editor: EditorPage) -> None:
    """What moves, as a head that was just placed sees it: in the coarse prior where the graph's prior
    has it, and without the face that the camera sits in."""
    assert editor.at("prior-moving").is_checked()
    seen = editor.prior()
    editor.at("prior-moving").uncheck()
    assert differ(editor.prior(), seen) > 1
    editor.at("tool-look").click()
    editor.page.settle(10)
    seen = view_pixels(editor)
    editor.at("moving").uncheck()
    editor.page.settle(10)
    changed = np.abs(view_pixels(editor) - seen).max(-1) > 8
    assert 0.005 < changed.mean() < 0.3, changed.mean()


def view_pixels(editor: EditorPage) -> np.ndarray:  # [H, W, 3], of the middle of the view
    image = Image.open(io.BytesIO(editor.at("view").screenshot())).convert("RGB")
    return np.asarray(image, dtype=np.float64)[80:-80]


def test_an_estimate_is_corrected_undone_and_kept(open_page, unpacked):
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    page.set_widget("EgoXLoadExoVideo", "file", "sample/calm_room/exo.mp4")
    add_head(page)
    page.set_widget(NODE, "source", "estimated")
    example = editor.keyframes()
    editor.open(load=True)
    # It begins with the estimate, and nothing is written before something is corrected.
    hands.wait_for_function(f"() => {editor.script('state.content.keys.length')} >= 2")
    assert "estimated" in editor.at("banner").inner_text() and editor.keyframes() == example
    estimate = [key["position"] for key in json.loads(editor.ask("state.text"))["keyframes"]]
    editor.go_to_frame(0)  # it opens in the middle of the clip
    begun = editor.prior()
    assert begun.std() > 10

    editor.type_into("z", estimate[0][2] + 0.2)
    corrected = editor.keyframes()
    assert json.loads(corrected)["keyframes"][0]["position"][2] == pytest.approx(
        estimate[0][2] + 0.2
    )
    assert widget(page, NODE, "source") == "keyframes" and differ(editor.prior(), begun) > 2
    hands.keyboard.press("Control+z")
    undone = [key["position"] for key in json.loads(editor.keyframes())["keyframes"]]
    assert undone == estimate and differ(editor.prior(), begun) < 0.01
    hands.keyboard.press("Control+Shift+z")
    assert editor.keyframes() == corrected
    editor.close()

    # New runs, of a new estimate too, go by the correction; the estimate is one switch away.
    kept = run_path(page)
    page.set_widget("EgoXDepthAlign", "scale_factor", 1.3)
    assert run_path(page) == kept and editor.keyframes() == corrected
    page.set_widget(NODE, "source", "estimated")
    other = np.array(run_path(page))
    assert editor.keyframes() == corrected
    assert np.abs(other - np.array(kept)).max() > 0.15


def test_what_the_wearer_looks_at(open_page, unpacked):
    """One click turns the whole estimate; more, moved and taken back; kept, and what a run makes."""
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    page.set_widget("EgoXLoadExoVideo", "file", "sample/calm_room/exo.mp4")
    add_head(page)
    page.set_widget(NODE, "source", "estimated")
    editor.open(load=True)
    hands.wait_for_function(f"() => {editor.script('exo.step')} === 'look'")
    middle = FRAMES // 2
    assert editor.ask("state.frame") == middle and not hands.evaluate(CUT_OFF)
    assert "What does the wearer look at" in editor.at("exo-note").inner_text()
    assert "egox-ed-large" in editor.ask("layout.root.className")
    tools, banner = (editor.at(name).bounding_box() for name in ("tool-aim", "banner"))
    assert tools["y"] + tools["height"] < banner["y"], "no tool is covered"

    def looks() -> list[dict]:
        return json.loads(editor.ask("state.text")).get("looks", [])

    def turns() -> np.ndarray:
        q = np.array([pose["turn"] for pose in editor.ask("poses")])
        return np.degrees(2 * np.arccos(np.abs((q[1:] * q[:-1]).sum(1)).clip(0, 1)))

    def places() -> list:
        return [pose["position"] for pose in editor.ask("poses")]

    own, begun, stood = turns(), editor.prior(), places()
    editor.click_exo((0.3, 0.85))
    assert [look["frame"] for look in looks()] == [middle] and places() == stood
    assert turns().max() < own.max() + 2 and differ(editor.prior(), begun) > 2
    editor.at("look-next").click()
    assert editor.ask("state.frame") == 1
    editor.click_exo((0.5, 0.9))
    two = editor.keyframes()
    assert [look["frame"] for look in looks()] == [1, middle]
    editor.drag_key(1, 2, "look")
    assert [look["frame"] for look in looks()] == [1, middle + 2]
    hands.keyboard.press("Control+z")
    editor.go_to_frame(1)
    hands.keyboard.press("Delete")
    assert [look["frame"] for look in looks()] == [middle]
    hands.keyboard.press("Control+z")
    assert editor.keyframes() == two
    # On the wearer's own head: what is behind it, then the head itself. Turned by hand it looks nowhere.
    head = editor.ask("exo.pose.position")
    at = np.array(editor.ask(f"exo.pixel({head})")) / editor.ask("exo.scene.exo_size")
    for far in (True, False):
        editor.click_exo(at)
        assert (np.linalg.norm(np.subtract(looks()[0]["point"], head)) > 0.3) == far
    editor.type_into("yaw", 10)
    assert [look["frame"] for look in looks()] == [middle]
    for _ in range(3):
        editor.at("undo").click()
    assert editor.keyframes() == two
    editor.close()
    editor.open(load=False)
    assert json.loads(editor.ask("state.text")) == json.loads(two)
    editor.close()
    point = json.loads(two)["looks"][1]["point"]
    w2c = np.array(run_path(page))[middle]
    seen = w2c[:, :3] @ point + w2c[:, 3]
    assert seen[2] / np.linalg.norm(seen) > 0.9999
    page.set_widget("EgoXLoadExoVideo", "file", "sample/synthetic_room/exo.mp4")
    hands.wait_for_function(
        f"() => !app.graph.nodes.find((n) => n.type === '{NODE}')"
        ".widgets.find((w) => w.name === 'keyframes').value.includes('looks')"
    )
    page.set_widget("EgoXLoadExoVideo", "file", "sample/calm_room/exo.mp4")
    hands.wait_for_function(
        f"(two) => app.graph.nodes.find((n) => n.type === '{NODE}')"
        ".widgets.find((w) => w.name === 'keyframes').value === two",
        arg=two,
    )


def test_guessed_frames_are_marked_and_opened(open_page, unpacked, uploads, repo_root):
    editor = start(open_page, unpacked)
    take = load_take(repo_root / "sample" / "synthetic_room", frame_count=FRAMES)
    guessed = torch.tensor([False] * 4 + [True] * 3 + [False] * 2)
    uploads.mkdir(exist_ok=True)
    write_trajectory(
        uploads / "estimate.json", replace(take.trajectory, guessed=guessed), take.notes
    )
    editor.page.set_widget(NODE, "file", "egox/estimate.json")
    editor.open(load=True)
    editor.hands.wait_for_function(f"() => {editor.script('shown')}")
    assert editor.ask("timeline.guessed") == [4, 5, 6] and editor.ask("state.frame") == 4
    assert "3 of 9 frames" in editor.at("track-notes").inner_text()
    # A correction leaves the marks; the node's own keyframes have none.
    editor.type_into("yaw", 10)
    assert editor.ask("timeline.guessed") == [4, 5, 6]
    editor.close()
    editor.open(load=False)
    assert editor.ask("timeline.guessed") == [] and editor.at("track-notes").is_hidden()
    editor.close()


def run_path(page) -> list:
    """The upright w2c poses of a run, as the node tells the page."""
    page.queue()
    page.wait_for_run()
    return page.wait_for_node(NODE)["egox_pose"][0]["path"]


def widget(page, kind: str, name: str):
    return page.evaluate(
        "([kind, name]) => app.graph.nodes.find((n) => n.type === kind)"
        ".widgets.find((w) => w.name === name).value",
        [kind, name],
    )


def test_touch_and_a_narrow_page(open_page, unpacked):
    editor = start(open_page, unpacked, touch=True)
    editor.open(load=True)
    editor.hands.set_viewport_size({"width": 700, "height": 1000})
    editor.page.settle(10)
    assert not editor.hands.evaluate(CUT_OFF)
    editor.at("tool-look").tap()
    before = editor.ask("state.text")
    editor.hands.touchscreen.tap(*editor.in_box("track", 0.5, 0.6))
    assert editor.ask("state.frame") == (FRAMES - 1) // 2
    editor.at("key-add").tap()
    assert editor.ask("state.text") != before


def test_a_guessed_lens_is_set_and_the_head_stays_where_it_was_clicked(
    open_page, unpacked, uploads, repo_root
):
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    uploads.mkdir(exist_ok=True)
    for name in ("exo.mp4", "depth.npz"):  # no meta.json
        shutil.copy(repo_root / "sample" / "synthetic_room" / name, uploads / name)
    page.set_widget("EgoXLoadExoVideo", "file", "egox/exo.mp4")
    editor.open(load=False).wait_for_scene()  # by itself: there is no head from a file either
    hands.wait_for_function(f"() => {editor.script('exo.step')} === 'place'")
    guessed = editor.at("lens-guessed").locator("visible=true")
    assert guessed.count() == 1
    editor.click_exo((0.62, 0.25), (0.4, 0.65))
    ring = f"({editor.script('exo')}).pixel({editor.script('state')}.poseAt().position)"
    clicked = np.array(hands.evaluate(f"() => {ring}"))
    width, height = editor.ask("exo.scene.exo_size")
    assert np.abs(clicked - np.array([0.62 * width, 0.25 * height])).max() < 2
    old = editor.ask("scene.known.token")
    editor.at("exo-fov").locator("visible=true").fill("80")
    hands.wait_for_function(
        f"() => {editor.script('scene.trusted')} && "
        f"{editor.script('scene.known.token')} !== {json.dumps(old)}"
    )
    assert widget(page, "EgoXDepthAlign", "exo_fov") == 80 and guessed.count() == 0
    fov = 2 * np.degrees(np.arctan(width / 2 / editor.ask("exo.scene.exo_camera.fx")))
    assert abs(fov - 80) < 0.1
    assert np.abs(np.array(hands.evaluate(f"() => {ring}")) - clicked).max() < 2
    editor.close()
