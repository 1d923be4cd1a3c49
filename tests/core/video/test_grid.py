"""Videos beside each other, each under its name."""

import numpy as np
import pytest
import torch

from egox_core.video.grid import (
    GAP,
    GAP_GREY,
    label_height,
    label_strip,
    labelled_grid,
    side_by_side,
)
from tests.refusals import refuses


def flat(value: float, frames: int = 2, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.full((frames, height, width, 3), value)


def cell(grid: torch.Tensor, row: int, column: int, height: int, width: int) -> torch.Tensor:
    """Cut out the picture of one cell, without its name."""
    strip = label_height(height)
    top = row * (strip + height + GAP) + strip
    left = column * (width + GAP)
    return grid[:, top : top + height, left : left + width]


def test_each_video_in_its_place():
    values = (0.2, 0.4, 0.6, 0.8, 1.0)
    grid = labelled_grid([flat(value) for value in values], [f"v{i}" for i in range(5)], columns=3)
    strip = label_height(64)
    assert (
        grid.shape == (2, 2 * (64 + strip) + GAP, 3 * 64 + 2 * GAP, 3)
        and grid.dtype == torch.float32
    )
    for index, value in enumerate(values):
        torch.testing.assert_close(
            cell(grid, index // 3, index % 3, 64, 64), flat(round(value * 255) / 255)
        )
    assert torch.all(cell(grid, 1, 2, 64, 64) == GAP_GREY / 255), "the last place stays empty"


def test_as_square_as_it_gets_and_even():
    grid = labelled_grid([flat(0.5, height=33, width=47)] * 4, [])
    assert grid.shape[1] % 2 == grid.shape[2] % 2 == 0
    assert grid.shape[2] == 2 * 47 + GAP


def test_a_shorter_video_holds_its_last_picture():
    long = torch.stack([flat(i / 10, 1)[0] for i in range(5)])
    grid = labelled_grid([long, long[:2]], [], columns=2)
    assert len(grid) == 5
    second_cell = cell(grid, 0, 1, 64, 64)
    torch.testing.assert_close(second_cell[4], second_cell[1])
    assert not torch.equal(cell(grid, 0, 0, 64, 64)[4], second_cell[4])


def test_another_shape_is_fitted_not_stretched():
    grid = labelled_grid([flat(0.5, 1, 64, 112), flat(1.0, 1, 64, 64)], [], columns=1)
    square = cell(grid, 1, 0, 64, 112)[0]
    white = (square[..., 0] == 1).nonzero()
    assert white[:, 1].min() == 24 and white[:, 1].max() == 24 + 63 and white[:, 0].max() == 63


def test_cells_of_another_size():
    video = torch.rand((1, 64, 64, 3))
    small = cell(labelled_grid([video], [], cell_height=32), 0, 0, 32, 32)
    averaged = torch.nn.functional.avg_pool2d(video.movedim(-1, 1), 2).movedim(1, -1)
    assert float((small - averaged).abs().max()) < 1.5 / 255, "averaged, to the rounding of 8 bits"
    wide = torch.linspace(0.1, 0.9, 24)[None, None, :, None].expand(1, 16, 24, 3)
    large = cell(labelled_grid([wide], [], cell_height=32), 0, 0, 32, 48)[0]
    between = torch.linspace(0.1 - 0.8 / 92, 0.9 + 0.8 / 92, 48).clamp(0.1, 0.9)
    assert float((large - between[None, :, None]).abs().max()) < 1.5 / 255, "straight between two"


def test_names_are_written_and_fit():
    empty, name, long = (label_strip(text, 200, 24) for text in ("", "lambda_g 3", "a name " * 30))
    assert empty.std() == 0 and name.max() > 150
    assert long[:, -4:].max() == 32, "does not run out of its cell"
    assert np.array_equal(label_strip("λ_g 3", 200, 24), label_strip("lambda_g 3", 200, 24))


def test_no_videos():
    with refuses("give videos"):
        labelled_grid([], [])
    with refuses(r"\[T, H, W, 3\]"):
        labelled_grid([torch.zeros((4, 4))], [])


def test_progress_and_cancel():
    def cancel(done: int, total: int, stage: str) -> None:
        assert (done, total) == (1, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        labelled_grid([flat(0.5, 3)], [], progress=cancel)


def test_a_row_of_videos_is_as_high_as_the_last_and_keeps_shapes():
    wide, square = flat(1.0, 5, 64, 112), flat(0.5, 3, 32, 32)
    row = side_by_side([wide, square], ["exo", "prior"], step=2)
    strip = label_height(32)
    assert row.shape == (3, strip + 32 + (strip % 2), 56 + GAP + 32, 3)
    assert (row[:, strip : strip + 32, :56] == 1).all()
    assert (row[:, strip : strip + 32, 56 + GAP :] - 0.5).abs().max() < 0.01
