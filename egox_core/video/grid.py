"""Arrange several labelled videos in one video."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_store import store_frames
from ..progress import Progress, no_progress

INK, PAPER, GAP_GREY = 235, 32, 12
GAP = 4
"""Pixels between cells."""


def labelled_grid(
    videos: Sequence[Tensor],  # each [T, H, W, 3] 0...1; lengths and sizes may differ
    # One per video; missing ones stay empty.
    labels: Sequence[str],
    columns: int = 0,  # 0: as square as it gets
    # Height of a picture in the grid in pixels; 0 takes that of the highest video.
    cell_height: int = 0,
    progress: Progress = no_progress,
) -> Tensor:
    """Arrange labelled videos in a grid.

    A video that is shorter holds its last picture, one of another shape is fitted into its cell.

    Returns:
        [T, H, W, 3] float32, T that of the longest; H and W even, as encoders want them.

    Raises:
        EgoXInputError: no video, or something that is no video.
    """
    check_videos(videos)
    largest_height = max(video.shape[1] for video in videos)
    height = cell_height or largest_height
    width = max(round(video.shape[2] * height / video.shape[1]) for video in videos)
    columns = min(columns or int(np.ceil(np.sqrt(len(videos)))), len(videos))
    rows = -(-len(videos) // columns)
    strip_height = label_height(height)
    cell_size = (strip_height + height, width)
    frames = max(video.shape[0] for video in videos)
    canvas_shape = [
        rows * cell_size[0] + (rows - 1) * GAP,
        columns * cell_size[1] + (columns - 1) * GAP,
    ]
    canvas = np.full(
        (canvas_shape[0] + canvas_shape[0] % 2, canvas_shape[1] + canvas_shape[1] % 2, 3),
        GAP_GREY,
        np.uint8,
    )
    grid_video = torch.empty((frames, *canvas.shape), dtype=torch.float32)
    names = [*labels, *[""] * len(videos)][: len(videos)]
    for index, name in enumerate(names):
        top, left = _cell_corner(index, columns, cell_size)
        canvas[top : top + strip_height, left : left + width] = label_strip(
            name, width, strip_height
        )
    for t in range(frames):
        for index, video in enumerate(videos):
            top, left = _cell_corner(index, columns, cell_size)
            canvas[top + strip_height : top + strip_height + height, left : left + width] = (
                _fit_in_cell(_picture(video[min(t, video.shape[0] - 1)]), width, height)
            )
        grid_video[t] = torch.from_numpy(canvas).float() / 255.0
        progress(t + 1, frames, "grid")
    return grid_video


def side_by_side(
    videos: Sequence[Tensor],  # each [T, H, W, 3] 0...1; lengths and sizes may differ
    # One per video.
    labels: Sequence[str],
    # Every n-th frame is taken.
    step: int = 1,
    progress: Progress = no_progress,
) -> Tensor:
    """Arrange labelled videos in one row, all of the last video's height.

    Returns:
        [T, H, W, 3] float16, T that of the longest over ``step``; H and W even.

    Raises:
        EgoXInputError: no video, or something that is no video.
    """
    check_videos(videos)
    row_count = len(range(0, max(video.shape[0] for video in videos), step))
    rows = iter_side_by_side(videos, labels, step, progress)
    return store_frames((row.half() / 255 for row in rows), row_count)


def iter_side_by_side(
    videos: Sequence[Tensor],  # each [T, H, W, 3] uint8 or 0...1; lengths and sizes may differ
    # One per video.
    labels: Sequence[str],
    # Every n-th frame is taken.
    step: int = 1,
    progress: Progress = no_progress,
) -> Iterator[Tensor]:  # of [H, W, 3] uint8, H and W even
    """Arrange labelled videos in one row frame by frame, as :func:`side_by_side` does."""
    check_videos(videos)
    height = videos[-1].shape[1]
    frames = range(0, max(video.shape[0] for video in videos), step)
    for number, t in enumerate(frames):
        pictures = [_picture(video[min(t, video.shape[0] - 1)]) for video in videos]
        row_picture = picture_row(pictures, labels, height)
        row_picture = np.pad(
            row_picture, ((0, len(row_picture) % 2), (0, 0), (0, 0)), constant_values=GAP_GREY
        )
        yield torch.from_numpy(row_picture)
        progress(number + 1, len(frames), "side by side")


def exo_label(lens_guessed: bool) -> str:
    """Name the exo video in a film, and say if its lens was guessed."""
    return "exo (lens guessed)" if lens_guessed else "exo"


def picture_row(
    pictures: Sequence[np.ndarray],  # each [H, W, 3] uint8
    # One for each picture, one for the whole row, or none.
    labels: Sequence[str],
    height: int,  # px of every picture
) -> np.ndarray:  # [height and a strip, W, 3] uint8, W even
    """Arrange pictures side by side at one height, with their labels above."""
    widths = [
        max(2, round(picture_array.shape[1] * height / picture_array.shape[0] / 2) * 2)
        for picture_array in pictures
    ]
    row_width = sum(widths) + GAP * (len(widths) - 1)
    strip_height = label_height(height) if labels else 0
    canvas = np.full((strip_height + height, row_width, 3), GAP_GREY, np.uint8)
    left = 0
    for number, (picture, width) in enumerate(zip(pictures, widths, strict=True)):
        if number < len(labels):
            right = row_width if len(labels) == 1 else left + width
            canvas[:strip_height, left:right] = label_strip(
                labels[number], right - left, strip_height
            )
        canvas[strip_height:, left : left + width] = _fit_in_cell(picture, width, height)
        left += width + GAP
    return canvas


def check_videos(videos: Sequence[Tensor]) -> None:
    """Refuse a list that is empty or has entries other than videos."""
    if not videos:
        raise EgoXInputError(
            "videos of the grid", got="none", expected="at least one", fix="give videos"
        )
    for video in videos:
        if video.ndim != 4 or video.shape[-1] < 3 or not video.shape[0]:
            raise EgoXInputError(
                "video of the grid",
                got=f"shape {list(video.shape)}",
                expected="[T, H, W, 3]",
                fix="give the frames of a video",
            )


def label_height(picture_height: int) -> int:
    """Compute the height of a label for a picture height."""
    return max(16, round(picture_height * 0.07))


def label_strip(name: str, width: int, height: int) -> np.ndarray:  # -> [height, width, 3] uint8
    """Draw a label in light letters, small enough to fit."""
    strip = np.full((height, width, 3), PAPER, np.uint8)
    # The letters that the drawing library has are plain ASCII.
    text = name.replace("λ", "lambda").encode("ascii", "replace").decode("ascii")
    scale = height / 34
    font = cv2.FONT_HERSHEY_SIMPLEX
    while (text_width := cv2.getTextSize(text, font, scale, 1)[0][0]) > width - 8 and scale > 0.05:
        scale *= min(
            0.97, (width - 8) / text_width
        )  # in steps: OpenCV 5 rounds letters to whole sizes
    # Letters such as g reach below the line on which they stand; every name stands on the same
    # line.
    (_, text_height), baseline = cv2.getTextSize("Ag", font, scale, 1)
    text_row = (height + text_height - baseline) // 2
    cv2.putText(strip, text, (4, text_row), font, scale, (INK,) * 3, 1, cv2.LINE_AA)
    return strip


def _cell_corner(index: int, columns: int, cell: tuple[int, int]) -> tuple[int, int]:
    return (index // columns) * (cell[0] + GAP), (index % columns) * (cell[1] + GAP)


def _picture(frame: Tensor) -> np.ndarray:  # [H, W, C] uint8 or 0...1 -> [H, W, 3] uint8
    if frame.dtype == torch.uint8:
        return frame[..., :3].cpu().numpy()
    return (frame[..., :3].detach().float().cpu().clamp(0, 1) * 255).round().byte().numpy()


def _fit_in_cell(
    picture: np.ndarray, width: int, height: int
) -> np.ndarray:  # [H, W, 3] -> [height, width, 3] uint8
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = (
        max(1, min(width, round(picture.shape[1] * factor))),
        max(1, min(height, round(picture.shape[0] * factor))),
    )
    if size != (picture.shape[1], picture.shape[0]):
        picture = cv2.resize(
            picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        )
    if size == (width, height):
        return picture
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = picture
    return canvas
