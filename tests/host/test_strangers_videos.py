"""Videos of strangers through the server to a saved mp4 and a saved sound: rate, length and sound are
right, and the server stays."""

import numpy as np
import pytest

from egox_core.video.clip import open_clip
from tests.core.video.test_timing import JITTER, beeps, tone, with_sound

av = pytest.importorskip("av", reason="decodes video")


def graph(file: str, count: int) -> dict:
    return {
        "1": {
            "class_type": "EgoXLoadExoVideo",
            "inputs": {
                **{"file": file, "start_frame": 0, "frame_count": count, "target_fps": 0.0},
                **{"resize": "crop", "width": 64, "height": 48},
            },
        },
        "2": {
            "class_type": "CreateVideo",
            "inputs": {"images": ["1", 0], "fps": ["1", 2], "audio": ["1", 1]},
        },
        "3": {
            "class_type": "SaveVideo",
            "inputs": {
                **{"video": ["2", 0], "filename_prefix": f"strange/{file}"},
                **{"format": "mp4", "codec": "h264"},
            },
        },
        "4": {
            "class_type": "SaveAudio",
            "inputs": {"audio": ["1", 1], "filename_prefix": f"strange/{file}"},
        },
    }


def saved_sound(path) -> tuple[np.ndarray, int]:
    with av.open(str(path)) as container:
        frames = [f.to_ndarray() for f in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    return np.concatenate([f.reshape(1, -1) if f.shape[0] == 1 else f for f in frames], 1), rate


@pytest.mark.parametrize(
    ("name", "layout", "codec", "channels", "rate", "pts_s", "expected"),
    [  # frames a second
        ("film.mkv", "7.1", "aac", 8, 48000, None, 30),
        ("film.mov", "7.1", "pcm_s16le", 8, 48000, None, 30),
        ("film4.mov", "quad", "pcm_s16le", 4, 48000, None, 30),
        ("recorder.mov", "mono", "pcm_s16le", 1, 192000, None, 30),
        ("logger.mov", "mono", "pcm_s16le", 1, 11024, None, 30),
        ("stream.ts", "stereo", "mp2", 2, 48000, lambda i: 0.01 + i / 30 + JITTER[i], 30),
        ("slow.mkv", "mono", "aac", 1, 44100, lambda i: i / (30 if i < 20 else 10), None),
    ],
)
def test_a_saved_video_has_the_files_rate_and_sound(
    client, server_base, name, layout, codec, channels, rate, pts_s, expected
):
    sound = tone(rate, channels)
    sound[:, : rate // 2] = sound[:, rate // 2 + rate // 10 :] = 0  # a beep at .5 s
    path = server_base.root / "input" / name
    with_sound(path, sound, rate, layout, codec, pts_s or (lambda i: i / 30))
    assert client.run(graph(name, 57)).status == "success"
    (video,) = (server_base.root / "output" / "strange").glob(f"{name}*.mp4")
    (audio,) = (server_base.root / "output" / "strange").glob(f"{name}*.flac")
    with av.open(str(video)) as container:
        picture, heard = container.streams.video[0], container.streams.audio[0]
        assert picture.frames == 57
        saved_rate = float(picture.average_rate)
        assert expected is None or saved_rate == pytest.approx(expected, rel=2e-3)
        length = 57 / saved_rate
        heard_s = float(heard.duration * heard.time_base)
        assert heard_s == pytest.approx(min(length, 2), abs=0.05)
    samples, sample_rate = saved_sound(audio)
    if samples.dtype != np.float32:
        samples = samples / np.iinfo(samples.dtype).max
    assert samples.size / min(channels, 2) / sample_rate == pytest.approx(heard_s, abs=0.03)
    again = open_clip(video, frame_count=57).sound()
    lead = 0.01 if name == "stream.ts" else 0.0
    assert beeps(again.waveform, again.sample_rate) == pytest.approx([0.5 - lead], abs=0.05)
