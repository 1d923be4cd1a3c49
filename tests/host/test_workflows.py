"""The shipped workflows through the real server: queued over HTTP, followed over the websocket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from tools.setup.api_client import Outcome
from tools.setup.base_dir import BaseDir

from .prompts import FRAMES, SIZE, small, with_standins


def saved_videos(outcome: Outcome, prompt: dict[str, Any], base: BaseDir) -> dict[str, Path]:
    """Prefix's last part -> file, of every SaveVideo that ran."""
    found = {}
    for node_id, output in outcome.outputs.items():
        for entry in output.get("images", []):
            prefix = prompt[node_id]["inputs"]["filename_prefix"]
            found[Path(prefix).name] = base.output / entry["subfolder"] / entry["filename"]
    return found


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 0, 1), "square pixels"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def check_run(outcome: Outcome, prompt: dict[str, Any], base: BaseDir) -> dict[str, Path]:
    assert outcome.status == "success", outcome.error_text
    videos = saved_videos(outcome, prompt, base)
    assert set(videos) == {"ego"}
    for name, path in videos.items():
        frames = frames_of(path)
        assert frames.shape == (FRAMES, SIZE, SIZE, 3), name
        assert frames.std() > 3, f"{name} is one flat colour"
    return videos


def test_egox_demo_as_shipped_but_small(client, load_workflow, server_base):
    prompt = small(load_workflow("egox_demo"))
    seen: list[tuple[str, dict]] = []
    outcome = client.run(prompt, seen.append, timeout=300)
    check_run(outcome, prompt, server_base)
    sampler = next(
        node_id for node_id, node in prompt.items() if node["class_type"] == "EgoXWanSampler"
    )
    told = [
        data["nodes"][sampler]["value"]
        for kind, data in seen
        if kind == "progress_state" and sampler in data["nodes"]
    ]
    assert told and max(told) > 0, "the sampler reports its progress"


def test_egox_basic_with_stand_in_loaders(client, load_workflow, server_base):
    prompt = with_standins(small(load_workflow("egox_basic")))
    outcome = client.run(prompt, timeout=300)
    check_run(outcome, prompt, server_base)
    again = client.run(prompt, timeout=300)
    assert again.status == "success" and not again.ran, "nothing changed, so nothing runs"
