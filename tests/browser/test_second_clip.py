"""The clip after the first: what was pressed for one ends with it, and the row and the players say
what is used."""

import shutil
from pathlib import Path

import pytest
import torch

from egox_train.video_writer import write_video
from tests.browser.test_without_weights import ALONE
from tests.browser.upload_page import (
    DEPTH,
    LOADER,
    choose,
    drop_from_desktop,
    set_value,
    told,
    value,
)
from tests.uneven_clip import write_uneven_clip
from tools.rigs.comfy_page import FORM_ROW

SAMPLE = "sample/synthetic_room/exo.mp4"
SETTINGS = ("start_frame", "frame_count", "target_fps", "resize")
SHIPPED = [0, 49, 0, "crop"]
# Of the pictures of the prior: in the form's row and in the middle, whether they are grey.
_GREY = """() => ['.egox-preview:has([data-view=coverage]) .egox-preview-stage', 'video[controls][src*=prior_]'].map(
  (place) => [...document.querySelectorAll(place)].filter((e) => e.offsetParent).map(
    (e) => getComputedStyle(e).filter.includes('grayscale'))).map(([first]) => first)"""
_PICTURED = """(file) => [...document.querySelectorAll('video')].some(
  ({ poster }) => poster && new URL(poster).searchParams.get('file') === file)"""
_CLIPS = """() => app.rootGraph.nodes.flatMap(
  (node) => (node.egoxPreview?.clips ?? []).map(({ name }) => name))"""


def clip(file: Path, fps: int, frames: int, *, upright: bool = False) -> Path:
    size = (128, 72) if upright else (72, 128)
    grey = (torch.arange(frames, dtype=torch.uint8) + 1)[:, None, None, None]
    write_video(file, grey.expand(frames, *size, 3).contiguous(), float(fps))
    return file


def trim(page, name: str):
    return page.page.locator(FORM_ROW).get_by_test_id(f"egox-trim-{name}")


def settings(page) -> list:
    return [value(page, LOADER, name) for name in SETTINGS]


def says(page, words: str) -> str:
    """Wait for the line below the bars to contain these words, and return it."""
    trim(page, "note").get_by_text(words).wait_for()
    return trim(page, "note").inner_text()


def use(page, file: Path, words: str) -> str:
    choose(page, LOADER, file)
    told(page, LOADER, "Set in")
    return says(page, words)


def test_what_was_pressed_for_a_clip_ends_with_it(open_page, shipped, uploads, tmp_path):
    page = open_page(size=(1600, 900))
    page.open_form(shipped("egox_one_video"))
    fast = clip(tmp_path / "fast.mp4", 60, 120, upright=True)
    text = use(page, fast.rename(tmp_path / "fast.mov"), "60 per second")
    assert "A portrait video" in text and "of 2 s" in text
    page.page.locator(FORM_ROW).get_by_text("fast.mov").first.click()  # a list with pictures
    page.page.wait_for_function(_PICTURED, arg="egox/fast/fast.mov")
    page.page.keyboard.press("Escape")
    for name, seconds in (("start-s", "0.4"), ("length-s", "1.2")):
        trim(page, name).fill(seconds)
        trim(page, name).press("Tab")
    assert settings(page)[:2] == [24, 73] and says(page, "2 chunks")
    trim(page, "length").fill("49")
    picture = trim(page, "picture")
    page.page.wait_for_function("(img) => img.naturalHeight === 128", arg=picture.element_handle())
    box = picture.bounding_box()
    assert box["width"] > 200 and box["width"] / box["height"] == pytest.approx(1.75, rel=0.05)
    for name, back in (("half", "every frame"), ("fit", "Fill the frame")):
        trim(page, name).click()
        assert back in trim(page, name).inner_text()
    trim(page, "start").fill("12")
    assert settings(page) == [12, 49, 30, "pad"] and "30 per second" in says(page, "49 frames")
    page.load(page.saved() | {"extra": shipped("egox_one_video")["extra"]}, form=True)
    says(page, "30 per second")
    trim(page, "half").click()
    assert settings(page) == [12, 49, 0, "pad"]

    set_value(page, LOADER, "file", SAMPLE)  # as from the list
    says(page, "of 2.5 s: 49 frames, 20 per second")
    assert settings(page) == SHIPPED and told(page, LOADER, "or drop a folder")

    text = use(page, clip(tmp_path / "short.mp4", 25, 11), "Shorter than the 49 frames")
    assert "9 frames, 25 per second" in text and settings(page)[1] == 9, "a run takes them"
    assert not trim(page, "shorten").is_visible(), "there is nothing to press"
    trim(page, "start").fill("5")
    says(page, "this video has only 6")
    trim(page, "shorten").click()
    assert settings(page)[1] == 5
    trim(page, "start").fill("0")
    says(page, "5 frames")
    use(page, clip(tmp_path / "next.mp4", 25, 60), "of 2.4 s: 49 frames, 25 per second")
    assert settings(page) == SHIPPED

    assert "variable frame rate" in use(
        page, write_uneven_clip(tmp_path / "uneven.mp4"), "49 frames"
    )


