"""Test that a wrong attention kernel is replaced and noted in bfloat16 training."""

import pytest

from egox_core.gga import backends
from egox_train.train.checkpoints import last_checkpoint


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines if "loss" in line]


def test_training_replaces_a_wrong_kernel(workplace, tiny, monkeypatch):
    """Train two steps on one clip, whose bias is computed in pieces as at the released size."""
    monkeypatch.setattr("egox_train.wan.diffusers_processor.SHARED_BIAS_BYTES", 0)
    monkeypatch.setattr(backends, "_cached_choices", {})
    memory, right = (
        {"base_dtype": "bfloat16", "compute_dtype": "bfloat16"},
        backends.BACKENDS["sdpa"],
    )

    def curve(output: str) -> list[dict]:
        run = workplace / output
        tiny.train(workplace, output=str(run), steps=2, batch_size=1, memory=memory)
        return tiny.curve(run)

    expected = curve("right")
    assert len(losses(expected)) == len(expected) == 2, "a loss for each step, and no note"
    state = last_checkpoint(workplace / "right")
    assert state is not None and state.kernel == "sdpa", "for the run that is resumed"
    monkeypatch.setitem(backends.BACKENDS, "sdpa", lambda *args: 1.5 * right(*args))
    backends._cached_choices.clear()
    lines = curve("wrong")
    (note,) = [line for line in lines if "note" in line]
    assert note["step"] == 1 and "sdpa: gives wrong numbers here" in note["note"]
    # bfloat16 keeps 8 bits, and what differs is two roundings of one attention.
    assert losses(lines) == pytest.approx(losses(expected), rel=1e-2)
