"""Test refused runs, and runs without weights, in the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take
from tests.browser.editor_page import EditorPage
from tests.browser.page import PageUnderTest
from tests.browser.small_graph import place_node, shrink_graph_on_canvas
from tests.browser.upload_page import (
    LOADER,
    POSES,
    TOASTS,
    choose_files,
    read_value,
    set_value,
    wait_for_toast,
    wait_for_upload_note,
)
from tools.rigs.comfy_page import FORM_ROW
from tools.rigs.moge_file import write_moge_standin
from tools.setup.server import Server

FRAMES, HEIGHT, WIDTH = 1, 128, 224
PRIOR_NODE, PREVIEW_NODE = "EgoXRenderEgoPrior", "EgoXPreviewEgoView"
PANEL = "[data-testid=egox-missing]"
PRIOR_STAGE = ".egox-preview:has([data-view=coverage]) .egox-preview-stage:visible"
PRIOR_BUTTON = '[data-testid="egox-preview-alone"]:visible'
# Lists the pack's messages, except those on uploads.
EGOX_TOASTS = (
    f"() => ({TOASTS})().filter((text) => text.includes('EgoX') && !text.includes('Set in'))"
)
# Lists the boxes of each message and of the upload button, which lies nearest to them.
TOAST_BOXES = """() => [...document.querySelectorAll('.p-toast-message, [data-testid="toast"]')].map(
  (message) => [message, document.querySelector('[data-widget-key] [data-testid="egox-upload"]')].map(
    (element) => element.getBoundingClientRect().toJSON()))"""
# Checks that the panel of missing files and the messages are apart.
_IS_APART_SCRIPT = f"""() => {{
  const panel = document.querySelector('{PANEL}').getBoundingClientRect();
  return ({TOAST_BOXES})().every(([message]) => message.top >= panel.bottom || message.right <= panel.left);
}}"""
# Lists the labels of the form's rows that have a red frame.
MARKED_ROWS = f"""() => [...document.querySelectorAll('{FORM_ROW}')].filter(
  (row) => [...row.querySelectorAll('[class*="ring-node-stroke-error"], .ring-destructive')].some(
    (framed) => getComputedStyle(framed).boxShadow !== 'none')).map(
  (row) => row.querySelector('[data-testid="builder-widget-label"]').innerText.trim())"""
_COUNT_CLICKS = """() => {
  if (window.egoxClicks === undefined) addEventListener('pointerdown', () => { window.egoxClicks += 1; }, true);
  window.egoxClicks = 0;
}"""
# Has the page hear the answer to its next prompt after the end of the run.
_ANSWER_LATE_SCRIPT = f"""() => {{
  const {{ fetch }} = window;
  const ended = new Promise((done) => app.api.addEventListener('execution_success', done, {{ once: true }}));
  window.fetch = async (...request) => {{
    const answer = await fetch(...request);
    if (!String(request[0]).endsWith('/prompt')) return answer;
    window.fetch = fetch;
    await ended;
    return answer;
  }};
  document.querySelector('{PANEL}').dataset.isOld = true;
}}"""
_LORA_ERROR_INPUTS = """() => Object.values(app.lastNodeErrors).find((n) => n.class_type === 'EgoXLoadLora').errors.map(
  (error) => error.extra_info.input_name)"""


@pytest.fixture
def hidden_weights(browser_server) -> Iterator[None]:
    """Hide the files of ComfyUI's model folders during a test."""
    models = browser_server.base.models
    hidden_models = models.with_name("models_away")
    shutil.move(models, hidden_models)
    for folder in hidden_models.iterdir():
        (models / folder.name).mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(models)
        shutil.move(hidden_models, models)


def press_run(page: PageUnderTest) -> None:
    page.browser_tab.get_by_role("button", name="Run", exact=True).last.click()


def open_small_form(page: PageUnderTest, saved_graph: dict) -> None:
    page.open_form(saved_graph)
    for name, value in (("frame_count", FRAMES), ("height", HEIGHT), ("width", WIDTH)):
        set_value(page, LOADER, name, value)
    page.evaluate("() => { window.egoxSeen.length = 0; }")


def dismiss_toasts(page: PageUnderTest) -> None:
    page.evaluate(
        "() => (app.extensionManager.toast.dismissAll ?? app.extensionManager.toast.removeAll)()"
    )


