"""Previews that the nodes send to the page: files that are there, layouts that fit them, nothing that JSON
lacks."""

import importlib
from dataclasses import replace

import pytest
import torch

from tests.poses import still
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
    path = model_rig.core(pack, "types").CameraTrajectory(
        w2c=still(5),
        camera=model_rig.core(pack, "cameras.presets").preset_camera("aria_released", 32),
        times_s=torch.arange(5, dtype=torch.float64) / 8,
    )
    assert video.clip_fps(path) == pytest.approx(8)
    untimed = [replace(path, times_s=times_s) for times_s in (None, path.times_s * 0)]
    assert [video.clip_fps(clip) for clip in (None, *untimed)] == [None] * 3
