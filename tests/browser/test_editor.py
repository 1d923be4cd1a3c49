"""Test the pose editor by mouse and keyboard."""

import json
import shutil
from dataclasses import replace

import numpy as np
import torch

from egox_core.cameras.presets import preset_camera
from egox_core.exchange.trajectory_files import read_trajectory, write_trajectory
from egox_core.take import load_take
from tests.browser.editor_page import POSE_NODE, EditorPage, editor_graph
from tests.browser.head_graph import add_head
from tests.browser.small_graph import HEIGHT, WIDTH

FRAMES = 9
CUT_OFF_SCRIPT = """() => {
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
"""Lists controls that reach out of the page, or whose text doesn't fit."""

COVERED_SCRIPT = """() => {
  const box = (name) => document.querySelector(`[data-testid=egox-${name}]`).getBoundingClientRect();
  const meet = (a, b) => Math.min(a.right, b.right) > Math.max(a.left, b.left) &&
    Math.min(a.bottom, b.bottom) > Math.max(a.top, b.top);
  const kept = ['look', 'place', 'prior', 'prior-note', 'exo', 'exo-note'];
  const pairs = [['banner', 'moving'], ...kept.map((name) => ['loupe', name])];
  const side = document.querySelector('.egox-ed-side');
  const cut = side.scrollHeight > side.clientHeight + 1 ? ['side'] : [];
  return [...cut, ...pairs.filter(([a, b]) => meet(box(a), box(b))).map(String)];
}"""
"""Lists parts of the editor that lie under another part, and pictures that don't fit."""

TILTED_DOCUMENT = {
    "up": [-0.01, -1.0, -0.04],
    "keyframes": [{"frame": 0, "position": [0, 0, 1], "yaw_deg": 0, "pitch_deg": 0}],
}
HEAD_CHOICES = ("follow", "close")
THEME_SCRIPT = "(name) => app.extensionManager.setting.set('Comfy.ColorPalette', name)"


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def start_editor(open_page, unpacked, **options) -> EditorPage:
    page = open_page(size=(960, 600), stays_open=True, **options)
    page.load(editor_graph(unpacked("egox_demo")))
    # Whatever the demo itself is made for: the sample's own rate and the released prior.
    for kind, name, value in (
        ("EgoXLoadExoVideo", "file", "sample/synthetic_room/exo.mp4"),
        ("EgoXLoadExoVideo", "start_frame", 0),
        ("EgoXLoadExoVideo", "target_fps", 0.0),
        ("EgoXLoadExoVideo", "frame_count", FRAMES),
        ("EgoXLoadExoVideo", "height", HEIGHT),
        ("EgoXLoadExoVideo", "width", WIDTH),
        (POSE_NODE, "source", "file"),
        ("EgoXDepthAlign", "preset", "released"),
        ("EgoXRenderEgoPrior", "dynamic", "preset"),
    ):
        page.set_widget(kind, name, value)
    return EditorPage(page)


