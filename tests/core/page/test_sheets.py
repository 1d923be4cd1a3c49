"""Test contact sheets of previews: positions of frames, sizes, lossless maps and legends."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.page import sheets as preview_sheets
from egox_core.page.maps import (
    colour_stops,
    colour_table,
    coverage_preview,
    depth_preview,
    depth_scale,
    round_values,
)
from tests.refusals import refuses


def cut_frame(sheets: preview_sheets.Sheets, number: int) -> np.ndarray:
    """Cut one frame out of a contact sheet, by the rule of ``web/js/previews/sheets.mjs``."""
    frames_per_sheet = sheets.columns * sheets.rows
    sheet = cv2.imdecode(
        np.frombuffer(sheets.files[number // frames_per_sheet], np.uint8), cv2.IMREAD_COLOR
    )[..., ::-1]
    row, column = divmod(number % frames_per_sheet, sheets.columns)
    return sheet[
        row * sheets.height : (row + 1) * sheets.height,
        column * sheets.width : (column + 1) * sheets.width,
    ]


def grey_frames(count: int, height: int, width: int) -> torch.Tensor:
    """Draw ``count`` uniform frames, of which frame n has the grey level n / count."""
    return (torch.arange(count) / count)[:, None, None, None].expand(count, height, width, 3)


@pytest.mark.parametrize("count", [1, 5, 49])
def test_every_frame_is_at_its_place_of_the_sheet(count, monkeypatch):
    monkeypatch.setattr(
        preview_sheets, "SHEET_PIXELS", 20 * 32 * 48
    )  # several sheets, the last one not full
    sheets = preview_sheets.make_sheets(grey_frames(count, 32, 48))
    assert (sheets.count, sheets.step, sheets.width, sheets.height) == (count, 1, 48, 32)
    for frame_number in range(count):
        picture = cut_frame(sheets, frame_number)
        assert picture.shape == (32, 48, 3)
        # JPEG of quality 90 moves a flat grey by 2 of 255 at most; neighbours differ by 5.
        assert np.abs(picture.astype(int) - round(255 * frame_number / count)).max() <= 2


def test_lossless_sheets_keep_the_values_of_maps():
    map_values = torch.tensor([0, 64, 128, 255])[torch.randint(4, (7, 96, 96))]
    grey_video = (map_values / 255)[..., None].expand(-1, -1, -1, 3)
    sheets = preview_sheets.make_sheets(grey_video, lossless=True)
    assert all((cut_frame(sheets, n)[..., 0] == map_values[n].numpy()).all() for n in range(7))
    small_sheets = preview_sheets.make_sheets(grey_video, lossless=True, max_side=32)
    assert (cut_frame(small_sheets, 6)[..., 0] == map_values[6, 1::3, 1::3].numpy()).all()


def test_no_frames_are_refused():
    with refuses("frames to preview"):
        preview_sheets.make_sheets(torch.zeros(0, 4, 4, 3))


def test_only_uncovered_pixels_are_marked():
    rgb = torch.rand(2, 16, 16, 3)
    coverage = torch.zeros(2, 16, 16, dtype=torch.bool)
    coverage[0, :, :4] = True
    previews = torch.stack(list(coverage_preview(rgb, coverage)))
    assert torch.equal(previews[0, :, :4], rgb[0, :, :4])
    red, green, blue = previews[~coverage].unbind(-1)
    assert bool((red > 2 * green).all() and (blue > 2 * green).all()), "magenta"


def test_depth_legend_agrees_with_the_colours():
    depth_m = torch.linspace(1.0, 8.0, 4096).reshape(1, 64, 64)
    colour_scale = depth_scale(depth_m)
    preview_pixels = depth_preview(depth_m)[0][0].reshape(-1, 3)
    legend = colour_scale.legend()
    tick_labels = ["1.5 m", "2 m", "3 m", "4 m", "5 m", "7 m"]
    assert [tick["label"] for tick in legend["ticks"]] == tick_labels
    for tick in legend["ticks"]:
        tick_m = float(tick["label"].split()[0])
        drawn_colour = preview_pixels[int((depth_m.flatten() - tick_m).abs().argmin())].numpy()
        # The pixel and the legend meet within one of 256 colours.
        colour_index_error = (
            np.abs(colour_table() - drawn_colour).sum(1).argmin() - 255 * tick["at"]
        )
        assert abs(colour_index_error) <= 1.5
    assert legend["colours"][0] == "#30123b"
    assert legend["colours"] == colour_stops()


def test_legend_values_are_round_and_within_range():
    assert round_values(0.9, 11) == [1, 2, 5, 10]
    assert round_values(3.1, 3.2) == [3.1, 3.2]
    many_legend_values = round_values(0.01, 1000)
    assert (
        len(many_legend_values) <= 6
        and min(many_legend_values) >= 0.01
        and max(many_legend_values) <= 1000
    )
