"""Attention kernels in bfloat16 training: peaked attention trains, wrong kernels are replaced."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from egox_core.gga import backends
from egox_train.train.checkpoints import last_checkpoint

HEAD = slice(64, 128)  # channels of the second of two heads


@pytest.fixture
def place(tmp_path, tiny, monkeypatch) -> Path:
    """A canvas whose bias is made in pieces, as at the released size; a base with heads of 64."""
    monkeypatch.setattr("egox_train.wan.diffusers_processor.SHARED_BIAS_BYTES", 0)
    monkeypatch.setattr(backends, "_choice_of", {})
    tiny.make_cache(tmp_path / "cache", clips=2, h=16, w_exo=24)
    tiny.make_base(tmp_path / "base.safetensors", dim=128)
    return tmp_path


def scaled(base: Path, gain: float, small: float) -> None:
    """Gives self-attention's norms of q and k a learned gain, and makes one head's values small."""
    with safe_open(base, "pt") as file:
        metadata = file.metadata()
    weights = load_file(base)
    for key, value in weights.items():
        if key.endswith(("self_attn.norm_q.weight", "self_attn.norm_k.weight")):
            value *= gain
        if "self_attn.v." in key:
            value[HEAD] *= small
    save_file(weights, base, metadata)


def curve(place: Path, tiny, output: str) -> list[dict]:
    """Lines of ``metrics.jsonl`` after two steps on one clip."""
    memory = {"base_dtype": "bfloat16", "compute_dtype": "bfloat16"}
    tiny.train(place, output=str(place / output), steps=2, batch_size=1, memory=memory)
    return tiny.curve(place / output)


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("gain", [1, 3, 6])
def test_peaked_attention_trains_and_a_wrong_kernel_is_noted(place, tiny, monkeypatch, gain):
    scaled(place / "base.safetensors", gain, small=1e-2)
    right = backends.BACKENDS["sdpa"]
    expected = curve(place, tiny, "right")
    assert len(losses(expected)) == len(expected) == 2, "a loss for each step, and no note"
    state = last_checkpoint(place / "right")
    assert state is not None and state.kernel == "sdpa", "for the run that is resumed"

    def wrong(*args):
        out = right(*args)
        return torch.cat((out[..., : HEAD.start], 1.5 * out[..., HEAD]), dim=-1)

    monkeypatch.setitem(backends.BACKENDS, "sdpa", wrong)
    backends._choice_of.clear()
    found = curve(place, tiny, "wrong")
    (note,) = [line for line in found if "note" in line]
    assert note["step"] == 1 and "sdpa: gives wrong numbers here" in note["note"]
    # bfloat16 keeps 8 bits, and what differs is two roundings of one attention.
    assert losses(found) == pytest.approx(losses(expected), rel=1e-2)