def test_a_path_is_made_changed_undone_saved_and_run(open_page, read_unpacked, repo_root, tmp_path):
    editor = start_editor(open_page, read_unpacked)
    page, tab = editor.page, editor.tab
    page.set_widget(POSE_NODE, "source", "keyframes")
    editor.open(load=True)
    assert editor.read_state("view.cloud.count") > 10_000
    assert not tab.evaluate(CUT_OFF_SCRIPT)
    for size in ((900, 900), (960, 600), (1400, 900)):  # the second: 1440 x 900 at 150 %
        tab.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        tab.mouse.move(*editor.point_in_box("exo", 0.5, 0.2))
        editor.find("loupe").wait_for()
        editor.page.wait_until(f"() => !({COVERED_SCRIPT})().length")
        assert not tab.evaluate(CUT_OFF_SCRIPT), size

    # The head by two clicks in the exo picture, then a second keyframe by numbers.
    editor.find("place").click()
    editor.click_exo((0.6, 0.25), (0.4, 0.65))
    assert f"in this place in all {FRAMES} frames" in editor.find("status").inner_text()
    first_prior_image = editor.read_prior()
    assert first_prior_image.std() > 10, "the coarse prior shows something"
    editor.go_to_frame(FRAMES - 1)
    editor.type_into("z", 1.6)
    editor.type_into("yaw", json.loads(editor.read_keyframes())["keyframes"][0]["yaw_deg"] + 40)
    keyframe_document = json.loads(editor.read_keyframes())
    assert not editor.find("status").inner_text(), "the head moves"
    assert len(keyframe_document["keyframes"]) == 2
    assert keyframe_document["up"] == [0, 0, 1]
    unmarked_prior = editor.read_prior()
    assert mean_difference(unmarked_prior, first_prior_image) > 5, "the side view follows"
    editor.find("tool-look").click()
    assert mean_difference(editor.read_prior(), unmarked_prior) > 5, "marks of what exo doesn't see"
    editor.find("tool-look").click()
    assert mean_difference(editor.read_prior(), unmarked_prior) == 0

    # A keyframe is dragged: the frame between is passed at another pose, and undo brings the old
    # one back.
    editor.go_to_frame(3)
    keyframes_before, prior_before = editor.read_keyframes(), editor.read_prior()
    editor.drag_key(1, -3)
    assert editor.read_state("state.frameOfKey(1)") == FRAMES - 4
    dragged_keyframes = editor.read_keyframes()
    editor.go_to_frame(3)
    assert mean_difference(editor.read_prior(), prior_before) > 2
    tab.keyboard.press("Control+z")
    assert (
        editor.read_keyframes() == keyframes_before
        and mean_difference(editor.read_prior(), prior_before) < 0.01
    )
    tab.keyboard.press("Control+Shift+z")
    assert editor.read_keyframes() == dragged_keyframes

    # Looking through the camera: a drag turns the head of this frame, as one step to undo.
    editor.find("tool-look").click()
    editor.drag(editor.point_in_box("view", 0.5, 0.5), (90, 25))
    editor.page.wait_until(f"() => {editor.script('state.content.keys.length')} === 3")
    looking_keyframes = editor.read_keyframes()
    editor.find("undo").click()
    assert editor.read_keyframes() == dragged_keyframes
    editor.find("redo").click()
    assert editor.read_keyframes() == looking_keyframes
    editor.find("tool-look").click()
    assert editor.read_state("view.tool") == "move", "pressed again it is left"
    with tab.expect_download() as download_event:
        editor.find("export").select_option("trajectory")
    exported = tmp_path / "exported.json"
    download_event.value.save_as(exported)
    editor.close()
    assert tab.evaluate("() => app.canvas.pause_rendering") is False

    # Saved and loaded again it is the same path, and that is what a run renders.
    saved_graph = page.serialize_graph()
    assert not editor.find("level").is_visible(), "the floor tells what is up"
    page.load(saved_graph)
    assert editor.read_keyframes() == looking_keyframes
    editor.open(load=False)
    assert json.loads(editor.read_state("state.text")) == json.loads(looking_keyframes)
    editor.close()
    take = load_take(repo_root / "sample" / "synthetic_room", frame_count=FRAMES)
    exported_path, _ = read_trajectory(
        exported, preset_camera("aria_released", HEIGHT), take.frames
    )
    run_poses = np.array(run_and_read_path(page))
    assert (
        np.abs(
            run_poses - exported_path.ego.camera.upright_poses(exported_path.ego.w2c).numpy()
        ).max()
        < 1e-4
    )
    assert np.abs(run_poses[0] - run_poses[-1]).max() > 0.3, "the path moves"
    assert np.abs(run_poses[[0, -1], 0, 2]).max() < 1e-3, "a head placed by hand is level"


