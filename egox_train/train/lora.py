"""Add a LoRA to a model, and read and write its file."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from egox_core.errors import EgoXInputError
from egox_core.safe_files import atomic_write
from egox_core.wan import MATRICES, PREFIX, convert_lora, trained_with, weight_file

from .config import (
    LORA_FIELD_NAMES,
    LoraSettings,
    TrainConfig,
    config_to_share,
    target_modules,
)
from .sharded import full_tensor

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

logger = logging.getLogger(__name__)
ADAPTER = "egox"
DOWN, UP = MATRICES
RELEASED_PREFIX = "transformer."
Naming = Literal["released", "native"]


def add_lora(model: WanTransformer3DModel, settings: LoraSettings, seed: int) -> list[nn.Parameter]:
    """Add untrained LoRA layers to the frozen model, and list their parameters.

    A is random and B zero, so that the output is that of the base.

    Raises:
        EgoXInputError: a target that this model hasn't.
    """
    target_names = target_modules(settings.targets)
    module_pattern = rf"blocks\.\d+\.({'|'.join(map(re.escape, target_names))})"
    missing_modules = [
        module_name
        for module_name in target_names
        if not any(
            re.fullmatch(rf"blocks\.\d+\.{re.escape(module_name)}", n)
            for n, _ in model.named_modules()
        )
    ]
    if missing_modules:
        raise EgoXInputError(
            "LoRA target",
            got=f"{', '.join(missing_modules)}",
            expected="modules of this base model",
            fix=f"leave {', '.join(missing_modules)} out of lora.targets: this base has no image "
            "embedding",
        )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,  # ty: ignore[invalid-argument-type]  PEFT divides it
                target_modules=module_pattern,
                lora_dropout=settings.dropout,
                init_lora_weights=True,
            ),
            adapter_name=ADAPTER,
        )
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    lora_layers: list[Any] = [
        layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)
    ]
    for module in lora_layers:
        # Under autocast a float32 copy of every input would be made (and a bfloat16 one of that be
        # kept) for nothing.
        module.cast_input_dtype_enabled = False
    return parameters


def lora_tensors(
    model: nn.Module,
) -> dict[str, Tensor]:  # A [r, in], B [out, r] of each matrix, float32
    """Collect the LoRA's tensors on the CPU, by name."""
    return {
        k: full_tensor(v.detach()).cpu().clone().contiguous()
        for k, v in get_peft_model_state_dict(model, adapter_name=ADAPTER).items()
    }


def load_lora_tensors(
    model: nn.Module,
    # A [r, in], B [out, r] of each matrix.
    tensors: Mapping[str, Tensor],
    # Names the tensors in error messages.
    subject: str,
) -> None:
    """Load LoRA tensors into the model.

    Raises:
        EgoXInputError: tensors missing or too many, or of another shape: a LoRA of another model or
            rank.
    """
    model_shapes, file_shapes = (
        {name: tuple(tensor.shape) for name, tensor in named_tensors.items()}
        for named_tensors in (lora_tensors(model), tensors)
    )
    wrong_names = sorted(
        name
        for name in {*model_shapes, *file_shapes}
        if model_shapes.get(name) != file_shapes.get(name)
    )
    if wrong_names:
        raise EgoXInputError(
            f"{subject}: {len(wrong_names)} tensors, first {wrong_names[0]}",
            got=file_shapes.get(wrong_names[0], "nothing"),
            expected=model_shapes.get(wrong_names[0], "nothing"),
            fix=(
                "give the file that was trained here; this one has a different model, rank or "
                "targets"
            ),
        )
    set_peft_model_state_dict(model, dict(tensors), adapter_name=ADAPTER)


def start_from_lora(model: nn.Module, file: Path, settings: LoraSettings, base_hash: str) -> None:
    """Load the weights of a LoRA file into new LoRA layers of equal or larger rank.

    A file of lower rank fills the first rows; the others start as those of a fresh LoRA do, without
    effect. A pose injection beside it is the caller's to take, else a warning says that it is left
    out.

    Raises:
        EgoXInputError: no LoRA, or one of another model, higher rank or other targets. Another base
            of the same shape is a warning.
    """
    tensors, metadata = read_lora(file)
    trained_settings = trained_with(metadata)
    if trained_settings.get("base_hash", base_hash) != base_hash:
        logger.warning(
            "init_lora %s was trained on %s (%s), not on this base (%s)",
            file.name,
            trained_settings.get("base", "another base"),
            trained_settings["base_hash"],
            base_hash,
        )
    scale = (
        settings.alpha / settings.rank
    )  # read_lora has it inside B; these layers multiply it again
    start_tensors = {
        k: v.float() / scale if ".lora_B." in k else v.float() for k, v in tensors.items()
    }
    new_tensors = lora_tensors(model)  # its B is zero
    load_lora_tensors(
        model,
        {
            k: _pad_to_rank(v, new_tensors[k]) if k in new_tensors else v
            for k, v in start_tensors.items()
        },
        f"init_lora {file.name}",
    )


