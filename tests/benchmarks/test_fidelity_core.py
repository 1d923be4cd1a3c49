"""The comparisons of ``run.py fidelity`` that need no host."""

from benchmarks.support import fidelity_core as fidelity


def assert_all(checks, count):
    checks = list(checks)
    assert len(checks) == count
    assert not [check for check in checks if not check.passed]


def test_rays_directions_and_bias_of_the_takes(shared_dir):
    assert_all(fidelity.geometry_checks(shared_dir / "golden"), 2 * (3 + 3 * 3))


def test_packing():
    assert_all(fidelity.packing_checks(), 4)


def test_schedules_and_solver():
    assert_all(fidelity.schedule_checks(), 3 * 2 + 2)


def test_lora_deltas():
    assert_all(fidelity.lora_delta_checks(), 2 * 2)


def test_a_missing_number_is_a_difference():
    import torch

    assert not fidelity.Check(
        "", fidelity.worst(torch.tensor([float("nan"), 0.0]), torch.zeros(2)), 1.0
    ).passed