def test_without_a_scene_the_editor_says_what_to_do(open_page, read_unpacked):
    editor = start_editor(open_page, read_unpacked, vue_nodes=True)
    tab = editor.tab
    assert "Path from: file" in editor.find("node-note").first.inner_text()
    editor.open(load=False)
    assert "Load scene" in editor.find("empty").inner_text()
    assert not tab.evaluate(CUT_OFF_SCRIPT)
    assert not editor.find("hint").is_visible(), "one thing to do"
    load_button = tab.get_by_test_id("egox-editor").get_by_role("button", name="Load scene")
    assert load_button.first.get_attribute("title") != "Load scene", "the help describes it"
    assert not editor.find("frame").inner_text(), "a run tells how long the clip is"
    for is_shown in (True, False):
        tab.keyboard.press("?")
        assert ("Esc close" in editor.find("status").inner_text()) is is_shown
    assert "appears here" not in tab.get_by_test_id("egox-editor").inner_text()
    editor.find("banner").filter(has_text="‘Load scene’ shows it").wait_for()
    dark_background = editor.read_state("view.scene.background.getHex()")
    tab.evaluate(THEME_SCRIPT, "light")
    editor.page.wait_until(
        f"(dark) => {editor.script('view.scene.background.getHex()')} > dark", dark_background
    )
    tab.evaluate(THEME_SCRIPT, "dark")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("[data-testid=egox-editor]", state="detached")
    tab.evaluate(
        f"() => {{ const n = app.graph.nodes.find((n) => n.type === '{POSE_NODE}'); "
        "n.disconnectInput(n.inputs.findIndex((i) => i.name === 'scene')); }"
    )
    editor.open(load=False)
    assert (
        "Build Scene" in editor.find("empty").inner_text()
        and editor.find("load-empty").count() == 0
    )
    # A path can be made without a scene.
    editor.type_into("x", 0.5)
    assert json.loads(editor.read_keyframes())["keyframes"][0]["position"][0] == 0.5
    assert editor.page.widget(POSE_NODE, "source") == "keyframes"
    editor.close()


def test_a_scene_of_an_earlier_run_accepts_no_click(open_page, read_unpacked):
    editor = start_editor(open_page, read_unpacked)
    page, tab = editor.page, editor.tab
    editor.open(load=True)
    assert not editor.find("prior-moving").is_checked(), "as the released prior"
    editor.close()

    page.set_widget("EgoXLoadExoVideo", "start_frame", 8)
    page.set_widget("EgoXDepthAlign", "preset", "released_wild")
    editor.open(load=False)
    tab.wait_for_selector("[data-testid=egox-load-stale]")
    assert "earlier run" in editor.find("banner").inner_text()
    assert not tab.evaluate(CUT_OFF_SCRIPT)
    editor.find("exo-large").click()
    assert editor.find("banner").bounding_box()["width"] > 280, "its line is no column of words"
    editor.find("exo-large").click()
    assert all(editor.find(name).is_disabled() for name in ("place", "tool-snap", "tool-aim"))
    for key in "hs":
        tab.keyboard.press(key)
        tab.mouse.click(*editor.point_in_box("exo", 0.6, 0.25))
        tab.mouse.click(*editor.point_in_box("view", 0.5, 0.5))
    assert editor.read_state("exo.step") is None
    assert editor.read_state("view.tool") == "move"
    old_token = editor.read_state("scene.known.token")
    editor.find("load-stale").click()
    editor.page.wait_until(
        f"() => {editor.script('scene.trusted')} && "
        f"{editor.script('scene.known.token')} !== {json.dumps(old_token)}"
    )
    editor.find("place").click()
    editor.click_exo((0.6, 0.3), (0.4, 0.65))
    assert editor.find("prior-moving").is_checked(), "as the graph's prior"
    first_prior = editor.read_prior()
    editor.find("prior-moving").uncheck()
    assert mean_difference(editor.read_prior(), first_prior) > 1
    editor.close()


