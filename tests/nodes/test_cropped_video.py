"""Test that a video cropped by a ComfyUI node is loaded with its crop."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tests.core.video.test_timing import sine_tone, write_video_with_sound
from tests.refusals import refuses

from .test_input_nodes import load_video

FRAME_COUNT = 21
FRAME_SIZE = (96, 48)
CROP_RECTANGLE = (48, 0, 32, 32)  # x, y, width, height: inside the bright right half


@pytest.fixture(scope="module")
def clip(pack, comfy_host) -> Path:
    """Write a clip that is dark on the left and grows brighter on the right."""
    from egox_train.video_writer import write_video

    frames = torch.zeros(FRAME_COUNT, FRAME_SIZE[1], FRAME_SIZE[0], 3, dtype=torch.uint8)
    frames[:, :, 48:] = (100 + 5 * torch.arange(FRAME_COUNT, dtype=torch.uint8))[
        :, None, None, None
    ]
    video_path = comfy_host.input / "crops" / "exo.mp4"
    write_video(video_path, frames, 20.0)
    return video_path


def make_croppable_class(reports_crop: bool):
    """Make a video class with the crop methods of newer ComfyUI versions.

    ``reports_crop`` adds the method that tells of a crop, which came later than the crop itself."""
    from comfy_api.latest import InputImpl, Types

    class Cropped(InputImpl.VideoFromFile):
        rectangle = None

        def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0):
            start, duration = self.get_active_trim_window()
            cropped_video = type(self)(
                self.get_stream_source(), start_time=start, duration=duration
            )
            cropped_video.rectangle = (x, y, width, height)
            return cropped_video

        def get_dimensions(self) -> tuple[int, int]:
            return super().get_dimensions() if self.rectangle is None else self.rectangle[2:]

        def get_components(self):
            parts = super().get_components()
            if self.rectangle is None:
                return parts
            x, y, width, height = self.rectangle
            return Types.VideoComponents(
                images=parts.images[:, y : y + height, x : x + width],
                audio=parts.audio,
                frame_rate=parts.frame_rate,
            )

    if reports_crop:
        Cropped.has_pending_frame_edits = lambda self: self.rectangle is not None
    return Cropped


@pytest.mark.parametrize("reports_crop", [True, False])
def test_loaded_frames_show_the_crop(clip, reports_crop):
    video = make_croppable_class(reports_crop)(str(clip)).as_cropped(*CROP_RECTANGLE)
    images, _, fps, frames = load_video(
        video=video, width=32, height=32, frame_count=9, start_frame=4
    )
    assert images.shape == (9, 32, 32, 3)
    assert fps == 20.0
    assert float(images.min()) > 0.35, "the dark half was cut away"
    assert (images.mean((1, 2, 3)) * 255).tolist() == pytest.approx(
        [120 + 5 * i for i in range(9)], abs=4
    )
    assert frames.source_size == (32, 32)
    assert frames.indices.tolist() == list(range(4, 13))
    assert frames.source is None, "depth and poses beside the file belong to the whole picture"


def test_a_trimmed_crop_keeps_the_files_frame_indices(clip):
    video = make_croppable_class(True)(str(clip), start_time=0.25, duration=0.6)
    cropped, whole = (
        load_video(video=each, width=32, height=32, frame_count=9)[3]
        for each in (video.as_cropped(*CROP_RECTANGLE), video)
    )
    assert cropped.indices.tolist() == whole.indices.tolist() == list(range(5, 14))
    assert cropped.times_s.tolist() == pytest.approx(whole.times_s.tolist())
    assert (whole.source_size, whole.source) == (FRAME_SIZE, clip)


@pytest.mark.parametrize(("layout", "channels"), [("7.1", 8), ("mono", 1)])
def test_a_cropped_video_keeps_its_sound(pack, comfy_host, layout, channels):
    """Check the sound of a cropped video, and that 8 channels are refused."""
    rate = 48000
    video_path = comfy_host.input / "crops" / "film.mkv"
    video_path.parent.mkdir(exist_ok=True)
    write_video_with_sound(video_path, sine_tone(rate, channels), rate, layout)
    video = make_croppable_class(True)(str(video_path)).as_cropped(0, 0, 32, 32)
    with refuses("sound of 8 channels") if channels > 2 else nullcontext():
        _, audio, fps, _ = load_video(video=video, width=32, height=32, frame_count=9)
        assert fps == 30 and audio["waveform"].shape == (1, 1, round(0.3 * rate))
