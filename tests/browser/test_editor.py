"""The pose editor by hand: a scene, a path made, changed, undone, saved, loaded again, and what a
run makes of it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import torch

from egox_core.cameras.presets import preset_camera
from egox_core.exchange.trajectory_files import read_trajectory, write_trajectory
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

COVERED = """() => {
  const box = (name) => document.querySelector(`[data-testid=egox-${name}]`).getBoundingClientRect();
  const meet = (a, b) => Math.min(a.right, b.right) > Math.max(a.left, b.left) &&
    Math.min(a.bottom, b.bottom) > Math.max(a.top, b.top);
  const kept = ['look', 'place', 'prior', 'prior-note', 'exo', 'exo-note'];
  const pairs = [['banner', 'moving'], ...kept.map((name) => ['loupe', name])];
  const side = document.querySelector('.egox-ed-side');
  const cut = side.scrollHeight > side.clientHeight + 1 ? ['side'] : [];
  return [...cut, ...pairs.filter(([a, b]) => meet(box(a), box(b))).map(String)];
}"""
"""Parts that lie under another in the editor, and pictures that don't fit."""

OFFERED = ("follow", "close")
THEME = "(name) => app.extensionManager.setting.set('Comfy.ColorPalette', name)"


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


def test_a_path_from_the_first_click_to_a_run(open_page, unpacked, repo_root, tmp_path):
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    page.set_widget(NODE, "source", "keyframes")
    editor.open(load=True)
    assert editor.ask("view.cloud.count") > 10_000 and not hands.evaluate(CUT_OFF)
    for size in ((900, 900), (960, 600), (1400, 900)):  # the second: 1440 x 900 at 150 %
        hands.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        hands.mouse.move(*editor.in_box("exo", 0.5, 0.2))
        editor.at("loupe").wait_for()
        hands.wait_for_function(f"() => !({COVERED})().length")
        assert not hands.evaluate(CUT_OFF), size

    # The head by two clicks in the exo picture, then a second keyframe by numbers.
    editor.at("place").click()
    editor.click_exo((0.6, 0.25), (0.4, 0.65))
    assert f"in this place in all {FRAMES} frames" in editor.at("status").inner_text()
    first = editor.prior()
    assert first.std() > 10, "the coarse prior shows something"
    editor.go_to_frame(FRAMES - 1)
    editor.type_into("z", 1.6)
    editor.type_into("yaw", json.loads(editor.keyframes())["keyframes"][0]["yaw_deg"] + 40)
    document = json.loads(editor.keyframes())
    assert not editor.at("status").inner_text(), "the head moves"
    assert len(document["keyframes"]) == 2 and document["up"] == [0, 0, 1]
    bare = editor.prior()
    assert differ(bare, first) > 5, "the side view follows"
    editor.at("tool-look").click()
    assert differ(editor.prior(), bare) > 5, "marks of what exo doesn't see"
    editor.at("tool-look").click()
    assert differ(editor.prior(), bare) == 0

    # A keyframe is dragged: the frame between is passed at another pose, and undo brings the old
    # one back.
    editor.go_to_frame(3)
    text, first_prior = editor.keyframes(), editor.prior()
    editor.drag_key(1, -3)
    assert editor.ask("state.frameOfKey(1)") == FRAMES - 4
    dragged = editor.keyframes()
    editor.go_to_frame(3)
    assert differ(editor.prior(), first_prior) > 2
    hands.keyboard.press("Control+z")
    assert editor.keyframes() == text and differ(editor.prior(), first_prior) < 0.01
    hands.keyboard.press("Control+Shift+z")
    assert editor.keyframes() == dragged

    # Looking through the camera: a drag turns the head of this frame, as one step to undo.
    editor.at("tool-look").click()
    editor.drag(editor.in_box("view", 0.5, 0.5), (90, 25))
    hands.wait_for_function(f"() => {editor.script('state.content.keys.length')} === 3")
    looking_keyframes = editor.keyframes()
    editor.at("undo").click()
    assert editor.keyframes() == dragged
    editor.at("redo").click()
    assert editor.keyframes() == looking_keyframes
    editor.at("tool-look").click()
    assert editor.ask("view.tool") == "move", "pressed again it is left"
    with hands.expect_download() as download:
        editor.at("export").select_option("trajectory")
    exported = tmp_path / "exported.json"
    download.value.save_as(exported)
    editor.close()
    assert hands.evaluate("() => app.canvas.pause_rendering") is False

    # Saved and loaded again it is the same path, and that is what a run renders.
    saved = page.saved()
    assert not editor.at("level").is_visible(), "the floor tells what is up"
    page.load(saved)
    assert editor.keyframes() == looking_keyframes
    editor.open(load=False)
    assert json.loads(editor.ask("state.text")) == json.loads(looking_keyframes)
    editor.close()
    take = load_take(repo_root / "sample" / "synthetic_room", frame_count=FRAMES)
    path, _ = read_trajectory(exported, preset_camera("aria_released", HEIGHT), take.frames)
    ran = np.array(run_path(page))
    assert np.abs(ran - path.ego.camera.upright_poses(path.ego.w2c).numpy()).max() < 1e-4
    assert np.abs(ran[0] - ran[-1]).max() > 0.3, "the path moves"
    assert np.abs(ran[[0, -1], 0, 2]).max() < 1e-3, "a head placed by hand is level"


