"""Context windows of the host: which latent frames a call of the model is about, and what is refused of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...egox_core.errors import EgoXInputError

RETAINED = "egox_retained_places"
"""Key in transformer_options: places of every window in which the host shows the condition of the clip's frame of that
number (``retain_first_frame``: place 0)."""
TIME = 2  # dimension of the latent


def window_frames(
    transformer_options: Mapping[str, Any],
    clip: int,  # latent frames of the clip
    call: int,  # latent frames of this call
) -> list[int] | None:
    """Latent frames of the context window, place by place; None where the call is about the clip as it is.

    A looped window with the host's anchor frame before it may be as long as the clip and yet begin in its middle. In a
    retained place all of the exo half is of the retained frame, as the ego half's condition is there.
    """
    window = transformer_options.get("context_window")
    if window is None:
        return None
    frames = window.get_tensor(torch.arange(clip)[None], dim=1)[0].tolist()
    for place in transformer_options.get(RETAINED, ()):
        frames[place] = place
    left_over = call == clip != len(frames)  # of an earlier windowed call; this one is whole
    return None if left_over or frames == list(range(clip)) else frames


def retained_places(
    handler: Any,  # the host's context handler; None: no windows
    noise: Tensor,  # [B, 16, t, h, w]
) -> tuple[int, ...]:
    """The places for RETAINED, once the windows are such that both halves show the same times.

    The first place of a window is the host's anchor frame, whose result is dropped; so it may show frame 0. In a place
    whose result is kept, a retained condition would draw frame 0 at another time, and a retained latent that the
    condition doesn't follow would be of another time than its condition.

    Raises:
        EgoXInputError: windows over another dimension than time; other frames retained than the first, or without the
            anchor frame before each window.
    """
    if handler is None or noise.shape[handler.dim] <= handler.context_length:
        return ()
    if handler.dim != TIME:
        raise EgoXInputError("dim of the context windows", got=handler.dim, expected=f"{TIME}, time",
                             fix="use Wan Context Windows, which sets it")
    condition = tuple(getattr(handler, "cond_retain_index_list", ()))
    latent = tuple(getattr(handler, "latent_retain_index_list", ()))
    frame_before = bool(getattr(handler, "causal_window_fix", False))
    if not condition and not latent:
        return ()
    if condition != (0,) or latent not in ((), (0,)) or not frame_before:
        raise EgoXInputError(
            "frames retained in every context window",
            got=f"condition {list(condition)}, latent {list(latent)}, "
                f"{'with' if frame_before else 'without'} a frame before each window",
            expected="the first frame's condition, in the place of the frame before (a result that is dropped)",
            fix="use Wan Context Windows with retain_first_frame, or retain none")
    return condition
