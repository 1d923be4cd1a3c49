"""Export a trained LoRA in other file formats, or fused into the base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from egox_core.errors import EgoXInputError, check_choice
from egox_core.wan import (
    MERGED,
    StreamedWeights,
    check_lora,
    check_new_file,
    check_run_files,
    egox_entries,
    file_digest,
    rename_parameter,
    weight_file,
    write_streamed,
)

from ..wan.transformer import base_without_weights, native_metadata, save_native, weight_files
from ..wan.weights import weights_hash
from .checkpoints import checkpoint_folders, load_checkpoint
from .config import TrainConfig, parse_config
from .lora import DOWN, pair_lora_matrices, read_lora, save_lora, training_metadata

if TYPE_CHECKING:
    from .model import TrainableModel

LORA_FILE = "lora.safetensors"
BASE_FILE = "base.safetensors"
EXPORT_FORMS = ("released", "native", "fused")


def write_results(
    config: TrainConfig,
    tensors: Mapping[str, Tensor],  # the trained weights by name
    trainable: TrainableModel,
    step: int,
) -> Path:
    """Write the trained LoRA or base model beside the checkpoints."""
    output_folder = Path(config.output)
    if config.trains_lora:
        metadata = training_metadata(config, base_hash=trainable.base_hash, step=step)
        save_lora(tensors, output_folder / LORA_FILE, metadata, "released")
        return output_folder / LORA_FILE
    trainable.load_tensors(tensors, "trained base")
    save_native(
        trainable.model, output_folder / BASE_FILE, {"egox.base_steps": str(step)}, torch.float32
    )
    return output_folder / BASE_FILE


def export(
    source: Path,
    file: Path,
    target_form: Literal["released", "native", "fused"],
    *,
    base: Path | None = None,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, str]:
    """Write a LoRA or the last checkpoint of a training run in another format.

    Args:
        source: a LoRA file, or an output folder of ``train``.
        target_form: ``released`` or ``native`` naming, or ``fused`` into ``base`` (a ComfyUI file).

    Raises:
        EgoXInputError: unknown form, no checkpoint, fused without a base or into another base than
            it was trained on; as :func:`~egox_core.wan.check_new_file`.
    """
    check_choice("export form", target_form, EXPORT_FORMS)
    lora_file = source if source.is_file() else None
    check_new_file(file, (lora_file,), strength, base)
    tensors, metadata = _tensors_of(source)
    if target_form != "fused":
        save_lora(tensors, file, metadata, target_form, dtype)
        return metadata
    if base is None:
        raise EgoXInputError(
            "export fused",
            got="no base",
            expected="--base FILE or folder",
            fix="name the base model",
        )
    trained_on, base_hash = metadata.get("egox.base_hash", ""), weights_hash(base, "base model")
    if trained_on and trained_on != base_hash:
        raise EgoXInputError(
            "base model to fuse into",
            got=f"{base.name} ({base_hash})",
            expected=f"{metadata.get('egox.base')} ({trained_on})",
            fix="use the base that the LoRA was trained on",
        )
    check_run_files(base, lora_file)
    lora_path = lora_file or source / LORA_FILE
    fused_metadata = {
        **{k: v for k, v in metadata.items() if k != "format"},
        MERGED: file_digest(lora_path) if lora_path.is_file() else metadata["egox.steps"],
        f"{MERGED}_from": f"{base.name} + {strength:g} x {source.name}",
    }
    _write_fused(base, tensors, strength, file, fused_metadata, dtype)
    return metadata


def _write_fused(
    base: Path,
    tensors: Mapping[str, Tensor],
    strength: float,
    file: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype,
) -> None:
    """Write the base model with the LoRA fused in."""
    config = base_without_weights(base)
    base_weights = StreamedWeights(weight_files(base), f"base model {base.name}")
    weight_shapes = base_weights.shapes()
    # the base model check has refused names of another model
    source_names = {str(rename_parameter(name)): name for name in weight_shapes}
    diffusers_names = {name: str(rename_parameter(name, "diffusers")) for name in weight_shapes}
    matrices_by_weight = pair_lora_matrices(
        tensors, {diffusers_names[name]: shape for name, shape in weight_shapes.items()}
    )

    def fused(name: str) -> Tensor:
        weight = base_weights[source_names[name]]
        lora_pair = matrices_by_weight.get(diffusers_names[source_names[name]])
        if lora_pair is not None:
            a, b = (x.double() for x in lora_pair)
            weight = weight.float() + strength * (b @ a).float()
        return weight

    write_streamed(
        file,
        {name: (weight_shapes[source_name], dtype) for name, source_name in source_names.items()},
        fused,
        {**native_metadata(config), **metadata},
    )


def _tensors_of(source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a LoRA or checkpoint for export."""
    if source.is_file():
        tensors, metadata = read_lora(source)
        lora_rank = max(len(v) for k, v in tensors.items() if k.endswith(DOWN))
        return tensors, {**metadata, "egox.rank": str(lora_rank), "egox.alpha": str(lora_rank)}
    checkpoints = checkpoint_folders(source)
    if not checkpoints:
        raise EgoXInputError(
            "export",
            got=f"{source.name!r}: neither a LoRA file nor a run with checkpoints",
            expected="a .safetensors file or train's output folder",
            fix="check the path",
        )
    checkpoint_state = load_checkpoint(checkpoints[-1])
    config = parse_config(checkpoint_state.config)
    if not config.trains_lora:
        raise EgoXInputError(
            "export",
            got=f"a run of task {config.task}",
            expected="a LoRA's run",
            fix=f"its {BASE_FILE} is a finished file",
        )
    scale = config.lora.alpha / config.lora.rank
    tensors = {k: v * scale if ".lora_B." in k else v for k, v in checkpoint_state.weights.items()}
    metadata = training_metadata(
        config, base_hash=checkpoint_state.base_hash, step=checkpoint_state.step
    )
    return tensors, {**metadata, "egox.alpha": metadata["egox.rank"]}


def inspect(file: Path) -> dict[str, str]:
    """Describe a LoRA file's metadata and tensors as text.

    Raises:
        EgoXInputError: not a safetensors file, no LoRA.
    """
    check_lora(file)
    lora_weights, metadata = read_lora(file)
    lora_ranks = sorted({len(v) for k, v in lora_weights.items() if k.endswith(DOWN)})
    module_names = sorted({".".join(k.split(".")[2:-2]) for k in lora_weights})
    block_count = len({k.split(".")[1] for k in lora_weights})
    number_types = {entry["dtype"] for entry in weight_file(file, "LoRA").entries.values()}
    lora_description = {
        "file": file.name,
        "hash": weights_hash(file, "LoRA"),
        "rank": ", ".join(map(str, lora_ranks)),
        "alpha": metadata.get(
            "egox.alpha", "not in the file: rank is taken, as the released code does"
        ),
        "targets": " ".join(module_names),
        "blocks": str(block_count),
        "parameters": str(sum(v.numel() for v in lora_weights.values())),
        "naming": metadata.get("egox.naming", "unknown"),
        "dtype": ", ".join(sorted(number_types)),
    }
    return {**lora_description, **dict(sorted(egox_entries(metadata).items()))}
