"""One's own clip in the form: which part of it is used, how it is cropped, and what is seen while
it is sampled."""

import pytest
import torch

from egox_train.video_writer import write_video
from tests.browser.test_form import open_form
from tests.browser.upload_page import LOADER, choose, told, value
from tools.rigs.comfy_page import FORM_ROW


def trim(page, name: str):
    return page.page.locator(FORM_ROW).get_by_test_id(f"egox-trim-{name}")


def test_the_part_and_the_crop_are_chosen_by_eye(same_page, shipped, uploads, tmp_path):
    page = same_page(size=(1600, 900))
    open_form(page, shipped("egox_long"))
    upright = torch.arange(120, dtype=torch.uint8)[:, None, None, None] * 2
    write_video(tmp_path / "IMG.mp4", upright.repeat(1, 128, 72, 3), 60.0)
    choose(page, LOADER, (tmp_path / "IMG.mp4").rename(tmp_path / "IMG.mov"))
    told(page, LOADER, "Set in")
    trim(page, "note").get_by_text("An upright video").wait_for()
    assert (
        "of 2 s" in trim(page, "note").inner_text()
        and "60 a second" in trim(page, "note").inner_text()
    )
    for name, seconds in (("start-s", "0.4"), ("length-s", "1.2")):
        trim(page, name).fill(seconds)
        trim(page, name).press("Tab")
    assert (value(page, LOADER, "start_frame"), value(page, LOADER, "frame_count")) == (24, 73)
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
