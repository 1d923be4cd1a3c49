"""Test the small model that ships with the pack."""

import re

import pytest

from egox_core.safe_files import read_json
from lab.small_model.files import WorkFiles
from tests.prompts import run_successfully
from tools.setup.demo import DECODE, read_node_text

SLACK_DB = 0.5


@pytest.mark.slow
def test_the_demo_reaches_its_recorded_psnr(client, load_workflow):
    prompt = load_workflow("egox_demo")
    assert "standin" not in str(prompt)
    text = read_node_text(run_successfully(client, prompt), prompt, DECODE)
    psnr_db = float(re.search(r"PSNR to the truth ([\d.]+) dB", text)[1])
    assert psnr_db >= read_json(WorkFiles().records / "demo.json")["psnr"] - SLACK_DB
