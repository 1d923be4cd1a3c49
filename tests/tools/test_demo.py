"""The demo's own steps: options, staging, results, the side-by-side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core.video.writer import write_video
from tools.setup import demo
from tools.setup.api_client import Outcome, read_prompt
from tools.setup.base_dir import BaseDir
from tools.setup.demo import (
    DemoOptions,
    apply_options,
    check_options,
    check_stages,
    collect,
    find_exo,
    stage_take,
    standins,
    use_standins,
)
from tools.setup.layout import Layout, SetupError
from tools.setup.progress_bar import ProgressBar
from tools.setup.side_by_side import join, read_frames


def prompt() -> dict:
    return read_prompt("egox_demo")


def inputs(graph: dict, kind: str) -> dict:
    (found,) = demo.of_type(graph, kind)
    return found


def test_without_options_the_workflow_stays_as_it_is() -> None:
    assert apply_options(prompt(), DemoOptions(), None) == prompt()


def test_options_reach_their_nodes() -> None:
    made = apply_options(prompt(), DemoOptions(frames=9, size=64, steps=2), None)
    load = inputs(made, "EgoXLoadExoVideo")
    assert (load["frame_count"], load["width"], load["height"]) == (9, 112, 64)
    assert inputs(made, "EgoXWanSampler")["steps"] == 2
    assert load["file"] == inputs(prompt(), "EgoXLoadExoVideo")["file"]


def test_a_take_runs_at_full_size() -> None:
    made = apply_options(prompt(), DemoOptions(take=Path("x")), "take_x")
    load = inputs(made, "EgoXLoadExoVideo")
    assert (load["frame_count"], load["width"], load["height"], load["file"]) == (49, 784, 448, "take_x/exo.mp4")


def test_standins_take_the_place_of_the_weights() -> None:
    assert standins(prompt()) == []
    assert standins(use_standins(prompt())) == [
        "egox_standin_lora_wan22.safetensors", "egox_standin_wan22_i2v.safetensors", "egox_standin_wan_vae.safetensors"]


def test_a_changed_graph_is_told() -> None:
    with pytest.raises(SetupError, match="no EgoXWanSampler node with an input steps"):
        apply_options({}, DemoOptions(steps=3), None)
    changed = prompt()
    del inputs(changed, "EgoXLoadExoVideo")["width"]
    with pytest.raises(SetupError, match="no EgoXLoadExoVideo node with an input width"):
        apply_options(changed, DemoOptions(size=64), None)


def test_a_folder_that_is_no_take(tmp_path: Path) -> None:
    (tmp_path / "exo.mp4").write_bytes(b"")
    with pytest.raises(SetupError, match="lacks depth.npz, meta.json"):
        check_options(DemoOptions(take=tmp_path))


def test_a_take_is_copied_into_the_demo_hosts_input(tmp_path: Path) -> None:
    take = tmp_path / "my take (1)"
    take.mkdir()
    for name in ("exo.mp4", "depth.npz", "meta.json", "ego_ground_truth.mp4"):
        (take / name).write_text(name, encoding="utf-8")
    base = BaseDir(tmp_path / "base")
    name = stage_take(take, base)
    assert name == "take_my_take__1_"
    assert sorted(p.name for p in (base.input / name).iterdir()) == sorted(p.name for p in take.iterdir())
    (take / "ego_ground_truth.mp4").unlink()
    stage_take(take, base)
    assert not (base.input / name / "ego_ground_truth.mp4").exists(), "another take's truth is not left there"


def test_every_stage_must_have_run(capsys) -> None:
    graph = prompt()
    check_stages(graph, Outcome("x", "success", ran=list(graph)))
    assert "All 6 stages ran" in capsys.readouterr().out
    ran = [name for name, node in graph.items() if node["class_type"] != "EgoXDecodeEgoHalf"]
    with pytest.raises(SetupError, match="Decode Ego Half"):
        check_stages(graph, Outcome("x", "success", ran=ran))


def test_results_are_collected_by_their_prefix(tmp_path: Path) -> None:
    base, layout = BaseDir(tmp_path / "base"), Layout(tmp_path / "repo")
    folder = base.output / "egox_demo"
    folder.mkdir(parents=True)
    graph = {"7": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "egox_demo/ego"}},
             "8": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "egox_demo/prior"}},
             "9": {"class_type": "PreviewAny", "inputs": {}}}
    outputs = {"9": {"text": ["x"]}}
    for node_id, name in (("7", "ego"), ("8", "prior")):
        (folder / f"{name}_00003_.mp4").write_text(name, encoding="utf-8")
        outputs[node_id] = {"images": [{"filename": f"{name}_00003_.mp4", "subfolder": "egox_demo", "type": "output"}]}
    results = collect(Outcome("x", "success", outputs), graph, base, layout)
    assert sorted((p.name, p.read_text(encoding="utf-8")) for p in results.iterdir()) == [
        ("ego.mp4", "ego"), ("prior.mp4", "prior")]
    (results / "ego.mp4").unlink()
    with pytest.raises(SetupError, match="saved no ego.mp4"):
        collect(Outcome("x", "success", {}), graph, base, layout)


def test_the_exo_file_is_found_in_input_and_pack(tmp_path: Path) -> None:
    base, layout = BaseDir(tmp_path / "base"), Layout(tmp_path / "repo")
    for file in (layout.repo / "sample" / "exo.mp4", base.input / "clip.mp4"):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        assert find_exo({"file": "/".join(file.parts[-2:] if "sample" in file.parts else file.parts[-1:])}, base,
                        layout) == file
    with pytest.raises(SetupError, match="gone.mp4"):
        find_exo({"file": "gone.mp4"}, base, layout)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_shows_each_node_once(kind) -> None:
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
    assert [words[-3] for words in finished if words and words[-1] == "s"] == ["EgoXLoadExoVideo", "SaveVideo"]
    assert "stage 1 of 6" in out.getvalue()
    assert ("3/17" in out.getvalue()) == (kind is Terminal), "no bar where nobody watches"


def test_side_by_side(tmp_path: Path) -> None:
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
    assert np.abs(joined[:, 20:40, 20:90].astype(int) - exo[2:, 20:40, 20:90]).mean() < 4, "exo from its start frame on"
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000
    assert not list(tmp_path.glob(".part-*"))