def test_the_form_names_the_field_and_the_next_click(
    open_page, read_shipped, browser_server, upload_folder, repo_root, tmp_path
):
    page = open_page(size=(1600, 900), stays_open=True)
    page.open_form(read_shipped("egox_demo"))
    sample_video = repo_root / "sample" / "synthetic_room" / "exo.mp4"
    choose_files(page, LOADER, Path(shutil.copy(sample_video, tmp_path / "lone.mp4")))
    wait_for_upload_note(page, LOADER, "Set in")
    wait_for_toast(page, "Set in")
    press_run(page)
    toast_text = wait_for_toast(page, "Ego Pose Input: file")
    assert "Open pose editor" in toast_text
    assert "Load scene" in toast_text
    assert "Other ways: help of Depth Align" in toast_text
    assert "expected" not in toast_text
    assert toast_text.index("Upload own files") < toast_text.index("Ego Pose Input"), (
        "what to do first"
    )
    assert "GB" not in toast_text
    assert "prior is made" not in toast_text
    assert page.evaluate(MARKED_ROWS) == ["Head: place and gaze"]
    assert len(page.evaluate(EGOX_TOASTS)) == 1
    toast_boxes = page.evaluate(TOAST_BOXES)
    assert all(box["right"] <= button["left"] for box, button in toast_boxes), toast_boxes
    choose_files(page, LOADER, *(repo_root / "sample" / "synthetic_room").iterdir())
    wait_for_upload_note(page, LOADER, "Set in")
    page.wait_until(f"() => !({MARKED_ROWS})().length")
    page.browser_tab.wait_for_function(
        f"() => !({EGOX_TOASTS})().length", timeout=5000
    )  # less than its life
    set_value(page, LOADER, "file", "egox/lone/gone.mp4")
    press_run(page)
    assert wait_for_toast(page, "Load Exo Video: Exo video").count("not there") == 1
    assert "Exo video" in page.evaluate(MARKED_ROWS)

    # A wrong file is told at its input beside the prior.
    lora_file = browser_server.base.models / "loras" / "pytorch_lora_weights.safetensors"
    lora_file.write_text("version https://git-lfs.github.com/spec/v1\n")
    try:
        open_small_form(page, read_shipped("egox_basic"))
        press_run(page)
        assert "Git LFS" in wait_for_toast(page, "EgoX LoRA: lora_name")
        page.wait_for_run()
    finally:
        lora_file.write_bytes(b"")
    assert page.evaluate(_LORA_ERROR_INPUTS) == ["lora_name"]


def read_panel(page: PageUnderTest) -> dict[str, Any]:
    """Wait for the panel of missing files, and read its parts, their links and its text."""
    panel = page.browser_tab.get_by_test_id("egox-missing")
    panel.wait_for()
    return panel.evaluate(
        """(panel) => ({ text: panel.innerText, parts: [...panel.querySelectorAll('details')].map(
          (part) => ({ title: part.querySelector('summary').innerText, open: part.open,
                       links: [...part.querySelectorAll('a')].map(({ href, textContent }) => [textContent, href]) })) })"""
    )


def test_without_weights_run_makes_the_prior_and_lists_what_is_missing(
    open_page, read_shipped, hidden_weights
):
    page = open_page(size=(1600, 900), stays_open=True)
    open_small_form(page, read_shipped("egox_fast"))
    page.browser_tab.evaluate(
        "() => navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }"
    )
    press_run(page)
    panel = read_panel(page)
    assert "The ego prior is made without them" in panel["text"]
    (model,) = panel["parts"]
    assert model["title"] == "For the model: 6 files, 29 GB in all"
    names, addresses = zip(*model["links"], strict=True)
    assert "wan_2.1_vae.safetensors" in names and len(names) == 6
    assert all(
        address.startswith("https://huggingface.co/") and address.endswith(".safetensors")
        for address in addresses
    )
    page.browser_tab.get_by_role("button", name="Copy the list").click()
    page.browser_tab.get_by_role("button", name="Copied").wait_for()
    copied_text = page.evaluate("() => window.copied")
    assert copied_text.count("  models/") == 6
    assert all(address in copied_text for address in addresses)
    page.wait_for_run()
    assert f"{FRAMES} frames of {HEIGHT}x{HEIGHT}" in page.wait_for_node(PRIOR_NODE)["text"][0]
    assert not read_panel(page)["parts"][0]["open"], "it lies not over what the run has made"
    page.evaluate(_ANSWER_LATE_SCRIPT)
    press_run(page)
    page.browser_tab.wait_for_selector(f"{PANEL}:not([data-is-old])")
    assert not read_panel(page)["parts"][0]["open"], "nor if the run was short"
    assert not page.evaluate(EGOX_TOASTS)
    assert not page.list_lasting_faults(MARKED_ROWS), "no row is wrong"
    open_small_form(page, read_shipped("egox_one_video"))
    page.browser_tab.get_by_test_id("egox-missing").wait_for(state="hidden")  # of another graph
    page.browser_tab.locator(PRIOR_BUTTON).first.click()
    page.wait_until(f"() => document.querySelector('{PANEL}')?.innerText.includes('moge')")
    (now,) = read_panel(page)["parts"]
    assert now["title"] == "For the picture now: 4 files, 4.8 GB in all"
    press_run(page)
    page.wait_until(f"() => document.querySelector('{PANEL}')?.innerText.includes('qwen')")
    panel = read_panel(page)
    assert [part["title"] for part in panel["parts"]] == [
        "For the picture now: 4 files, 4.8 GB in all",
        "For the model: 6 files, 33 GB in all",
    ]
    assert "is made" not in panel["text"]
    page.browser_tab.get_by_test_id("egox-missing-close").click()
    page.browser_tab.get_by_test_id("egox-missing").wait_for(state="detached")


