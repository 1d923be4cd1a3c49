"""The model card, from the records that ship."""

import json
import shutil

from lab.small_model.card import NOTE, write_card
from lab.small_model.files import WorkFiles
from lab.small_model.settings import DemoTraining


def test_each_round_has_a_row_and_the_hours_are_summed(tmp_path):
    shutil.copytree(WorkFiles().records, tmp_path / "stages")
    files = WorkFiles(tmp_path / "work", tmp_path)
    write_card(files, DemoTraining())
    text = files.card.read_text(encoding="utf-8")
    rounds = json.loads((files.records / "base.json").read_text(encoding="utf-8"))["rounds"]
    part = text[text.index("**Base**"):text.index("**LoRA**")]
    assert [line.split(" | ")[0] for line in part.splitlines() if line.startswith("| ")][2:] == [
        f"| {number}" for number in range(1, len(rounds) + 1)]
    assert f"{sum(r['core_hours'] for r in rounds):.2f} core-hours in all" in part
    assert NOTE.read_text(encoding="utf-8").strip() in text


def test_a_stage_without_a_record_is_said_to_be_unfinished(tmp_path):
    files = WorkFiles(tmp_path / "work", tmp_path)
    write_card(files, DemoTraining())
    assert files.card.read_text(encoding="utf-8").count("Not finished yet.") == 3
