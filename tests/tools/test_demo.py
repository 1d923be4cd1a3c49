"""The demo's own steps: options, staging, results, the side-by-side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from egox_core import file_names, sizes
from egox_core.previews.contact_sheet import beside, make_contact_sheet
from egox_core.video.writer import write_video
from tools.setup import demo
from tools.setup.api_client import Outcome
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
from tools.setup.progress_bar import STAGES, ProgressBar, stage_of
from tools.setup.side_by_side import main, read_frames, rows_of


def prompt() -> dict:
    return {
        "1": {"class_type": "EgoXLoadExoVideo", "inputs": {
            "file": "exo.mp4", "start_frame": 0, "frame_count": 17, "width": 224, "height": 128, "video": ["9", 0]}},
        "2": {"class_type": "EgoXDepthAlign", "inputs": {"depth_file": "d.npz", "camera_file": "x.json"}},
        "3": {"class_type": "EgoXEgoPoseInput", "inputs": {
            "source": "constant", "file": "meta.json", "camera": "pinhole"}},
        "4": {"class_type": "EgoXRenderEgoPrior", "inputs": {}},
        "5": {"class_type": "EgoXWanSampler", "inputs": {"steps": 4, "seed": 1}},
        "6": {"class_type": "EgoXDecodeEgoHalf", "inputs": {}},
        "7": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "egox_demo/ego"}},
        "8": {"class_type": "UNETLoader", "inputs": {"unet_name": "egox_standin_wan22_i2v.safetensors"}},
        "9": {"class_type": "LoadVideo", "inputs": {"file": "clip.mp4"}},
    }


def test_sizes_and_names_are_the_core_s() -> None:
    """run.py can't import the core before its environment exists, so the demo says them a second time."""
    assert (demo.FULL_WIDTH, demo.FULL_SIZE) == sizes.REFERENCE_EXO_SIZE
    assert (demo.FRAME_STEP, demo.PIXEL_STEP) == (sizes.FRAMES_PER_LATENT, sizes.PIXEL_STEP)
    assert demo.TAKE_FILES == (file_names.EXO, file_names.DEPTH, file_names.META, file_names.TRUTH)


def test_without_options_the_workflow_stays_as_it_is() -> None:
    assert apply_options(prompt(), DemoOptions(), None) == prompt()


def test_options_reach_their_nodes() -> None:
    made = apply_options(prompt(), DemoOptions(frames=9, size=64, steps=2), None)
    load = made["1"]["inputs"]
    assert (load["frame_count"], load["width"], load["height"]) == (9, 112, 64)
    assert made["5"]["inputs"]["steps"] == 2
    assert load["file"] == "exo.mp4" and load["video"] == ["9", 0]


def test_a_take_runs_at_full_size() -> None:
    made = apply_options(prompt(), DemoOptions(take=Path("x")), "take_x")
    load = made["1"]["inputs"]
    assert (load["frame_count"], load["width"], load["height"], load["file"]) == (49, 784, 448, "take_x/exo.mp4")
    assert "video" not in load, "the take's file, not the linked video"
    assert made["2"]["inputs"] == {"depth_file": "take_x/depth.npz", "camera_file": ""}
    assert made["3"]["inputs"] == {"source": "file", "file": "take_x/meta.json", "camera": "auto"}


def test_standins_take_the_place_of_any_weights() -> None:
    trained = prompt()
    trained["8"]["inputs"]["unet_name"] = "egox_demo_wan22_i2v.safetensors"
    trained["10"] = {"class_type": "VAELoader", "inputs": {"vae_name": "egox_demo_vae.safetensors"}}
    trained["11"] = {"class_type": "EgoXLoadLora", "inputs": {"lora_name": "egox_demo_lora.safetensors"}}
    assert standins(trained) == []
    assert standins(use_standins(trained)) == [
        "egox_standin_lora_wan22.safetensors", "egox_standin_wan22_i2v.safetensors", "egox_standin_wan_vae.safetensors"]


def test_a_changed_graph_is_told() -> None:
    changed = prompt()
    del changed["5"]
    with pytest.raises(SetupError, match="no EgoXWanSampler"):
        apply_options(changed, DemoOptions(steps=3), None)
    changed = prompt()
    del changed["1"]["inputs"]["width"]
    with pytest.raises(SetupError, match="EgoXLoadExoVideo has no input width"):
        apply_options(changed, DemoOptions(size=64), None)


