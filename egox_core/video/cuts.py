"""Hard cuts of a video: the frame from which nearly nothing of the picture is where it was.

A depth, a background and a canvas belong to one camera, so a clip with a cut in it is refused.
Colours and brightness don't tell a cut (two cameras see one room; a lamp flickers), so patterns are
compared, cell by cell, by OpenCV's normalised cross-correlation. A person who comes close covers
many cells, but leaves some as they were. A camera that is swung leaves none in place: features
(OpenCV's SIFT) find the turn between two frames, and the picture turned by it is compared. A cut to a
part of the same picture is told from a turn by its form: one zoom, to which no turn comes near.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_store import drop_pages
from ..sizes import longest_clip
from ..types import FrameSelection

SIZE = (128, 72)
"""px (width, height) at which frames are compared: noise is gone, furniture is not."""
CELL = (16, 18)
"""px (width, height) of a cell."""
SHIFT = 1
"""px that a cell may move between two frames: a camera in a hand."""
MOVING, STEADY_CELLS = 4, 0.7
"""px that it may move where the camera pans, and the share of the cells that such a shot keeps: .94 and more in
drawn pans, .5 and less across punch-ins, .22 and less across cuts to another camera."""
PLAIN = 1.5
"""Standard deviation, of 255 grey levels, under which a cell has no pattern to compare."""
KEPT_CELLS = 0.2
"""Share of the cells with a pattern that a take keeps from frame to frame."""
SWUNG_CELLS = 0.4
"""The same of a picture turned back. Measured in drawn rooms: .66 and more in pans, .19 and less
across cuts."""
SWUNG_SIZE = (320, 180)
"""px (width, height) at which features are matched: a plain room has enough of them."""
PUNCH = 1.2
"""Zoom within one frame that is a cut to a part of the picture: editors crop by a fifth and more, and in no
turn up to 60 degrees do more than .23 of the picture follow one zoom of that size (computed for
lenses of .45 widths and more)."""
AGREE_PX = 2.0
"""px of SWUNG_SIZE within which a feature agrees with a common motion: corners of a plain room are found
to a pixel or two."""
SAME_PATTERN = 0.65
"""Correlation of a cell that is kept. Measured: .82 and more in takes, .55 and less across cuts."""
RELEASE_EVERY = 64
"""Frames of a mapped clip that are in memory at a time."""


def find_cuts(
    frames: Tensor,  # [T, H, W, 3] uint8, or float 0...1
) -> list[int]:
    """Places of the frames that begin another shot."""
    cuts, last = [], None
    for place, frame in enumerate(frames):
        pattern = _pattern(frame)
        if last is not None and not _steady(last, pattern) and _is_cut(frames, place):
            cuts.append(place)
        last = pattern
        if place % RELEASE_EVERY == RELEASE_EVERY - 1:
            drop_pages(frames)
    return cuts


def _is_cut(frames: Tensor, place: int) -> bool:
    """Tell a change that parts two steady shots, the second of them another picture or a part of the
    first.

    Frames on both sides of a flash or a damaged one are alike; in a wild pan no two are.
    """
    near = {t: _pattern(frames[t]) for t in range(max(0, place - 2), min(place + 3, len(frames)))}

    def alike(*pairs: tuple[int, int]) -> list[bool]:
        known = [(near[a], near[b]) for a, b in pairs if a in near and b in near]
        return [_alike(*pair) or _steady(*pair) for pair in known]

    if not all(alike((place - 2, place - 1), (place + 1, place + 2))):
        return False
    pictures = [_small(frames[t]) for t in (place - 1, place)]
    features = _common_features(*pictures)
    if features is not None and _punched_in(pictures, *features):
        return True
    if _alike(near[place - 1], near[place]) or any(
        alike((place - 2, place), (place - 1, place + 1))
    ):
        return False
    return features is None or not _swung(pictures, *features)


def refuse_cuts(
    frames: Tensor,  # [T, H, W, 3] uint8, or float 0...1
    selection: FrameSelection,  # of these frames
    name: str,  # of the video, for the message
    first: int = 0,  # source index that a user calls frame 0 (a trimmed video's)
) -> None:
    """Check that frames are of one shot.

    Raises:
        EgoXInputError: a hard cut; names its frame and the parts before and after.
    """
    cuts = find_cuts(frames)
    if not cuts:
        return
    indices = (selection.indices - first).tolist()
    place, count = cuts[0], len(indices)
    step = (indices[-1] - indices[0]) / (count - 1)
    if len(cuts) > 1:
        after = cuts[1] - place
    elif step == 0:
        after = count - place
    else:  # what is behind the frames in use was not looked at
        after = int((selection.end - first - 1 - indices[place]) / step) + 1
    more = f" and {len(cuts) - 1} more" if len(cuts) > 1 else ""
    raise EgoXInputError(
        f"video {name}",
        expected="one shot of one camera",
        got=f"a cut at frame {indices[place]} ({float(selection.times_s[place]):.2f} s){more}",
        fix=f"use the part before it (start at frame {indices[0]}, {_frames_text(place)}) "
        f"or the part after it (start at frame {indices[place]}, "
        f"{_frames_text(min(after, count))}), or set one_shot where a lamp, a shadow or a person "
        "made the change",
    )


def _frames_text(available: int) -> str:
    """Name the length of the longest clip in so many frames."""
    length = longest_clip(available)
    return "1 frame" if length == 1 else f"{length} frames"


def _pattern(frame: Tensor) -> np.ndarray:  # [H, W, 3] -> [72, 128] float32
    """Reduce a frame to a small grey picture without fine noise and slow shading."""
    small = cv2.resize(frame.cpu().numpy(), SIZE, interpolation=cv2.INTER_AREA)
    scale = 1 if frame.dtype == torch.uint8 else 255
    grey = cv2.cvtColor(small.astype(np.float32), cv2.COLOR_RGB2GRAY) * scale
    return cv2.GaussianBlur(grey, (0, 0), 1) - cv2.GaussianBlur(grey, (0, 0), 4)


def _small(frame: Tensor) -> np.ndarray:  # [H, W, 3] -> [180, 320, 3] uint8
    """Resize a frame to the size at which features are matched."""
    picture = (frame if frame.dtype == torch.uint8 else (frame * 255).byte()).cpu().numpy()
    return cv2.resize(picture, SWUNG_SIZE, interpolation=cv2.INTER_AREA)


def _common_features(
    before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:  # [N, 2] px each
    """Match the features of two pictures, None where there are too few for a homography."""
    finder = cv2.SIFT.create()
    (first_points, first), (second_points, second) = (
        finder.detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
        for picture in (before, after)
    )
    if first is None or second is None:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(first, second)
    if len(pairs) < 4:
        return None
    source = np.array([first_points[pair.queryIdx].pt for pair in pairs], np.float32)
    return source, np.array([second_points[pair.trainIdx].pt for pair in pairs], np.float32)


def _swung(pictures: Sequence[np.ndarray], source: np.ndarray, target: np.ndarray) -> bool:
    """Tell a camera that turned between two frames: one homography brings the first back.

    A picture that rolls by over 45 degrees, or is mirrored, is another shot.
    """
    turn, _ = cv2.findHomography(source, target, cv2.RANSAC, AGREE_PX)
    if turn is None or turn[0, 0] <= abs(turn[1, 0]):
        return False
    return _alike_moved(*pictures, turn)


def _punched_in(pictures: Sequence[np.ndarray], source: np.ndarray, target: np.ndarray) -> bool:
    """Tell a zoom within one frame, about any point, by one similarity that enlarges one of the pictures
    to the other.

    One K can't be of two focal lengths, and no lens zooms so fast.
    """
    closer, _ = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=AGREE_PX)
    zoom = 0.0 if closer is None else float(np.hypot(*closer[:, 0]))
    if not zoom or max(zoom, 1 / zoom) <= PUNCH:
        return False
    if zoom < 1:
        pictures, closer = pictures[::-1], cv2.invertAffineTransform(closer)
    return _alike_moved(*pictures, np.vstack((closer, (0.0, 0.0, 1.0))))


def _alike_moved(picture: np.ndarray, other: np.ndarray, motion: np.ndarray) -> bool:
    """Move a picture by a homography [3, 3], and compare it with the other one."""
    moved = cv2.warpPerspective(picture, motion, SWUNG_SIZE, borderMode=cv2.BORDER_REPLICATE)
    moved_pattern, other_pattern = (_pattern(torch.from_numpy(small)) for small in (moved, other))
    return _kept_cells(moved_pattern, other_pattern) > SWUNG_CELLS


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Find enough cells of one pattern in place in the other, where two plain pictures are alike."""
    return _kept_cells(first, second) > KEPT_CELLS


def _steady(first: np.ndarray, second: np.ndarray) -> bool:
    """Find most cells of one pattern near their places in the other, as in a slow pan."""
    return _kept_cells(first, second, MOVING) > STEADY_CELLS


def _kept_cells(first: np.ndarray, second: np.ndarray, shift: int = SHIFT) -> float:
    """Compute the share of the cells with a pattern that the other picture has within a shift, 1 without any."""
    around = cv2.copyMakeBorder(second, shift, shift, shift, shift, cv2.BORDER_REFLECT)
    (width, height), same = CELL, []
    for y in range(0, SIZE[1], height):
        for x in range(0, SIZE[0], width):
            cell, other = (p[y : y + height, x : x + width] for p in (first, second))
            if max(cell.std(), other.std()) < PLAIN:
                continue
            window = around[y : y + height + 2 * shift, x : x + width + 2 * shift]
            correlation = cv2.matchTemplate(window, cell, cv2.TM_CCOEFF_NORMED)
            same.append(cell.std() > 0 and correlation.max() > SAME_PATTERN)
    return float(np.mean(same)) if same else 1.0
