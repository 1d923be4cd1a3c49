"""One file for a LoRA with what belongs to it: pose injection and alignment, each under a prefix of its own.

Stock loaders take the LoRA's part and leave the rest; :func:`split_method` takes the three apart. In the style of
Exo2EgoSyn; the paper gives no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import EgoXInputError
from .align import AlignSize, ExoEgoAlign
from .pose_injection import PoseInjection

METHOD = {"egox.method": "exo2ego_syn/1"}
"""Metadata of such a file, beside the LoRA's own."""
POSE_PREFIX, ALIGN_PREFIX = "egox_pose.", "egox_align."


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodParts:
    """The parts of a file."""

    lora: dict[str, Tensor]  # in the file's own naming
    pose: PoseInjection | None
    align: ExoEgoAlign | None


def join_method(lora: Mapping[str, Tensor], pose: PoseInjection | None = None,
                align: ExoEgoAlign | None = None) -> dict[str, Tensor]:
    """The tensors of such a file, by name."""
    parts = ((POSE_PREFIX, pose), (ALIGN_PREFIX, align))
    modules = {prefix + name: tensor for prefix, module in parts if module is not None
               for name, tensor in module.state_dict().items()}
    return {**lora, **modules}


def split_method(state: Mapping[str, Tensor]) -> MethodParts:
    """The parts of a file's tensors; a plain LoRA has neither module.

    Raises:
        EgoXInputError: a module that lacks a tensor, or has one too many or of another size.
    """
    pose, align = (_under(state, prefix) for prefix in (POSE_PREFIX, ALIGN_PREFIX))
    lora = {name: tensor for name, tensor in state.items() if not name.startswith((POSE_PREFIX, ALIGN_PREFIX))}
    return MethodParts(lora=lora, pose=_load(pose, "pose injection", _pose_of) if pose else None,
                       align=_load(align, "alignment", _align_of) if align else None)


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _pose_of(state: Mapping[str, Tensor]) -> PoseInjection:
    blocks = 1 + sum(name.startswith("deeper.") and name.endswith(".weight") for name in state)
    return PoseInjection(state["outer.weight"].shape[0], hidden=state["inner.weight"].shape[0], blocks=blocks)


def _align_of(state: Mapping[str, Tensor]) -> ExoEgoAlign:
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    return ExoEgoAlign(AlignSize(width=state["norm.weight"].shape[0], layers=layers))


def _load(state: dict[str, Tensor], what: str, module_of) -> nn.Module:
    try:
        with torch.device("meta"):
            module = module_of(state)
        module.load_state_dict(state, strict=True, assign=True)
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise EgoXInputError(f"{what} of the LoRA's file", got=str(error).splitlines()[-1].strip()[:300],
                             expected="all of its tensors, each of its size",
                             fix="the file is incomplete: download it again") from error
    return module.requires_grad_(False).eval()
