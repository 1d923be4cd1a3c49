"""Find NaN and infinity in the output of a model, and the block that made it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .errors import EgoXInputError


def all_finite(*tensors: Tensor) -> bool:
    """Check that no number is NaN or infinite, without copying the tensors."""
    return all(
        bool(torch.stack(tensor.aminmax()).isfinite().all()) for tensor in tensors if tensor.numel()
    )


def check_finite(
    out: Tensor,
    step: int,
    inputs: Mapping[str, Tensor | None],
    blocks: Sequence[nn.Module] = (),
    again: Callable[[], object] = lambda: None,
) -> None:
    """Refuse the output of a model's forward pass if it isn't finite, and name the cause.

    Models may be compiled, so callers wrap it: ``torch.compiler.disable(check_finite)(...)``. As a
    decorator that would import as much again as torch itself, wherever this module is.

    Args:
        step: of the sampling, from 1.
        inputs: of the forward, by names for people.
        blocks: of the transformer, whose outputs are looked at while ``again`` repeats the forward;
            only then, so that a sound run pays for one look at ``out``.

    Raises:
        EgoXInputError: names the step, and the input or block where it began.
    """
    if all_finite(out):
        return
    bad_names = [
        name for name, tensor in inputs.items() if tensor is not None and not all_finite(tensor)
    ]
    cause = f"from {', '.join(bad_names)} on" if bad_names else _first_block(blocks, again)
    raise EgoXInputError(
        f"step {step} of the sampling",
        got=f"NaN or infinite numbers, {cause}",
        expected="finite numbers",
        fix="compare size and SHA-256 of the model's, LoRA's and encoders' files with those that "
        "their page states (a damaged or overflowing file gives NaN), set the LoRA's strength back "
        "to 1, take out whatever changes the attention's kernel or its precision",
    )


class _FoundError(Exception):
    """Exception that stops a repeated forward pass at the block that produced NaN or infinity."""


def _first_block(blocks: Sequence[nn.Module], again: Callable[[], object]) -> str:
    """Name the first transformer block whose output isn't finite."""
    last_block = -1

    def check_block(block: nn.Module, args: tuple, named_args: Mapping, out: Tensor) -> None:
        nonlocal last_block
        inputs = [
            tensor
            for tensor in (*args, *named_args.values())
            if isinstance(tensor, Tensor) and tensor.is_floating_point()
        ]
        if last_block < 0 and not all_finite(*inputs):
            raise _FoundError("in the embeddings before the first block")
        last_block += 1
        if not all_finite(out):
            raise _FoundError(f"first in blocks.{last_block} of {len(blocks)}")

    hooks = [block.register_forward_hook(check_block, with_kwargs=True) for block in blocks]
    try:
        again()
    except _FoundError as found:
        return str(found)
    finally:
        for hook in hooks:
            hook.remove()
    # Compiled code may pass by the hooks.
    return "in the transformer" if last_block < 0 else "first after the last block"
