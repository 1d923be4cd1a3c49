"""The comparisons of ``run.py fidelity`` on the host's own model, and what would go unnoticed if
they were too wide."""

import pytest
import torch

from benchmarks.support import fidelity_model as fidelity
from tools.rigs.golden_model import golden, golden_model


@pytest.fixture(scope="module")
def model(pack):
    return golden_model(pack)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(
    "group, count", [("transformer_checks", 4), ("lora_checks", 9), ("denoise_checks", 2)]
)
def test_golden_numbers_through_the_hosts_model(pack, model, group, count):
    checks = list(getattr(fidelity, group)(pack, model))
    assert len(checks) == count
    assert not [check for check in checks if not check.passed]


def test_embedding_picture_and_noise(pack):
    assert all(check.passed for check in fidelity.embedding_picture_checks())


@pytest.mark.parametrize("group, count", [("noise_checks", 4), ("text_checks", 10)])
def test_noise_and_text_of_the_released_run(pack, group, count):
    checks = list(getattr(fidelity, group)(pack))
    assert len(checks) == count and len({check.name for check in checks}) == count
    assert not [check for check in checks if not check.passed]


def test_the_bounds_tell_the_modes_apart(pack, model):
    tensors = golden("tiny_transformer")
    bound = 1e-4 * float(tensors["out.no_gga"].std())
    outputs = {
        strength: fidelity.forward(pack, model, tensors, strength)
        for strength in (0.0, 0.5, 1.0, 3.0)
    }
    strengths = list(outputs)
    for i, first in enumerate(strengths):
        for second in strengths[i + 1 :]:
            assert fidelity.worst(outputs[first], outputs[second]) > 10 * bound