@pytest.mark.parametrize(("options", "said"), [
    (DemoOptions(frames=10), "4n.1 frames, for instance 9"),
    (DemoOptions(frames=1), "for instance 5"),
    (DemoOptions(size=100), "multiple of 16 .* instance 96"),
    (DemoOptions(size=-16), "multiple of 16"),
    (DemoOptions(steps=0), "at least 1"),
])
def test_impossible_options_are_refused_before_the_server_starts(options: DemoOptions, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        check_options(options)


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
    graph["10"] = {"class_type": "EgoXBuildScene", "inputs": {}}
    check_stages(graph, Outcome("x", "success", ran=list(graph)))
    assert "All 6 stages ran" in capsys.readouterr().out
    with pytest.raises(SetupError, match="Decode Ego Half"):
        check_stages(graph, Outcome("x", "success", ran=[n for n in graph if n != "6"]))


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


def test_standins_are_named() -> None:
    assert standins(prompt()) == ["egox_standin_wan22_i2v.safetensors"]
    real = {"1": {"class_type": "UNETLoader", "inputs": {"unet_name": "wan2.1_i2v_480p_14B_fp16.safetensors"}}}
    assert standins(real) == []


def test_the_exo_file_is_found_in_input_and_sample(tmp_path: Path) -> None:
    base, layout = BaseDir(tmp_path / "base"), Layout(tmp_path / "repo")
    (layout.repo / "sample").mkdir(parents=True)
    (layout.repo / "sample" / "exo.mp4").write_bytes(b"")
    base.input.mkdir(parents=True)
    (base.input / "clip.mp4").write_bytes(b"")
    assert find_exo({"file": "sample/exo.mp4"}, {}, base, layout) == layout.repo / "sample" / "exo.mp4"
    assert find_exo({"file": "clip.mp4 [input]"}, {}, base, layout) == base.input / "clip.mp4"
    assert find_exo({"file": "exo.mp4", "video": ["9", 0]}, prompt(), base, layout) == base.input / "clip.mp4"
    with pytest.raises(SetupError, match="gone.mp4"):
        find_exo({"file": "gone.mp4"}, {}, base, layout)


def test_stage_numbers() -> None:
    kinds = ("EgoXLoadExoVideo", "EgoXRenderEgoPrior", "EgoXDecodeEgoHalf", "SaveVideo")
    assert [stage_of(kind) for kind in kinds] == [1, 4, 6, None]
    assert len(STAGES) == 6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_shows_each_node_once_and_stays_one_line(kind) -> None:
    out = kind()
    bar = ProgressBar(prompt(), out)
    bar.on_event(("execution_cached", {"nodes": ["9"]}))
    bar.on_event(("executing", {"node": "1"}))
    bar.on_event(("progress_state", {"nodes": {"1": {"state": "running", "value": 3, "max": 17}}}))
    bar.on_event(("executing", {"node": "7"}))
    bar.on_event(("execution_success", {}))
    finished = [line.split("\r")[-1] for line in out.getvalue().split("\n")]
    assert [line.split()[0] for line in finished if line.strip()] == ["stage", "SaveVideo"]
    assert ("3/17" in out.getvalue()) == (kind is Terminal), "no bar where nobody watches"


def test_in_a_log_a_long_node_is_seen_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    out, clock = io.StringIO(), [100.0]
    monkeypatch.setattr("tools.setup.progress_bar.time.monotonic", lambda: clock[0])
    bar = ProgressBar(prompt(), out)
    bar.on_event(("executing", {"node": "1"}))
    for second in range(0, 70, 5):
        clock[0] = 100.0 + second
        bar.on_event(("progress_state", {"nodes": {"1": {"state": "running", "value": second, "max": 70}}}))
    assert [line.split("...")[1].split(",")[0] for line in out.getvalue().splitlines()] == [
        " EgoXLoadExoVideo 30/70", " EgoXLoadExoVideo 60/70"]


def test_side_by_side(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = {"exo": (64, 112), "prior": (64, 64), "ego": (64, 64), "truth": (128, 128)}
    for name, (height, width) in sizes.items():
        flat = random.integers(0, 255, (7 if name in ("exo", "truth") else 5, 1, 1, 3))
        frames = np.broadcast_to(flat, (len(flat), height, width, 3)).astype(np.uint8)
        write_video(tmp_path / f"{name}.mp4", torch.from_numpy(frames), 10.0)
    assert main([*(f"--{name}={tmp_path / name}.mp4" for name in sizes), "--start=2", f"--out={tmp_path}"]) == 0
    joined = read_frames(tmp_path / "side_by_side.mp4")
    assert joined.shape == (5, 64, 112 + 3 * 64, 3), "as long as the ego video, one height"
    exo = read_frames(tmp_path / "exo.mp4")
    # Flat pictures: what differs is the second encoding only.
    assert np.abs(joined[:, 20:40, 20:90].astype(int) - exo[2:, 20:40, 20:90]).mean() < 4, "exo from its start frame on"
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000
    assert not list(tmp_path.glob(".part-*"))


def test_frames_are_read_from_a_start_in_steps(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 240, 20, dtype=np.uint8), 32 * 32 * 3).reshape(12, 32, 32, 3)
    write_video(tmp_path / "ramp.mp4", torch.from_numpy(ramp), 10.0)
    means = read_frames(tmp_path / "ramp.mp4", start=1, count=4, step=2.0).mean((1, 2, 3))
    assert np.abs(means - [20, 60, 100, 140]).max() < 4
    assert len(read_frames(tmp_path / "ramp.mp4", count=30, step=0.5)) == 24, "each frame twice"


def test_shapes_beside_each_other() -> None:
    clips = {"a": np.zeros((3, 40, 60, 3), np.uint8), "b": np.ones((2, 20, 20, 3), np.uint8)}
    joined = beside([clip[0] for clip in clips.values()], 40)
    assert joined.shape == (40, 100, 3) and joined[20, 80, 0] == 1
    sheet = make_contact_sheet(rows_of(clips, most=5), 224)
    assert sheet.shape == (16 + 2 * 224, 336 + 224, 3), "names once, then every moment that both have"
