"""Save Robot Episode: a run becomes an episode, of a set that stays in its folder and whole."""

import importlib

import pytest

from egox_core.safe_files import read_json
from lab.drawn import SyntheticSpec, make_take
from tests.full_disk import files_up_to
from tests.refusals import refuses

pytest.importorskip("pyarrow", reason="writes parquet")


@pytest.fixture(scope="module")
def run():
    """Build the node's inputs from a drawn run."""
    take = make_take(SyntheticSpec(seed=3, frames=5, exo_width=96, exo_height=64, ego_size=64))
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


def test_each_run_is_an_episode(node, run, comfy_host):
    for number in range(2):
        out = node.execute(**run, generated=False)
        text = out.ui.as_dict()["text"][0]
        assert f"episode {number} of kitchen, 5 frames" in text
        assert text.endswith("right hand seen in 5 of 5 frames")
    folder = comfy_host.output / "egox_robots" / "kitchen"
    assert out.result == (str(folder),)
    info = read_json(folder / "meta" / "info.json")
    assert (info["total_episodes"], info["total_tasks"]) == (2, 1)
    assert (folder / "README.md").read_text("utf-8").count("100 %") == 2, "both hands are drawn"
    with refuses("ego_seen: got no scene"):
        node.execute(**run, ego_seen=True)
    assert read_json(folder / "meta" / "info.json") == info


def test_cancelling_leaves_the_set_as_it_was(node, run, comfy_host):
    import comfy.model_management as management

    node.execute(**{**run, "dataset": "cancelled"})
    folder = comfy_host.output / "egox_robots" / "cancelled"
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        node.execute(**{**run, "dataset": "cancelled"})
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["../out", "a/b", "", "CON", "/tmp/x"])
def test_a_set_stays_in_its_folder(node, run, name, comfy_host):
    assert "dataset" in node.validate_inputs(dataset=name, task="x")
    with refuses("dataset"):
        node.execute(**{**run, "dataset": name})
    assert "task" in node.validate_inputs(dataset="x", task=" ")
    assert node.validate_inputs() is True


def test_a_folder_that_cannot_be_written_is_told_before_a_run(node, run, comfy_host):
    sets = comfy_host.output / "egox_robots"
    sets.mkdir(exist_ok=True)
    (sets / "taken").write_text("a file", "utf-8")
    message = node.validate_inputs(dataset="taken", task="x")
    assert "'taken', where nothing can be written (Not a directory)" in message
    assert "\n" not in message and str(comfy_host.output) not in message
    with refuses("'taken': got 'taken', where nothing can be written"):
        node.execute(**{**run, "dataset": "taken"})
    with files_up_to(100):
        assert "where nothing can be written" in node.validate_inputs(dataset="new", task="x")
    assert node.validate_inputs(dataset="new", task="x") is True and not (sets / "new").exists()
