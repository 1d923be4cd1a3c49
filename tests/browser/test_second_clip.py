"""Test that a second clip in a form replaces the first one's settings."""

import shutil
from pathlib import Path

import pytest
import torch

from egox_core import stages
from egox_train.video_writer import write_video
from tests.browser.test_without_weights import PRIOR_BUTTON
from tests.browser.upload_page import (
    DEPTH,
    LOADER,
    choose_files,
    drop_from_desktop,
    read_value,
    set_value,
    wait_for_upload_note,
)
from tests.uneven_clip import write_uneven_clip
from tools.rigs.comfy_page import FORM_ROW, PageError, read_workflow

SAMPLE_VIDEO = "sample/synthetic_room/exo.mp4"
SETTINGS = ("start_frame", "frame_count", "target_fps", "resize")
SHIPPED_SETTINGS = [0, 49, 0, "crop"]
# Tells whether the prior's pictures are grey, in the form's row and in the middle.
_IS_GREY = """() => ['.egox-preview:has([data-view=coverage]) .egox-preview-stage', 'video[controls][src*=prior_]'].map(
  (place) => [...document.querySelectorAll(place)].filter((e) => e.offsetParent).map(
    (e) => getComputedStyle(e).filter.includes('grayscale'))).map(([first]) => first)"""
_HAS_PICTURE_SCRIPT = """(file) => [...document.querySelectorAll('video')].some(
  ({ poster }) => poster && new URL(poster).searchParams.get('file') === file)"""
_IS_WHOLLY_IN_SIGHT_SCRIPT = """(element) => {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  const corners = [[left + 3, top + 3], [right - 3, top + 3], [left + 3, bottom - 3], [right - 3, bottom - 3]];
  return corners.every(([x, y]) => element.contains(document.elementFromPoint(x, y)));
}"""
_KEEP_LOADER_SCRIPT = """(kind) => {
  app.graph.nodes.filter((node) => node.type !== kind).forEach((node) => app.graph.remove(node));
  const preview = LiteGraph.createNode('PreviewImage');
  app.graph.add(preview);
  app.graph.nodes.find((node) => node.type === kind).connect(0, preview, 0);
}"""
_CLIP_NAMES_SCRIPT = """() => app.rootGraph.nodes.flatMap(
  (node) => (node.egoxPreview?.clips ?? []).map(({ name }) => name))"""


def write_grey_clip(file: Path, fps: int, frames: int, *, upright: bool = False) -> Path:
    size = (128, 72) if upright else (72, 128)
    grey = (torch.arange(frames, dtype=torch.uint8) + 1)[:, None, None, None]
    write_video(file, grey.expand(frames, *size, 3).contiguous(), float(fps))
    return file


def trim_control(page, name: str):
    return page.browser_tab.locator(FORM_ROW).get_by_test_id(f"egox-trim-{name}")


def read_settings(page) -> list:
    return [read_value(page, LOADER, name) for name in SETTINGS]


def wait_for_note(page, words: str) -> str:
    """Wait until the form's note contains these words, and return it."""
    trim_control(page, "note").get_by_text(words).wait_for()
    return trim_control(page, "note").inner_text()


def upload_and_wait(page, file: Path, words: str) -> str:
    choose_files(page, LOADER, file)
    wait_for_upload_note(page, LOADER, "Set in")
    return wait_for_note(page, words)


def test_settings_for_a_clip_end_with_it(open_page, read_shipped, upload_folder, tmp_path):
    page = open_page(size=(1600, 900), stays_open=True)
    page.open_form(read_shipped("egox_one_video"))
    fast_clip = write_grey_clip(tmp_path / "fast.mp4", 60, 120, upright=True)
    text = upload_and_wait(page, fast_clip.rename(tmp_path / "fast.mov"), "60 per second")
    assert "A portrait video" in text
    assert "of 2 s" in text
    page.browser_tab.locator(FORM_ROW).get_by_text("fast.mov").first.click()  # a list with pictures
    page.wait_until(_HAS_PICTURE_SCRIPT, "egox/fast/fast.mov")
    page.browser_tab.keyboard.press("Escape")
    for name, seconds in (("Start, seconds", "0.4"), ("Length, seconds", "1.2")):
        number_field = page.browser_tab.locator(FORM_ROW).get_by_role(
            "spinbutton", name=name, exact=True
        )
        number_field.fill(seconds)
        number_field.press("Tab")
    assert read_settings(page)[:2] == [24, 73]
    assert wait_for_note(page, "2 chunks")
    trim_control(page, "length").fill("49")
    picture = trim_control(page, "picture")
    page.wait_until("(img) => img.naturalHeight === 128", picture.element_handle())
    picture_box = picture.bounding_box()
    assert picture_box["width"] > 200 and picture_box["width"] / picture_box[
        "height"
    ] == pytest.approx(1.75, rel=0.05)
    for name, undo_label in (("half", "every frame"), ("fit", "Fill the frame")):
        trim_control(page, name).click()
        assert undo_label in trim_control(page, name).inner_text()
    trim_control(page, "start").fill("12")
    assert read_settings(page) == [12, 49, 30, "pad"] and "30 per second" in wait_for_note(
        page, "49 frames"
    )
    page.load(
        page.serialize_graph() | {"extra": read_shipped("egox_one_video")["extra"]}, form=True
    )
    wait_for_note(page, "30 per second")
    trim_control(page, "half").click()
    assert read_settings(page) == [12, 49, 0, "pad"]

    set_value(page, LOADER, "file", SAMPLE_VIDEO)  # as from the list
    wait_for_note(page, "of 2.5 s: 49 frames, 20 per second")
    assert read_settings(page) == SHIPPED_SETTINGS and wait_for_upload_note(
        page, LOADER, "or drop a folder"
    )

    text = upload_and_wait(
        page, write_grey_clip(tmp_path / "short.mp4", 25, 11), "Shorter than the 49 frames"
    )
    assert "9 frames, 25 per second" in text and read_settings(page)[1] == 9, "a run takes them"
    assert not trim_control(page, "shorten").is_visible(), "there is nothing to press"
    trim_control(page, "start").fill("5")
    wait_for_note(page, "this video has only 6")
    trim_control(page, "shorten").click()
    assert read_settings(page)[1] == 5
    trim_control(page, "start").fill("0")
    wait_for_note(page, "5 frames")
    upload_and_wait(
        page, write_grey_clip(tmp_path / "next.mp4", 25, 60), "of 2.4 s: 49 frames, 25 per second"
    )
    assert read_settings(page) == SHIPPED_SETTINGS

    assert "variable frame rate" in upload_and_wait(
        page, write_uneven_clip(tmp_path / "uneven.mp4"), "49 frames"
    )


