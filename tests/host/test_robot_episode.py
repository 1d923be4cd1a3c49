"""Test the demo saved as a robot episode with the wearer's hands."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from egox_core.exchange import write_trajectory
from egox_core.metrics import ClipTurn
from egox_core.safe_files import read_json
from egox_core.take import load_take
from tests.prompts import (
    FRAMES,
    SIZE,
    inputs_of_type,
    node_id_of_type,
    run_successfully,
    shrink_graph,
)

pq = pytest.importorskip("pyarrow.parquet", reason="writes parquet")

LONG_FRAMES = 9  # two chunks of five


def test_the_demo_is_saved_as_an_episode_with_hands_and_depth(client, load_workflow, server_base):
    prompt = shrink_graph(load_workflow("egox_demo_episode"))
    save_inputs = inputs_of_type(prompt, "EgoXSaveRobotEpisode")
    save_inputs.update(ego_depth=[node_id_of_type(prompt, "EgoXRenderEgoPrior"), 3], ego_seen=True)
    assert (
        node_id_of_type(prompt, "EgoXSaveRobotEpisode")
        in run_successfully(client, prompt).executed_nodes
    )
    set_folder = server_base.output / "egox_robots" / save_inputs["dataset"]
    data_set_info = read_json(set_folder / "meta" / "info.json")
    assert (data_set_info["total_episodes"], data_set_info["total_frames"]) == (1, FRAMES)
    for kind in ("ego", "ego_depth", "ego_seen"):
        assert data_set_info["features"][f"observation.images.{kind}"]["shape"][:2] == [SIZE, SIZE]
    episode_rows = pq.read_table(set_folder / "data" / "chunk-000" / "file-000.parquet").to_pylist()
    assert all(all(row["egox.hand_valid"]) and row["egox.ego_generated"] for row in episode_rows)
    assert {row["egox.camera_fits"] for row in episode_rows} == {-1}, "a generated view can't tell"
    wrist_position = episode_rows[0]["observation.state"][:3]
    assert 0.1 < wrist_position[2] < 1, "before the head, within an arm's length"


def test_a_long_videos_episode_follows_the_path_that_it_shows(
    client, load_workflow, server_base, repo_root
):
    """Check that two chunks agree on the turn by which their ordered path differs from the prior's,
    and that the episode has the poses that are shown."""
    prompt = load_workflow("egox_demo_episode")
    take = load_take(repo_root / "sample" / "calm_room", frame_count=LONG_FRAMES)
    turn_deg = torch.tensor([1.5, 6.5, 0.0], dtype=torch.float64)
    turned_back = replace(ClipTurn.unjudged(""), turn_deg=-turn_deg, interval_deg=0.5)
    ordered_file = server_base.root / "input" / "turned.json"
    write_trajectory(ordered_file, turned_back.correct_path(take.trajectory), take.notes)
    inputs_of_type(prompt, "EgoXLoadExoVideo").update(
        frame_count=LONG_FRAMES, width=224, height=128
    )
    pose_inputs = inputs_of_type(prompt, "EgoXEgoPoseInput") | {"file": ordered_file.name}
    conditioning = inputs_of_type(prompt, "EgoXConditioning")
    sampler = inputs_of_type(prompt, "EgoXWanSampler")
    save_inputs = inputs_of_type(prompt, "EgoXSaveRobotEpisode")
    long_inputs = {
        **{n: conditioning[n] for n in ("positive", "negative", "vae", "exo_images", "prior")},
        **{n: sampler[n] for n in ("model", "depth", "seed", "steps", "cfg", "sampler")},
        **{n: sampler[n] for n in ("scheduler", "shift", "recompute_exo")},
        "length": 5,
        "continue_motion_max_frames": 1,
        "look_away_memory": False,
        "low_memory": False,
        "switch_step": 0,
        "lambda_g": 0,  # along the turned path it would attend to other places
        "gga_mode": "off",
        "trajectory": ["turned", 0],
        "straighten": "camera",
        "colour": "as drawn",
    }
    unused = ("EgoXDecodeEgoHalf", "EgoXWanSampler", "EgoXConditioning", "EgoXDrawHands")
    unused = (*unused, "SaveVideo", "EgoXSaveRobotEpisode")
    prompt = {name: node for name, node in prompt.items() if node["class_type"] not in unused}
    del save_inputs["hands"]
    save_inputs |= {"dataset": "corrected", "ego_images": ["long", 0], "trajectory": ["long", 2]}
    prompt |= {
        "turned": {"class_type": "EgoXEgoPoseInput", "inputs": pose_inputs},
        "long": {"class_type": "EgoXSampleLong", "inputs": long_inputs},
        "save": {"class_type": "EgoXSaveRobotEpisode", "inputs": save_inputs},
    }
    run_successfully(client, prompt)
    set_folder = server_base.output / "egox_robots" / "corrected"
    (rows_file,) = (set_folder / "data").rglob("*.parquet")
    shown = np.array(pq.read_table(rows_file)["egox.ego_w2c"].to_pylist()).reshape(-1, 4, 4)
    true_w2c = take.trajectory.ego.upright_w2c[:, :, :3].numpy()
    cosines = (np.einsum("tij,tij->t", shown[:, :3, :3], true_w2c) - 1) / 2
    assert np.degrees(np.arccos(cosines.clip(-1, 1))).max() < 2, "6.7 degrees were put in"
    (notes_file,) = (set_folder / "meta" / "episodes").rglob("*.parquet")
    notes = pq.read_table(notes_file)["egox/notes"][0].as_py()
    assert 4.7 < float(re.search(r"Camera path corrected by (\d+)°", notes)[1]) < 8.7
