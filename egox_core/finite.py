"""NaN and infinity in a model's numbers: found on what a forward gives, and where they began."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .errors import EgoXInputError


def all_finite(*tensors: Tensor) -> bool:
    """Check that no number is NaN or infinite, without copying the tensors."""
    return all(bool(torch.stack(x.aminmax()).isfinite().all()) for x in tensors if x.numel())


def check_finite(
    out: Tensor,
    step: int,
    inputs: Mapping[str, Tensor | None],
    blocks: Sequence[nn.Module] = (),
    again: Callable[[], object] = lambda: None,
) -> None:
    """Refuse what a forward gives where it isn't finite.

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
    bad_names = [name for name, x in inputs.items() if x is not None and not all_finite(x)]
    place = f"from {', '.join(bad_names)} on" if bad_names else _first_block(blocks, again)
    raise EgoXInputError(
        f"step {step} of the sampling",
        got=f"NaN or infinite numbers, {place}",
        expected="finite numbers",
        fix="compare size and SHA-256 of the model's, LoRA's and encoders' files with those that "
        "their page states (a damaged or overflowing file gives NaN), set the LoRA's strength back "
        "to 1, take out whatever changes the attention's kernel or its precision",
    )


class _FoundError(Exception):
    """Ends the repeated forward."""


def _first_block(blocks: Sequence[nn.Module], again: Callable[[], object]) -> str:
    """Name the part of the transformer that is the first to give a result that isn't finite."""
    last_block = -1

    def look(block: nn.Module, args: tuple, named: Mapping, out: Tensor) -> None:
        nonlocal last_block
        inputs = [
            x for x in (*args, *named.values()) if isinstance(x, Tensor) and x.is_floating_point()
        ]
        if last_block < 0 and not all_finite(*inputs):
            raise _FoundError("in the embeddings before the first block")
        last_block += 1
        if not all_finite(out):
            raise _FoundError(f"first in blocks.{last_block} of {len(blocks)}")

    hooks = [block.register_forward_hook(look, with_kwargs=True) for block in blocks]
    try:
        again()
    except _FoundError as found:
        return str(found)
    finally:
        for hook in hooks:
            hook.remove()
    # Compiled code may pass by the hooks.
    return "in the transformer" if last_block < 0 else "first after the last block"
