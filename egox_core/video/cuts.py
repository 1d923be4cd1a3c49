"""Find hard cuts of a video: frames from which on nearly nothing stays where it was.

A depth, a background and a canvas belong to one camera, so a clip with a cut in it is refused.
Colours and brightness don't tell a cut (two cameras see one room; a lamp flickers), so patterns are
compared, cell by cell, by OpenCV's normalised cross-correlation. A person who comes close covers
many cells, but leaves some as they were. A camera that is swung leaves none in place: features
(OpenCV's SIFT) find the turn between two frames, and the picture turned by it is compared. A cut to
a part of the same picture is told from a turn by its form: one zoom, to which no turn comes near.
"""

from collections.abc import Sequence
from itertools import product

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
"""px that it may move where the camera pans, and the share of the cells that such a shot keeps
(``benchmarks/results/constants.md``)."""
PLAIN = 1.5
"""Standard deviation, of 255 grey levels, under which a cell has no pattern to compare."""
KEPT_CELLS = 0.2
"""Share of the cells with a pattern that a take keeps from frame to frame."""
SWUNG_CELLS = 0.4
"""The same of a picture turned back (``benchmarks/results/constants.md``)."""
SWUNG_SIZE = (320, 180)
"""px (width, height) at which features are matched: a plain room has enough of them."""
PUNCH = 1.2
"""Zoom within one frame that is a cut to a part of the picture: editors crop by a fifth and more
(``benchmarks/results/constants.md``)."""
AGREE_PX = 2.0
"""px of SWUNG_SIZE within which a feature agrees with a common motion: corners of a plain room are
found to a pixel or two."""
SAME_PATTERN = 0.65
"""Correlation of a cell that is kept (``benchmarks/results/constants.md``)."""
RELEASE_EVERY = 64
"""Frames of a mapped clip that are in memory at a time."""


def find_cuts(
    frames: Tensor,  # [T, H, W, 3] uint8, or float 0...1
) -> list[int]:
    """List the positions of the frames that begin another shot."""
    cuts = []
    last_pattern = None
    for position, frame in enumerate(frames):
        pattern = _cell_pattern(frame)
        if (
            last_pattern is not None
            and not _is_slow_pan(last_pattern, pattern)
            and _is_cut(frames, position)
        ):
            cuts.append(position)
        last_pattern = pattern
        if position % RELEASE_EVERY == RELEASE_EVERY - 1:
            drop_pages(frames)
    return cuts


def _is_cut(frames: Tensor, position: int) -> bool:
    """Check whether a position separates two steady shots of different content.

    Frames on both sides of a flash or a damaged one are alike; in a wild pan no two are.
    """
    patterns = {
        t: _cell_pattern(frames[t])
        for t in range(max(0, position - 2), min(position + 3, len(frames)))
    }

    def compare(*pairs: tuple[int, int]) -> list[bool]:
        pattern_pairs = [
            (patterns[a], patterns[b]) for a, b in pairs if a in patterns and b in patterns
        ]
        return [_are_similar(*pair) or _is_slow_pan(*pair) for pair in pattern_pairs]

    if not all(compare((position - 2, position - 1), (position + 1, position + 2))):
        return False
    pictures = [_feature_picture(frames[t]) for t in (position - 1, position)]
    features = _common_features(*pictures)
    if features is not None and _is_zoom(pictures, *features):
        return True
    if _are_similar(patterns[position - 1], patterns[position]) or any(
        compare((position - 2, position), (position - 1, position + 1))
    ):
        return False
    return features is None or not _is_fast_turn(pictures, *features)


def refuse_cuts(
    frames: Tensor,  # [T, H, W, 3] uint8, or float 0...1
    selection: FrameSelection,  # of these frames
    name: str,  # of the video, for the message
    first: int = 0,  # source index that a user calls frame 0 (a trimmed video's)
) -> None:
    """Refuse frames with a hard cut.

    Raises:
        EgoXInputError: a hard cut; names its frame and the parts before and after.
    """
    cuts = find_cuts(frames)
    if not cuts:
        return
    indices = (selection.indices - first).tolist()
    position = cuts[0]
    count = len(indices)
    step = (indices[-1] - indices[0]) / (count - 1)
    if len(cuts) > 1:
        length_after = cuts[1] - position
    elif step == 0:
        length_after = count - position
    else:  # what is behind the frames in use was not looked at
        length_after = int((selection.end - first - 1 - indices[position]) / step) + 1
    more_text = f" and {len(cuts) - 1} more" if len(cuts) > 1 else ""
    raise EgoXInputError(
        f"video {name}",
        expected="one shot of one camera",
        got=(
            f"a cut at frame {indices[position]} ({float(selection.times_s[position]):.2f} "
            f"s){more_text}"
        ),
        fix=(
            f"use the part before it (start at frame {indices[0]}, {_clip_length_text(position)}) "
            f"or the part after it (start at frame {indices[position]}, "
            f"{_clip_length_text(min(length_after, count))}), or set one_shot where a lamp, a "
            "shadow or a person made the change"
        ),
    )


def _clip_length_text(available: int) -> str:
    """Describe the length of the longest clip within ``available`` frames."""
    length = longest_clip(available)
    return "1 frame" if length == 1 else f"{length} frames"


