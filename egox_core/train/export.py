"""From a checkpoint to files: the LoRA in both namings, the base with it fused in, and what ``inspect`` says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import EgoXInputError, check_choice
from ..predict.files import PREDICTOR_FILE, save_predictor
from ..safe_files import write_whole
from ..wan.lora_settings import PREFIX, trained_with
from ..wan.method_file import ALIGN_PREFIX, POSE_PREFIX, join_method, split_method
from ..wan.transformer import load_base, save_native
from ..wan.weights import file_metadata, read_header, weights_hash
from .checkpoints import checkpoint_folders, load_checkpoint
from .config import TrainConfig, parse_config
from .lora import fuse, read_method, save_lora, training_metadata, views_metadata

if TYPE_CHECKING:
    from .model import TrainableModel

LORA_FILE = "lora.safetensors"
BASE_FILE = "base.safetensors"
ALIGN_FILE = "align.safetensors"
FORMS = ("released", "native", "fused")


def write_results(
    config: TrainConfig,
    tensors: Mapping[str, Tensor],  # the trained weights by name
    trainable: TrainableModel,
    step: int,
    vae: str = "",  # hash of the cache's VAE
) -> Path:
    """What a run leaves beside its checkpoints: ``lora.safetensors`` in the released naming, with pose injection and
    alignment where it has them; a trained base, or an alignment."""
    output = Path(config.output)
    if config.task == "predict":
        save_predictor(tensors, trainable.model.size, output / PREDICTOR_FILE, {"egox.steps": str(step)})
        return output / PREDICTOR_FILE
    if config.task == "view_align":
        with write_whole(output / ALIGN_FILE) as temporary:
            save_file({ALIGN_PREFIX + k: v.contiguous() for k, v in tensors.items()}, temporary,
                      metadata=align_metadata(config, vae=vae, step=step))
        return output / ALIGN_FILE
    if config.trains_lora:
        metadata = training_metadata(config, base_hash=trainable.base_hash, step=step)
        joined, more = _with_alignment(tensors, config)
        save_lora(joined, output / LORA_FILE, {**metadata, **more}, "released")
        return output / LORA_FILE
    trainable.put(tensors, "trained base")
    save_native(trainable.model, output / BASE_FILE, {"egox.base_steps": str(step)}, torch.float32)
    return output / BASE_FILE


def export(source: Path, file: Path, form: str, *, base: Path | None = None, strength: float = 1.0,
           dtype: torch.dtype = torch.float32) -> dict[str, str]:
    """Writes a LoRA (or a training run's last checkpoint) in another form; its metadata.

    Args:
        source: a LoRA file, or an output folder of ``train``.
        form: ``released`` or ``native`` naming, or ``fused`` into ``base`` (a ComfyUI file).

    Raises:
        EgoXInputError: unknown form, no checkpoint, fused without a base or into another base than it was trained on.
    """
    check_choice("export form", form, FORMS)
    tensors, metadata = _tensors_of(source)
    modules = sorted({k.split(".")[0] for k in tensors if k.startswith((POSE_PREFIX, ALIGN_PREFIX))})
    if form == "fused" and modules:
        raise EgoXInputError("export fused", got=f"a file with {', '.join(modules)}", expected="a plain LoRA",
                             fix="a base has no place for them: use the form released or native")
    if form != "fused":
        save_lora(tensors, file, metadata, form, dtype)
        return metadata
    if base is None:
        raise EgoXInputError("export fused", got="no base", expected="--base FILE or folder", fix="name the base model")
    trained_on, base_hash = metadata.get("egox.base_hash", ""), weights_hash(base, "base model")
    if trained_on and trained_on != base_hash:
        raise EgoXInputError("base model to fuse into", got=f"{base.name} ({base_hash})",
                             expected=f"{metadata.get('egox.base')} ({trained_on})",
                             fix="use the base that the LoRA was trained on")
    model = load_base(base)
    fuse(model, tensors, strength)
    save_native(model, file, {k: v for k, v in metadata.items() if k != "format"}, dtype)
    return metadata


def _tensors_of(source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors with scale 1 and metadata whose rank and alpha say so (what a file written again must carry)."""
    if source.is_file():
        parts, metadata = read_method(source)
        rank = next(v.shape[0] for k, v in parts.lora.items() if k.endswith(".lora_A.weight"))
        metadata = {"egox.rank": str(rank), **metadata, "egox.alpha": str(rank)}
        return join_method(parts.lora, parts.pose, parts.align), metadata
    folders = checkpoint_folders(source)
    if not folders:
        raise EgoXInputError("export", got=f"{source.name!r}: neither a LoRA file nor a run with checkpoints",
                             expected="a .safetensors file or train's output folder", fix="check the path")
    state = load_checkpoint(folders[-1])
    config = parse_config(state.config)
    if not config.trains_lora:
        result = {"base_i2v": BASE_FILE, "predict": PREDICTOR_FILE}.get(config.task, ALIGN_FILE)
        raise EgoXInputError("export", got=f"a run of task {config.task}", expected="a LoRA's run",
                             fix=f"its {result} is a finished file")
    scale = config.lora.alpha / config.lora.rank
    tensors = {k: v * scale if ".lora_B." in k else v for k, v in state.weights.items()}
    metadata = training_metadata(config, base_hash=state.base_hash, step=state.step)
    joined, more = _with_alignment(tensors, config)
    return joined, {**metadata, "egox.alpha": metadata["egox.rank"], **more}


def align_metadata(config: TrainConfig, *, vae: str, step: int) -> dict[str, str]:
    """What an alignment's file says of its training."""
    settings = config.model_dump(mode="json")
    settings.update({key: Path(settings[key]).name for key in ("cache", "output")})
    entries = {"align_frames": config.align.frames, "vae": vae, "steps": str(step), "config": json.dumps(settings)}
    return {"format": "pt", **views_metadata(config), **{PREFIX + key: value for key, value in entries.items()}}


def _with_alignment(tensors: Mapping[str, Tensor], config: TrainConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with those of the alignment that they were trained on, and what the file says of it."""
    file = config.views.align
    if file is None:
        return dict(tensors), {}
    trained = trained_with(file_metadata(file, "alignment"))
    align = split_method(load_file(file)).align
    return join_method(tensors, None, align), {
        PREFIX + key: trained[key] for key in ("align_frames", "vae") if key in trained}


def inspect(file: Path) -> dict[str, str]:
    """What a LoRA file says and holds, for printing.

    Raises:
        EgoXInputError: not a safetensors file, no LoRA.
    """
    parts, metadata = read_method(file)
    tensors = parts.lora
    ranks = sorted({v.shape[0] for k, v in tensors.items() if k.endswith(".lora_A.weight")})
    modules = sorted({".".join(k.split(".")[2:-2]) for k in tensors})
    blocks = len({k.split(".")[1] for k in tensors})
    facts = {"file": file.name, "hash": weights_hash(file, "LoRA"), "rank": ", ".join(map(str, ranks)),
           "alpha": metadata.get("egox.alpha", "not in the file: rank is taken, as the released code does"),
           "targets": " ".join(modules), "blocks": str(blocks),
           "parameters": str(sum(v.numel() for v in tensors.values())),
           "naming": metadata.get("egox.naming", "unknown"),
           "dtype": next(iter({e["dtype"] for k, e in read_header(file, "LoRA").items() if k != "__metadata__"}))}
    if parts.pose is not None:
        facts["pose injection"] = f"{sum(p.numel() for p in parts.pose.parameters())} parameters"
    if parts.align is not None:
        facts["alignment"] = f"{sum(p.numel() for p in parts.align.parameters())} parameters"
    own = {k: v for k, v in file_metadata(file, "LoRA").items() if k.startswith(PREFIX)}
    return {**facts, **dict(sorted(own.items()))}