def test_clicks_on_what_the_wearer_looks_at_turn_the_head(open_page, read_unpacked):
    """Check that clicked look points turn an estimated head path, and are kept."""
    editor = start_editor(open_page, read_unpacked)
    page, tab = editor.page, editor.tab
    page.set_widget("EgoXLoadExoVideo", "file", "sample/calm_room/exo.mp4")
    add_head(page)
    page.set_widget(POSE_NODE, "source", "keyframes")
    editor.open(load=True)
    editor.find("place").click()
    editor.click_exo((0.6, 0.25), (0.4, 0.65))
    editor.find("clear").click()
    editor.find("banner").filter(has_text="To begin, click on the head").wait_for()
    editor.click_exo((0.6, 0.25))
    editor.find("banner").filter(has_text="Now click on what the wearer looks at").wait_for()
    assert "keyframe" not in editor.find("status").inner_text(), "one thing to do"
    editor.click_exo((0.4, 0.65))
    assert editor.find("banner").is_hidden()
    single_keyframe = editor.read_keyframes()
    assert "or have it followed" in editor.find("status").inner_text()
    text_colours = [
        editor.find(name).evaluate("(e) => getComputedStyle(e).color") for name in HEAD_CHOICES
    ]
    assert text_colours[0] == text_colours[1], "no button looks switched off"
    editor.find("follow").click()
    editor.page.wait_until(f"() => {editor.script('exo.step')} === 'look'")
    middle_frame = FRAMES // 2
    assert editor.read_state("state.frame") == middle_frame
    assert not tab.evaluate(CUT_OFF_SCRIPT)
    assert "Click on what the wearer looks at" in editor.find("exo-note").inner_text()
    assert "egox-ed-large" in editor.read_state("layout.root.className")
    tool_box, banner_box = (editor.find(name).bounding_box() for name in ("tool-aim", "banner"))
    assert tool_box["y"] + tool_box["height"] < banner_box["y"], "no tool is covered"

    def list_looks() -> list[dict]:
        return json.loads(editor.read_state("state.text")).get("looks", [])

    assert (
        "estimated" in editor.find("banner").inner_text()
        and editor.read_keyframes() == single_keyframe
    )
    prior_before = editor.read_prior()
    editor.click_exo((0.3, 0.85))
    assert [look["frame"] for look in list_looks()] == [middle_frame] and mean_difference(
        editor.read_prior(), prior_before
    ) > 2
    editor.find("look-next").click()
    assert editor.read_state("state.frame") == 1
    editor.click_exo((0.5, 0.9))
    two_look_keyframes = editor.read_keyframes()
    assert [look["frame"] for look in list_looks()] == [1, middle_frame]
    assert page.widget(POSE_NODE, "source") == "keyframes", "what a run takes"
    editor.close()
    editor.open(load=False)
    assert json.loads(editor.read_state("state.text")) == json.loads(two_look_keyframes)
    editor.close()


def test_guessed_frames_are_marked_and_opened(open_page, read_unpacked, upload_folder, repo_root):
    editor = start_editor(open_page, read_unpacked)
    take = load_take(repo_root / "sample" / "synthetic_room", frame_count=FRAMES)
    guessed_mask = torch.tensor([False] * 4 + [True] * 3 + [False] * 2)
    upload_folder.mkdir(exist_ok=True)
    write_trajectory(
        upload_folder / "estimate.json", replace(take.trajectory, guessed=guessed_mask), take.notes
    )
    editor.page.set_widget(POSE_NODE, "file", "egox/estimate.json")
    editor.open(load=True)
    editor.page.wait_until(f"() => {editor.script('shown')}")
    assert (
        editor.read_state("timeline.guessed") == [4, 5, 6] and editor.read_state("state.frame") == 4
    )
    assert "3 of 9 frames" in editor.find("track-notes").inner_text()
    assert "look_at" in editor.read_keyframes(), "nothing is written before something is changed"
    editor.find("take-over").click()
    editor.page.wait_until(f"() => {editor.script('state.undoable.length')} === 1")
    # A correction leaves the marks; the node's own keyframes have none.
    editor.type_into("yaw", 10)
    assert editor.read_state("timeline.guessed") == [4, 5, 6]
    editor.close()
    editor.open(load=False)
    assert editor.read_state("timeline.guessed") == []
    assert editor.find("track-notes").is_hidden()
    editor.close()