@pytest.mark.parametrize("depth_source", [pytest.param("file", marks=pytest.mark.slow), "network"])
def test_egox_preview_runs_as_opened_and_names_the_file_of_an_own_video(
    open_page, read_shipped, hidden_weights, upload_folder, browser_server, tmp_path, depth_source
):
    """Check that the sample needs no file, and the way from an upload of an own drawn video, with
    its depth or with a stand-in for MoGe-2 ViT-S, to the saved preview."""
    shutil.rmtree(browser_server.base.output / "egox_preview", ignore_errors=True)
    page = open_page(size=(1300, 760), stays_open=True)
    page.browser_tab.evaluate(_COUNT_CLICKS)
    open_small_form(page, read_shipped("egox_preview"))
    assert not page.browser_tab.get_by_text("Missing", exact=False).count(), "no red card"
    press_run(page)
    page.wait_for_run()
    assert [path.suffix for path in list_previews(browser_server)] == [".mp4"]
    assert not page.browser_tab.get_by_test_id("egox-missing").count()

    page.evaluate("() => { window.egoxClicks = 0; }")
    own_take = write_own_take(tmp_path / "own")
    if depth_source == "file":
        choose_files(page, LOADER, own_take / "exo.mp4", own_take / "depth.npz")
        assert "Run MoGe on Video" in wait_for_upload_note(page, LOADER, "are not used")
        assert not page.browser_tab.get_by_test_id("egox-missing").count()
        place_the_head(page)
    else:
        choose_files(page, LOADER, own_take / "exo.mp4")
        check_the_file_is_named(page, browser_server.base.models / "geometry_estimation")
    page.evaluate("() => { window.egoxSeen.length = 0; }")
    page.browser_tab.get_by_test_id("egox-close").click()
    press_run(page)
    page.wait_for_run()
    assert page.evaluate("() => window.egoxClicks") <= 10
    assert f"{FRAMES} frames of {HEIGHT}x{HEIGHT}" in page.wait_for_node(PREVIEW_NODE)["text"][0]
    assert not page.evaluate(EGOX_TOASTS)
    assert not page.browser_tab.get_by_test_id("egox-missing").count()
    assert {path.name.split("_0")[0] for path in list_previews(browser_server)} == {
        "exo_prior_preview"
    }
    classes = {node["class_type"] for node in page.to_prompt().values()}
    assert ("EgoXMoGeVideo" in classes) == (depth_source == "network")
    assert not classes & {"UNETLoader", "VAELoader", "CLIPLoader"}


def list_previews(server: Server) -> list[Path]:
    return list((server.base.output / "egox_preview").iterdir())


def check_the_file_is_named(page: PageUnderTest, model_folder: Path) -> None:
    """Check what names the file of the depth after an upload, after a press of Run, and in the
    editor, where the head is placed as soon as the file is there."""
    (now,) = read_panel(page)["parts"]
    assert now["title"] == "For the picture now: 150 MB"
    ((name, address),) = now["links"]
    assert name == "moge_2_vits_normal.pt" and address.endswith(
        "/moge-2-vits-normal/resolve/main/model.pt"
    )
    wait_for_toast(page, "Set in")
    page.wait_until(_IS_APART_SCRIPT)
    dismiss_toasts(page)
    press_run(page)
    wait_for_toast(page, "Ego Pose Input: file")
    page.wait_until(_IS_APART_SCRIPT)
    assert read_panel(page)["parts"] == [now]
    editor = EditorPage(page)
    editor.find("open").first.click()
    page.browser_tab.locator(f".egox-ed-main > {PANEL}").wait_for()
    assert read_panel(page)["parts"] == [now]
    assert "Files are missing" in editor.find("status").inner_text()
    write_moge_standin(model_folder / name)
    editor.find("load-missing").click()
    place_the_head(page)


