"""Check how a training run is spread over processes, and keep its global batch size.

A combination that no test covers is refused at the start: it would train wrongly, or fail after
hours."""

from collections.abc import Mapping
from datetime import timedelta
from functools import reduce
from typing import Any, Literal

from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
)

from egox_core.errors import EgoXInputError

from .checkpoints import TrainState
from .config import TrainConfig

Launch = Literal["one", "ddp", "fsdp2"]

PROCESS_TIMEOUT = timedelta(hours=1)
"""Longest wait of processes for each other. NCCL's 10 minutes are too short for one that writes a
large checkpoint or samples validation clips."""

NAMES: Mapping[Launch, str] = {
    "one": "one process",
    "ddp": "DDP",
    "fsdp2": "FSDP2",
}
_UNQUANTISED_TYPES = ("float32", "bfloat16")
_MANY = {
    "memory.base_dtype": _UNQUANTISED_TYPES,
    "memory.block_offload": (False,),
    "memory.compile": (False,),
}
ALLOWED: Mapping[Launch, Mapping[str, tuple[Any, ...]]] = {
    "one": {},
    "ddp": _MANY,
    "fsdp2": {
        **_MANY,
        "task": ("egox_lora",),
        "ema_decay": (None,),
        "optimizer.name": ("adamw",),
        "memory.checkpoint_offload": (False,),
    },
}
"""Values that tests cover where a way of launching doesn't take all."""


def accelerate_handlers() -> list[Any]:
    """List Accelerate's handlers with settings for a longer time limit and less gradient memory."""
    return [
        InitProcessGroupKwargs(timeout=PROCESS_TIMEOUT),
        DistributedDataParallelKwargs(gradient_as_bucket_view=True),
    ]


def detect_launch(accelerator: Accelerator) -> Launch:
    """Determine how accelerate has launched this training process.

    Raises:
        EgoXInputError: a way that no test covers.
    """
    distributed_type = accelerator.distributed_type
    if distributed_type == DistributedType.NO:
        return "one"
    if distributed_type in (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        return "ddp"
    if distributed_type == DistributedType.FSDP and accelerator.is_fsdp2:
        return "fsdp2"
    raise EgoXInputError(
        "accelerate configuration",
        got={DistributedType.FSDP: "FSDP of version 1"}.get(
            distributed_type, distributed_type.value
        ),
        expected="one process, DDP or FSDP2",
        fix="launch with one of configs/accelerate_*.yaml",
    )


def check_launch(config: TrainConfig, launch: Launch) -> None:
    """Refuse training settings that don't work with the kind of launch.

    Raises:
        EgoXInputError: names the setting and what it doesn't go with.
    """
    for name, allowed_values in ALLOWED[launch].items():
        setting_value = reduce(getattr, name.split("."), config)
        if setting_value not in allowed_values:
            raise EgoXInputError(
                f"{name} under {NAMES[launch]}",
                got=setting_value,
                expected=" or ".join(str(v).lower() for v in allowed_values),
                fix="change it, or launch with configs/accelerate_one_gpu.yaml",
            )
    if config.memory.compile and (
        config.memory.block_offload
        or config.memory.checkpoint_offload
        or config.memory.base_dtype not in _UNQUANTISED_TYPES
    ):
        raise EgoXInputError(
            "memory.compile",
            got="true, with offload or a small base",
            expected="one of them",
            fix="set memory.compile=false",
        )
    if config.memory.block_offload:
        if config.memory.base_dtype not in _UNQUANTISED_TYPES:
            raise EgoXInputError(
                "memory.block_offload",
                got=f"base_dtype {config.memory.base_dtype}",
                expected=" or ".join(_UNQUANTISED_TYPES),
                fix=(
                    "choose one of the two; a small base can have memory.checkpoint_offload instead"
                ),
            )
        if not config.trains_lora:
            raise EgoXInputError(
                "memory.block_offload",
                got=f"task {config.task}, which trains all weights",
                expected="frozen weights, as the base of a LoRA has them",
                fix="leave memory.block_offload out",
            )


def micro_steps_for(config: TrainConfig, processes: int, state: TrainState | None) -> int:
    """Compute the number of micro-steps per optimizer step that keeps the global batch size.

    Raises:
        EgoXInputError: the global batch can't be split like that, or the configuration asks for
            another one.
    """
    clips_per_step = config.batch_size * config.gradient_accumulation * processes
    if state is None or state.global_batch == clips_per_step:
        return config.gradient_accumulation
    configured_batch = (config.batch_size, config.gradient_accumulation)
    old_sizes = (state.config.get("batch_size", 1), state.config.get("gradient_accumulation", 1))
    if configured_batch != old_sizes:
        raise EgoXInputError(
            "resumed training",
            got="other batch_size, gradient_accumulation than the checkpoint "
            f"({configured_batch[0]}, {configured_batch[1]}; then {old_sizes[0]}, {old_sizes[1]}): "
            f"{clips_per_step} clips per step on {processes} processes instead of "
            f"{state.global_batch}",
            expected="the same global batch",
            fix="restore them, or train into a different output folder",
        )
    micro_steps, remainder = divmod(state.global_batch, config.batch_size * processes)
    if remainder:
        raise EgoXInputError(
            "resumed training",
            got=f"{processes} processes with batch_size {config.batch_size}",
            expected=f"a split of the checkpoint's global batch of {state.global_batch}",
            fix="use a number of processes that divides it, or a smaller batch_size with more "
            "gradient_accumulation",
        )
    return micro_steps


def resume_notes(
    config: TrainConfig, accumulation: int, processes: int, state: TrainState
) -> list[str]:
    """Describe harmless differences from the checkpoint's run."""
    notes = []
    clips_per_step = config.batch_size * accumulation * processes
    if accumulation != config.gradient_accumulation:
        notes.append(
            f"processes: {processes}; gradient_accumulation {accumulation} instead of "
            f"{config.gradient_accumulation} keeps the checkpoint's {clips_per_step} clips per step"
        )
    old_steps = state.config.get("steps")
    if config.optimizer.decay == "cosine" and old_steps != config.steps:
        notes.append(
            f"steps is {config.steps}, was {old_steps}: from step {state.step} on the learning "
            "rate follows another cosine"
        )
    return notes
