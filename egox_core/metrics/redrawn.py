"""Detect where a generated video departs from what the exo camera observed, and put observed pixels
back.

A frame is compared with its prior where that is observed. It departs as a whole where it fits
better moved (the view is off the path), a surrounding where it fits better moved by itself (an
object stands elsewhere), a pixel where its colour is another one. Where too little of its texture
fits, moved or not, nothing is known: the depth is off, so that each place is moved by another way,
or all of it is redrawn. The true ego videos of real takes are such, since their depth is a
network's."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import EgoXInputError
from ..frame_store import FrameStore
from ..progress import Progress, no_progress
from ..types import EARLIER
from .frame_alignment import blur_inside

SCALE = 2
"""Pictures are compared at a half of their size."""
SHORTEST_MOVE, REACH = 2, 4
"""Moves that are tried, px of the compared pictures: those shorter than SHORTEST_MOVE are none."""
EDGE_BLUR_PX, COLOUR_BLUR_PX = 1.0, 3.0
"""Of the compared pictures. A model's soft outlines are no other colour."""
FRAME_GAIN, PLACE_GAIN = 0.7, 0.5
"""Share of the squared error, of a frame and of a place's surroundings, under which a move explains
it (``benchmarks/results/constants.md``)."""
MIN_ERROR = (2 / 255) ** 2
"""Squared error from which on there is something to explain."""
PLACE_FRACTION = 4
"""The surroundings of a place are this part of the picture's height."""
MIN_OBSERVED = 0.1
"""Share of the surroundings that must be observed, to judge them."""
PLACE_CORRELATION, TEXTURE_FITS = 0.5, 0.75
"""Correlation from which on a place fits, and the least share of places with texture that do
(``benchmarks/results/constants.md``)."""
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
    """Put the prior's pixels back where they are observed and the video shows the same thing.

    Edges and specks are left out, seams are feathered, and long waves stay as generated. Nothing is
    put back into a frame that can't be judged.

    Returns:
        video [T, H, W, 3]; observed pixels that it shows otherwise than exo did [T, H, W] bool;
        those of which at least half is the prior's [T, H, W] bool; frames that could be judged [T]
        bool.

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
    redrawn_store, kept_store = (
        FrameStore(len(seen), tuple(seen.shape[1:]), np.bool_) for _ in range(2)
    )
    mixed_frames = FrameStore(len(video), tuple(video.shape[1:]), np.float32) if keep else None
    judged_frames = torch.zeros(len(seen), dtype=torch.bool)
    for t, (frame, prior_frame, classes) in enumerate(zip(video, prior, seen, strict=True)):
        progress(t, len(video), "compare with what exo observed")
        frame_and_prior = (frame.numpy(), prior_frame.numpy())
        observed = (classes >= EARLIER).numpy()
        departure_marks = mark_departures(*frame_and_prior, observed)
        judged_frames[t] = departure_marks is not None
        departure_marks = np.zeros_like(observed) if departure_marks is None else departure_marks
        prior_share = keep * prior_weight(observed & bool(judged_frames[t]), departure_marks)
        redrawn_store.append(departure_marks)
        kept_store.append(prior_share >= 0.5)
        if mixed_frames is not None:
            mixed_frames.append(blend_prior(*frame_and_prior, prior_share))
    return (
        video if mixed_frames is None else mixed_frames.tensor(),
        redrawn_store.tensor(),
        kept_store.tensor(),
        judged_frames,
    )


def mark_departures(
    video: np.ndarray,  # [H, W, 3]
    prior: np.ndarray,  # [H, W, 3]
    observed: np.ndarray,  # [H, W] bool
) -> np.ndarray | None:  # [H, W] bool
    """Mark observed pixels that a generated frame shows differently, or return None if the frame
    can't be judged."""
    size = tuple(side // SCALE for side in observed.shape[::-1])
    small_pictures = [
        cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for picture in (video, prior, observed)
    ]
    observed_mask = (small_pictures.pop() > 0.999).astype(np.float32)
    if not observed_mask.any():
        return np.zeros_like(observed)
    colour_pictures = [
        blur_inside(picture, observed_mask, COLOUR_BLUR_PX) for picture in small_pictures
    ]
    departure_marks = (
        np.sqrt(np.square(_without_exposure(*colour_pictures, observed_mask)).mean(2)) > COLOUR
    )
    edge_pictures = [
        blur_inside(picture, observed_mask, EDGE_BLUR_PX) @ GREY for picture in small_pictures
    ]
    error_in_place, error_moved, move = move_errors(
        _without_exposure(*edge_pictures, observed_mask) + edge_pictures[1],
        edge_pictures[1],
        observed_mask,
    )
    departure_marks |= (error_moved < PLACE_GAIN * error_in_place) & (error_in_place > MIN_ERROR)
    texture_agrees = texture_fits(*edge_pictures, observed_mask)
    if move is not None:
        departure_marks[:] = True
        texture_agrees = texture_agrees or texture_fits(
            edge_pictures[0],
            _shift_picture(edge_pictures[1], move),
            observed_mask * _shift_picture(observed_mask, move),
        )
    if not texture_agrees:
        return None
    return (
        cv2.resize(
            departure_marks.astype(np.uint8), observed.shape[::-1], interpolation=cv2.INTER_NEAREST
        ).astype(bool)
        & observed
    )


def move_errors(
    video: np.ndarray,  # [h, w] grey
    prior: np.ndarray,  # [h, w] grey
    observed_mask: np.ndarray,  # [h, w] float32, 1 where observed
) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Compute local errors between video and prior, unshifted and under the best small shift.

    Returns:
        The mean squared difference around each pixel [h, w], that of the best move (infinite where
        too little is observed), and the move (down, right) by which the whole frame fits better
        (None: it fits best where it is).
    """
    height, width = observed_mask.shape
    window_px = max(3, height // PLACE_FRACTION | 1)
    padded_prior, padded_mask = (np.pad(picture, REACH) for picture in (prior, observed_mask))
    error_in_place = error_moved = np.full(observed_mask.shape, np.inf, np.float32)
    frame_in_place = frame_moved = np.inf
    move = 0, 0
    for down, right in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
        distance = np.hypot(down - REACH, right - REACH)
        if 0 < distance < SHORTEST_MOVE:
            continue
        window = (slice(down, down + height), slice(right, right + width))
        overlap = observed_mask * padded_mask[window]
        error = np.square(video - padded_prior[window]) * overlap
        sums, count = (
            cv2.blur(summand, (window_px, window_px), borderType=cv2.BORDER_CONSTANT)
            for summand in (error, overlap)
        )
        local_error = np.where(count > MIN_OBSERVED, sums / np.maximum(count, 1e-6), np.inf)
        frame_error = float(error.sum()) / max(float(overlap.sum()), 1.0)
        if distance == 0:
            error_in_place, frame_in_place = local_error, frame_error
        else:
            error_moved = np.minimum(error_moved, local_error)
            if overlap.sum() > observed_mask.sum() / 2 and frame_error < frame_moved:
                frame_moved = frame_error
                move = (down - REACH, right - REACH)
    return (
        error_in_place,
        error_moved,
        move if frame_moved < FRAME_GAIN * frame_in_place and frame_in_place > MIN_ERROR else None,
    )


def texture_fits(
    video: np.ndarray,  # [h, w] grey
    prior: np.ndarray,  # [h, w] grey
    observed_mask: np.ndarray,  # [h, w] float32, 1 where observed
) -> bool:
    """Check whether most of the prior's texture appears in the video, or is too faint to judge."""
    window_px = max(3, len(observed_mask) // FIT_PLACE | 1)
    both_pictures = np.stack((video, prior), axis=-1)
    video_texture, prior_texture = np.moveaxis(
        (both_pictures - blur_inside(both_pictures, observed_mask, FIT_LOW_PX))
        * observed_mask[..., None],
        -1,
        0,
    )
    video_power, prior_power, product, count = (
        cv2.blur(product_map, (window_px, window_px), borderType=cv2.BORDER_CONSTANT)
        for product_map in (
            video_texture * video_texture,
            prior_texture * prior_texture,
            video_texture * prior_texture,
            observed_mask,
        )
    )
    judged_mask = (prior_power > TEXTURE**2 * count) & (count > MIN_OBSERVED) & (observed_mask > 0)
    fits_mask = (
        product[judged_mask]
        > PLACE_CORRELATION * np.sqrt(np.maximum(video_power * prior_power, 0))[judged_mask]
    )
    return bool(
        judged_mask.sum() < MIN_OBSERVED * observed_mask.sum() or fits_mask.mean() >= TEXTURE_FITS
    )


def prior_weight(
    observed: np.ndarray,  # [H, W] bool
    redrawn: np.ndarray,  # [H, W] bool
) -> np.ndarray:  # [H, W] float32 0...1
    """Compute the weight 0...1 with which the prior replaces each video pixel."""
    near_redrawn = (
        cv2.dilate(redrawn.astype(np.uint8), np.ones((MARGIN_PX, MARGIN_PX), np.uint8)) > 0
    )
    keep_mask = (observed & ~near_redrawn).astype(np.uint8)
    keep_mask = cv2.erode(keep_mask, np.ones((ERODED_PX, ERODED_PX), np.uint8), borderValue=0)
    keep_mask = cv2.morphologyEx(keep_mask, cv2.MORPH_OPEN, np.ones((SPECK_PX, SPECK_PX), np.uint8))
    return cv2.blur(keep_mask.astype(np.float32), (FEATHER_PX, FEATHER_PX))


def blend_prior(
    video: np.ndarray,  # [H, W, 3]
    prior: np.ndarray,  # [H, W, 3]
    prior_share: np.ndarray,  # [H, W] of the prior
) -> np.ndarray:  # [H, W, 3] float32
    """Blend prior pixels into a frame, keeping the frame's own low frequencies."""
    video, difference = video.astype(np.float32), (prior - video).astype(np.float32)
    difference -= blur_inside(difference, (prior_share > 0).astype(np.float32), LOW_PX)
    return (video + prior_share[..., None] * difference).clip(0, 1)


def _shift_picture(picture: np.ndarray, move: tuple[int, int]) -> np.ndarray:  # [h, w]
    """Shift a picture by (down, right) pixels, with 0 beyond the border."""
    down, right = (REACH + step for step in move)
    height, width = picture.shape
    return np.pad(picture, REACH)[down : down + height, right : right + width]


def _without_exposure(
    first: np.ndarray, second: np.ndarray, observed_mask: np.ndarray
) -> np.ndarray:
    """Subtract the median difference of two pictures, which removes a difference in exposure."""
    picture_difference = first - second
    return picture_difference - np.median(picture_difference[observed_mask > 0], axis=0)
