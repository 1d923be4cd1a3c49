"""One's own clip in the form: which part of it is used, how it is cropped, and what is seen while
it is sampled."""

from pathlib import Path

import pytest
import torch

from egox_train.video_writer import write_video
from tests.browser.test_form import open_form
from tests.browser.upload_page import LOADER, choose, set_value, told, value
from tools.rigs.comfy_page import FORM_ROW


@pytest.fixture
def upright(tmp_path) -> Path:
    """An upright phone's clip of 60 frames a second, two seconds long."""
    return phone_clip(tmp_path / "IMG.mp4", 60)


def phone_clip(file: Path, fps: int) -> Path:
    frames = torch.zeros(2 * fps, 128, 72, 3, dtype=torch.uint8)
    frames += (2 * torch.arange(2 * fps, dtype=torch.uint8))[:, None, None, None]
    write_video(file, frames, float(fps))
    return file.rename(file.with_suffix(".mov"))


def trim(page, name: str):
    return page.page.locator(FORM_ROW).get_by_test_id(f"egox-trim-{name}")


def choose_seconds(page, start: str, length: str) -> tuple[int, int]:
    """First frame and count in the loader after both were typed in the form."""
    for name, seconds in (("start-s", start), ("length-s", length)):
        trim(page, name).fill(seconds)
        trim(page, name).press("Tab")
    return value(page, LOADER, "start_frame"), value(page, LOADER, "frame_count")


def test_the_part_and_the_crop_are_chosen_by_eye(same_page, shipped, uploads, upright, tmp_path):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_long"))
    choose(page, LOADER, upright)
    told(page, LOADER, "Set in")
    trim(page, "note").get_by_text("An upright video").wait_for()
    assert (
        "of 2 s" in trim(page, "note").inner_text()
        and "60 a second" in trim(page, "note").inner_text()
    )
    assert choose_seconds(page, "0.4", "1.2") == (24, 73)
    assert "2 chunks" in trim(page, "note").inner_text()
    trim(page, "fit").click()
    trim(page, "half").click()
    trim(page, "start").fill("30")
    trim(page, "length").fill("17")
    chosen = {
        name: value(page, LOADER, name)
        for name in ("resize", "target_fps", "start_frame", "frame_count")
    }
    assert chosen == {"resize": "pad", "target_fps": 30.0, "start_frame": 30, "frame_count": 17}
    assert trim(page, "note").inner_text().startswith("0.5 to 1.1 s of 2 s: 17 frames, 30 a second")
    picture = trim(page, "picture")
    page.page.wait_for_function(
        "(picture) => picture.naturalHeight === 128", arg=picture.element_handle()
    )
    box = picture.bounding_box()
    assert box["width"] > 200 and box["width"] / box["height"] == pytest.approx(1.75, rel=0.05), box
    choose(page, LOADER, phone_clip(tmp_path / "PAL.mp4", 25))
    trim(page, "note").get_by_text("25 a second").wait_for()
    assert choose_seconds(page, "0.4", "1.2") == (10, 29)
    assert trim(page, "shorten").is_hidden()
    set_value(page, LOADER, "frame_count", 49)
    trim(page, "note").get_by_text(
        "49 frames are asked for: from here on this video has 40"
    ).wait_for()
    trim(page, "shorten").click()
    assert value(page, LOADER, "frame_count") == 37
