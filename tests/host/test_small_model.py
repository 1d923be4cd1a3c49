"""The small model that ships: egox_demo as it is, through the stock loaders, on the take whose
figure is on record."""

import re

import pytest

from egox_core.safe_files import read_json
from lab.small_model.files import WorkFiles
from tools.setup.demo import DECODE, words_of

from .prompts import ran

SLACK_DB = 0.5


@pytest.mark.slow
def test_the_demo_is_as_good_as_on_record(client, load_workflow):
    """By the figure of ``run.py demo`` when the weights were made."""
    prompt = load_workflow("egox_demo")
    assert "standin" not in str(prompt)
    text = words_of(ran(client, prompt), prompt, DECODE)
    reached = float(re.search(r"PSNR to the truth ([\d.]+) dB", text)[1])
    assert reached >= read_json(WorkFiles().records / "demo.json")["psnr"] - SLACK_DB
