"""Test the comparisons with the released code's numbers that ``run.py fidelity`` makes."""

from itertools import combinations

import torch

from benchmarks.fidelity import all_checks
from benchmarks.support import fidelity_model as fidelity
from tests.conftest import SHARED
from tools.rigs.golden_model import load_golden, load_golden_model

PARTS = "packing", "schedule", "delta", "transformer", "denoise", "noise", "text"


def test_every_comparison_holds(pack):
    golden_folder = SHARED / "golden"
    checks = list(all_checks(pack, golden_folder if golden_folder.is_dir() else None))
    names = {check.name for check in checks}
    assert len(names) == len(checks)
    parts = (*PARTS, "ego rays") if golden_folder.is_dir() else PARTS  # takes are development data
    assert all(any(part in name for name in names) for part in parts)
    assert [check for check in checks if not check.passed] == []


@torch.inference_mode()
def test_the_bounds_tell_the_modes_apart(pack):
    model, tensors = load_golden_model(pack), load_golden("tiny_transformer")
    least_difference = 1e-4 * float(tensors["out.no_gga"].std())
    outputs = [
        fidelity.forward(pack, model, tensors, strength) for strength in (0.0, 0.5, 1.0, 3.0)
    ]
    for first_output, second_output in combinations(outputs, 2):
        assert fidelity.largest_difference(first_output, second_output) > 10 * least_difference


def test_a_missing_number_is_a_difference():
    difference = fidelity.largest_difference(torch.tensor([float("nan"), 0.0]), torch.zeros(2))
    assert not fidelity.Check("", difference, 1.0).passed
