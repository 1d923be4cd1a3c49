"""Store a LoRA's name and training settings on the model for later nodes to read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...egox_core.wan import MERGED, check_position_scale, egox_entries, read_header

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

ATTACHMENT = "egox_lora_metadata"
NAMES = "egox_lora_names"
"""Attachment with a line for each LoRA that EgoX LoRA added: its file and strength."""
STRENGTH = " at strength "
COMFYUI_ATTACHMENT = "lora_metadata"
"""Attachment of ComfyUI's own Load LoRA, with all metadata of the last file."""

LORA_NODE = re.compile("lora", re.IGNORECASE)
NO_MATRICES = re.compile(r"(\.bias|norm[^.]*\.weight)$")
"""Weights that step-distilled LoRAs change and EgoX's doesn't."""
WITHOUT = "without EgoX's LoRA this model makes noise instead of the ego view: {}"
ADD = "add EgoX LoRA before this node, or switch it on"


def lora_metadata(model: ModelPatcher) -> Mapping[str, str]:
    """Collect the ``egox.*`` metadata of the LoRAs on this model and in its file."""
    return {
        **merged_metadata(model),
        **egox_entries(model.get_attachment(COMFYUI_ATTACHMENT) or {}),
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
    egox_metadata = egox_entries(_file_metadata(model))
    return egox_metadata if MERGED in egox_metadata else {}


def _file_metadata(model: ModelPatcher) -> Mapping[str, str]:
    """Read the metadata of the file that a model was loaded from, which are empty if unknown."""
    loader, loader_arguments, *_ = getattr(model, "cached_patcher_init", None) or (None, ("",))
    file = Path(str(loader_arguments[0]))
    is_model_file = getattr(loader, "__name__", "") == "load_diffusion_model" and file.is_file()
    can_read = is_model_file and file.suffix == ".safetensors"
    return _read_metadata(file, file.stat().st_mtime_ns) if can_read else {}


@lru_cache(maxsize=4)
def _read_metadata(file: Path, changed_ns: int) -> Mapping[str, str]:
    """Read the metadata once for each state of the file."""
    del changed_ns
    return read_header(file, "model").get("__metadata__") or {}


def describe_loras(model: ModelPatcher) -> tuple[str, str]:
    """Describe which LoRAs act on a model at which strengths, and what the lack of EgoX's means.

    The second text is empty unless it is certain that EgoX's is missing: LoRAs of other loaders and
    files that hold a LoRA may be EgoX's.
    """
    merged, metadata = merged_metadata(model), _file_metadata(model)
    lines = [f"in its file: {merged.get(f'{MERGED}_from', 'a LoRA')}"] if merged else []
    if not merged and _was_saved_with_lora(metadata.get("prompt", "")):
        lines.append("in its file, which a graph with a LoRA saved")
    named_lines = list(model.get_attachment(NAMES) or ())
    lines += named_lines
    strengths = [
        f"{strength:g}"
        for strength, *_ in max(model.patches.values(), key=len, default=())
        if isinstance(strength, (int, float))
    ]
    if len(strengths) > len(named_lines):
        other_strengths = ", ".join(strengths[len(named_lines) :] if named_lines else strengths)
        lines.append(f"of ComfyUI's own loader at strength {other_strengths}")
    doubt = ""
    if not lines:
        doubt = WITHOUT.format(ADD)
    elif len(lines) == 1 and strengths and not lora_metadata(model):
        if any(NO_MATRICES.search(name) for name in model.patches):
            doubt = WITHOUT.format(f"its only LoRA makes the steps fewer; {ADD}")
    names = [line.rpartition(STRENGTH)[0] for line in named_lines]
    twice = "".join(
        f"; {name} is added more than once, so its strengths add up"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    )
    return f"LoRA {', '.join(lines)}{twice}" if lines else "no LoRA", doubt


def _was_saved_with_lora(prompt_text: str) -> bool:
    """Check whether a graph that ComfyUI's Save Model noted in a file had a LoRA."""
    try:
        graph = json.loads(prompt_text or "{}")
    except ValueError:
        return False
    return isinstance(graph, dict) and any(
        LORA_NODE.search(str(node.get("class_type")))
        for node in graph.values()
        if isinstance(node, dict)
    )


def attach_lora_name(model: ModelPatcher, name: str, strength: float) -> None:
    """Note on a model that a LoRA was added to it."""
    earlier_lines = model.get_attachment(NAMES) or ()
    model.set_attachments(NAMES, (*earlier_lines, f"{name}{STRENGTH}{strength:g}"))


def attach_lora_metadata(model: ModelPatcher, metadata: Mapping[str, str]) -> list[str]:
    """Store a LoRA's training settings on a model, and list contradictions to an earlier LoRA."""
    earlier_metadata = dict(lora_metadata(model))
    egox_metadata = egox_entries(metadata)
    contradicting = sorted(
        name for name, value in egox_metadata.items() if earlier_metadata.get(name, value) != value
    )
    if egox_metadata:
        model.set_attachments(ATTACHMENT, {**earlier_metadata, **egox_metadata})
    return contradicting
