"""Read masks of moving pixels in an exo video from a file beside it: a video, an array, or a folder
of pictures.

Found by name, ``<take>__<camera>`` in one folder for all takes: ``.mkv`` or ``.mp4`` (grey, best
lossless), ``.npz`` (``mask`` [T, H, W], bool or uint8), or a folder of that name with numbered PNG
files. White (255, True) is what moves: the wearer, other people and animals, vehicles, balls, and
whatever they hold. A file has exactly the frames of its video. Its picture is the video's, or that
of the frames handed on, at any size of the same shape."""

import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from egox_core.archives import (
    PackedFrames,
    decode_picture,
    open_member,
    open_zip,
    read_npy_header,
)
from egox_core.depth import check_no_labels, depth_window
from egox_core.errors import EgoXInputError
from egox_core.frame_store import FrameStore
from egox_core.frames import FileFrames, Numbering, entries_of, numbered_files
from egox_core.frozen import frozen
from egox_core.progress import Progress, no_progress
from egox_core.remarks import Remark
from egox_core.safe_files import visible_files
from egox_core.takes import check_maps
from egox_core.types import FrameSelection
from egox_core.video import decode_frames, probe_video

MASK_SUFFIXES = (
    ".mkv",
    ".mp4",
    ".npz",
    "",
)  # the first that exists; the last: a folder of PNG files
MASK_KEY = "mask"
MaskFrameReader = Callable[[list[int]], Iterator[np.ndarray]]
"""Ascending indices -> what moves in each frame, [H, W] bool."""
LEAST_WHITE_LEVEL = (
    128  # from here on a grey value means "moves": lossy videos are neither black nor white
)
MOST_BLACK_LEVEL, COLOUR_TOLERANCE = (
    48,
    64,
)  # what lossy videos and soft edges leave of black, and of grey
MOST_BETWEEN_SHARE = 0.2  # share of pixels: blurred silhouettes have up to .12, photos .5 and more
SAME_COLOUR_TOLERANCE = 16  # what lossy videos change in a colour
MOST_SPECK_SHARE = 0.02  # share of what is marked: a dot or a line on a mask, no second part


@frozen
class MaskFile:
    """Mask file of which only the header was read."""

    path: Path
    numbering: Numbering
    size: tuple[int, int]  # (width, height) px

    @property
    def what(self) -> str:
        """Description of the mask file for error messages."""
        return self.numbering.what


def find_mask(root: Path, stem: str, file_frames: FileFrames = "auto") -> MaskFile:
    """Find the mask file or folder of a video by name.

    Raises:
        EgoXInputError: none there, or one that can't be read.
    """
    mask_path = next(
        (p for suffix in MASK_SUFFIXES if (p := root / f"{stem}{suffix}").exists()), None
    )
    if mask_path is None:
        raise EgoXInputError(
            f"mask of {stem}",
            got=f"nothing of that name in {root.name!r}",
            expected=f"{stem}.mkv, .mp4 or .npz, or a folder {stem} of PNG files",
            fix=(
                "run a segmentation on the video that `train_egox.py undistort` writes, or leave "
                "the masks out"
            ),
        )
    if mask_path.is_dir():
        pictures, numbering = _list_pictures(mask_path)
        first_picture = moving_pixels(
            _read_picture(pictures[0], mask_path.name), f"mask {stem}, {pictures[0].name}"
        )
        picture_size = first_picture.shape[1], first_picture.shape[0]
    elif mask_path.suffix == ".npz":
        with open_zip(mask_path, "mask file") as archive:
            shape, _ = _array_header(archive, mask_path)
        numbering = Numbering(what=f"mask {mask_path.name}", count=shape[0])
        picture_size = (shape[2], shape[1])
    else:
        video_info = probe_video(mask_path)
        numbering = Numbering(what=f"mask {mask_path.name}", count=video_info.frame_count)
        picture_size = video_info.width, video_info.height
    return MaskFile(path=mask_path, numbering=numbering.declared(file_frames), size=picture_size)


def check_mask_file(
    mask: MaskFile,
    frames: FrameSelection,  # as the mask will be read
    *,
    redrawn: bool = False,  # the exo picture is another camera's than the video's
) -> Remark:
    """Check that a mask file fits the video before any frame is decoded.

    Raises:
        EgoXInputError: masks that may be of other frames, another shape.
    """
    return check_maps(mask.what, mask.size, mask.numbering, frames, redrawn=redrawn)


