"""Load Exo Video and Ego Pose Input as the host calls them: the same frames by either way in, and
refusals."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.safe_files import write_json
from tests.host.asking import Page
from tests.poses import still
from tests.refusals import refuses
from tests.uneven_clip import uneven_clip

COUNT = 34


@pytest.fixture(scope="module")
def clip(pack, comfy_host, add_sound) -> Path:
    from egox_train.video_writer import write_video

    path = comfy_host.input / "clips" / "exo.mp4"
    frames = (
        torch.zeros(COUNT, 48, 80, 3, dtype=torch.uint8)
        + (7 * torch.arange(COUNT, dtype=torch.uint8))[:, None, None, None]
    )
    write_video(path, frames, 20.0)
    add_sound(path, np.random.default_rng(0).uniform(-0.5, 0.5, (1, 44100 * 2)), 44100)
    return path


def load(**changes):
    from egox_pack.nodes.load_exo_video import EgoXLoadExoVideo

    values = {
        "file": "clips/exo.mp4",
        "start_frame": 0,
        "frame_count": 13,
        "target_fps": 0.0,
        "resize": "crop",
        "width": 80,
        "height": 48,
        "video": None,
    } | changes
    return EgoXLoadExoVideo.execute(**values).args


def levels(images: torch.Tensor) -> list[int]:
    return (images[:, 24, 40].mean(-1) * 255 / 7).round().int().tolist()


def test_a_file_by_name(clip):
    images, audio, fps, frames = load(start_frame=8, target_fps=10.0)
    assert (
        images.dtype == torch.float32
        and images.shape == (13, 48, 80, 3)
        and float(images.max()) <= 1
    )
    assert levels(images) == list(range(8, 33, 2)) == frames.indices.tolist() and fps == 10.0
    assert audio["waveform"].shape[:2] == (1, 1) and audio["sample_rate"] == 44100
    assert audio["waveform"].shape[2] / 44100 == pytest.approx(1.3, abs=0.05)


def test_the_same_frames_from_video_sockets(clip):
    """From the host's file video, a trimmed one, and one that is held in memory."""
    from comfy_api.latest import InputImpl, Types

    expected = load(start_frame=8)
    from_file = load(start_frame=8, file="none.mp4", video=InputImpl.VideoFromFile(str(clip)))
    assert torch.equal(from_file[0], expected[0]) and torch.equal(
        from_file[1]["waveform"], expected[1]["waveform"]
    )
    trimmed = load(
        start_frame=3,
        video=InputImpl.VideoFromFile(str(clip), start_time=5 / 20, duration=1.5),
    )
    assert torch.equal(trimmed[0], expected[0]) and torch.equal(
        trimmed[3].indices, expected[3].indices
    )
    frames = torch.arange(COUNT)[:, None, None, None].expand(COUNT, 48, 80, 3) * (7 / 255)
    sound = {"waveform": torch.rand(1, 2, 44100 * 2), "sample_rate": 44100}
    video = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=sound, frame_rate=Fraction(20))
    )
    images, audio, fps, selection = load(start_frame=8, target_fps=10.0, video=video)
    assert levels(images) == list(range(8, 33, 2)) and fps == 10.0
    assert torch.equal(
        audio["waveform"], sound["waveform"][..., round(0.4 * 44100) :][..., : round(1.3 * 44100)]
    )
    silent = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, frame_rate=Fraction(20))
    )
    assert load(video=silent)[1] is None
    alone = load(start_frame=8, target_fps=10.0, images=frames, images_fps=20.0)
    assert torch.equal(alone[0], images) and alone[2:] == (10.0, alone[3])


def test_a_playlist_that_the_host_holds_is_refused(clip, tmp_path):
    from comfy_api.latest import InputImpl

    playlist = tmp_path / "list.mp4"
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    playlist.write_text("ffconcat version 1.0\nfile other.mp4\n", "utf-8")
    for video in (
        InputImpl.VideoFromFile(str(playlist)),
        InputImpl.VideoFromFile(str(playlist), start_time=0.1, duration=1.0),
    ):
        with refuses("can't be decoded"):
            load(video=video)


