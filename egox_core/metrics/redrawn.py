"""Departures of a generated video from what exo observed, and the observed pixels put back.

A frame is compared with its prior where that is observed. It departs as a whole where it fits better
moved (the view is off the path), a surrounding where it fits better moved by itself (an object stands
elsewhere), a pixel where its colour is another one. Where too little of its texture fits, moved or
not, nothing is known: the depth is off, so that each place is moved by another way, or all of it is
redrawn. The true ego videos of real takes are such, since their depth is a network's."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_store import FrameStore
from ..progress import Progress, no_progress
from ..types import EARLIER
from .off_path import blur_inside

SCALE = 2
"""Pictures are compared at a half of their size."""
NEAR, REACH = 2, 4
"""Moves that are tried, px of the compared pictures: those shorter than NEAR are none."""
EDGE_BLUR_PX, COLOUR_BLUR_PX = 1.0, 3.0
"""Of the compared pictures. A model's soft outlines are no other colour."""
FRAME_GAIN, PLACE_GAIN = 0.7, 0.5
"""Share of the squared error, of a frame and of a place's surroundings, under which a move explains
it. Drawn rooms, the small model's video: no frame, 9 % of places; moved by 4 or 6 px: each frame."""
LEAST = (2 / 255) ** 2
"""Squared error from which on there is something to explain."""
PLACE = 4
"""The surroundings of a place are this part of the picture's height."""
FEWEST = 0.1
"""Share of the surroundings that must be observed, to judge them."""
FITS, TEXTURE_FITS = 0.5, 0.75
"""Correlation from which on a place fits, and the least share of places with texture that do.

Drawn rooms: .98 and more of the true view (13 rooms), .81 and more of each frame of the small
model's video (8). Of the true view next to a prior with wrong depth: 8 % off .41 and less; wavy by
4 % .75 and less in 23 of 26, up to .80 where half of the places move by under 2 % of the side."""
TEXTURE, FIT_PLACE, FIT_LOW_PX = 0.01, 8, 6.0
"""Of texture: the least deviation of the prior's grey; the part of the picture's height that it is
looked for in; the longest waves, px of the compared pictures."""
COLOUR = 0.14
"""Root mean square over the channels, 0...1, of another colour."""
MARGIN_PX, ERODED_PX, SPECK_PX, FEATHER_PX = 5, 3, 5, 3
"""Sides of squares: nothing is put back so near to what departs, at a border, in a speck; and the
seam's width."""
LOW_PX = 16.0
"""Waves longer than this stay as they were generated: two cameras' colours differ."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)


def keep_observed(
    video: Tensor,  # [T, H, W, 3] 0...1
    prior: Tensor,  # [T, H, W, 3] 0...1
    seen: Tensor,  # [T, H, W] uint8 classes of the prior's pixels
    keep: float,  # 0...1, share of the prior's pixel
    *,
    progress: Progress = no_progress,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Put the prior's own pixels where they are observed and the video shows the same thing.

    Edges and specks are left out, seams are feathered, and long waves stay as generated. Nothing is
    put back into a frame that can't be judged.

    Returns:
        video [T, H, W, 3]; observed pixels that it shows otherwise than exo did [T, H, W] bool; those
        of which at least half is the prior's [T, H, W] bool; frames that could be judged [T] bool.

    Raises:
        EgoXInputError: shapes that don't fit each other, a share outside of 0...1.
    """
    if video.shape != prior.shape or video.shape[:3] != seen.shape:
        raise EgoXInputError(
            "prior of the ego video",
            got=f"{tuple(prior.shape)} with classes {tuple(seen.shape)}",
            expected=f"that of {tuple(video.shape)}",
            fix="give the prior and classes that this video was made from",
        )
    if not 0 <= keep <= 1:
        raise EgoXInputError("keep_observed", got=keep, expected="0 to 1", fix="1 keeps all of it")
    redrawn, kept = (FrameStore(len(seen), tuple(seen.shape[1:]), np.bool_) for _ in range(2))
    made = FrameStore(len(video), tuple(video.shape[1:]), np.float32) if keep else None
    judged = torch.zeros(len(seen), dtype=torch.bool)
    for t, (frame, drawn, kinds) in enumerate(zip(video, prior, seen, strict=True)):
        progress(t, len(video), "compare with what exo observed")
        pictures, observed = (frame.numpy(), drawn.numpy()), (kinds >= EARLIER).numpy()
        marks = departs(*pictures, observed)
        judged[t] = marks is not None
        marks = np.zeros_like(observed) if marks is None else marks
        share = keep * kept_share(observed & bool(judged[t]), marks)
        redrawn.append(marks)
        kept.append(share >= 0.5)
        if made is not None:
            made.append(blended(*pictures, share))
    return video if made is None else made.tensor(), redrawn.tensor(), kept.tensor(), judged


