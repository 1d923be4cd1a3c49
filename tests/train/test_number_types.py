"""Test which number type a run computes in where nobody names one."""

import pytest
import torch

from egox_train import compute_type as types
from egox_train.train.config import parse_config
from egox_train.train.number_types import settle_types
from tests.refusals import refuses

SETTINGS = {"base": "", "cache": "", "output": "", "steps": 1}
CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=["float32", "bfloat16"])
def faster_type(request, monkeypatch) -> str:
    """Make products in the other type take twice as long, by a clock that other work can't slow."""
    seconds = [0.0]

    def multiply(rows, weight):
        seconds[0] += 0.01 * (1 + (rows.dtype != types.DTYPES[request.param]))

    monkeypatch.setattr(types, "linear", multiply)
    monkeypatch.setattr(types.time, "thread_time", lambda: seconds[0])
    types._faster_type.cache_clear()
    yield request.param
    types._faster_type.cache_clear()


def test_a_cpu_computes_in_its_faster_type_and_says_so(faster_type, caplog):
    caplog.set_level("INFO", "egox_train")
    assert [types.compute_type("auto", device) for device in ("cpu", CPU)] == [faster_type] * 2
    assert caplog.text.count(f"computing in {faster_type}") == 1, "timed once, said once"
    assert types.compute_type("auto", "cuda:1") == "bfloat16"
    assert types.compute_type("float32", CARD) == "float32"
    assert types.compute_type("bfloat16", "cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("memory", "task", "device", "expected"),
    [
        ({}, "egox_lora", CARD, ("bfloat16", "bfloat16")),
        ({"base_dtype": "float8"}, "egox_lora", CARD, ("float8", "bfloat16")),
        ({"compute_dtype": "float32"}, "egox_lora", CARD, ("float32", "float32")),
        ({}, "base_i2v", CARD, ("float32", "bfloat16")),
        ({}, "egox_lora", CPU, ("faster", "faster")),
        ({}, "base_i2v", CPU, ("float32", "faster")),
        ({"base_dtype": "float32"}, "egox_lora", CPU, ("float32", "faster")),
        ({"base_dtype": "bfloat16"}, "egox_lora", CPU, ("bfloat16", "bfloat16")),
        ({"compute_dtype": "bfloat16"}, "egox_lora", CPU, ("bfloat16", "bfloat16")),
    ],
)
def test_named_types_are_kept_and_the_others_follow(memory, task, device, expected, faster_type):
    config = settle_types(parse_config({**SETTINGS, "task": task, "memory": memory}), device)
    settled = config.memory.base_dtype, config.memory.compute_dtype
    assert settled == tuple(faster_type if name == "faster" else name for name in expected)


def test_a_resumed_run_keeps_its_types():
    earlier = {"memory": {"base_dtype": "float32", "compute_dtype": "bfloat16"}}
    memory = settle_types(parse_config(SETTINGS), CPU, earlier).memory
    assert (memory.base_dtype, memory.compute_dtype) == ("float32", "bfloat16")


def test_a_base_in_a_smaller_type_than_the_computation_is_refused():
    memory = {"base_dtype": "bfloat16", "compute_dtype": "float32"}
    with refuses("float32 on a base in bfloat16.*memory.base_dtype=auto, or"):
        settle_types(parse_config({**SETTINGS, "memory": memory}), CPU)
    earlier = {"memory": {"base_dtype": "float32", "compute_dtype": "float32"}}
    memory = {"base_dtype": "bfloat16"}
    with refuses("base_dtype=auto and memory.compute_dtype=auto"):
        settle_types(parse_config({**SETTINGS, "memory": memory}), CPU, earlier)
    assert settle_types(parse_config(SETTINGS), CPU, earlier).memory.base_dtype == "float32"
