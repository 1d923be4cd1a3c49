"""Less memory on the accelerator: a base of 8 bits per weight, blocks and checkpoints that wait on the
CPU.

Checkpoints on the CPU are 11.5 GB less on the GPU at 14B and 28,028 tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from egox_core.errors import EgoXInputError, needs_package

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


def store_base(model: WanTransformer3DModel, kind: str) -> None:
    """Keeps the linear layers of the blocks in ``kind``; float32 and bfloat16 are what the model
    was loaded in.

    ``float8``: torchao's weight-only e4m3 with a scale per row.

    Raises:
        EgoXInputError: the package isn't installed.
    """
    if kind != "float8":
        return
    with needs_package(
        "torchao", "base_dtype float8", expected="the package torchao", instead=", or use bfloat16"
    ):
        from torchao.quantization import Float8WeightOnlyConfig, quantize_
    quantize_(model.blocks, Float8WeightOnlyConfig())


class VisitingForward:
    """The forward of a block whose frozen weights stay on the CPU; each call copies them over and
    lets them go.

    With gradient checkpointing the copy lives for one block's forward, and again for its backward;
    the trained (LoRA) weights stay on the accelerator throughout."""

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self.block, self.device = block, device
        self.original = block.forward
        self.inside = False
        for parameter in block.parameters():
            parameter.data = (
                parameter.data.to(device)
                if parameter.requires_grad
                else _pinned(parameter.data, device)
            )

    def __call__(self, *args, **kwargs):
        if self.inside:
            return self.original(*args, **kwargs)
        # A fresh tensor, also on the same device: autograd must hold the copy, never the parked
        # weight.
        weights = {
            n: p if p.requires_grad else p.detach().to(self.device, non_blocking=True, copy=True)
            for n, p in self.block.named_parameters()
        }
        self.inside = True
        try:
            return functional_call(self.block, weights, args, kwargs)
        finally:
            self.inside = False


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    tensor = tensor.to("cpu")
    return tensor.pin_memory() if device.type == "cuda" else tensor


def offload_blocks(model: WanTransformer3DModel, device: torch.device) -> None:
    """Parks the blocks of diffusers' Wan transformer on the CPU, everything else on ``device``.

    Raises:
        EgoXInputError: gradient checkpointing is off (backward would keep every block's copy:
            nothing saved).
    """
    if not getattr(model, "gradient_checkpointing", False):
        raise EgoXInputError(
            "block_offload",
            got="gradient_checkpointing off",
            expected="on",
            fix="set memory.gradient_checkpointing=true",
        )
    blocks = model.blocks
    model.blocks = nn.ModuleList()
    model.to(device)
    model.blocks = blocks
    for block in blocks:
        block.forward = VisitingForward(block, device)


class _ParkedBlock(torch.autograd.Function):
    """Runs a block without a graph, parks its input on the CPU, and runs it again for the
    gradients.

    Only the first input gets a gradient: text and time come from frozen layers. Gradients of what
    is trained inside the block (the LoRA) are added to the parameters by the inner backward.
    """

    @staticmethod
    def forward(ctx, block: nn.Module, hidden: Tensor, *rest):
        ctx.block, ctx.rest, ctx.device = block, rest, hidden.device
        device_type = hidden.device.type
        ctx.autocast = (
            device_type,
            torch.get_autocast_dtype(device_type),
            torch.is_autocast_enabled(device_type),
        )
        ctx.parked = hidden.detach().to("cpu", copy=True)
        with torch.no_grad():
            return block(hidden, *rest)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # ty: ignore[incompatible-method-override]  of one output
        hidden = ctx.parked.to(ctx.device).requires_grad_()
        device_type, dtype, enabled = ctx.autocast
        with torch.enable_grad(), torch.autocast(device_type, dtype=dtype, enabled=enabled):
            out = ctx.block(hidden, *ctx.rest)
        torch.autograd.backward(out, gradient)
        return (None, hidden.grad, *(None for _ in ctx.rest))


def offload_checkpoints(model: WanTransformer3DModel) -> None:
    """Makes diffusers' Wan transformer park its checkpoints; for frozen bases (LoRA) without
    dropout.

    Raises:
        EgoXInputError: gradient checkpointing is off, weights outside the blocks are trained, or
            dropout would differ between the two runs of a block.
    """
    if not getattr(model, "gradient_checkpointing", False):
        raise EgoXInputError(
            "checkpoint_offload",
            got="gradient_checkpointing off",
            expected="on",
            fix="set memory.gradient_checkpointing=true",
        )
    if any(p.requires_grad for n, p in model.named_parameters() if not n.startswith("blocks.")):
        raise EgoXInputError(
            "checkpoint_offload",
            got="all weights are trained",
            expected="a LoRA",
            fix="leave it out for task base_i2v",
        )
    if any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
        raise EgoXInputError(
            "checkpoint_offload",
            got="dropout",
            expected="lora.dropout 0",
            fix="set it to 0, or leave checkpoint_offload out",
        )

    def run(block: nn.Module, hidden: Tensor, *rest):
        # The graph must start before the first block, whose input comes from frozen layers.
        return _ParkedBlock.apply(
            block, hidden if hidden.requires_grad else hidden.requires_grad_(), *rest
        )

    model._gradient_checkpointing_func = run
