"""The small model that ships: egox_demo as it is, through the stock loaders, on the take whose
figure is on record."""

from egox_core.safe_files import read_json
from lab.small_model.files import WorkFiles
from tools.setup.side_by_side import psnr, read_frames

from .prompts import ran, saved_videos

SLACK_DB = 0.5


def test_the_demo_is_as_good_as_on_record(client, load_workflow, server_base, repo_root):
    """By the figure of ``run.py demo`` when the weights were made."""
    prompt = load_workflow("egox_demo")
    assert "standin" not in str(prompt)
    ego = saved_videos(ran(client, prompt), prompt, server_base)["ego"]
    truth = repo_root / "sample" / "calm_room" / "ego_ground_truth.mp4"
    recorded = read_json(WorkFiles(repo_root).records / "demo.json")["psnr"]
    assert psnr(*map(read_frames, (ego, truth))) >= recorded - SLACK_DB
