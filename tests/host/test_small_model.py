"""The small model that ships: egox_demo as it is, through the stock loaders, on the take whose
figure is on record."""

import json

import pytest

from lab.small_model.files import WorkFiles
from tools.setup.api_client import ApiClient
from tools.setup.base_dir import BaseDir
from tools.setup.side_by_side import psnr, read_frames

from .prompts import ran, saved_videos

SLACK_DB = 0.5


@pytest.fixture(scope="module")
def record(repo_root) -> dict:
    """The figure of ``run.py demo`` when the weights were made."""
    return json.loads((WorkFiles(repo_root).records / "demo.json").read_text(encoding="utf-8"))


@pytest.fixture
def truth(repo_root):
    return read_frames(repo_root / "sample" / "calm_room" / "ego_ground_truth.mp4")


def ego_of(client: ApiClient, prompt: dict, base: BaseDir):
    outcome = ran(client, prompt)
    return read_frames(saved_videos(outcome, prompt, base)["ego"])


def test_the_demo_is_as_good_as_on_record(client, load_workflow, server_base, record, truth):
    prompt = load_workflow("egox_demo")
    assert "standin" not in str(prompt)
    ego = ego_of(client, prompt, server_base)
    found = psnr(ego, truth)
    assert found >= record["psnr"] - SLACK_DB, (
        f"PSNR {found:.2f} dB; on record {record['psnr']:.2f}"
    )
