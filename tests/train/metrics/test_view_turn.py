"""Test that each report gives the turn of one video in one scene as the same value."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egox_core.file_names import META, TRUTH
from egox_core.metrics import PathViews
from egox_core.safe_files import read_json, write_json
from egox_core.scene import build_scene
from egox_core.take import load_take
from egox_train.calibrate.check import check_set
from egox_train.data.clip_files import read_all
from egox_train.data.manifest import read_manifest
from egox_train.data.prepare_options import PrepareOptions
from egox_train.data.robot_clips import write_robots
from egox_train.metrics.evaluate import evaluate
from egox_train.options import EvaluateOptions, RobotOptions
from lab.drawn import SyntheticSpec, make_take, write_take
from tests.train.prepared_takes import prepare_and_read

FRAMES, EGO_SIZE, EXO_SIZE = 5, 128, (224, 128)
POSE_ERROR = Rotation.from_rotvec([2.0, 6.0, -2.0], degrees=True).as_matrix()


@pytest.fixture(scope="module")
def turned_set(tmp_path_factory) -> Path:
    """Prepare a drawn take whose stated head is turned against its true video."""
    root = tmp_path_factory.mktemp("turned")
    spec = SyntheticSpec(
        seed=900_011,
        frames=FRAMES,
        exo_width=EXO_SIZE[0],
        exo_height=EXO_SIZE[1],
        ego_size=EGO_SIZE,
        edge_samples=1,
    )
    write_take(make_take(spec), root / "takes" / "one")
    meta_file = root / "takes" / "one" / META
    meta = read_json(meta_file)
    turned_poses = (POSE_ERROR @ np.array(meta["ego_extrinsics"])).tolist()
    write_json(meta_file, meta | {"ego_extrinsics": turned_poses})
    options = PrepareOptions(
        frames=FRAMES, stride=FRAMES, exo_size=EXO_SIZE, ego_size=EGO_SIZE, device="cpu"
    )
    prepare_and_read(root / "takes", root / "set", options)
    return root / "set"


def test_node_evaluate_and_robots_give_one_turn_and_check_nearly(
    turned_set, pack, tmp_path, monkeypatch
):
    pq = pytest.importorskip("pyarrow.parquet", reason="reads parquet")
    most_frames = "egox_core.metrics.frame_alignment.MAX_FRAMES"
    # The node has a core of its own.
    for name in (
        most_frames,
        f"{pack.__name__}.{most_frames}",
        "egox_train.calibrate.view_fit.COMPARED_FRAMES",
    ):
        monkeypatch.setattr(name, 2)  # of five
    (record,) = read_manifest(turned_set / "manifest.jsonl")
    folder = turned_set / record.folder
    ego_file = tmp_path / "ego" / f"{record.clip}.mp4"
    ego_file.parent.mkdir()
    ego_file.write_bytes((folder / TRUTH).read_bytes())
    frames = read_all(ego_file, FRAMES, (EGO_SIZE, EGO_SIZE)).float() / 255
    take = load_take(folder, frame_count=FRAMES, ego_size=EGO_SIZE)
    scene = build_scene(take.read_exo().float() / 255, take.depth)
    error = PathViews.of(scene, take.trajectory).error(frames)
    clip = error.clip
    assert clip.judged and 4 < clip.angle_deg < 10, "6.6 degrees were put in"

    node = importlib.import_module(f"{pack.__name__}.nodes.show.judgement")
    node_error, _ = node.measure_path_error(frames, scene, take.trajectory)
    assert torch.equal(node_error.clip.turn_deg, clip.turn_deg)
    assert node_error.text() == error.text() and clip.text() in error.text()

    options = EvaluateOptions(baselines=False, sheet_clips=0)
    (row,) = evaluate(
        turned_set / "manifest.jsonl", ego_file.parent, tmp_path / "report", options
    ).report["rows"]
    values = row["metrics"]["generated"]
    expected_values = {
        "view_turn": clip.angle_deg,
        "view_turn_interval": clip.interval_deg,
        "path_error": error.median_deg,
    }
    assert {key: values[key] for key in expected_values} == {
        key: round(value, 6) for key, value in expected_values.items()
    }, "rounded in the report's file"

    robots = RobotOptions(
        clips=turned_set, out=tmp_path / "robots", ego=ego_file.parent, task="look"
    )
    list(write_robots(robots))
    table = pq.read_table(tmp_path / "robots" / "data" / "chunk-000" / "file-000.parquet")
    expected_path_deg = np.full(FRAMES, -1, np.float32)
    expected_path_deg[:: error.step] = error.angle_deg.nan_to_num(-1)
    path_deg = np.ravel(table["egox.path_deg"].to_pylist())
    assert np.array_equal(path_deg, expected_path_deg)
    (episode_file,) = (tmp_path / "robots" / "meta" / "episodes").rglob("*.parquet")
    assert error.text() in pq.read_table(episode_file)["egox/notes"][0].as_py()

    (checked,) = check_set(turned_set, depth_sd=0.1)
    assert checked.lag_s == 0 and checked.is_displaced
    # It fits shift and size of the scene as well, which take up a part of the turn.
    difference_deg = checked.view.turn_deg - clip.turn_deg.numpy()
    assert np.linalg.norm(difference_deg) < 0.5
    assert clip.interval_deg < checked.view.turn_interval_deg
