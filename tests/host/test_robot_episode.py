"""Test the demo saved as a robot episode with the wearer's hands."""

import pytest

from egox_core.safe_files import read_json

from .prompts import FRAMES, SIZE, inputs_of_type, node_id_of_type, run_successfully, shrink_graph

pq = pytest.importorskip("pyarrow.parquet", reason="writes parquet")


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