def write_own_take(folder: Path) -> Path:
    """Write a drawn video with its depth, which no sample shows."""
    take = make_take(SyntheticSpec(frames=FRAMES, exo_width=WIDTH, exo_height=HEIGHT, seed=7))
    folder.mkdir()
    write_video(folder / "exo.mp4", take.exo_rgb, 30.0)
    np.savez_compressed(folder / "depth.npz", depth_m=take.depth_video().depth_m.numpy())
    return folder


def test_a_video_without_depth_marks_no_number(
    open_page, read_shipped, hidden_weights, upload_folder, repo_root, tmp_path
):
    """Check that a video without depth, in a graph without model files, marks only the head's row
    in the form as wrong."""
    page = open_page(size=(1024, 768), stays_open=True)
    page.open_form(read_shipped("egox_basic"))
    sample_video = repo_root / "sample" / "synthetic_room" / "exo.mp4"
    choose_files(page, LOADER, Path(shutil.copy(sample_video, tmp_path / "lone.mp4")))
    wait_for_upload_note(page, LOADER, "Set in")
    press_run(page)
    wait_for_toast(page, "no depth at all")
    page.wait_until(f"() => String(({MARKED_ROWS})()) === 'Head: place and gaze'")


_ERROR_INPUTS_SCRIPT = """(kind) => Object.values(app.lastNodeErrors ?? {}).filter((n) => n.class_type === kind)
  .flatMap((n) => n.errors.map((error) => error.extra_info.input_name))"""

_STRENGTH_SCRIPT = """(value) => { app.graph.nodes.find((n) => n.type === 'EgoXWanSampler')
  .widgets.find((w) => w.name === 'lambda_g').value = value; }"""

_UNLINK_SCRIPT = """(name) => { const node = app.graph.nodes.find((n) => n.type === 'EgoXWanSampler');
  node.disconnectInput(node.findInputSlot(name)); }"""


def set_strength(page: PageUnderTest, value: float) -> None:
    """Set λ_g as a saved graph with that value has it, which no slider limits."""
    page.evaluate(_STRENGTH_SCRIPT, value)
    page.load(page.serialize_graph())


def test_what_is_refused_names_its_input(open_page, read_unpacked, browser_server):
    """Check where a wrong model and numbers beyond a slider are told."""
    page = open_page(size=(1000, 700), stays_open=True)
    page.load(read_unpacked("egox_demo"))
    shrink_graph_on_canvas(page, frames=1)
    model_name = next(
        node["inputs"]["unet_name"]
        for node in page.to_prompt().values()
        if node["class_type"] == "UNETLoader"
    )
    wrong_file = browser_server.base.models / "diffusion_models" / "vace.safetensors"
    save_file({"vace_patch_embedding.weight": torch.zeros(1)}, wrong_file)
    try:
        for name, strength, inputs in (
            (wrong_file.name, 3, ["model"]),
            (model_name, 200, ["lambda_g"]),
        ):
            page.set_widget("UNETLoader", "unet_name", name)
            set_strength(page, strength)
            page.queue()
            page.wait_until(
                f"(wanted) => String(({_ERROR_INPUTS_SCRIPT})('EgoXWanSampler')) === wanted",
                inputs[0],
            )
    finally:
        wrong_file.unlink()
    set_strength(page, 20)
    page.queue()
    page.wait_for_run()
    page.evaluate(_UNLINK_SCRIPT, "trajectory")
    page.queue()
    page.wait_until(
        f"(wanted) => String(({_ERROR_INPUTS_SCRIPT})('EgoXWanSampler')) === wanted", "trajectory"
    )
    page.load({**read_unpacked("egox_demo"), "nodes": [], "links": [], "groups": []})
    place_node(page, POSES, {})
    note = page.browser_tab.get_by_test_id("egox-node-note").first
    notes = []
    for source in ("file", "keyframes"):
        set_value(page, POSES, "source", source)
        notes.append(note.inner_text())
    assert "file beside the video" in notes[0] and "editor" in notes[1]


