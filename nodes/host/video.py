"""Make ComfyUI's own video of frames from a node or from a player of the page."""

from fractions import Fraction

from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ...egox_core.frames import UNTIMED_FPS
from ...egox_core.types import CameraTrajectory, DepthVideo, Sound
from ...egox_core.video import frame_rate, host_sound


def native_video(
    frames: Tensor, fps: float, audio: Input.Audio | None = None
) -> InputImpl.VideoFromComponents:
    """Convert frames to ComfyUI's VIDEO.

    0 as fps means the usual rate. The sound is converted to a form that ComfyUI can save.
    """
    if audio is not None:
        audio = wrap_audio(host_sound(audio["waveform"][0], audio["sample_rate"]))
    exact_fps = Fraction(fps or UNTIMED_FPS).limit_denominator(1001)  # 29.97 is 30000/1001
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=exact_fps)
    )


def wrap_audio(sound: Sound) -> Input.Audio:
    """Wrap a sound as ComfyUI's AUDIO."""
    return {"waveform": sound.waveform[None], "sample_rate": sound.sample_rate}


def clip_fps(clip: CameraTrajectory | DepthVideo | None) -> float:
    """Compute a clip's frames per second from its times, or return the default rate."""
    measured_fps = 0.0 if clip is None else frame_rate(clip.frames.times_s.numpy())
    return measured_fps or UNTIMED_FPS