def departs(
    video: np.ndarray,  # [H, W, 3]
    prior: np.ndarray,  # [H, W, 3]
    observed: np.ndarray,  # [H, W] bool
) -> np.ndarray | None:  # [H, W] bool
    """Mark the observed pixels of a frame that it shows otherwise than exo did; None where that
    can't be judged."""
    size = tuple(side // SCALE for side in observed.shape[::-1])
    small = [
        cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for picture in (video, prior, observed)
    ]
    on = (small.pop() > 0.999).astype(np.float32)
    if not on.any():
        return np.zeros_like(observed)
    soft = [blur_inside(picture, on, COLOUR_BLUR_PX) for picture in small]
    marks = np.sqrt(np.square(_even(*soft, on)).mean(2)) > COLOUR
    sharp = [blur_inside(picture, on, EDGE_BLUR_PX) @ GREY for picture in small]
    here, moved, move = move_errors(_even(*sharp, on) + sharp[1], sharp[1], on)
    marks |= (moved < PLACE_GAIN * here) & (here > LEAST)
    fits = texture_fits(*sharp, on)
    if move is not None:
        marks[:] = True
        fits = fits or texture_fits(sharp[0], _moved(sharp[1], move), on * _moved(on, move))
    if not fits:
        return None
    return (
        cv2.resize(
            marks.astype(np.uint8), observed.shape[::-1], interpolation=cv2.INTER_NEAREST
        ).astype(bool)
        & observed
    )


def move_errors(
    video: np.ndarray,  # [h, w] grey
    prior: np.ndarray,  # [h, w] grey
    on: np.ndarray,  # [h, w] float32, 1 where observed
) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Mean squared difference around each pixel [h, w], that of the best move (infinite where too
    little is observed), and the move (down, right) by which the whole frame fits better; None:
    where it is."""
    height, width = on.shape
    side = max(3, height // PLACE | 1)
    padded, padded_on = (np.pad(picture, REACH) for picture in (prior, on))
    here = moved = np.full(on.shape, np.inf, np.float32)
    whole = best = np.inf
    move = 0, 0
    for down, right in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
        far = np.hypot(down - REACH, right - REACH)
        if 0 < far < NEAR:
            continue
        there = (slice(down, down + height), slice(right, right + width))
        both = on * padded_on[there]
        error = np.square(video - padded[there]) * both
        sums, count = (
            cv2.blur(part, (side, side), borderType=cv2.BORDER_CONSTANT) for part in (error, both)
        )
        place = np.where(count > FEWEST, sums / np.maximum(count, 1e-6), np.inf)
        frame = float(error.sum()) / max(float(both.sum()), 1.0)
        if far == 0:
            here, whole = place, frame
        else:
            moved = np.minimum(moved, place)
            if both.sum() > on.sum() / 2 and frame < best:
                best, move = frame, (down - REACH, right - REACH)
    return here, moved, move if best < FRAME_GAIN * whole and whole > LEAST else None


def texture_fits(
    video: np.ndarray,  # [h, w] grey
    prior: np.ndarray,  # [h, w] grey
    on: np.ndarray,  # [h, w] float32, 1 where observed
) -> bool:
    """Check whether most of the prior's texture is the video's, also where too little of it can be
    judged."""
    side = max(3, len(on) // FIT_PLACE | 1)
    pair = np.stack((video, prior), axis=-1)
    a, b = np.moveaxis((pair - blur_inside(pair, on, FIT_LOW_PX)) * on[..., None], -1, 0)
    own, drawn, both, count = (
        cv2.blur(part, (side, side), borderType=cv2.BORDER_CONSTANT)
        for part in (a * a, b * b, a * b, on)
    )
    judged = (drawn > TEXTURE**2 * count) & (count > FEWEST) & (on > 0)
    fits = both[judged] > FITS * np.sqrt(np.maximum(own * drawn, 0))[judged]
    return bool(judged.sum() < FEWEST * on.sum() or fits.mean() >= TEXTURE_FITS)


def kept_share(
    observed: np.ndarray,  # [H, W] bool
    redrawn: np.ndarray,  # [H, W] bool
) -> np.ndarray:  # [H, W] float32 0...1
    """Share of each pixel that is put back."""
    near = cv2.dilate(redrawn.astype(np.uint8), np.ones((MARGIN_PX, MARGIN_PX), np.uint8)) > 0
    keep = (observed & ~near).astype(np.uint8)
    keep = cv2.erode(keep, np.ones((ERODED_PX, ERODED_PX), np.uint8), borderValue=0)
    keep = cv2.morphologyEx(keep, cv2.MORPH_OPEN, np.ones((SPECK_PX, SPECK_PX), np.uint8))
    return cv2.blur(keep.astype(np.float32), (FEATHER_PX, FEATHER_PX))


def blended(
    video: np.ndarray,  # [H, W, 3]
    prior: np.ndarray,  # [H, W, 3]
    share: np.ndarray,  # [H, W] of the prior
) -> np.ndarray:  # [H, W, 3] float32
    """Mix two pictures; what they differ by in long waves is the first one's."""
    video, off = video.astype(np.float32), (prior - video).astype(np.float32)
    off -= blur_inside(off, (share > 0).astype(np.float32), LOW_PX)
    return (video + share[..., None] * off).clip(0, 1)


def _moved(picture: np.ndarray, move: tuple[int, int]) -> np.ndarray:  # [h, w]
    """Shift a picture, so that each pixel shows what lies so far down and to the right, 0 beyond
    it."""
    down, right = (REACH + step for step in move)
    height, width = picture.shape
    return np.pad(picture, REACH)[down : down + height, right : right + width]


def _even(a: np.ndarray, b: np.ndarray, on: np.ndarray) -> np.ndarray:
    """Subtract the frame's median difference, since another exposure is no other colour."""
    off = a - b
    return off - np.median(off[on > 0], axis=0)