def in_tab(page, saved: dict) -> None:
    """Open a form over the one that was opened before, as the host's cards do."""
    page.evaluate("(saved) => app.loadGraphData(saved, true, true, 'second clip')", saved)
    page.page.locator(FORM_ROW).first.wait_for()


def test_a_template_opened_over_its_used_tab_shows_nothing_of_the_clip_before(
    open_page, shipped, uploads, repo_root, tmp_path
):
    own = shutil.copytree(repo_root / "sample" / "calm_room", tmp_path / "own")
    page = open_page(size=(1600, 900))
    in_tab(page, shipped("egox_demo"))
    choose(page, LOADER, *(own / name for name in ("exo.mp4", "depth.npz", "meta.json")))
    told(page, LOADER, "Set in")
    page.evaluate("() => { window.egoxSeen.length = 0; }")
    page.page.locator(ALONE).first.click()
    page.wait_for_run()
    page.page.wait_for_function(f"() => String(({_GREY})()) === 'false,false'")
    own_video = value(page, LOADER, "file")
    set_value(page, LOADER, "file", SAMPLE)
    page.page.wait_for_function(f"() => String(({_GREY})()) === 'true,true'")
    badge = page.page.get_by_test_id("egox-preview-badge").locator("visible=true")
    assert "exo/exo.mp4, which is no longer chosen" in badge.inner_text()
    set_value(page, LOADER, "file", own_video)
    page.page.wait_for_function(f"() => String(({_GREY})()) === 'false,false'")
    assert badge.count() == 0
    in_tab(page, page.saved() | {"extra": shipped("egox_demo")["extra"]})
    page.page.wait_for_function(f"() => ({_CLIPS})().includes('prior')")
    in_tab(page, shipped("egox_demo"))
    page.page.wait_for_function(
        "() => [...app.rootGraph.nodes].some((n) => n.widgets?.some((w) => w.value?.startsWith?.('sample/')))"
    )
    page.page.wait_for_timeout(1000)  # in which nothing may come
    assert value(page, LOADER, "file").startswith("sample/") and page.evaluate(_CLIPS) == []
    assert value(page, DEPTH, "depth_file") == ""

    # A dropped workflow opens as one, another file goes to the loader.
    mine = Path(shutil.copy(repo_root / "workflows/more/egox_long.json", tmp_path / "mine.json"))
    drop_from_desktop(page, (500, 600), mine)
    page.page.wait_for_function("(id) => app.rootGraph.id === id", arg=shipped("egox_long")["id"])
    assert value(page, LOADER, "file") == SAMPLE and len(list(uploads.glob("*"))) == 1
    page.open_form(shipped("egox_basic"))
    drop_from_desktop(page, (500, 600), clip(tmp_path / "plain.mp4", 25, 60))
    says(page, "of 2.4 s")
    assert value(page, LOADER, "file") == "plain.mp4"