@contextmanager
def open_mask(mask: MaskFile, keep_bytes: int = 0) -> Generator[MaskFrameReader]:
    """Open a mask file within a ``with`` block.

    Several reads one after the other, each from later frames on, unpack a packed file once;
    ``keep_bytes`` as in :func:`.depth_readers.open_depth`.

    Raises:
        EgoXInputError: no array of masks.
    """
    if mask.path.suffix != ".npz" or mask.path.is_dir():
        yield partial(_open_frames, mask)
        return
    with open_zip(mask.path, "mask file") as archive:
        shape, _ = _array_header(archive, mask.path)
        packed_frames = PackedFrames(mask.what, archive, f"{MASK_KEY}.npy", shape, keep_bytes)
        yield lambda indices: (frame != 0 for frame in packed_frames.read(indices))


def read_mask(
    mask: MaskFile,
    frames: FrameSelection,  # the frames in use
    progress: Progress = no_progress,
    opened: MaskFrameReader
    | None = None,  # of :func:`open_mask`, so that the clips of a take share one pass over the file
) -> Tensor:  # [T, H, W] bool
    """Read the masks of moving pixels for selected video frames.

    Raises:
        EgoXInputError: another shape, masks that may be of other frames, damaged, a PNG that is a
            map of labels.
    """
    if opened is None:
        with open_mask(mask) as opened:
            return read_mask(mask, frames, progress, opened)
    mask_window = depth_window(mask.size, frames, mask.what)
    entries = entries_of(frames, mask.numbering)
    unique_indices, picture_positions = torch.unique(
        torch.arange(mask.numbering.count)[entries.at], return_inverse=True
    )  # uneven time stamps may repeat one
    needed_indices = unique_indices.tolist()
    width, height = mask_window.size
    frame_store = FrameStore(len(needed_indices), (height, width), np.bool_)
    for picture_position, picture in enumerate(opened(needed_indices)):
        if picture.shape != mask.size[::-1]:
            raise EgoXInputError(
                mask.what,
                got=f"frame {needed_indices[picture_position]} of shape {picture.shape}",
                expected=f"{mask.size[::-1]} as the first",
                fix="store all frames at one size",
            )
        frame_store.append(mask_window.fit_mask(picture))
        progress(picture_position + 1, len(needed_indices), "reading masks")
    return (
        frame_store.tensor()
        if len(needed_indices) == len(picture_positions)
        else frame_store.tensor()[picture_positions]
    )


def _open_frames(mask: MaskFile, indices: list[int]) -> Iterator[np.ndarray]:  # [H, W] bool each
    if mask.path.is_dir():
        pictures, _ = _list_pictures(mask.path)
        for index in indices:
            picture = _read_picture(pictures[index], mask.path.name)
            yield moving_pixels(picture, f"{mask.what}, {pictures[index].name}")
    else:
        for index, picture in decode_frames(mask.path, probe_video(mask.path), indices):
            yield moving_pixels(picture, f"{mask.what}, frame {index}")


