"""Read single frames of a video by index, without decoding all of them.

Indices and sizes are those of :mod:`.probe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from ..arrays import rectangle
from ..errors import EgoXInputError
from ..frame_store import store_frames
from ..progress import Progress, no_progress
from ..types import FrameSelection
from .hdr import GAMMAS, TRANSFERS, gamut_name, sdr_picture
from .selection import VideoInfo
from .source import VideoSource, open_video
from .tracks import chosen_track, deinterlaced_frames, pixel_aspect

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter
SEEK_GAP = 8
"""Frames: decoding up to so many unneeded ones is cheaper than a seek."""


def read_frames(
    # A tensor contains all frames [N, H, W, 3], uint8 or float 0...1.
    source: VideoSource | Tensor,
    info: VideoInfo,
    selection: FrameSelection,
    progress: Progress = no_progress,
    # Redraws a picture for another lens.
    redrawn: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # [T, H, W, 3] of the same kind; RGB, of a long clip mapped from the disk
    """Read the frames in use, cropped or padded and scaled.

    Raises:
        EgoXInputError: one of them can't be decoded.
    """
    indices, counts = torch.unique(
        selection.indices, return_counts=True
    )  # rising; uneven ones may repeat
    if isinstance(source, Tensor):
        pictures = (_exo_part(source[number, ..., :3].cpu().numpy(), info) for number in indices)
    else:
        pictures = (picture for _, picture in decode_frames(source, info, indices.tolist()))

    def fitted_frames() -> Iterator[Tensor]:
        done_count = 0
        for picture, count in zip(pictures, counts.tolist(), strict=True):
            if selection.part is not None and redrawn is None:
                picture = _black_outside(picture, selection.part)
            if redrawn is not None:
                picture = redrawn(torch.from_numpy(picture)).numpy()
            frame = torch.from_numpy(fit_picture(picture, selection.rectangle, selection.size))
            for _ in range(count):
                yield frame
                progress(done_count := done_count + 1, len(selection), "reading video")

    frames = store_frames(fitted_frames(), len(selection))
    return frames.clamp_(0, 1) if frames.is_floating_point() else frames


def decode_frames(
    source: VideoSource, info: VideoInfo, indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode the frames of ascending ``indices``, from the nearest keyframes on.

    Yields:
        index; image [H, W, 3], uint8 RGB, as shown.

    Raises:
        EgoXInputError: a frame can't be decoded.
    """
    count = 0
    with open_video(source) as container:
        from av.video.reformatter import VideoReformatter

        converter = VideoReformatter()  # of its own, each frame would set up another one
        stream = chosen_track(container.streams.video)
        stream.thread_type = "AUTO"
        aspect = pixel_aspect(stream)
        for index, frame in _wanted_frames(container, stream, info, indices):
            picture = _shown_picture(frame, aspect, info, index, converter)
            if picture.shape[:2] != (info.height, info.width):
                raise EgoXInputError(
                    f"video {info.name}",
                    got=f"frame {index} of {picture.shape[1]}x{picture.shape[0]} px",
                    expected=f"{info.width}x{info.height} px in all",
                    fix="re-encode it with ffmpeg",
                )
            yield index, picture
            count += 1
    if count < len(indices):
        raise EgoXInputError(
            f"video {info.name}",
            got=f"frame {indices[count]} missing or corrupt",
            expected="frames that can be decoded",
            fix="use frames before or after it, or copy the file again",
        )


