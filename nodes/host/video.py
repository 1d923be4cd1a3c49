"""The host's own video of frames that a node, or a player of the page, has."""

from fractions import Fraction

from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ...egox_core.cameras import UNTIMED_FPS
from ...egox_core.types import CameraTrajectory, DepthVideo, is_a


def native_video(
    frames: Tensor, fps: float | None, audio: Input.Audio | None = None
) -> InputImpl.VideoFromComponents:
    """The host's VIDEO of ``frames`` [T, H, W, 3], 0...1, as its own Create Video makes it; fps None is not known."""
    rate = Fraction(fps or UNTIMED_FPS).limit_denominator(1001)  # 29.97 is 30000/1001
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=rate)
    )


def clip_fps(clip: CameraTrajectory | DepthVideo | None) -> float | None:
    """Frames a second of what has times; None where they don't say."""
    if clip is None:
        return None
    times_s = (clip.ego if is_a(clip, CameraTrajectory) else clip.exo).times_s
    if times_s is None or len(times_s) < 2:
        return None
    span = float(times_s[-1] - times_s[0])
    return (len(times_s) - 1) / span if span > 0 else None