def test_without_a_scene_it_says_what_to_do(open_page, unpacked):
    editor = start(open_page, unpacked, vue_nodes=True)
    hands = editor.hands
    assert "Path from: file" in editor.at("node-note").first.inner_text()
    editor.open(load=False)
    assert "Load scene" in editor.at("empty").inner_text() and not hands.evaluate(CUT_OFF)
    assert not editor.at("hint").is_visible(), "one thing to do"
    assert "appears here" not in hands.get_by_test_id("egox-editor").inner_text()
    editor.at("banner").filter(has_text="‘Load scene’ shows it").wait_for()
    ground = editor.ask("view.scene.background.getHex()")
    hands.evaluate(THEME, "light")
    hands.wait_for_function(
        f"(dark) => {editor.script('view.scene.background.getHex()')} > dark", arg=ground
    )
    hands.evaluate(THEME, "dark")
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
    assert editor.page.widget(NODE, "source") == "keyframes"
    editor.close()


_BANNERS = """() => { window.banners = [];
  const note = () => window.banners.push(document.querySelector('[data-testid=egox-banner]')?.innerText ?? '');
  new MutationObserver(note).observe(document.body, { childList: true, subtree: true, attributes: true }); }"""


def test_a_scene_that_loads_by_itself_is_not_asked_for(
    open_page, unpacked, browser_server, repo_root
):
    folder = browser_server.base.root / "input" / "pathless"
    folder.mkdir(exist_ok=True)
    for name in ("exo.mp4", "depth.npz"):
        shutil.copy(repo_root / "sample" / "synthetic_room" / name, folder)
    editor = start(open_page, unpacked)
    editor.page.set_widget("EgoXLoadExoVideo", "file", "pathless/exo.mp4")
    editor.hands.evaluate(_BANNERS)
    editor.open(load=False).wait_for_scene()
    banners = editor.hands.evaluate("() => window.banners")
    assert not [text for text in banners if "Load scene" in text]
    assert any("click on the head" in text for text in banners)


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
    assert editor.at("prior-moving").is_checked(), "as the graph's prior"
    first_prior = editor.prior()
    editor.at("prior-moving").uncheck()
    assert differ(editor.prior(), first_prior) > 1
    editor.close()


