"""Test the node Save Robot Episode."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.safe_files import read_json
from egox_core.video import decode_frames, probe_video
from lab.drawn import SyntheticSpec, make_take
from tests.full_disk import limit_file_size
from tests.paths import read_folder_files
from tests.refusals import refuses

pytest.importorskip("pyarrow", reason="writes parquet")


@pytest.fixture(scope="module")
def episode_inputs():
    """Draw a run, and build the node's inputs from it."""
    take = make_take(
        SyntheticSpec(seed=3, frames=5, exo_width=96, exo_height=64, ego_size=64, edge_samples=1)
    )
    return {
        "exo_images": take.exo_frames(),
        "ego_images": take.ego_frames(),
        "trajectory": take.trajectory(),
        "depth": take.depth_video(),
        "hands": take.hands,
        "dataset": "kitchen",
        "task": "set the table",
    }


@pytest.fixture(scope="module")
def node(pack):
    return importlib.import_module("egox_pack.nodes.robot_episode").EgoXSaveRobotEpisode


def test_each_run_adds_an_episode(node, episode_inputs, comfy_host):
    for number in range(2):
        node_output = node.execute(**episode_inputs, generated=False)
        text = node_output.ui.as_dict()["text"][0]
        assert f"episode {number} of kitchen, 5 frames" in text
        assert text.endswith("right hand seen in 5 of 5 frames")
    set_folder = comfy_host.output / "egox_robots" / "kitchen"
    assert node_output.result == (str(set_folder),)
    data_set_info = read_json(set_folder / "meta" / "info.json")
    assert (data_set_info["total_episodes"], data_set_info["total_tasks"]) == (2, 1)
    assert (set_folder / "README.md").read_text("utf-8").count("100 %") == 2, "both hands are drawn"
    with refuses("ego_seen: got no scene"):
        node.execute(**episode_inputs, ego_seen=True)
    assert read_json(set_folder / "meta" / "info.json") == data_set_info


def test_an_episode_of_a_corrected_path_has_that_paths_columns(node, comfy_host):
    """Check poses, depth and notes of two runs: the path was corrected, or the picture turned."""
    import pyarrow.parquet as pq
    from egox_pack.egox_core.metrics import ClipTurn
    from egox_pack.egox_core.scene import build_scene
    from egox_pack.lab.drawn import make_take as make_pack_take
    from egox_pack.nodes.host.remember import STRAIGHTENED

    take = make_pack_take(
        SyntheticSpec(seed=4, frames=2, exo_width=128, exo_height=80, ego_size=96, edge_samples=1)
    )
    turn_deg = torch.tensor([2.0, 6.0, -3.0], dtype=torch.float64)
    turn = replace(ClipTurn.unjudged(""), turn_deg=turn_deg, interval_deg=1.0)
    turned_frames, depth = take.ego_frames().clone(), take.depth_video()
    filled = torch.zeros(96, 96, dtype=torch.bool)
    filled[:, 60:] = True
    STRAIGHTENED[turned_frames] = {"words": "Straightened by 7° ± 1", "filled": filled}
    for frames, path in (
        (turned_frames, take.trajectory()),
        (take.ego_frames(), turn.correct_path(take.trajectory())),
    ):
        node.execute(
            exo_images=take.exo_frames(),
            ego_images=frames,
            trajectory=path,
            depth=depth,
            scene=build_scene(take.exo_frames(), depth),
            ego_depth=replace(depth, depth_m=take.ego_depth_m),
            ego_seen=True,
            dataset="corrected",
            task="look",
        )
    set_folder = comfy_host.output / "egox_robots" / "corrected"
    rows = pq.read_table(set_folder / "data" / "chunk-000" / "file-000.parquet").to_pylist()
    w2c = torch.tensor([row["egox.ego_w2c"] for row in rows], dtype=torch.float64).view(2, 2, 4, 4)
    assert torch.allclose(turn.rotation @ w2c[0, :, :3], w2c[1, :, :3], atol=1e-6)
    assert max(row["egox.path_deg"] for row in rows) < 1.5, "off the ordered path"
    (depth_file,) = (set_folder / "videos" / "observation.images.ego_depth").rglob("*.mp4")
    frames = [frame for _, frame in decode_frames(depth_file, probe_video(depth_file), range(4))]
    assert np.abs(np.stack(frames[2:]).astype(int) - frames[:2]).mean() > 5, "drawn again"
    (seen_file,) = (set_folder / "videos" / "observation.images.ego_seen").rglob("*.mp4")
    first, *_, last = (f for _, f in decode_frames(seen_file, probe_video(seen_file), range(4)))
    assert first[:, 64:].max() < 16 < min(first[:, :56].max(), last[:, 64:].max()), "filled"
    (episode_file,) = (set_folder / "meta" / "episodes").rglob("*.parquet")
    notes = pq.read_table(episode_file)["egox/notes"].to_pylist()
    assert "Straightened by 7° ± 1" in notes[0] and "corrected" not in notes[0]
    assert "Camera path corrected by 7°" in notes[1] and "Straightened" not in notes[1]


def test_a_cancelled_run_leaves_the_data_set_unchanged(node, episode_inputs, comfy_host):
    import comfy.model_management as management

    inputs = {**episode_inputs, "dataset": "cancelled"}
    node.execute(**inputs)
    set_folder = comfy_host.output / "egox_robots" / "cancelled"
    files_before = read_folder_files(set_folder)
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        node.execute(**inputs)
    assert read_folder_files(set_folder) == files_before


@pytest.mark.parametrize("set_name", ["../out", "a/b", "", "CON", "/tmp/x"])
def test_a_data_set_name_that_leads_out_is_refused(node, episode_inputs, set_name, comfy_host):
    assert "dataset" in node.validate_inputs(dataset=set_name, task="x")
    with refuses("dataset"):
        node.execute(**{**episode_inputs, "dataset": set_name})


def test_a_folder_that_cannot_be_written_is_refused_before_a_run(node, episode_inputs, comfy_host):
    sets_folder = comfy_host.output / "egox_robots"
    sets_folder.mkdir(exist_ok=True)
    (sets_folder / "taken").write_text("a file", "utf-8")
    words = "'taken', where nothing can be written"
    message = node.validate_inputs(dataset="taken", task="x")
    assert words in message and "\n" not in message and str(comfy_host.output) not in message
    with refuses(words):
        node.execute(**{**episode_inputs, "dataset": "taken"})
    with limit_file_size(100):
        assert "where nothing can be written" in node.validate_inputs(dataset="new", task="x")
    assert node.validate_inputs(dataset="new", task="x") is True
    assert "task" in node.validate_inputs(dataset="x", task=" ") and node.validate_inputs() is True
    assert not (sets_folder / "new").exists()