def test_load_refuses_before_reading(clip):
    from comfy_api.latest import InputImpl
    from egox_pack.nodes.load_exo_video import check_video

    short = InputImpl.VideoFromFile(str(clip), start_time=0.0, duration=0.5)
    for changes, message in (
        ({"file": "../exo.mp4"}, "leads out"),
        ({"video": short}, r"set the length \(frame_count\) to 9"),
        ({"width": 10**9}, "at most 4096"),
    ):
        with refuses(message):
            load(**changes)
    wired = {"video": ["2", 0], "frame_count": 49, "width": 784, "height": 448}
    for changes, message in (
        ({}, None),
        ({"frame_count": ["2", 1], "width": ["2", 1]}, None),
        ({"frame_count": 50}, "use 49"),
        ({"width": 780, "height": 450}, "use 784x448"),
    ):
        graph = {"1": {"inputs": wired | changes}, "2": {"inputs": {}}}
        if message is None:
            check_video(graph, "1")
            continue
        with refuses(message):
            check_video(graph, "1")


def test_uneven_times_are_told_on_the_node(comfy_host, clip, monkeypatch):
    from egox_pack.nodes.host import steps
    from egox_pack.nodes.load_exo_video import EgoXLoadExoVideo

    page = Page()
    page.attach_node(monkeypatch, EgoXLoadExoVideo, steps)
    load()
    assert page.texts == []
    uneven_clip(comfy_host.input / "clips" / "uneven.mp4")
    assert load(file="clips/uneven.mp4")[2] == 30, "that of these frames"
    ((node, text),) = page.texts
    assert node == "7" and "variable frame rate" in text and "fps is an average" in text


def test_a_cut_is_refused_and_both_parts_are_taken(comfy_host, clip):
    from comfy_api.latest import InputImpl, Types

    from egox_train.video_writer import write_video

    rooms = np.random.default_rng(0).integers(0, 255, (2, 12, 20, 3), np.uint8)
    frames = torch.from_numpy(rooms.repeat(17, 0).repeat(4, 1).repeat(4, 2))
    file = comfy_host.input / "clips" / "cut.mp4"
    write_video(file, frames, 20.0)
    components = Types.VideoComponents(images=frames / 255, frame_rate=Fraction(20))
    trimmed = InputImpl.VideoFromFile(str(file), start_time=0.2)
    file_video = InputImpl.VideoFromFile(str(file))
    component_video = InputImpl.VideoFromComponents(components)
    for changes, place, start in (
        ({}, 17, 8),
        ({"video": file_video}, 17, 8),
        ({"video": component_video}, 17, 8),
        ({"video": trimmed}, 13, 4),
    ):
        values = {"file": "clips/cut.mp4", "start_frame": start, "frame_count": 21} | changes
        parts = f"start at frame {start}, 9 .*start at frame {place}, 17 frames"
        with refuses(f"a cut at frame {place} .*{parts}"):
            load(**values)
        for part in ({"frame_count": 9}, {"start_frame": place, "frame_count": 17}):
            load(**values | part)


def pose_node(graph=None, **changes):
    from comfy_api.latest import io
    from comfy_api.latest._io import HiddenHolder
    from egox_pack.nodes.ego_pose import KEYFRAMES_EXAMPLE, EgoXEgoPoseInput

    values = {
        "source": "file",
        "file": "clips/meta.json",
        "entry": "",
        "camera": "auto",
        "keyframes": KEYFRAMES_EXAMPLE,
        "exo_images": torch.zeros(COUNT, 48, 80, 3),
    } | changes
    EgoXEgoPoseInput.GET_SCHEMA()
    node = EgoXEgoPoseInput.PREPARE_CLASS_CLONE(None)
    hidden = {io.Hidden.unique_id: "7", io.Hidden.prompt: graph or {}}
    node.hidden = HiddenHolder.from_dict(hidden)
    return node.execute(**values).args


def test_a_viewer_of_a_path_that_nobody_tied_is_told(meta, clip):
    """Without the scene, the path's own exo camera places camera_info. Nobody else has to know."""
    content = json.loads(clip.with_name("meta.json").read_text("utf-8"))
    content["camera_extrinsics"] = np.eye(3, 4).tolist()
    write_json(clip.with_name("posed.json"), content)
    viewers = {"8": {"class_type": "Viewer", "inputs": {"camera_info": ["7", 2]}}}
    for file, graph, told in (
        ("posed.json", viewers, True),
        ("posed.json", {"8": {"inputs": {"trajectory": ["7", 0]}}}, False),
        ("meta.json", viewers, False),  # its world is the exo camera, so the scene's
    ):
        path = pose_node(graph, file=f"clips/{file}")[0]
        assert ("camera_info begins at" in path.notes.placed) == told