def _cell_pattern(frame: Tensor) -> np.ndarray:  # [H, W, 3] -> [72, 128] float32
    """Reduce a frame to a small grey picture without fine noise and slow shading."""
    small_frame = cv2.resize(frame.cpu().numpy(), SIZE, interpolation=cv2.INTER_AREA)
    scale = 1 if frame.dtype == torch.uint8 else 255
    grey = cv2.cvtColor(small_frame.astype(np.float32), cv2.COLOR_RGB2GRAY) * scale
    return cv2.GaussianBlur(grey, (0, 0), 1) - cv2.GaussianBlur(grey, (0, 0), 4)


def _feature_picture(frame: Tensor) -> np.ndarray:  # [H, W, 3] -> [180, 320, 3] uint8
    """Resize a frame to the size at which features are matched."""
    picture = (frame if frame.dtype == torch.uint8 else (frame * 255).byte()).cpu().numpy()
    return cv2.resize(picture, SWUNG_SIZE, interpolation=cv2.INTER_AREA)


def _common_features(
    before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:  # [N, 2] px each
    """Match the features of two pictures, or return None if they are too few for a homography."""
    sift = cv2.SIFT.create()
    (first_points, first_descriptors), (second_points, second_descriptors) = (
        sift.detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
        for picture in (before, after)
    )
    if first_descriptors is None or second_descriptors is None:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(first_descriptors, second_descriptors)
    if len(pairs) < 4:
        return None
    first_matched = np.array([first_points[pair.queryIdx].pt for pair in pairs], np.float32)
    return first_matched, np.array([second_points[pair.trainIdx].pt for pair in pairs], np.float32)


def _is_fast_turn(pictures: Sequence[np.ndarray], source: np.ndarray, target: np.ndarray) -> bool:
    """Check whether the camera turned between two pictures, so that one homography aligns them.

    A picture that rolls by over 45 degrees, or is mirrored, is another shot.
    """
    homography, _ = cv2.findHomography(source, target, cv2.RANSAC, AGREE_PX)
    if homography is None or homography[0, 0] <= abs(homography[1, 0]):
        return False
    return _is_similar_moved(*pictures, homography)


def _is_zoom(pictures: Sequence[np.ndarray], source: np.ndarray, target: np.ndarray) -> bool:
    """Check whether one of two pictures is an enlarged part of the other.

    One K can't be of two focal lengths, and no lens zooms so fast.
    """
    similarity, _ = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=AGREE_PX)
    zoom = 0.0 if similarity is None else float(np.hypot(*similarity[:, 0]))
    if not zoom or max(zoom, 1 / zoom) <= PUNCH:
        return False
    if zoom < 1:
        pictures = pictures[::-1]
        similarity = cv2.invertAffineTransform(similarity)
    return _is_similar_moved(*pictures, np.vstack((similarity, (0.0, 0.0, 1.0))))


def _is_similar_moved(picture: np.ndarray, target_picture: np.ndarray, motion: np.ndarray) -> bool:
    """Check whether a picture matches another one after it is moved by a homography [3, 3]."""
    moved_picture = cv2.warpPerspective(
        picture, motion, SWUNG_SIZE, borderMode=cv2.BORDER_REPLICATE
    )
    moved_pattern, other_pattern = (
        _cell_pattern(torch.from_numpy(small)) for small in (moved_picture, target_picture)
    )
    return _kept_share(moved_pattern, other_pattern) > SWUNG_CELLS


def _are_similar(first: np.ndarray, second: np.ndarray) -> bool:
    """Check whether two patterns share enough cells, or both are plain."""
    return _kept_share(first, second) > KEPT_CELLS


def _is_slow_pan(first: np.ndarray, second: np.ndarray) -> bool:
    """Check whether two patterns have most cells in common, slightly moved as in a slow pan."""
    return _kept_share(first, second, MOVING) > STEADY_CELLS


def _kept_share(first: np.ndarray, second: np.ndarray, shift: int = SHIFT) -> float:
    """Compute the share of the structured cells that another pattern has within a shift, or 1
    without any."""
    padded = cv2.copyMakeBorder(second, shift, shift, shift, shift, cv2.BORDER_REFLECT)
    (width, height) = CELL
    kept_flags = []
    corners = product(range(0, SIZE[1], height), range(0, SIZE[0], width))
    for (y, x), contrast, other_contrast in zip(
        corners, _cell_contrasts(first), _cell_contrasts(second), strict=True
    ):
        if max(contrast, other_contrast) < PLAIN:
            continue
        window = padded[y : y + height + 2 * shift, x : x + width + 2 * shift]
        own_cell = first[y : y + height, x : x + width]
        correlation = cv2.matchTemplate(window, own_cell, cv2.TM_CCOEFF_NORMED)
        kept_flags.append(contrast > 0 and correlation.max() > SAME_PATTERN)
    return float(np.mean(kept_flags)) if kept_flags else 1.0


def _cell_contrasts(pattern: np.ndarray) -> list[float]:  # [72, 128], row by row
    """Compute the standard deviation of each cell."""
    width, height = CELL
    cells = pattern.reshape(SIZE[1] // height, height, SIZE[0] // width, width)
    return cells.std((1, 3)).ravel().tolist()