def test_what_the_wearer_looks_at(open_page, unpacked):
    """A lone key gives way to the estimate, and one click turns all of it. The click is kept."""
    editor = start(open_page, unpacked)
    page, hands = editor.page, editor.hands
    page.set_widget("EgoXLoadExoVideo", "file", "sample/calm_room/exo.mp4")
    add_head(page)
    page.set_widget(NODE, "source", "keyframes")
    editor.open(load=True)
    editor.at("place").click()
    editor.click_exo((0.6, 0.25), (0.4, 0.65))
    lone = editor.keyframes()
    assert "or have it followed" in editor.at("status").inner_text()
    inks = [editor.at(name).evaluate("(e) => getComputedStyle(e).color") for name in OFFERED]
    assert inks[0] == inks[1], "no button looks switched off"
    editor.at("follow").click()
    hands.wait_for_function(f"() => {editor.script('exo.step')} === 'look'")
    middle = FRAMES // 2
    assert editor.ask("state.frame") == middle and not hands.evaluate(CUT_OFF)
    assert "Click on what the wearer looks at" in editor.at("exo-note").inner_text()
    assert "egox-ed-large" in editor.ask("layout.root.className")
    tools, banner = (editor.at(name).bounding_box() for name in ("tool-aim", "banner"))
    assert tools["y"] + tools["height"] < banner["y"], "no tool is covered"

    def looks() -> list[dict]:
        return json.loads(editor.ask("state.text")).get("looks", [])

    assert "estimated" in editor.at("banner").inner_text() and editor.keyframes() == lone
    begun = editor.prior()
    editor.click_exo((0.3, 0.85))
    assert [look["frame"] for look in looks()] == [middle] and differ(editor.prior(), begun) > 2
    editor.at("look-next").click()
    assert editor.ask("state.frame") == 1
    editor.click_exo((0.5, 0.9))
    two = editor.keyframes()
    assert [look["frame"] for look in looks()] == [1, middle]
    assert page.widget(NODE, "source") == "keyframes", "what a run takes"
    editor.close()
    editor.open(load=False)
    assert json.loads(editor.ask("state.text")) == json.loads(two)
    editor.close()


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
    assert "look_at" in editor.keyframes(), "nothing is written before something is changed"
    editor.at("take-over").click()
    editor.hands.wait_for_function(f"() => {editor.script('state.undoable.length')} === 1")
    # A correction leaves the marks; the node's own keyframes have none.
    editor.type_into("yaw", 10)
    assert editor.ask("timeline.guessed") == [4, 5, 6]
    editor.close()
    editor.open(load=False)
    assert editor.ask("timeline.guessed") == [] and editor.at("track-notes").is_hidden()
    editor.close()


def run_path(page) -> list:
    """Read the upright w2c poses of a run from what the node sends to the page."""
    page.queue()
    page.wait_for_run()
    return page.wait_for_node(NODE)["egox_pose"][0]["path"]


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
    editor.go_to_frame(FRAMES - 1)
    editor.at("look").click()
    editor.click_exo((0.3, 0.85))
    assert "until the next such point" in editor.at("exo-note").inner_text()
    editor.go_to_frame(0)
    script = "[state.poseAt().position, ...state.content.looks.map(({ point }) => point)].map((p) => exo.pixel(p))"
    pixels_script = script.replace("state.", f"{editor.script('state')}.").replace(
        "exo.", f"{editor.script('exo')}."
    )
    clicked = np.array(hands.evaluate(f"() => {pixels_script}"))
    width, height = editor.ask("exo.scene.exo_size")
    places = np.array([[0.62, 0.25], [0.4, 0.65], [0.3, 0.85]]) * [width, height]
    assert np.abs(clicked - places).max() < 2
    old = editor.ask("scene.known.token")
    editor.at("exo-fov").locator("visible=true").fill("80")
    hands.wait_for_function(
        f"() => {editor.script('scene.trusted')} && "
        f"{editor.script('scene.known.token')} !== {json.dumps(old)}"
    )
    assert page.widget("EgoXDepthAlign", "exo_fov") == 80 and guessed.count() == 0
    fov = 2 * np.degrees(np.arctan(width / 2 / editor.ask("exo.scene.exo_camera.fx")))
    assert abs(fov - 80) < 0.1
    assert np.abs(np.array(hands.evaluate(f"() => {pixels_script}")) - clicked).max() < 2
    editor.close()
    assert editor.at("node-note").first.inner_text().startswith("1 keyframe, scene of")