def _wanted_frames(
    container, stream, info: VideoInfo, indices: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode frames in ascending order, and stop at the first one that is missing."""
    index_of = {pts: number for number, pts in enumerate(info.pts)}

    def frames_from_here() -> Iterator[tuple[int | None, av.VideoFrame]]:
        """Yield frames with their indices from the current position on, counted if the file has no
        stamps."""
        for count, frame in enumerate(deinterlaced_frames(container, stream)):
            yield index_of.get(frame.pts) if info.pts else count, frame

    position = -1
    frames = None
    frames_needed_before = "interlaced" in dict(
        info.remarks
    )  # its lines are also made from the frame before
    for index in indices:
        keyframe = max(
            (
                key_index
                for key_index in info.keyframes
                if key_index <= index - frames_needed_before
            ),
            default=0,
        )
        if frames is None or keyframe > position + SEEK_GAP:
            if frames is not None or keyframe > 0:
                container.seek(info.pts[keyframe], stream=stream, backward=True)
            frames = frames_from_here()
        found_frame = _frame_at(frames, index)
        if found_frame is None and keyframe > 0:
            # The index of some containers points past the keyframe: the plain way from the start
            # always works.
            container.seek(0, stream=stream)
            frames = frames_from_here()
            found_frame = _frame_at(frames, index)
        if found_frame is None:
            return
        position = index
        yield index, found_frame


def _frame_at(frames, index: int) -> av.VideoFrame | None:
    for frame_number, frame in frames:
        if frame_number is not None and frame_number >= index:
            return frame if frame_number == index else None
    return None


def _rgb_picture(
    frame: av.VideoFrame, matrix: int, converter: VideoReformatter
) -> np.ndarray:  # [H, W, 3] uint8, sRGB
    """Convert a frame to sRGB, by ``matrix`` if the frame names no colour matrix."""
    transfer = TRANSFERS.get(int(frame.color_trc))
    if transfer is None and gamut_name(frame):
        transfer = GAMMAS.get(int(frame.color_trc), "2.4")
    if frame.colorspace == 2 and transfer:
        frame.colorspace = 1 if int(frame.color_primaries) in (1, 11, 12) else 9
    elif frame.colorspace == 2:
        frame.colorspace = matrix
    if transfer:
        return sdr_picture(frame, transfer, converter)
    return converter.reformat(frame, format="rgb24").to_ndarray()


def _shown_picture(
    frame: av.VideoFrame, aspect: float, info: VideoInfo, index: int, converter: VideoReformatter
) -> np.ndarray:  # [H, W, 3] uint8
    picture = _rgb_picture(frame, info.matrix, converter)
    if aspect != 1:
        picture = resize_picture(picture, round(picture.shape[1] * aspect), picture.shape[0])
    if "fields" in dict(info.remarks):
        # Every second one has the lower lines.
        field_shift = np.array([[1, 0, 0], [0, 0.5, -0.5 * (index % 2)]])
        picture = cv2.warpAffine(
            picture,
            field_shift,
            (picture.shape[1], 2 * picture.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    transposed, down, right = info.turn
    picture = picture.swapaxes(0, 1) if transposed else picture
    return _exo_part(picture[::down, ::right], info)


def _exo_part(picture: np.ndarray, info: VideoInfo) -> np.ndarray:  # [H, W, 3]
    """Cut the half of a picture that is exo's, or mirror it."""
    if info.exo_part == "left":
        picture = picture[:, : info.width]
    elif info.exo_part == "right":
        picture = picture[:, -info.width :]
    elif info.exo_part == "mirrored":
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def _black_outside(picture: np.ndarray, part: tuple[int, int, int, int]) -> np.ndarray:
    """Black out a picture outside of a rectangle (left, top, width, height)."""
    left, top, width, height = part
    kept_picture = np.zeros_like(picture)
    kept_picture[top : top + height, left : left + width] = picture[
        top : top + height, left : left + width
    ]
    return kept_picture


def fit_picture(
    picture: np.ndarray,  # [H, W, 3]
    part: tuple[int, int, int, int],  # (left, top, width, height) px
    size: tuple[int, int],  # (width, height) px of the result
) -> np.ndarray:  # [height, width, 3]
    """Cut a rectangle from a picture, black outside of it, and scale it to ``size``."""
    return resize_picture(rectangle(picture, *part), *size)


def resize_picture(
    picture: np.ndarray, width: int, height: int
) -> np.ndarray:  # [H, W, C] -> [height, width, C]
    """Resize a picture, where pixel centres follow the half-pixel convention.

    Shrinking averages areas, so that nothing aliases.
    """
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    shrinks = height <= picture.shape[0] and width <= picture.shape[1]
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