def test_a_video_with_a_false_cut_is_taken_as_one_shot(
    open_page, read_shipped, upload_folder, repo_root, tmp_path
):
    rooms = [
        stages.load_clip(repo_root / "sample" / name / "exo.mp4", frame_count=5, size=(448, 256))[
            0
        ].exo
        for name in ("calm_room", "synthetic_room")
    ]
    joined_video = tmp_path / "joined.mp4"
    write_video(joined_video, torch.cat(rooms), 10.0)
    page = open_page(size=(1024, 768), stays_open=True)
    page.open_form(read_shipped("egox_demo"))
    page.evaluate(_KEEP_LOADER_SCRIPT, LOADER)
    upload_and_wait(page, joined_video, "9 frames")
    assert not trim_control(page, "one-shot").is_visible()
    with pytest.raises(PageError, match="a cut at frame 5"):
        page.run_form()
    trim_control(page, "one-shot").get_by_text("It is one shot").wait_for()
    page.wait_until(_IS_WHOLLY_IN_SIGHT_SCRIPT, trim_control(page, "one-shot").element_handle())
    trim_control(page, "one-shot").click()
    assert "Look for cuts again" in trim_control(page, "one-shot").inner_text()
    page.run_form()

    set_value(page, LOADER, "file", SAMPLE_VIDEO)
    trim_control(page, "one-shot").wait_for(state="hidden")
    (loader,) = (node for node in page.to_prompt().values() if node["class_type"] == LOADER)
    assert "one_shot" not in loader["inputs"], "another video may have cuts"


def open_over_tab(page, saved_graph: dict) -> None:
    """Open a workflow's form in a tab that already shows another form."""
    page.evaluate("(saved) => app.loadGraphData(saved, true, true, 'second clip')", saved_graph)
    page.browser_tab.locator(FORM_ROW).first.wait_for()


def test_a_template_opened_over_its_used_tab_shows_nothing_of_the_previous_clip(
    open_page, read_shipped, upload_folder, repo_root, tmp_path
):
    own_take = shutil.copytree(repo_root / "sample" / "calm_room", tmp_path / "own")
    page = open_page(size=(1600, 900), stays_open=True)
    open_over_tab(page, read_shipped("egox_demo"))
    choose_files(page, LOADER, *(own_take / name for name in ("exo.mp4", "depth.npz", "meta.json")))
    wait_for_upload_note(page, LOADER, "Set in")
    page.evaluate("() => { window.egoxSeen.length = 0; }")
    own_video = read_value(page, LOADER, "file")
    with page.browser_tab.expect_response("**/prompt"):
        page.browser_tab.locator(PRIOR_BUTTON).first.click()
    set_value(page, LOADER, "file", SAMPLE_VIDEO)  # while the run is on
    page.wait_for_run()
    page.wait_until(f"() => String(({_IS_GREY})()) === 'true,true'")
    badge = page.browser_tab.get_by_test_id("egox-preview-badge").locator("visible=true")
    assert "exo/exo.mp4, which is no longer chosen" in badge.inner_text()
    set_value(page, LOADER, "file", own_video)
    page.wait_until(f"() => String(({_IS_GREY})()) === 'false,false'")
    assert badge.count() == 0
    open_over_tab(page, page.serialize_graph() | {"extra": read_shipped("egox_demo")["extra"]})
    page.wait_until(f"() => ({_CLIP_NAMES_SCRIPT})().includes('prior')")
    open_over_tab(page, read_shipped("egox_demo"))
    page.wait_until(
        "() => [...app.rootGraph.nodes].some((n) => n.widgets?.some((w) => "
        "w.value?.startsWith?.('sample/')))"
    )
    page.browser_tab.wait_for_timeout(1000)  # in which nothing may come
    assert (
        read_value(page, LOADER, "file").startswith("sample/")
        and page.evaluate(_CLIP_NAMES_SCRIPT) == []
    )
    assert read_value(page, DEPTH, "depth_file") == ""

    # A dropped workflow opens as one, another file goes to the loader.
    dropped_workflow = Path(
        shutil.copy(repo_root / "workflows/more/egox_long.json", tmp_path / "mine.json")
    )
    drop_from_desktop(page, (500, 600), dropped_workflow)
    page.wait_until("(id) => app.rootGraph.id === id", read_workflow(dropped_workflow)["id"])
    assert (
        read_value(page, LOADER, "file") == SAMPLE_VIDEO and len(list(upload_folder.glob("*"))) == 1
    )
    page.open_form(read_shipped("egox_basic"))
    drop_from_desktop(page, (500, 600), write_grey_clip(tmp_path / "plain.mp4", 25, 60))
    wait_for_note(page, "of 2.4 s")
    assert read_value(page, LOADER, "file") == "plain.mp4"
