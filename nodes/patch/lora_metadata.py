"""Store a LoRA's training settings on the model for later nodes to read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...egox_core.wan import MERGED, PREFIX, check_position_scale, read_header

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

ATTACHMENT = "egox_lora_metadata"
COMFYUI_ATTACHMENT = "lora_metadata"
"""Attachment of ComfyUI's own Load LoRA, with all metadata of the last file."""


def lora_metadata(model: ModelPatcher) -> Mapping[str, str]:
    """Collect the ``egox.*`` metadata of the LoRAs on this model and in its file."""
    comfyui_metadata = model.get_attachment(COMFYUI_ATTACHMENT) or {}
    return {
        **merged_metadata(model),
        **{name: text for name, text in comfyui_metadata.items() if name.startswith(PREFIX)},
        **(model.get_attachment(ATTACHMENT) or {}),
    }


def position_scale(model: ModelPatcher) -> float:
    """Read the scale of rotary positions with which the model's LoRA was trained."""
    return check_position_scale(lora_metadata(model))


def set_positions(model: ModelPatcher) -> None:
    """Set a model's scale of rotary positions to that of its LoRA."""
    position_factor = position_scale(model)
    model.set_model_rope_options(position_factor, 0.0, position_factor, 0.0, 1.0, 0.0)


def merged_metadata(model: ModelPatcher) -> Mapping[str, str]:
    """Read the training settings of a LoRA that is merged into the model's file."""
    loader, loader_arguments, *_ = getattr(model, "cached_patcher_init", None) or (None, ("",))
    file = Path(str(loader_arguments[0]))
    is_model_file = getattr(loader, "__name__", "") == "load_diffusion_model" and file.is_file()
    can_read = is_model_file and file.suffix == ".safetensors"
    return _read_merged_metadata(file, file.stat().st_mtime_ns) if can_read else {}


@lru_cache(maxsize=4)
def _read_merged_metadata(file: Path, changed_ns: int) -> Mapping[str, str]:
    """Read the metadata once for each state of the file."""
    del changed_ns
    metadata = read_header(file, "model").get("__metadata__") or {}
    egox_metadata = {name: text for name, text in metadata.items() if name.startswith(PREFIX)}
    return egox_metadata if MERGED in egox_metadata else {}


def attach_lora_metadata(model: ModelPatcher, metadata: Mapping[str, str]) -> list[str]:
    """Store a LoRA's training settings on a model, and list contradictions to an earlier LoRA."""
    earlier_metadata = dict(lora_metadata(model))
    egox_metadata = {name: value for name, value in metadata.items() if name.startswith(PREFIX)}
    contradicting = sorted(
        name for name, value in egox_metadata.items() if earlier_metadata.get(name, value) != value
    )
    if egox_metadata:
        model.set_attachments(ATTACHMENT, {**earlier_metadata, **egox_metadata})
    return contradicting