def _pad_to_rank(start_matrix: Tensor, new_matrix: Tensor) -> Tensor:
    """Copy a LoRA matrix into a new one of larger rank.

    It fills the first rows (of an A) or columns (of a B)."""
    side_pairs = list(zip(start_matrix.shape, new_matrix.shape, strict=True))
    if (
        any(old_side > new_side for old_side, new_side in side_pairs)
        or sum(old_side < new_side for old_side, new_side in side_pairs) != 1
    ):
        return start_matrix  # equal, or of another model, which load_lora_tensors refuses
    padded_matrix = new_matrix.clone()
    padded_matrix[tuple(slice(size) for size in start_matrix.shape)] = start_matrix
    return padded_matrix


def training_metadata(config: TrainConfig, *, base_hash: str, step: int) -> dict[str, str]:
    """Build the metadata of a trained LoRA's file.

    *EgoX LoRA*, *EgoX Model Patch* and ``inspect`` read it, and all values are strings."""
    entries = {
        "format": "egox-lora/1",
        **{
            key: f"{value:g}" if isinstance(value, float) else str(value).lower()
            for key, value in config.conditioning
            if key in (*LORA_FIELD_NAMES, "image_embedding")
        },
        "shift": f"{config.timesteps.shift:g}",
        "rank": str(config.lora.rank),
        "alpha": f"{config.lora.alpha:g}",
        "targets": " ".join(target_modules(config.lora.targets)),
        "base": config.base.name,
        "base_hash": base_hash,
        "steps": str(step),
        "config": json.dumps(config_to_share(config)),
    }
    return {"format": "pt", **{PREFIX + key: value for key, value in entries.items()}}


def save_lora(
    # A [r, in], B [out, r] of each matrix, named as by :func:`lora_tensors`.
    tensors: Mapping[str, Tensor],
    file: Path,
    metadata: Mapping[str, str],
    naming: Naming,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a LoRA to a safetensors file atomically.

    ``released``: ``transformer.`` and diffusers' names, no alpha; since every reader of that naming
    takes alpha = rank (quirks 41), alpha / rank is multiplied into B, so that the file works as it
    was trained. ``native``: ComfyUI's names with an alpha for each matrix."""
    lora_scale = float(metadata["egox.alpha"]) / int(metadata["egox.rank"])
    if naming == "released":
        named_tensors = {
            RELEASED_PREFIX + k: (v * lora_scale if ".lora_B." in k else v)
            for k, v in tensors.items()
        }
    else:
        alpha_tensors = {
            k.replace(".lora_A.weight", ".alpha"): torch.tensor(lora_scale * len(matrix))
            for k, matrix in tensors.items()
            if ".lora_A." in k
        }
        named_tensors = convert_lora(
            {RELEASED_PREFIX + k: v for k, v in {**tensors, **alpha_tensors}.items()}
        ).tensors
    with atomic_write(file) as temporary_file:
        save_file(
            {k: v.to(dtype).contiguous() for k, v in named_tensors.items()},
            temporary_file,
            metadata={**metadata, "egox.naming": naming},
        )


def read_lora(
    file: Path,
) -> tuple[dict[str, Tensor], dict[str, str]]:  # A [r, in], B [out, r]; metadata
    """Read the tensors and the metadata of a LoRA file.

    The tensors have the names of :func:`lora_tensors`, with alpha / rank multiplied into B.

    Raises:
        EgoXInputError: no LoRA of a Wan transformer in any known naming.
    """
    weights = weight_file(file, f"LoRA {file.name}")
    lora = weights.lora("diffusers")
    if lora.remark:
        logger.warning("%s: %s", file.name, lora.remark)
    named_tensors = {}
    for part in lora.parts:
        name = part.removeprefix(RELEASED_PREFIX)
        named_tensors[name + DOWN] = lora.tensors[part + DOWN]
        named_tensors[name + UP] = lora.tensors[part + UP] * lora.scale_of(part)
    return named_tensors, weights.metadata


def fuse(
    model: nn.Module,
    # A [r, in], B [out, r] of each matrix, with the scale inside B.
    tensors: Mapping[str, Tensor],
    strength: float = 1.0,
) -> int:
    """Add the LoRA's product B A to the model's weights in place.

    Raises:
        EgoXInputError: a matrix that the model hasn't, or of another shape.
    """
    model_weights = dict(model.named_parameters())
    matrices_by_weight = pair_lora_matrices(
        tensors, {name: tuple(w.shape) for name, w in model_weights.items()}
    )
    for name, (a, b) in matrices_by_weight.items():
        model_weight = model_weights[name]
        model_weight.data += strength * (b.double() @ a.double()).to(model_weight.dtype)
    return len(matrices_by_weight)


def pair_lora_matrices(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair the LoRA's matrices A and B for each weight that they change.

    Raises:
        EgoXInputError: as :func:`fuse`.
    """
    matrices_by_weight = {}
    for name in sorted(k for k in tensors if k.endswith(DOWN)):
        module_name = name.removesuffix(DOWN)
        down_matrix, up_matrix = tensors[name], tensors.get(module_name + UP)
        weight_shape = shapes.get(f"{module_name}.weight")
        change_shape = None if up_matrix is None else (len(up_matrix), down_matrix.shape[1])
        if up_matrix is None or change_shape != weight_shape:
            raise EgoXInputError(
                f"LoRA matrix {module_name}",
                got=f"a change of shape {change_shape}",
                expected=str(weight_shape or "no such weight in this base"),
                fix="the LoRA belongs to a different base model",
            )
        matrices_by_weight[f"{module_name}.weight"] = (down_matrix, up_matrix)
    return matrices_by_weight
