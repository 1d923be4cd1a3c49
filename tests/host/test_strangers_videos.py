"""Check rate, length and sound of unusual videos after a run on the server."""

import cv2
import numpy as np
import pytest
import torch

from egox_core.video.clip import open_clip
from egox_train.video_writer import write_video
from tests.core.video.test_timing import JITTER_S, beep_starts, sine_tone, write_video_with_sound
from tools.setup.api_client import PromptRefused

av = pytest.importorskip("av", reason="decodes video")


def video_graph(file: str, count: int) -> dict:
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


def read_sound(path) -> tuple[np.ndarray, int]:
    with av.open(str(path)) as container:
        audio_frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        sample_rate = container.streams.audio[0].rate
    return np.concatenate(
        [frame.reshape(1, -1) if frame.shape[0] == 1 else frame for frame in audio_frames], 1
    ), sample_rate


@pytest.mark.parametrize(
    ("file_name", "layout", "codec", "channels", "rate", "pts_s", "expected_rate"),
    [  # frames a second
        ("film.mkv", "7.1", "aac", 8, 48000, None, 30),
        ("film.mov", "7.1", "pcm_s16le", 8, 48000, None, 30),
        ("film4.mov", "quad", "pcm_s16le", 4, 48000, None, 30),
        ("recorder.mov", "mono", "pcm_s16le", 1, 192000, None, 30),
        ("logger.mov", "mono", "pcm_s16le", 1, 11024, None, 30),
        ("stream.ts", "stereo", "mp2", 2, 48000, lambda i: 0.01 + i / 30 + JITTER_S[i], 30),
        ("slow.mkv", "mono", "aac", 1, 44100, lambda i: i / (30 if i < 20 else 10), None),
    ],
)
def test_a_saved_video_has_the_files_rate_and_sound(
    client, server_base, file_name, layout, codec, channels, rate, pts_s, expected_rate
):
    tone = sine_tone(rate, channels)
    tone[:, : rate // 2] = tone[:, rate // 2 + rate // 10 :] = 0  # a beep at .5 s
    path = server_base.root / "input" / file_name
    write_video_with_sound(path, tone, rate, layout, codec, pts_s or (lambda i: i / 30))
    assert client.run(video_graph(file_name, 57)).status == "success"
    (video,) = (server_base.root / "output" / "strange").glob(f"{file_name}*.mp4")
    (audio,) = (server_base.root / "output" / "strange").glob(f"{file_name}*.flac")
    with av.open(str(video)) as container:
        video_stream, audio_stream = container.streams.video[0], container.streams.audio[0]
        assert video_stream.frames == 57
        saved_rate = float(video_stream.average_rate)
        assert expected_rate is None or saved_rate == pytest.approx(expected_rate, rel=2e-3)
        length_s = 57 / saved_rate
        sound_s = float(audio_stream.duration * audio_stream.time_base)
        assert sound_s == pytest.approx(min(length_s, 2), abs=0.05)
    samples, sample_rate = read_sound(audio)
    if samples.dtype != np.float32:
        samples = samples / np.iinfo(samples.dtype).max
    assert samples.size / min(channels, 2) / sample_rate == pytest.approx(sound_s, abs=0.03)
    saved_sound = open_clip(video, frame_count=57).sound()
    lead_s = 0.01 if file_name == "stream.ts" else 0.0
    assert beep_starts(saved_sound.waveform, saved_sound.sample_rate) == pytest.approx(
        [0.5 - lead_s], abs=0.05
    )


def test_half_of_a_stereo_video_is_declared_by_a_text(client, server_base):
    folder = server_base.root / "input" / "stereo"
    folder.mkdir()
    rows = torch.arange(48, dtype=torch.uint8)[:, None, None].expand(5, 48, 128, 3)
    frames = rows + 100 * (torch.arange(128) >= 64)[:, None]
    write_video(folder / "exo.mp4", frames.to(torch.uint8), 30.0)
    depth = np.random.default_rng(1).uniform(1, 4, (5, 48, 64)).astype(np.float32)
    np.savez(folder / "depth.npz", depth=depth, K=[[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    loader = video_graph("stereo/exo.mp4", 5)["1"]
    texts = {"depth_file": "", "camera_file": "", "mode": "robust", "preset": "released"}
    numbers = {"scale_factor": 1.0, "exo_fov": 0.0, "trust_map": False}
    align_inputs = {"frames": ["1", 3], **texts, **numbers}
    save_inputs = {"images": ["1", 0], "filename_prefix": "half/x"}
    text_node = {"class_type": "PrimitiveString", "inputs": {"value": "exo.part=right"}}
    graph = {
        "2": {"class_type": "EgoXDepthAlign", "inputs": align_inputs},
        "3": {"class_type": "SaveImage", "inputs": save_inputs},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["2", 1]}},
        "5": text_node,
    }
    for declared in ("exo.part=right", ["5", 0]):
        graph["1"] = loader | {"inputs": loader["inputs"] | {"declared": declared}}
        assert client.run(graph).status == "success"
        pictures = [*(server_base.root / "output" / "half").glob("x*.png")]
        # The right half alone is bright.
        assert all(cv2.imread(str(picture)).mean() > 100 for picture in pictures) and pictures
        for picture in pictures:
            picture.unlink()
        text_node["inputs"]["value"] += " "
    text_node["inputs"]["value"] = "exo.part=upper"
    with pytest.raises(PromptRefused, match="left, right"):
        client.run(graph)
