"""Test the nodes Load Exo Video and Ego Pose Input."""

import json
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.safe_files import write_json
from tests.refusals import refuses

FRAME_COUNT = 34


@pytest.fixture(scope="module")
def clip(pack, comfy_host, add_sound) -> Path:
    from egox_train.video_writer import write_video

    video_path = comfy_host.input / "clips" / "exo.mp4"
    frames = (
        torch.zeros(FRAME_COUNT, 48, 80, 3, dtype=torch.uint8)
        + (7 * torch.arange(FRAME_COUNT, dtype=torch.uint8))[:, None, None, None]
    )
    write_video(video_path, frames, 20.0)
    add_sound(video_path, np.random.default_rng(0).uniform(-0.5, 0.5, (1, 44100 * 2)), 44100)
    return video_path


def load_video(**changes):
    from egox_pack.nodes.load_exo_video import EgoXLoadExoVideo

    inputs = {
        "file": "clips/exo.mp4",
        "start_frame": 0,
        "frame_count": 13,
        "target_fps": 0.0,
        "resize": "crop",
        "width": 80,
        "height": 48,
        "video": None,
    } | changes
    return EgoXLoadExoVideo.execute(**inputs).args


def frame_numbers(images: torch.Tensor) -> list[int]:
    return (images[:, 24, 40].mean(-1) * 255 / 7).round().int().tolist()


def test_a_video_socket_gives_the_same_frames_as_the_file(clip):
    """Check that ComfyUI's video objects give the same frames as the file."""
    from comfy_api.latest import InputImpl, Types

    expected = load_video(start_frame=8)
    assert expected[0].dtype == torch.float32 and expected[0].shape == (13, 48, 80, 3)
    assert frame_numbers(expected[0]) == list(range(8, 21)) == expected[3].indices.tolist()
    assert expected[1]["waveform"].shape[2] / 44100 == pytest.approx(0.65, abs=0.05)
    for start, video in (
        (8, InputImpl.VideoFromFile(str(clip))),
        (3, InputImpl.VideoFromFile(str(clip), start_time=5 / 20, duration=1.5)),
    ):
        images, audio, _, frames = load_video(start_frame=start, file="none.mp4", video=video)
        assert torch.equal(images, expected[0]) and torch.equal(frames.indices, expected[3].indices)
        if start == 8:
            assert torch.equal(audio["waveform"], expected[1]["waveform"])
    numbers = torch.arange(FRAME_COUNT)[:, None, None, None]
    frames = numbers.expand(FRAME_COUNT, 48, 80, 3) * (7 / 255)
    sound = {"waveform": torch.rand(1, 2, 44100 * 2), "sample_rate": 44100}

    def video_of_frames(**audio):
        components = Types.VideoComponents(images=frames, frame_rate=Fraction(20), **audio)
        return InputImpl.VideoFromComponents(components)

    options = {"start_frame": 8, "target_fps": 10.0}
    images, audio, fps, _ = load_video(**options, video=video_of_frames(audio=sound))
    assert frame_numbers(images) == list(range(8, 33, 2)) and fps == 10.0
    first, count = round(0.4 * 44100), round(1.3 * 44100)
    assert torch.equal(audio["waveform"], sound["waveform"][..., first:][..., :count])
    assert load_video(video=video_of_frames())[1] is None
    with_alpha = torch.cat((frames, frames[..., :1]), -1)
    image_outputs = load_video(**options, images=with_alpha, images_fps=20.0)
    assert torch.equal(image_outputs[0], images) and image_outputs[2] == 10.0


def test_bad_ranges_and_sizes_are_refused_before_reading(clip, tmp_path):
    from comfy_api.latest import InputImpl
    from egox_pack.nodes.load_exo_video import check_video

    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n#\1\n", "utf-8")
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    short_video = InputImpl.VideoFromFile(str(clip), start_time=0.0, duration=0.5)
    playlist = InputImpl.VideoFromFile(str(tmp_path / "list.mp4"))
    for changes, message in (
        ({"file": "../exo.mp4"}, "leads out"),
        ({"video": short_video}, r"\(frame_count\) to 9"),
        ({"video": playlist}, "can't be decoded"),
        ({"width": 10**9}, "at most 4096"),
    ):
        with refuses(message):
            load_video(**changes)
    linked_inputs = {"video": ["2", 0], "frame_count": 49, "width": 784, "height": 448}
    for changes, message in (
        ({}, None),
        ({"frame_count": ["2", 1], "width": ["2", 1]}, None),
        ({"frame_count": 50}, "use 49"),
        ({"width": 780, "height": 450}, "use 784x448"),
    ):
        graph = {"1": {"inputs": linked_inputs | changes}, "2": {"inputs": {}}}
        with refuses(message) if message else nullcontext():
            check_video(graph, "1")


