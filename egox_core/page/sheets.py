"""Pack a clip's frames into a few large images, from which a browser draws any frame.

Sheets rather than a video: several of them stay in step to the frame while one scrubs, and no
browser lacks the codec."""

import math
from collections.abc import Callable
from dataclasses import asdict

import cv2
import numpy as np
from torch import Tensor

from ..arrays import as_uint8
from ..errors import EgoXInputError
from ..frozen import frozen
from ..progress import Progress, no_progress

MAX_FRAMES = 121
"""Longer clips show every n-th frame: a preview is for looking, and a browser holds all its frames
decoded."""
MAX_SIDE = 448  # px, of a frame
SHEET_PIXELS = 8_000_000  # of one sheet; larger ones decode with a visible pause
QUALITY = 90


def common_step(longest: int) -> int:
    """Choose the step between shown frames for clips that are played together.

    The longest then shows at most ``MAX_FRAMES``.
    """
    return max(1, math.ceil(longest / MAX_FRAMES))


@frozen
class Drawn:
    """Sequence of pictures, each drawn only when it is accessed."""

    shape: tuple[int, int, int, int]  # [T, H, W, 3]
    draw: Callable[[int], Tensor]  # a frame's picture [H, W, 3] 0...1

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frame: int) -> Tensor:
        return self.draw(frame)


@frozen
class Sheets:
    """Contact sheets of a clip: images that hold every n-th frame row by row.

    Frame n is in sheet n // (columns * rows)."""

    files: tuple[bytes, ...]  # JPEG; PNG of a map
    count: int  # frames in all sheets together
    step: int
    width: int  # px, of one frame
    height: int
    columns: int
    rows: int  # of a full sheet; the last one may have fewer

    def layout(self) -> dict[str, int]:
        """Describe how the frames are arranged in the files."""
        return {name: value for name, value in asdict(self).items() if name != "files"}


def make_sheets(
    frames: Tensor | Drawn,  # [T, H, W, 3] 0...1
    *,
    step: int = 1,  # every so many frames is shown
    max_side: int = MAX_SIDE,
    quality: int = QUALITY,
    lossless: bool = False,  # a grey map: no value appears that isn't in it
    progress: Progress = no_progress,
) -> Sheets:
    """Make contact sheets of a clip, with frames of at most ``max_side`` px.

    Raises:
        EgoXInputError: no frames, or another shape.
    """
    if len(frames.shape) != 4 or frames.shape[-1] < 3 or 0 in frames.shape:
        raise EgoXInputError(
            "frames to preview",
            got=f"shape {tuple(frames.shape)}",
            expected="[T, H, W, 3]",
            fix="give pictures",
        )
    shown_frames = range(0, len(frames), step)
    scale = min(1.0, max_side / max(frames.shape[1:3]))
    height, width = (max(1, round(side * scale)) for side in frames.shape[1:3])
    per_sheet = max(1, min(len(shown_frames), SHEET_PIXELS // (width * height)))
    columns = math.ceil(math.sqrt(per_sheet * height / width))  # a sheet of about square shape
    columns = min(columns, per_sheet)
    rows = per_sheet // columns if len(shown_frames) > per_sheet else math.ceil(per_sheet / columns)
    per_sheet = columns * rows
    files = []
    for first_frame in range(0, len(shown_frames), per_sheet):
        sheet_frames = shown_frames[first_frame : first_frame + per_sheet]
        sheet = np.zeros(
            (math.ceil(len(sheet_frames) / columns) * height, columns * width, 3), np.uint8
        )
        for number, index in enumerate(sheet_frames):
            row, column = divmod(number, columns)
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = (
                _resized_picture(frames[index], width, height, lossless)
            )
            progress(first_frame + number + 1, len(shown_frames), "preview")
        files.append(_encode(sheet, quality, lossless))
    return Sheets(
        files=tuple(files),
        count=len(shown_frames),
        step=step,
        width=width,
        height=height,
        columns=columns,
        rows=rows,
    )


def _encode(sheet: np.ndarray, quality: int, lossless: bool) -> bytes:  # [H, W, 3] uint8 RGB
    """Encode a grey map as PNG, or colours as JPEG with full colour resolution.

    Colour maps and thin coloured marks thus keep their colour.
    """
    if lossless:
        is_encoded, data = cv2.imencode(".png", sheet[..., 0], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    else:
        full_colour = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, *full_colour]
        is_encoded, data = cv2.imencode(".jpg", sheet[..., ::-1], options)
    if not is_encoded:
        raise RuntimeError("OpenCV could not encode a preview")
    return data.tobytes()


def _resized_picture(frame: Tensor, width: int, height: int, nearest: bool) -> np.ndarray:
    picture = as_uint8(frame[..., :3].detach().float().cpu()).numpy()
    if picture.shape[:2] == (height, width):
        return picture
    interpolation = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA
    return cv2.resize(picture, (width, height), interpolation=interpolation)
