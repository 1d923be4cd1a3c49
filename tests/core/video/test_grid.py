"""Test videos laid out in a grid, each under its name."""

import torch

from egox_core.video.grid import (
    GAP,
    GAP_GREY,
    label_height,
    labelled_grid,
    side_by_side,
)
from tests.refusals import refuses


def constant_video(
    value: float, frames: int = 2, height: int = 64, width: int = 64
) -> torch.Tensor:
    return torch.full((frames, height, width, 3), value)


def cut_cell(grid: torch.Tensor, row: int, column: int, height: int, width: int) -> torch.Tensor:
    """Cut one cell's picture, without its caption, out of a grid of videos."""
    label_rows = label_height(height)
    top_row = row * (label_rows + height + GAP) + label_rows
    left_column = column * (width + GAP)
    return grid[:, top_row : top_row + height, left_column : left_column + width]


def test_each_video_is_in_its_cell():
    brightness_levels = (0.2, 0.4, 0.6, 0.8, 1.0)
    grid = labelled_grid(
        [constant_video(value) for value in brightness_levels],
        [f"v{i}" for i in range(5)],
        columns=3,
    )
    label_rows = label_height(64)
    assert (
        grid.shape == (2, 2 * (64 + label_rows) + GAP, 3 * 64 + 2 * GAP, 3)
        and grid.dtype == torch.float32
    )
    for index, value in enumerate(brightness_levels):
        torch.testing.assert_close(
            cut_cell(grid, index // 3, index % 3, 64, 64), constant_video(round(value * 255) / 255)
        )
    assert torch.all(cut_cell(grid, 1, 2, 64, 64) == GAP_GREY / 255), "the last place stays empty"


def test_shorter_video_repeats_its_last_frame():
    long_video = torch.stack([constant_video(i / 10, 1)[0] for i in range(5)])
    grid = labelled_grid([long_video, long_video[:2]], [], columns=2)
    assert len(grid) == 5
    second_cell = cut_cell(grid, 0, 1, 64, 64)
    torch.testing.assert_close(second_cell[4], second_cell[1])
    assert not torch.equal(cut_cell(grid, 0, 0, 64, 64)[4], second_cell[4])


def test_other_aspect_ratios_are_fitted_without_stretching():
    grid = labelled_grid(
        [constant_video(0.5, 1, 64, 112), constant_video(1.0, 1, 64, 64)], [], columns=1
    )
    square_cell = cut_cell(grid, 1, 0, 64, 112)[0]
    white_pixels = (square_cell[..., 0] == 1).nonzero()
    assert (
        white_pixels[:, 1].min() == 24
        and white_pixels[:, 1].max() == 24 + 63
        and white_pixels[:, 0].max() == 63
    )


def test_videos_are_resized_to_the_cell():
    video = torch.rand((1, 64, 64, 3))
    small_cell = cut_cell(labelled_grid([video], [], cell_height=32), 0, 0, 32, 32)
    averaged_video = torch.nn.functional.avg_pool2d(video.movedim(-1, 1), 2).movedim(1, -1)
    assert float((small_cell - averaged_video).abs().max()) < 1.5 / 255, (
        "averaged, to the rounding of 8 bits"
    )


def test_grid_without_videos_is_refused():
    with refuses("give videos"):
        labelled_grid([], [])
    with refuses(r"\[T, H, W, 3\]"):
        labelled_grid([torch.zeros((4, 4))], [])


def test_row_has_the_height_of_the_last_video():
    wide_video, square_video = constant_video(1.0, 5, 64, 112), constant_video(0.5, 3, 32, 32)
    video_row = side_by_side([wide_video, square_video], ["exo", "prior"], step=2)
    label_rows = label_height(32)
    assert video_row.shape == (3, label_rows + 32 + (label_rows % 2), 56 + GAP + 32, 3)
    assert (video_row[:, label_rows : label_rows + 32, :56] == 1).all()
    assert (video_row[:, label_rows : label_rows + 32, 56 + GAP :] - 0.5).abs().max() < 0.01