def _array_header(archive: zipfile.ZipFile, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    label = f"mask {path.name}"
    if f"{MASK_KEY}.npy" not in archive.namelist():
        raise EgoXInputError(
            label,
            got=f"arrays {sorted(archive.namelist())}",
            expected=f"one named {MASK_KEY}",
            fix=f"save it with numpy.savez_compressed(path, {MASK_KEY}=…)",
        )
    with open_member(archive, f"{MASK_KEY}.npy", label) as stream:
        shape, dtype = read_npy_header(stream, label, archive.getinfo(f"{MASK_KEY}.npy").file_size)
    if len(shape) != 3 or min(shape) < 1 or dtype.itemsize != 1 or dtype.kind not in "bu":
        raise EgoXInputError(
            label,
            got=f"{dtype} of shape {shape}",
            expected="bool or uint8 of shape (T, H, W)",
            fix="save one mask per frame, nonzero for moving pixels",
        )
    return shape, dtype


def _list_pictures(folder: Path) -> tuple[list[Path], Numbering]:
    """List the PNG files of a folder in the order of their frame numbers."""
    files, numbering = numbered_files(
        f"mask {folder.name}", [path.name for path in visible_files(folder)], (".png",)
    )
    return [folder / name for name in files], numbering


def _read_picture(file: Path, name: str) -> np.ndarray:  # [H, W] or [H, W, 3 or 4] uint8
    file_bytes = file.read_bytes()
    picture = decode_picture(file_bytes, f"mask {name}/{file.name}", cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise EgoXInputError(
            f"mask {name}",
            got=f"{file.name!r}, which is no PNG",
            expected="grey PNG files",
            fix="write it again",
        )
    return picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)


def moving_pixels(
    picture: np.ndarray,  # [H, W] or [H, W, 3 or 4] uint8; the fourth channel is alpha
    subject: str,  # names it in errors
) -> np.ndarray:  # [H, W] bool
    """Extract the moving pixels from one mask picture.

    Raises:
        EgoXInputError: both vary and differ, or several colours, a photo, a map of labels.
    """
    channel_values = picture.reshape(*picture.shape[:2], -1)
    colour_values, alpha_values = channel_values[..., :3], channel_values[..., 3:]
    grey_levels = colour_values.max(-1)
    if alpha_values.size and np.ptp(alpha_values):
        is_opaque = alpha_values[..., 0] >= LEAST_WHITE_LEVEL
        if np.ptp(grey_levels) and not np.array_equal(
            is_opaque & (grey_levels >= LEAST_WHITE_LEVEL), is_opaque
        ):
            raise _mask_error(subject, "a picture with transparent parts")
        return is_opaque
    if (np.ptp(colour_values, -1) > COLOUR_TOLERANCE).any() or _between_share(
        grey_levels, 255
    ) > MOST_BETWEEN_SHARE:
        return _grey_of_coloured_mask(colour_values, subject)
    brightest_level = int(grey_levels.max())
    if (
        0 < brightest_level < LEAST_WHITE_LEVEL
    ):  # a map of labels would be taken for "nothing moves"
        raise _mask_error(subject, f"values up to {brightest_level}")
    check_no_labels(grey_levels, subject)
    return grey_levels >= LEAST_WHITE_LEVEL


def _grey_of_coloured_mask(
    colours: np.ndarray,  # [H, W, 1 or 3] uint8
    subject: str,  # names it in errors
) -> np.ndarray:  # [H, W] bool
    """Convert a mask picture with one colour on black to grey levels.

    Raises:
        EgoXInputError: several colours fill areas, or there is more than specks of others.
    """
    grey_levels = colours.max(-1)
    bright_mask = grey_levels > MOST_BLACK_LEVEL
    main_colour, labels = _colour_areas(colours, bright_mask)
    if labels > 1:
        raise _mask_error(subject, f"{labels} colours, which may be labels")
    brightest_level = int(main_colour.max())
    if brightest_level < LEAST_WHITE_LEVEL:
        raise _mask_error(subject, f"values up to {brightest_level} in most of it")
    expected_colours = np.minimum(grey_levels[..., None] / brightest_level, 1) * main_colour
    is_other_colour = bright_mask & (np.abs(colours - expected_colours).max(-1) > COLOUR_TOLERANCE)
    if is_other_colour.sum() > MOST_SPECK_SHARE * bright_mask.sum():
        raise _mask_error(subject, f"colours in {100 * is_other_colour.mean():.0f} % of its pixels")
    between_share = _between_share(grey_levels, brightest_level)
    if between_share > MOST_BETWEEN_SHARE:
        raise _mask_error(
            subject, f"{100 * between_share:.0f} % of its pixels neither black nor white"
        )
    return 2 * grey_levels.astype(int) >= brightest_level


def _colour_areas(
    colours: np.ndarray,  # [H, W, 1 or 3] uint8
    bright_mask: np.ndarray,  # [H, W] bool, not black
) -> tuple[np.ndarray, int]:
    """Find the most frequent colour of a mask picture, and count the colours that fill areas.

    Soft edges fill none: no pixel of theirs has the colour of all its neighbours.
    """
    bit_shifts = 8 * np.arange(colours.shape[-1])
    colour_codes = (
        (colours.astype(np.int32) << bit_shifts).sum(-1).astype(np.float32)
    )  # 24 bits: exact
    square_kernel = np.ones((3, 3), np.uint8)
    is_filled = bright_mask & (
        cv2.erode(colour_codes, square_kernel) == cv2.dilate(colour_codes, square_kernel)
    )
    if not is_filled.any():
        return colours[np.unravel_index(colours.sum(-1).argmax(), bright_mask.shape)], 1
    colour_codes_found, counts = np.unique(
        colour_codes[is_filled].astype(np.int32), return_counts=True
    )
    area_colours = colour_codes_found[:, None] >> bit_shifts & 255
    main_colour = area_colours[counts.argmax()]
    other_colour_mask = np.abs(area_colours - main_colour).max(-1) > SAME_COLOUR_TOLERANCE
    return main_colour, 1 + int(
        other_colour_mask.sum()
        if counts[other_colour_mask].sum() > MOST_SPECK_SHARE * counts.sum()
        else 0
    )


def _between_share(grey: np.ndarray, brightest: int) -> float:
    """Compute the share of pixels that are neither black nor fully bright."""
    return float(((grey > MOST_BLACK_LEVEL) & (grey < brightest - MOST_BLACK_LEVEL)).mean())


def _mask_error(subject: str, problem: str) -> EgoXInputError:
    return EgoXInputError(
        subject,
        got=problem,
        expected="0 and 255, white or opaque where it moves",
        fix="write the mask itself, not a picture with it on top; a map of labels needs the labels "
        "that move as 255",
    )
