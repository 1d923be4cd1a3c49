"""The demo's run as an episode: the drawn wearer's hands come from the file beside the video."""

import pytest

from egox_core.safe_files import read_json

from .prompts import FRAMES, SIZE, id_of, of_type, ran, small

pq = pytest.importorskip("pyarrow.parquet", reason="writes parquet")


def test_the_demo_becomes_an_episode(client, load_workflow, server_base):
    prompt = small(load_workflow("egox_demo_episode"))
    save = of_type(prompt, "EgoXSaveRobotEpisode")
    save.update(ego_depth=[id_of(prompt, "EgoXRenderEgoPrior"), 3], ego_seen=True)
    assert id_of(prompt, "EgoXSaveRobotEpisode") in ran(client, prompt).ran
    set_folder = server_base.output / "egox_robots" / save["dataset"]
    info = read_json(set_folder / "meta" / "info.json")
    assert (info["total_episodes"], info["total_frames"]) == (1, FRAMES)
    for kind in ("ego", "ego_depth", "ego_seen"):
        assert info["features"][f"observation.images.{kind}"]["shape"][:2] == [SIZE, SIZE]
    rows = pq.read_table(set_folder / "data" / "chunk-000" / "file-000.parquet").to_pylist()
    assert all(all(row["egox.hand_valid"]) and row["egox.ego_generated"] for row in rows)
    assert {row["egox.camera_fits"] for row in rows} == {-1}, "a generated view can't tell"
    wrist = rows[0]["observation.state"][:3]
    assert 0.1 < wrist[2] < 1, "before the head, within an arm's length"
