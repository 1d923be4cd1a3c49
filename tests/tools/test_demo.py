"""The demo's own steps: options, staging, results, the side-by-side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_train.video_writer import write_video
from tools.setup import demo
from tools.setup.api_client import Outcome, read_prompt
from tools.setup.demo import (
    DemoOptions,
    apply_options,
    check_options,
    check_stages,
)
from tools.setup.layout import SetupError
from tools.setup.progress_bar import ProgressBar
from tools.setup.side_by_side import join, read_frames


def prompt() -> dict:
    return read_prompt("egox_demo")


def inputs(graph: dict, kind: str) -> dict:
    (found,) = demo.of_type(graph, kind)
    return found


def test_a_take_runs_at_full_size():
    made = apply_options(prompt(), DemoOptions(take=Path("x")), "take_x")
    load = inputs(made, "EgoXLoadExoVideo")
    assert (load["frame_count"], load["width"], load["height"], load["file"]) == (
        49,
        784,
        448,
        "take_x/exo.mp4",
    )


def test_a_changed_graph_is_told():
    with pytest.raises(SetupError, match="no EgoXWanSampler node with an input steps"):
        apply_options({}, DemoOptions(steps=3), None)
    changed = prompt()
    del inputs(changed, "EgoXLoadExoVideo")["width"]
    with pytest.raises(SetupError, match="no EgoXLoadExoVideo node with an input width"):
        apply_options(changed, DemoOptions(size=64), None)


def test_a_folder_that_is_no_take(tmp_path):
    (tmp_path / "exo.mp4").write_bytes(b"")
    with pytest.raises(SetupError, match="lacks depth.npz, meta.json"):
        check_options(DemoOptions(take=tmp_path))


def test_every_stage_must_have_run(capsys):
    graph = prompt()
    check_stages(graph, Outcome("x", "success", ran=list(graph)))
    assert "All 6 stages ran" in capsys.readouterr().out
    ran = [name for name, node in graph.items() if node["class_type"] != "EgoXDecodeEgoHalf"]
    with pytest.raises(SetupError, match="Decode Ego Half"):
        check_stages(graph, Outcome("x", "success", ran=ran))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_shows_each_node_once(kind):
    out, graph = kind(), prompt()
    (load,) = (name for name, node in graph.items() if node["class_type"] == "EgoXLoadExoVideo")
    (save,) = (name for name, node in graph.items() if node["class_type"] == "SaveVideo")
    bar = ProgressBar(graph, out)
    bar.on_event(("execution_cached", {"nodes": []}))
    bar.on_event(("executing", {"node": load}))
    bar.on_event(("progress_state", {"nodes": {load: {"state": "running", "value": 3, "max": 17}}}))
    bar.on_event(("executing", {"node": save}))
    bar.on_event(("execution_success", {}))
    finished = [line.split("\r")[-1].split() for line in out.getvalue().split("\n")]
    assert [words[-3] for words in finished if words and words[-1] == "s"] == [
        "EgoXLoadExoVideo",
        "SaveVideo",
    ]
    assert "stage 1 of 6" in out.getvalue()
    assert ("3/17" in out.getvalue()) == (kind is Terminal), "no bar where nobody watches"


def test_side_by_side(tmp_path):
    random = np.random.default_rng(0)
    sizes = {"exo": (64, 112), "prior": (64, 64), "ego": (64, 64), "truth": (128, 128)}
    for name, (height, width) in sizes.items():
        flat = random.integers(0, 255, (7 if name in ("exo", "truth") else 5, 1, 1, 3))
        frames = np.broadcast_to(flat, (len(flat), height, width, 3)).astype(np.uint8)
        write_video(tmp_path / f"{name}.mp4", torch.from_numpy(frames), 10.0)
    join(tmp_path, tmp_path / "exo.mp4", tmp_path / "truth.mp4", start=2)
    joined = read_frames(tmp_path / "side_by_side.mp4")
    assert joined.shape == (5, 64, 112 + 3 * 64, 3), "as long as the ego video, one height"
    exo = read_frames(tmp_path / "exo.mp4")
    # Flat pictures: what differs is the second encoding only.
    assert np.abs(joined[:, 20:40, 20:90].astype(int) - exo[2:, 20:40, 20:90]).mean() < 4, (
        "exo from its start frame on"
    )
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000
    assert not list(tmp_path.glob(".part-*"))