def place_the_head(page: PageUnderTest) -> None:
    """Place the wearer's head by three clicks in the pose editor."""
    editor = EditorPage(page)
    if not editor.find("editor").count():
        editor.find("open").first.click()
    page.browser_tab.wait_for_selector("[data-testid=egox-editor]")
    editor.wait_for_scene()
    page.wait_until(f"() => {editor.script('exo.step')} === 'place'")
    editor.click_exo((0.6, 0.25), (0.4, 0.65))


def test_one_video_with_its_own_depth_makes_the_prior_in_five_clicks(
    open_page, read_shipped, hidden_weights, upload_folder, repo_root, tmp_path
):
    from playwright.sync_api import expect

    page = open_page(size=(1300, 760), stays_open=True)
    open_small_form(page, read_shipped("egox_one_video"))
    take_folder = repo_root / "sample" / "synthetic_room"
    choose_files(page, LOADER, take_folder / "exo.mp4", take_folder / "depth.npz")  # 1
    assert "Wearer's head" in wait_for_upload_note(page, LOADER, "are not used")
    assert read_value(page, POSES, "source") == "keyframes", "by hand: nothing can estimate it"
    page.browser_tab.locator(PRIOR_BUTTON).first.click()
    assert "only the node's example" in wait_for_toast(page, "Ego Pose Input: keyframes")
    assert page.evaluate(MARKED_ROWS) == ["Head: place and gaze"]
    dismiss_toasts(page)
    place_the_head(page)  # 2 to 4
    assert not page.evaluate(EGOX_TOASTS)
    page.evaluate("() => { window.egoxSeen.length = 0; }")
    page.browser_tab.get_by_test_id(
        "egox-render"
    ).click()  # 5: the editor closes, the prior is drawn
    page.wait_for_run()
    assert f"{FRAMES} frames of {HEIGHT}x{HEIGHT}" in page.wait_for_node(PRIOR_NODE)["text"][0]
    assert not page.evaluate(EGOX_TOASTS)
    (video,) = page.wait_for_node(PRIOR_NODE)["video"]
    middle_video = page.browser_tab.locator(f"video[src*='{video['filename']}']:visible").first
    middle_video.wait_for()
    assert middle_video.bounding_box()["width"] > 700
    stage = page.browser_tab.get_by_test_id("egox-preview-stage").locator("visible=true").first
    assert stage.bounding_box()["height"] >= 240
    expect(page.browser_tab.locator(PRIOR_STAGE).first).to_be_in_viewport(ratio=0.9)
    node_classes = {node["class_type"] for node in page.to_prompt().values()}
    assert not node_classes & {"MoGeInference", "DA3Inference", "EgoXEstimateHeadPose"}
    choose_files(page, LOADER, Path(shutil.copy(take_folder / "exo.mp4", tmp_path / "lone.mp4")))
    wait_for_upload_note(page, LOADER, "lone")
    assert read_value(page, POSES, "source") == "estimated"
    node_classes = {node["class_type"] for node in page.to_prompt().values()}
    assert {"MoGeInference", "DA3Inference", "EgoXEstimateHeadPose"} <= node_classes


def test_a_take_in_egox_from_any_video_needs_no_weights_and_no_sample_text(
    open_page, read_shipped, hidden_weights, upload_folder, repo_root
):
    """Check that the graph makes an ego prior without any model file."""
    page = open_page(size=(1600, 900), stays_open=True)
    open_small_form(page, read_shipped("egox_from_any_video"))
    assert "green shirt" in read_prompt_sections(page)
    take_folder = repo_root / "sample" / "synthetic_room"
    choose_files(
        page, LOADER, *(take_folder / name for name in ("exo.mp4", "depth.npz", "meta.json"))
    )
    assert "What the exo camera sees" in wait_for_toast(page, "described the sample")
    wait_for_upload_note(page, LOADER, "are not used")
    assert read_prompt_sections(page) == ""
    page.browser_tab.locator(PRIOR_BUTTON).first.click()
    page.wait_for_run(200)
    assert f"{FRAMES} frames of {HEIGHT}x{HEIGHT}" in page.wait_for_node(PRIOR_NODE)["text"][0]
    assert "SAM3_TrackToMask" not in {node["class_type"] for node in page.to_prompt().values()}


def read_prompt_sections(page: PageUnderTest) -> str:
    (node,) = (
        prompt_node
        for prompt_node in page.to_prompt().values()
        if prompt_node["class_type"] == "EgoXPrompt"
    )
    return node["inputs"]["exo_view"] + node["inputs"]["ego_view"]
