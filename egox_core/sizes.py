"""Compute sizes and shapes of pictures, latents and tokens.

What Wan's VAE and transformer fix: 4n+1 frames, sides that are multiples of 16 px, 8 px and 4
frames per latent, 2 latents per token, the released pictures of 448 px. When two pictures have one
shape, and how a wider one is cropped; when two counts are of one video."""

from .errors import EgoXInputError

CHANNELS = 16  # of a latent
MASK_CHANNELS = 4  # one for each pixel frame that a latent frame stands for
MODEL_CHANNELS = CHANNELS + MASK_CHANNELS + CHANNELS
PIXELS_PER_LATENT = 8
FRAMES_PER_LATENT = 4
PATCH = 2  # latents a side of a token
PIXEL_STEP = (
    PIXELS_PER_LATENT * PATCH
)  # px per side of a token; an odd latent width would let one straddle the seam
# px per side of the released ego picture, and the height that drawing radii in px are given for
REFERENCE_SIZE = 448
REFERENCE_EXO_SIZE = (784, REFERENCE_SIZE)  # (width, height) px of the released exo picture
MAX_SIDE = 2**20  # px of any picture: more is a damaged number
ASPECT_TOLERANCE = 0.005
"""Largest difference of two aspects that count as one: rounding sides to whole pixels moves them by
less."""


def latent_frames(frames: int) -> int:
    """Count the latent frames of a clip with 4n+1 frames.

    Raises:
        EgoXInputError: ``frames`` isn't 4n+1; names the nearest count that is.
    """
    if frames < 1 or (frames - 1) % FRAMES_PER_LATENT:
        nearest = max(0, round((frames - 1) / FRAMES_PER_LATENT)) * FRAMES_PER_LATENT + 1
        raise EgoXInputError(
            "frame count",
            got=frames,
            expected="4n+1 frames (1, 5, ..., 49, ...)",
            fix=f"use {nearest} frames",
        )
    return (frames - 1) // FRAMES_PER_LATENT + 1


def longest_clip(available: int) -> int:
    """Find the largest number of the form 4n+1 that is at most ``available`` (at least 1)."""
    return (available - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT + 1


def latent_size(width: int, height: int, what: str = "canvas size") -> tuple[int, int]:
    """Compute a picture's width and height in latents from its size in px.

    Raises:
        EgoXInputError: width or height is no multiple of 16; names the nearest size that is.
    """
    if width < PIXEL_STEP or height < PIXEL_STEP or width % PIXEL_STEP or height % PIXEL_STEP:
        nearest_size = tuple(
            max(PIXEL_STEP, round(side / PIXEL_STEP) * PIXEL_STEP) for side in (width, height)
        )
        raise EgoXInputError(
            what,
            got=f"{width}x{height} px",
            expected=f"multiples of {PIXEL_STEP} px",
            fix=f"use {nearest_size[0]}x{nearest_size[1]}",
        )
    return width // PIXELS_PER_LATENT, height // PIXELS_PER_LATENT


def canvas_size(exo_size: tuple[int, int], ego_size: tuple[int, int]) -> tuple[int, int, int]:
    """Compute a canvas' (h, w_exo, w_ego) in latents from both sizes (width, height) in px.

    Raises:
        EgoXInputError: a size that is no multiple of 16, ego not as high as exo.
    """
    w_exo, h = latent_size(*exo_size, what="exo size")
    w_ego, h_ego = latent_size(*ego_size, what="ego size")
    if h != h_ego:
        raise EgoXInputError(
            "ego height",
            got=f"{ego_size[1]} px",
            expected=f"the exo height, {exo_size[1]} px",
            fix="render the ego prior as high as the exo video",
        )
    return h, w_exo, w_ego


def same_aspect(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Check whether two sizes (width, height) have the same aspect, within
    :data:`ASPECT_TOLERANCE`."""
    return abs(first[0] * second[1] / (first[1] * second[0]) - 1) <= ASPECT_TOLERANCE


def spare_frames(count: int) -> float:
    """Compute how many maps or poses may be missing or left over at the end of a video.

    It is one, or 2 % of the frames: what programs lose there.
    """
    return max(1, 0.02 * count)


def centre_crop_left(size: tuple[int, int], target: tuple[int, int]) -> int | None:
    """Compute the left column of a centred crop to another aspect ratio, or return None if heights
    differ.

    Sizes are (width, height), and ``size`` has the target's height and is wider.

    None where the sizes are not of that kind. The released takes come with depth of 796 x 448 for
    videos of 784 x 448.
    """
    return (size[0] - target[0]) // 2 if size[1] == target[1] and size[0] > target[0] else None
