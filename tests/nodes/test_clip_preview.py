"""Previews that the nodes send to the page: files that are there, layouts that fit them, nothing that JSON
lacks."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from tests.poses import still
from tools.rigs import model_rig


@pytest.fixture(scope="module")
def clip_preview(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.show.player")


def sheet_sizes(stream: dict) -> list[tuple[int, int]]:
    import folder_paths

    folder = Path(folder_paths.get_temp_directory())
    return [
        cv2.imread(str(folder / file["subfolder"] / file["filename"])).shape[1::-1]
        for file in stream["files"]
    ]


def test_streams_become_files_in_the_temp_folder(clip_preview):
    streams = {"exo": torch.rand(5, 32, 64, 3), "prior": None, "ego": torch.rand(5, 32, 32, 3)}
    sent = clip_preview.preview_ui("compare", streams, text="note", pick={"x": "ego_x"})
    json.dumps(sent)  # it goes through the websocket
    assert sent["text"] == ("note",)
    (preview,) = sent["egox_preview"]
    assert (preview["kind"], preview["fps"], preview["frames"]) == ("compare", 30, 5)
    assert [stream["pick"] for stream in preview["streams"]] == [None, {"x": "ego_x"}]
    for stream, width in zip(preview["streams"], (64, 32), strict=True):
        assert (stream["count"], stream["width"], stream["height"], stream["step"]) == (
            5,
            width,
            32,
            1,
        )
        assert stream["source"] == [width, 32] and all(
            file["type"] == "temp" for file in stream["files"]
        )
        (size,) = sheet_sizes(stream)
        assert size == (stream["columns"] * width, stream["rows"] * 32)


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
