"""The host's own video of frames that a node, or a player of the page, has."""

from __future__ import annotations

from fractions import Fraction

from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ...egox_core.types import UNTIMED_FPS


def native_video(
    frames: Tensor, fps: float | None, audio: Input.Audio | None = None
) -> InputImpl.VideoFromComponents:
    """The host's VIDEO of ``frames`` [T, H, W, 3], 0...1, as its own Create Video makes it; fps None is not known."""
    rate = Fraction(fps or UNTIMED_FPS).limit_denominator(1001)  # 29.97 is 30000/1001
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=rate)
    )
