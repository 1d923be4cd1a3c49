"""Test the checks before a training run."""

import pytest
import torch

from egox_train.train.checkpoints import TrainState
from egox_train.train.launch import (
    check_launch,
    micro_steps_for,
    resume_notes,
)
from egox_train.train.number_types import settle_types
from tests.refusals import refuses

FLOAT8_BASE = {"base_dtype": "float8"}
BLOCK_OFFLOAD, CHECKPOINT_OFFLOAD = {"block_offload": True}, {"checkpoint_offload": True}
MULTI_PROCESS_LAUNCHES = ("ddp", "fsdp2")
OPTIMIZERS = ({"name": name} for name in ("adafactor", "adamw8bit", "muon"))
SINGLE_PROCESS_CHANGES = [  # of one process
    {"memory": {**BLOCK_OFFLOAD, **FLOAT8_BASE}},
    {"memory": BLOCK_OFFLOAD, "task": "base_i2v"},
    *(
        {"memory": {"compile": True, **memory}}
        for memory in (FLOAT8_BASE, BLOCK_OFFLOAD, CHECKPOINT_OFFLOAD)
    ),
]
REFUSED_SETTINGS = [
    (launch, change, name)
    for launches, name, changes in (
        (MULTI_PROCESS_LAUNCHES, "memory.base_dtype", [{"memory": FLOAT8_BASE}]),
        (MULTI_PROCESS_LAUNCHES, "memory.block_offload", [{"memory": BLOCK_OFFLOAD}]),
        (MULTI_PROCESS_LAUNCHES, "memory.compile", [{"memory": {"compile": True}}]),
        (("fsdp2",), "memory.checkpoint_offload", [{"memory": CHECKPOINT_OFFLOAD}]),
        (("fsdp2",), "ema_decay", [{"ema_decay": 0.9}]),
        (("fsdp2",), "optimizer.name", [{"optimizer": optimizer} for optimizer in OPTIMIZERS]),
        (("fsdp2",), "task", [{"task": "base_i2v"}]),
        (("one",), "memory.block_offload", SINGLE_PROCESS_CHANGES[:2]),
        (("one",), "memory.compile", SINGLE_PROCESS_CHANGES[2:]),
    )
    for launch in launches
    for change in changes
]


def check_settled(config, launch):
    check_launch(settle_types(config, torch.device("cuda")), launch)


@pytest.mark.parametrize(("launch", "change", "name"), REFUSED_SETTINGS)
def test_untested_combinations_are_refused(tiny_training, tmp_path, launch, change, name):
    with refuses() as refusal:
        check_settled(tiny_training.make_config(tmp_path, **change), launch)
    assert str(refusal.value).startswith(name)


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
def test_tested_combinations_are_accepted(tiny_training, tmp_path, launch, change):
    check_settled(tiny_training.make_config(tmp_path, **change), launch)


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
    ("old_processes", "new_processes", "expected"),
    [(2, 1, 4), (2, 2, 2), (2, 4, 1), (4, 2, 4), (1, 2, 1)],
)
def test_global_batch_is_kept_with_other_process_counts(
    tiny_training, tmp_path, old_processes, new_processes, expected
):
    training_config = tiny_training.make_config(tmp_path, batch_size=2, gradient_accumulation=2)
    assert (
        micro_steps_for(training_config, new_processes, checkpoint(4 * old_processes)) == expected
    )
    notes = [
        note
        for note in resume_notes(
            training_config, expected, new_processes, checkpoint(4 * old_processes)
        )
        if "clips" in note
    ]
    assert len(notes) == (old_processes != new_processes) and all(
        f"{4 * old_processes} clips" in note for note in notes
    )
    assert micro_steps_for(training_config, new_processes, None) == 2


@pytest.mark.parametrize(
    ("change", "new_processes", "message_pattern"),
    [
        ({}, 3, "3 processes"),
        ({}, 8, "8 processes"),
        ({"gradient_accumulation": 3}, 2, "gradient_accumulation"),
        ({"batch_size": 1}, 2, "batch_size"),
    ],
)
def test_a_global_batch_that_cannot_be_kept_is_refused(
    tiny_training, tmp_path, change, new_processes, message_pattern
):
    training_config = tiny_training.make_config(
        tmp_path, **{"batch_size": 2, "gradient_accumulation": 2, **change}
    )
    with refuses(message_pattern):
        micro_steps_for(training_config, new_processes, checkpoint(8))


def test_changed_end_of_a_cosine_schedule_is_noted(tiny_training, tmp_path):
    state = checkpoint(4)
    state.config["steps"] = 99
    for decay, note_count in (("cosine", 1), ("constant", 0)):
        training_config = tiny_training.make_config(
            tmp_path, optimizer={"decay": decay}, gradient_accumulation=2
        )
        assert (
            sum("another cosine" in note for note in resume_notes(training_config, 2, 1, state))
            == note_count
        )
