"""Previews that the nodes send to the page: files that are there, layouts that fit them, nothing that JSON
lacks."""

import importlib

import pytest
import torch

from tests.poses import path_of, still, with_ego
from tools.rigs import model_rig


@pytest.fixture(scope="module")
def clip_preview(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.show.player")


def test_clips_of_a_preview_go_on_by_the_same_step(clip_preview):
    streams = {"exo": torch.zeros(100, 16, 16, 3), "truth": torch.zeros(300, 16, 16, 3)}
    (preview,) = clip_preview.preview_ui("compare", streams)["egox_preview"]
    assert [(stream["step"], stream["count"]) for stream in preview["streams"]] == [
        (3, 34),
        (3, 100),
    ]


def test_frame_rate_is_that_of_the_times(pack):
    video = importlib.import_module(f"{pack.__name__}.nodes.host.video")
    lens = model_rig.core(pack, "cameras.presets").preset_camera("aria_released", 32)
    path = path_of(still(5), lens, 8)
    path = model_rig.core(pack, "types").CameraTrajectory(ego=path.ego, exo=path.exo)
    assert video.clip_fps(path) == pytest.approx(8)
    kind = model_rig.core(pack, "frames").Frames
    untimed = [
        with_ego(path, frames=frames) for frames in (kind.of_count(5), kind.timed(torch.zeros(5)))
    ]
    assert [video.clip_fps(clip) for clip in (None, *untimed)] == [30.0] * 3
