"""Refusals before a run starts, the global batch of a resumed one, and where its average
lies."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn

from egox_train.train.checkpoints import TrainState
from egox_train.train.launch import (
    accumulation_for,
    check_launch,
    launch_of,
    resume_notes,
)
from egox_train.train.loop import moving_average
from tests.refusals import refuses

SMALL = {"base_dtype": "float8"}
OFFLOADED, KEPT_OFF = {"block_offload": True}, {"checkpoint_offload": True}
SEVERAL = ("ddp", "fsdp2")
OPTIMIZERS = ({"name": name} for name in ("adafactor", "adamw8bit", "muon"))
ALONE = [  # of one process
    {"memory": {**OFFLOADED, **SMALL}},
    {"memory": OFFLOADED, "task": "base_i2v"},
    *({"memory": {"compile": True, **memory}} for memory in (SMALL, OFFLOADED, KEPT_OFF)),
]
REFUSED = [
    (launch, change, name)
    for launches, name, changes in (
        (SEVERAL, "memory.base_dtype", [{"memory": SMALL}]),
        (SEVERAL, "memory.block_offload", [{"memory": OFFLOADED}]),
        (SEVERAL, "memory.compile", [{"memory": {"compile": True}}]),
        (("fsdp2",), "memory.checkpoint_offload", [{"memory": KEPT_OFF}]),
        (("fsdp2",), "ema_decay", [{"ema_decay": 0.9}]),
        (("fsdp2",), "optimizer.name", [{"optimizer": optimizer} for optimizer in OPTIMIZERS]),
        (("fsdp2",), "task", [{"task": "base_i2v"}]),
        (("one",), "memory.block_offload", ALONE[:2]),
        (("one",), "memory.compile", ALONE[2:]),
    )
    for launch in launches
    for change in changes
]


@pytest.mark.parametrize(("launch", "change", "name"), REFUSED)
def test_what_no_test_covers_is_refused(tiny, tmp_path, launch, change, name):
    with refuses() as error:
        check_launch(tiny.config(tmp_path, **change), launch)
    assert str(error.value).startswith(name)


@pytest.mark.parametrize(
    ("launch", "change"),
    [
        ("one", {"memory": {"base_dtype": "float8", "checkpoint_offload": True}}),
        ("one", {"memory": {"base_dtype": "bfloat16", "block_offload": True}}),
        ("ddp", {"ema_decay": 0.9, "gradient_accumulation": 2}),
        ("ddp", {"memory": {"checkpoint_offload": True}}),
        ("fsdp2", {"gradient_accumulation": 2}),
    ],
)
def test_what_tests_cover_is_taken(tiny, tmp_path, launch, change):
    assert check_launch(tiny.config(tmp_path, **change), launch) is None


def test_the_check_comes_before_the_base_is_read(workplace, tiny):
    (workplace / "base.safetensors").unlink()
    with refuses("memory.block_offload"):
        tiny.train(
            workplace, task="base_i2v", memory={"base_dtype": "float32", "block_offload": True}
        )


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        (DistributedType.NO, {}, "one"),
        (DistributedType.MULTI_CPU, {}, "ddp"),
        (DistributedType.MULTI_GPU, {}, "ddp"),
        (DistributedType.FSDP, {"is_fsdp2": True}, "fsdp2"),
        (DistributedType.FSDP, {"is_fsdp2": False}, "version 1"),
        (DistributedType.DEEPSPEED, {}, "DEEPSPEED"),
        (DistributedType.MEGATRON_LM, {}, "MEGATRON_LM"),
    ],
)
def test_ways_to_launch(kind, more, expected):
    accelerator = SimpleNamespace(distributed_type=kind, **more)
    if expected in ("one", "ddp", "fsdp2"):
        assert launch_of(accelerator) == expected
    else:
        with refuses(expected):
            launch_of(accelerator)


def checkpoint(global_batch: int) -> TrainState:
    return TrainState(
        step=4,
        weights={},
        optimizer={},
        ema=None,
        base_hash="",
        cache_hash="",
        config={"batch_size": 2, "gradient_accumulation": 2},
        global_batch=global_batch,
    )


@pytest.mark.parametrize(
    ("then", "now", "expected"), [(2, 1, 4), (2, 2, 2), (2, 4, 1), (4, 2, 4), (1, 2, 1)]
)
def test_other_processes_keep_the_global_batch(tiny, tmp_path, then, now, expected):
    config = tiny.config(tmp_path, batch_size=2, gradient_accumulation=2)
    assert accumulation_for(config, now, checkpoint(4 * then)) == expected
    notes = [
        note
        for note in resume_notes(config, expected, now, checkpoint(4 * then))
        if "clips" in note
    ]
    assert len(notes) == (then != now) and all(f"{4 * then} clips" in note for note in notes)
    assert accumulation_for(config, now, None) == 2


@pytest.mark.parametrize(
    ("change", "now", "match"),
    [
        ({}, 3, "3 processes"),
        ({}, 8, "8 processes"),
        ({"gradient_accumulation": 3}, 2, "gradient_accumulation"),
        ({"batch_size": 1}, 2, "batch_size"),
    ],
)
def test_a_global_batch_that_cannot_be_kept_is_refused(tiny, tmp_path, change, now, match):
    config = tiny.config(tmp_path, **{"batch_size": 2, "gradient_accumulation": 2, **change})
    with refuses(match):
        accumulation_for(config, now, checkpoint(8))


def test_the_same_global_batch_may_be_split_otherwise(tiny, tmp_path):
    config = tiny.config(tmp_path, batch_size=1, gradient_accumulation=4)
    assert accumulation_for(config, 2, checkpoint(8)) == 4


def test_another_end_of_a_cosine_is_said(tiny, tmp_path):
    state = checkpoint(4)
    state.config["steps"] = 99
    for decay, note_count in (("cosine", 1), ("constant", 0)):
        config = tiny.config(tmp_path, optimizer={"decay": decay}, gradient_accumulation=2)
        assert (
            sum("another cosine" in note for note in resume_notes(config, 2, 1, state))
            == note_count
        )


def test_the_average_goes_on_where_the_weights_are(tiny, tmp_path):
    """A checkpoint is read to the CPU. The weights of a run lie elsewhere (here on meta, which
    mixes with nothing)."""
    config = tiny.config(tmp_path, ema_decay=0.9)
    before = moving_average(
        config, [nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(2, 2))], None
    )
    before.step([nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(2, 2))])
    elsewhere = [
        nn.Parameter(torch.empty(3, device="meta")),
        nn.Parameter(torch.empty(2, 2, device="meta")),
    ]
    ema = moving_average(config, elsewhere, before.state_dict())
    assert [p.device.type for p in ema.shadow_params] == ["meta"] * 2 and ema.optimization_step == 1
    ema.step(elsewhere)  # fails where the average stayed behind
    assert ema.optimization_step == 2
    assert moving_average(tiny.config(tmp_path), elsewhere, None) is None
