"""The sizes that Wan's VAE and transformer fix, each said once: 4n+1 frames, multiples of 16 px, 8, 4, 2, 448."""

from __future__ import annotations

from .errors import EgoXInputError

CHANNELS = 16  # of a latent
MASK_CHANNELS = 4  # one for each pixel frame that a latent frame stands for
MODEL_CHANNELS = CHANNELS + MASK_CHANNELS + CHANNELS
PIXELS_PER_LATENT = 8
FRAMES_PER_LATENT = 4
PATCH = 2  # latents a side of a token
PIXEL_STEP = PIXELS_PER_LATENT * PATCH  # an odd latent width would let a token straddle the seam of exo and ego
REFERENCE_SIZE = 448  # px a side of the released ego picture


def latent_frames(frames: int) -> int:
    """Latent frames of a clip: the VAE packs four frames after the first.

    Raises:
        EgoXInputError: ``frames`` isn't 4n+1; names the nearest count that is.
    """
    if frames < 1 or (frames - 1) % FRAMES_PER_LATENT:
        nearest = max(0, round((frames - 1) / FRAMES_PER_LATENT)) * FRAMES_PER_LATENT + 1
        raise EgoXInputError("frame count", got=frames, expected="4n+1 frames (1, 5, ..., 49, ...)",
                             fix=f"use {nearest} frames")
    return (frames - 1) // FRAMES_PER_LATENT + 1


def latent_size(width: int, height: int, what: str = "canvas size") -> tuple[int, int]:
    """(w, h) in latents of a picture in px; ``what`` names it in the error.

    Raises:
        EgoXInputError: width or height is no multiple of 16; names the nearest size that is.
    """
    if width < PIXEL_STEP or height < PIXEL_STEP or width % PIXEL_STEP or height % PIXEL_STEP:
        near = tuple(max(PIXEL_STEP, round(x / PIXEL_STEP) * PIXEL_STEP) for x in (width, height))
        raise EgoXInputError(what, got=f"{width}x{height} px", expected=f"multiples of {PIXEL_STEP} px",
                             fix=f"use {near[0]}x{near[1]}")
    return width // PIXELS_PER_LATENT, height // PIXELS_PER_LATENT