@pytest.fixture(scope="module")
def meta(clip) -> list:
    poses = np.eye(3, 4)[None].repeat(COUNT, 0)
    poses[:, 2, 3] = np.arange(COUNT) / 10
    content = {
        "prompt": "a corridor",
        "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
        "ego_extrinsics": poses.tolist(),
    }
    write_json(clip.parent / "meta.json", content)
    return poses.tolist()


def test_poses_follow_the_loaded_frames(meta):
    frames = load(start_frame=8, target_fps=10.0)[3]
    trajectory, prompt, _ = pose_node(frames=frames)
    assert prompt == "a corridor" and trajectory.ego.camera.stored_size == (48, 48)
    assert trajectory.ego.w2c[:, 2, 3].tolist() == pytest.approx([i / 10 for i in range(8, 33, 2)])
    assert pose_node(exo_images=torch.zeros(9, 8, 8, 3))[0].ego.w2c.shape == (9, 3, 4)
    alone = pose_node(exo_images=None)[0]
    assert alone.ego.w2c.shape == (COUNT, 3, 4) and alone.ego.camera.stored_size == (448, 448)


def test_cameras(meta):
    from egox_pack.egox_core.cameras.presets import preset_camera

    assert pose_node()[0].ego.camera == preset_camera("aria_released", 48)
    assert pose_node(camera="aria_meta")[0].ego.camera == preset_camera("aria_meta", 48)
    upright = pose_node(camera="pinhole")[0]
    assert upright.ego.camera.quarter_turns == 0 and not torch.equal(
        upright.ego.w2c, pose_node()[0].ego.w2c
    )


def test_keyframes(meta):
    frames = load()[3]
    moving = pose_node(source="keyframes", frames=frames)[0]
    assert moving.ego.w2c.shape == (13, 3, 4) and not torch.equal(
        moving.ego.w2c[0], moving.ego.w2c[12]
    )
    for nothing in ("", "[]"):
        resting = pose_node(source="keyframes", keyframes=nothing, frames=frames, camera="pinhole")[
            0
        ]
        assert torch.equal(resting.ego.w2c, still(13))
    again = pose_node(base=moving, camera="pinhole", exo_images=torch.zeros(13, 32, 8, 3))[0]
    assert again.ego.camera.stored_size == (32, 32) and again.ego.w2c.shape == (13, 3, 4)


def test_bad_poses_are_refused(meta, clip):
    from egox_pack.nodes.pose_inputs import BESIDE

    for changes, message in (
        ({"file": "../meta.json"}, "leads out"),
        ({"file": BESIDE}, "next to the exo video of 'frames'.*; or connect"),
        ({"exo_images": torch.zeros(37, 2, 2, 3)}, "34 frames; expected at least 37"),
        ({"source": "keyframes", "keyframes": "[3]"}, "list of keyframes"),
    ):
        with refuses(message):
            pose_node(**changes)


def test_a_path_of_another_video_is_refused(meta, clip):
    from egox_pack.egox_core.video.reader import video_mark

    frames, mark = load()[3], video_mark(clip)
    copy = clip.with_name("a copy.mp4")
    copy.write_bytes(clip.read_bytes())
    assert video_mark(copy)["id"] == mark["id"] and mark["video"] == "clips/exo.mp4"

    def path_of(made_on: object) -> str:
        keys = [{"frame": 0, "position": [0, 0, 1], "yaw_deg": 5}]
        return json.dumps({"made_on": made_on, "keyframes": keys})

    assert pose_node(source="keyframes", keyframes=path_of(mark), frames=frames)[
        0
    ].ego.w2c.shape == (
        13,
        3,
        4,
    )
    foreign = path_of({"video": "IMG_0042.MOV", "id": "0" * 16})
    pose_node(source="keyframes", keyframes=foreign)  # no video is known
    clip.with_name("keys.json").write_text(foreign, "utf-8")
    other = clip.parent.parent / "other"
    other.mkdir(exist_ok=True)
    (other / "meta.json").write_text(clip.with_name("meta.json").read_text("utf-8"), "utf-8")
    (other / "walk.mp4").write_bytes(b"another")
    for changes, message in (
        ({"source": "keyframes", "keyframes": foreign}, "made on IMG_0042.MOV.*is clips/exo.mp4"),
        ({"file": "clips/keys.json"}, "made on IMG_0042.MOV"),
        ({"file": "other/meta.json"}, "poses of other/walk.mp4"),
        ({"source": "keyframes", "keyframes": path_of("x")}, "made_on"),
    ):
        with refuses(message):
            pose_node(**changes, frames=frames)
