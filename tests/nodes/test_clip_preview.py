"""Test the clip previews that nodes send to the page."""

import importlib

import pytest
import torch

from tests.poses import make_path, replace_ego, still_poses
from tools.rigs import model_rig


@pytest.fixture(scope="module")
def player_module(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.show.player")


def test_all_clips_of_a_preview_have_the_same_step(player_module):
    streams = {"exo": torch.zeros(100, 16, 16, 3), "truth": torch.zeros(300, 16, 16, 3)}
    (preview,) = player_module.preview_ui("compare", streams)["egox_preview"]
    assert [(stream["step"], stream["count"]) for stream in preview["streams"]] == [
        (3, 34),
        (3, 100),
    ]


def test_the_frame_rate_follows_from_the_frames_times(pack):
    video_module = importlib.import_module(f"{pack.__name__}.nodes.host.video")
    camera = model_rig.import_core_module(pack, "cameras.presets").preset_camera(
        "aria_released", 32
    )
    timed_path = make_path(still_poses(5), camera, 8)
    timed_path = model_rig.import_core_module(pack, "types").CameraTrajectory(
        ego=timed_path.ego, exo=timed_path.exo
    )
    assert video_module.clip_fps(timed_path) == pytest.approx(8)
    frames_class = model_rig.import_core_module(pack, "frames").Frames
    untimed_paths = [
        replace_ego(timed_path, frames=frames)
        for frames in (frames_class.of_count(5), frames_class.timed(torch.zeros(5)))
    ]
    assert [video_module.clip_fps(clip) for clip in (None, *untimed_paths)] == [30.0] * 3
