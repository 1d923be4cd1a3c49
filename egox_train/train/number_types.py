"""Settle the number types of a training configuration that leaves them to the machine."""

from collections.abc import Mapping
from typing import Any

import torch

from egox_core.errors import EgoXInputError

from ..compute_type import compute_type
from .config import TrainConfig


def settle_types(
    config: TrainConfig,
    device: torch.device,
    earlier_config: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Put named types in the place of ``auto`` in a configuration.

    ``earlier_config``: of the checkpoint that is resumed, whose types are kept.

    Raises:
        EgoXInputError: a base in a smaller type than the computation.
    """
    memory_settings: Mapping[str, Any] = config.memory.model_dump()
    earlier_settings = (earlier_config or {}).get("memory", {})
    base_dtype, named_type = (
        earlier_settings.get(name, memory_settings[name])
        if memory_settings[name] == "auto"
        else memory_settings[name]
        for name in ("base_dtype", "compute_dtype")
    )
    if named_type == "auto" and base_dtype in ("bfloat16", "float8"):
        named_type = "bfloat16"
    computed_in = compute_type(named_type, device)
    if base_dtype == "auto":
        base_dtype = computed_in if config.trains_lora else "float32"
    if computed_in == "float32" and base_dtype != "float32":
        word = " and" if earlier_settings else ", or"  # both: the checkpoint's own fit together
        raise EgoXInputError(
            "memory.compute_dtype",
            got=f"float32 on a base in {base_dtype}",
            expected="bfloat16, or a base in float32",
            fix=f"set memory.base_dtype=auto{word} memory.compute_dtype=auto",
        )
    memory = config.memory.model_copy(
        update={"base_dtype": base_dtype, "compute_dtype": computed_in}
    )
    return config.model_copy(update={"memory": memory})