def test_a_video_with_a_cut_is_refused_and_its_parts_are_accepted(comfy_host, clip):
    from comfy_api.latest import InputImpl, Types

    from egox_train.video_writer import write_video

    room_pictures = np.random.default_rng(0).integers(0, 255, (2, 12, 20, 3), np.uint8)
    frames = torch.from_numpy(room_pictures.repeat(17, 0).repeat(4, 1).repeat(4, 2))
    cut_video = comfy_host.input / "clips" / "cut.mp4"
    write_video(cut_video, frames, 20.0)
    components = Types.VideoComponents(images=frames / 255, frame_rate=Fraction(20))
    for video, cut_frame in (
        (None, 17),
        (InputImpl.VideoFromComponents(components), 17),
        (InputImpl.VideoFromFile(str(cut_video), start_time=0.2), 13),
    ):
        values = {"file": "clips/cut.mp4", "video": video, "frame_count": 17}
        start = cut_frame - 9
        advice = f"start at frame {start}, 9 .*start at frame {cut_frame}, 17 frames"
        with refuses(f"a cut at frame {cut_frame} .*{advice}"):
            load_video(**values, start_frame=start)
        load_video(**values, start_frame=cut_frame)


def run_pose_node(graph=None, **changes):
    from comfy_api.latest import io
    from comfy_api.latest._io import HiddenHolder
    from egox_pack.nodes.ego_pose import KEYFRAMES_EXAMPLE, EgoXEgoPoseInput

    inputs = {
        "source": "file",
        "file": "clips/meta.json",
        "entry": "",
        "camera": "auto",
        "keyframes": KEYFRAMES_EXAMPLE,
        "exo_images": torch.zeros(FRAME_COUNT, 48, 80, 3),
    } | changes
    EgoXEgoPoseInput.GET_SCHEMA()
    node = EgoXEgoPoseInput.PREPARE_CLASS_CLONE(None)
    hidden = {io.Hidden.unique_id: "7", io.Hidden.prompt: graph or {}}
    node.hidden = HiddenHolder.from_dict(hidden)
    return node.execute(**inputs).args


def test_a_viewer_of_a_path_without_a_scene_is_reported(meta_poses, clip):
    """Check that a missing scene is reported only if a 3-D viewer is connected."""
    meta_content = json.loads(clip.with_name("meta.json").read_text("utf-8"))
    meta_content["camera_extrinsics"] = np.eye(3, 4).tolist()
    write_json(clip.with_name("posed.json"), meta_content)
    viewer_graph = {"8": {"class_type": "Viewer", "inputs": {"camera_info": ["7", 2]}}}
    for file, graph, has_note in (
        ("posed.json", viewer_graph, True),
        ("posed.json", {"8": {"inputs": {"trajectory": ["7", 0]}}}, False),
        ("meta.json", viewer_graph, False),  # its world is the exo camera, so the scene's
    ):
        ego_trajectory = run_pose_node(graph, file=f"clips/{file}")[0]
        assert ("camera_info begins at" in ego_trajectory.notes.placed) == has_note


@pytest.fixture(scope="module")
def meta_poses(clip) -> list:
    poses = np.eye(3, 4)[None].repeat(FRAME_COUNT, 0)
    poses[:, 2, 3] = np.arange(FRAME_COUNT) / 10
    meta_content = {
        "prompt": "a corridor",
        "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
        "ego_extrinsics": poses.tolist(),
    }
    write_json(clip.parent / "meta.json", meta_content)
    return poses.tolist()


def test_a_path_of_another_video_is_refused(meta_poses, clip):
    from egox_pack.egox_core.video import video_mark

    frames = load_video()[3]
    copied_video = clip.with_name("a copy.mp4")
    copied_video.write_bytes(clip.read_bytes())
    assert video_mark(copied_video)["id"] == video_mark(clip)["id"]

    def keyframes_of(made_on: object) -> dict:
        keys = [{"frame": 0, "position": [0, 0, 1], "yaw_deg": 5}]
        content = json.dumps({"made_on": made_on, "keyframes": keys})
        return {"source": "keyframes", "keyframes": content}

    assert len(run_pose_node(**keyframes_of(video_mark(clip)), frames=frames)[0].ego.w2c) == 13
    foreign = keyframes_of({"video": "IMG_0042.MOV", "id": "0" * 16})
    run_pose_node(**foreign)  # no video is known
    clip.with_name("keys.json").write_text(foreign["keyframes"], "utf-8")
    other_folder = clip.parent.parent / "other"
    other_folder.mkdir(exist_ok=True)
    (other_folder / "meta.json").write_bytes(clip.with_name("meta.json").read_bytes())
    (other_folder / "walk.mp4").write_bytes(b"another")
    for changes, message in (
        (foreign, "made on IMG_0042.MOV.*is clips/exo.mp4"),
        ({"file": "clips/keys.json"}, "made on IMG_0042.MOV"),
        ({"file": "other/meta.json"}, "poses of other/walk.mp4"),
        (keyframes_of("x"), "made_on"),
    ):
        with refuses(message):
            run_pose_node(**changes, frames=frames)
