"""Hard cuts of a video: the frame from which nearly nothing of the picture is where it was.

A depth, a background and a canvas belong to one camera, so a clip with a cut in it is refused.
Colours and brightness don't tell a cut (two cameras see one room; a lamp flickers), so patterns are
compared, cell by cell, by OpenCV's normalised cross-correlation. A person who comes close covers
many cells, but leaves some as they were. A camera that is swung leaves none in place: corners
(OpenCV's ORB) find the turn between two frames, and the picture turned by it is compared.
"""

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
PLAIN = 1.5
"""Standard deviation, of 255 grey levels, under which a cell has no pattern to compare."""
KEPT_CELLS = 0.2
"""Share of the cells with a pattern that a take keeps from frame to frame."""
SWUNG_CELLS = 0.4
"""The same of a picture turned back. Measured in drawn rooms: .66 and more in pans, .19 and less
across cuts."""
SWUNG_SIZE = (320, 180)
"""px (width, height) at which corners are matched: a plain room has enough of them."""
PUNCH, STAYS = 1.2, 0.1
"""Zoom within one frame that is a cut to a part of the picture: editors crop by a fifth and more; the
share of the width within which its middle stays, as in no pan of that size."""
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
        changed = last is not None and not _alike(last, pattern)
        if changed and _is_lasting(frames, place) and not _swung(frames[place - 1], frame):
            cuts.append(place)
        last = pattern
        if place % RELEASE_EVERY == RELEASE_EVERY - 1:
            drop_pages(frames)
    return cuts


def _is_lasting(frames: Tensor, place: int) -> bool:
    """Tell a change that parts two steady shots.

    Frames on both sides of a flash or a damaged one are alike; in a fast pan no two are.
    """
    near = {t: _pattern(frames[t]) for t in range(max(0, place - 2), min(place + 3, len(frames)))}

    def alike(*pairs: tuple[int, int]) -> list[bool]:
        return [_alike(near[a], near[b]) for a, b in pairs if a in near and b in near]

    return not any(alike((place - 2, place), (place - 1, place + 1))) and all(
        alike((place - 2, place - 1), (place + 1, place + 2))
    )


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


def _swung(before: Tensor, after: Tensor) -> bool:  # [H, W, 3] each
    """Tell a camera that turned between two frames: one homography brings the first back.

    A picture that rolls by over 45 degrees, or is mirrored, is another shot.
    """
    finder, pictures, corners = cv2.ORB.create(fastThreshold=5), [], []
    for frame in (before, after):
        picture = (frame if frame.dtype == torch.uint8 else (frame * 255).byte()).cpu().numpy()
        pictures.append(cv2.resize(picture, SWUNG_SIZE, interpolation=cv2.INTER_AREA))
        grey = cv2.cvtColor(pictures[-1], cv2.COLOR_RGB2GRAY)
        corners.append(finder.detectAndCompute(grey, None))
    (here, first), (second_corners, second) = corners
    if first is None or second is None:
        return False
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(first, second)
    if len(pairs) < 4:  # a homography takes four
        return False
    source = np.array([here[pair.queryIdx].pt for pair in pairs], np.float32)
    target = np.array([second_corners[pair.trainIdx].pt for pair in pairs], np.float32)
    turn, _ = cv2.findHomography(source, target, cv2.RANSAC, 2.0)
    if turn is None or turn[0, 0] <= abs(turn[1, 0]) or _punched_in(turn):
        return False
    turned = cv2.warpPerspective(pictures[0], turn, SWUNG_SIZE, borderMode=cv2.BORDER_REPLICATE)
    patterns = [_pattern(torch.from_numpy(picture)) for picture in (turned, pictures[1])]
    return _alike(*patterns, SWUNG_CELLS)


def _punched_in(turn: np.ndarray) -> bool:  # [3, 3] homography of SWUNG_SIZE
    """Tell a zoom within one frame: the middle stays, what is around it is larger or smaller.

    One K can't be of two focal lengths, and no lens zooms so fast.
    """
    middle = np.array(SWUNG_SIZE) / 2
    corners = middle + np.array([[0, 0], [-1, -1], [1, -1], [1, 1], [-1, 1]]) * middle / 4
    moved_corners = cv2.perspectiveTransform(corners[None].astype(np.float64), turn)[0]
    zoom = (cv2.contourArea(moved_corners[1:].astype(np.float32)) / (middle / 2).prod()) ** 0.5
    stays = np.linalg.norm(moved_corners[0] - middle) < STAYS * SWUNG_SIZE[0]
    return bool(stays and max(zoom, 1 / max(zoom, 1e-9)) > PUNCH)


def _alike(first: np.ndarray, second: np.ndarray, kept: float = KEPT_CELLS) -> bool:
    """Find enough cells of one pattern in the other, where two plain pictures are alike."""
    around = cv2.copyMakeBorder(second, SHIFT, SHIFT, SHIFT, SHIFT, cv2.BORDER_REFLECT)
    (width, height), same = CELL, []
    for y in range(0, SIZE[1], height):
        for x in range(0, SIZE[0], width):
            cell, other = (p[y : y + height, x : x + width] for p in (first, second))
            if max(cell.std(), other.std()) < PLAIN:
                continue
            window = around[y : y + height + 2 * SHIFT, x : x + width + 2 * SHIFT]
            correlation = cv2.matchTemplate(window, cell, cv2.TM_CCOEFF_NORMED)
            same.append(cell.std() > 0 and correlation.max() > SAME_PATTERN)
    return not same or np.mean(same) > kept
