"""A VIDEO that a node of a newer host has cropped: the frames are those of the crop, never the
whole picture."""

from pathlib import Path

import pytest
import torch

from tests.core.video.test_timing import tone, with_sound
from tests.refusals import refuses

from .test_input_nodes import load

COUNT, SIZE = 21, (96, 48)
CROP = (48, 0, 32, 32)  # x, y, width, height: inside the bright right half


@pytest.fixture(scope="module")
def clip(pack, comfy_host) -> Path:
    """Write a clip that is dark on the left and bright on the right, and whose rows grow brighter
    with the frames."""
    from egox_train.video_writer import write_video

    frames = torch.zeros(COUNT, SIZE[1], SIZE[0], 3, dtype=torch.uint8)
    frames[:, :, 48:] = (100 + 5 * torch.arange(COUNT, dtype=torch.uint8))[:, None, None, None]
    path = comfy_host.input / "crops" / "exo.mp4"
    write_video(path, frames, 20.0)
    return path


def cropped_video(told: bool):
    """Crop the host's file video as newer hosts do, by their documented methods.

    ``told``: with the method that says so, which came later than the crop itself.
    """
    from comfy_api.latest import InputImpl, Types

    class Cropped(InputImpl.VideoFromFile):
        rectangle = None

        def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0):
            start, duration = self.get_active_trim_window()
            other = type(self)(self.get_stream_source(), start_time=start, duration=duration)
            other.rectangle = (x, y, width, height)
            return other

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

    if told:
        Cropped.has_pending_frame_edits = lambda self: self.rectangle is not None
    return Cropped


@pytest.mark.parametrize("told", [True, False])
def test_the_crop_is_what_is_loaded(clip, told):
    video = cropped_video(told)(str(clip)).as_cropped(*CROP)
    images, _, fps, frames = load(video=video, width=32, height=32, frame_count=9, start_frame=4)
    assert images.shape == (9, 32, 32, 3) and fps == 20.0
    assert float(images.min()) > 0.35, "the dark half was cut away"
    assert (images.mean((1, 2, 3)) * 255).tolist() == pytest.approx(
        [120 + 5 * i for i in range(9)], abs=4
    )
    assert frames.source_size == (32, 32) and frames.indices.tolist() == list(range(4, 13))
    assert frames.source is None, "depth and poses beside the file belong to the whole picture"


def test_a_trimmed_crop_keeps_the_files_own_indices(clip):
    trimmed = cropped_video(True)(str(clip), start_time=0.25, duration=0.6)
    images, _, _, frames = load(video=trimmed.as_cropped(*CROP), width=32, height=32, frame_count=9)
    uncropped = load(video=trimmed, width=96, height=48, frame_count=9)[3]
    assert frames.indices.tolist() == uncropped.indices.tolist() == list(range(5, 14))
    assert frames.times_s.tolist() == pytest.approx(uncropped.times_s.tolist())
    assert float(images[0].mean() * 255) == pytest.approx(125, abs=4)


@pytest.mark.parametrize("told", [True, False])
def test_without_a_crop_the_file_is_read(clip, told):
    images, _, _, frames = load(
        video=cropped_video(told)(str(clip)), width=96, height=48, frame_count=9
    )
    assert frames.source_size == SIZE and frames.source == clip
    assert float(images[:, :, :40].max()) < 0.1 and float(images[:, :, 56:].min()) > 0.3


@pytest.mark.parametrize(("layout", "suffix"), [("7.1", "mkv"), ("7.1", "mov"), ("mono", "mkv")])
def test_sound_of_a_cropped_video_is_the_files(pack, comfy_host, layout, suffix):
    """The host's own reader would end the process on 8 channels, so it isn't asked."""
    rate, channels = 48000, 1 if layout == "mono" else 8
    path = comfy_host.input / "crops" / f"film.{suffix}"
    path.parent.mkdir(exist_ok=True)
    with_sound(path, tone(rate, channels), rate, layout)
    video = cropped_video(True)(str(path)).as_cropped(0, 0, 32, 32)
    if channels > 2:
        with refuses("sound of 8 channels"):
            load(video=video, width=32, height=32, frame_count=9)
        return
    _, audio, fps, _ = load(video=video, width=32, height=32, frame_count=9)
    assert fps == 30 and audio["waveform"].shape == (1, 1, round(0.3 * rate))
