"""Compile the transformer's blocks with torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from egox_core.errors import EgoXInputError

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


def compile_blocks(model: WanTransformer3DModel, device: torch.device) -> None:
    """Compile each block of the transformer in place.

    The guided attention stays as it is: its bias is another at each step
    (:mod:`..wan.diffusers_processor`).

    Raises:
        EgoXInputError: torch can't compile for this device.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    # what is missing raises anything: a C++ compiler, Triton, a Python that torch knows
    except Exception as error:
        raise EgoXInputError(
            "memory.compile",
            got=f"torch can't compile here: {str(error).strip().splitlines()[0]}",
            expected="a C++ compiler for a CPU, Triton for a GPU",
            fix="install it, or set memory.compile=false",
        ) from error
    for block in model.blocks:
        block.compile(dynamic=False)