def run_and_read_path(page) -> list:
    """Run the graph and read the poses that the node sends to the page."""
    page.queue()
    page.wait_for_run()
    return page.wait_for_node(POSE_NODE)["egox_pose"][0]["path"]


def test_the_editor_works_by_touch_on_a_narrow_page(open_page, read_unpacked):
    editor = start_editor(open_page, read_unpacked)
    editor.page.set_widget(POSE_NODE, "source", "keyframes")
    editor.page.set_widget(POSE_NODE, "keyframes", json.dumps(TILTED_DOCUMENT))
    with editor.touched() as tap:
        assert editor.tab.evaluate("() => matchMedia('(pointer: coarse)').matches")
        editor.open(load=True)
        editor.tab.set_viewport_size({"width": 700, "height": 1000})
        editor.page.settle(10)
        assert not editor.tab.evaluate(CUT_OFF_SCRIPT)
        chosen_axis = editor.find("up").evaluate("(list) => list.selectedOptions[0].text")
        assert chosen_axis == "−y (2.4°)", "an axis has its name, also where it is a little off"
        tap("tool-look")
        assert editor.read_state("view.tool") == "look"
        text_before = editor.read_state("state.text")
        tap("track", 0.5, 0.6)
        assert editor.read_state("state.frame") == (FRAMES - 1) // 2
        tap("key-add")
        assert editor.read_state("state.text") != text_before


def test_a_new_field_of_view_keeps_the_clicked_points(
    open_page, read_unpacked, upload_folder, repo_root
):
    editor = start_editor(open_page, read_unpacked)
    page, tab = editor.page, editor.tab
    upload_folder.mkdir(exist_ok=True)
    for name in ("exo.mp4", "depth.npz"):  # no meta.json
        shutil.copy(repo_root / "sample" / "synthetic_room" / name, upload_folder / name)
    page.set_widget("EgoXLoadExoVideo", "file", "egox/exo.mp4")
    editor.open(load=False).wait_for_scene()  # by itself: there is no head from a file either
    editor.page.wait_until(f"() => {editor.script('exo.step')} === 'place'")
    guessed_marks = editor.find("lens-guessed").locator("visible=true")
    assert guessed_marks.count() == 1
    editor.click_exo((0.62, 0.25), (0.4, 0.65))
    editor.go_to_frame(FRAMES - 1)
    editor.find("look").click()
    editor.click_exo((0.3, 0.85))
    assert "until the next such point" in editor.find("exo-note").inner_text()
    editor.go_to_frame(0)
    script = (
        "[state.poseAt().position, ...state.content.looks.map(({ point }) => point)].map((p) => "
        "exo.pixel(p))"
    )
    pixels_script = script.replace("state.", f"{editor.script('state')}.").replace(
        "exo.", f"{editor.script('exo')}."
    )
    pixels_before = np.array(tab.evaluate(f"() => {pixels_script}"))
    width, height = editor.read_state("exo.scene.exo_size")
    clicked_pixels = np.array([[0.62, 0.25], [0.4, 0.65], [0.3, 0.85]]) * [width, height]
    assert np.abs(pixels_before - clicked_pixels).max() < 2
    old_token = editor.read_state("scene.known.token")
    editor.find("exo-fov").locator("visible=true").fill("80")
    editor.page.wait_until(
        f"() => {editor.script('scene.trusted')} && "
        f"{editor.script('scene.known.token')} !== {json.dumps(old_token)}"
    )
    assert page.widget("EgoXDepthAlign", "exo_fov") == 80
    assert guessed_marks.count() == 0
    fov = 2 * np.degrees(np.arctan(width / 2 / editor.read_state("exo.scene.exo_camera.fx")))
    assert abs(fov - 80) < 0.1
    assert np.abs(np.array(tab.evaluate(f"() => {pixels_script}")) - pixels_before).max() < 2
    editor.close()
    assert editor.find("node-note").first.inner_text().startswith("1 keyframe, scene of")
