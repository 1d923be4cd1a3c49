"""Test that training replaces a faulty attention kernel."""

import pytest

from egox_core.gga import backends
from egox_train.train.checkpoints import last_checkpoint


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines if "loss" in line]


def test_training_replaces_a_wrong_kernel(training_folder, tiny_training, monkeypatch):
    """Check that training detects a faulty attention kernel, uses another one and logs a note."""
    monkeypatch.setattr("egox_train.wan.diffusers_processor.SHARED_BIAS_BYTES", 0)
    monkeypatch.setattr(backends, "_cached_choices", {})
    memory_options = {"base_dtype": "bfloat16", "compute_dtype": "bfloat16"}
    right_kernel = backends.BACKENDS["sdpa"]

    def read_log(output: str) -> list[dict]:
        run_folder = training_folder / output
        tiny_training.train(
            training_folder, output=str(run_folder), steps=2, batch_size=1, memory=memory_options
        )
        return tiny_training.read_log(run_folder)

    expected_lines = read_log("right")
    assert len(losses(expected_lines)) == len(expected_lines) == 2, (
        "a loss for each step, and no note"
    )
    checkpoint_state = last_checkpoint(training_folder / "right")
    assert checkpoint_state is not None and checkpoint_state.kernel == "sdpa", (
        "for the run that is resumed"
    )
    monkeypatch.setitem(backends.BACKENDS, "sdpa", lambda *args: 1.5 * right_kernel(*args))
    backends._cached_choices.clear()
    log_lines = read_log("wrong")
    (note,) = [line for line in log_lines if "note" in line]
    assert note["step"] == 1 and "sdpa: gives wrong numbers here" in note["note"]
    # bfloat16 keeps 8 bits, and what differs is two roundings of one attention.
    assert losses(log_lines) == pytest.approx(losses(expected_lines), rel=1e-2)
