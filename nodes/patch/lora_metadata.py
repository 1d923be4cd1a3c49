"""Training settings of a LoRA's file, carried on the model from EgoX LoRA to the nodes
downstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...egox_core.wan import PREFIX

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

ATTACHMENT = "egox_lora_metadata"


def lora_metadata(model: ModelPatcher) -> Mapping[str, str]:
    """The ``egox.*`` metadata of the LoRAs on this model; empty where none says anything."""
    return model.get_attachment(ATTACHMENT) or {}


def attach_lora_metadata(model: ModelPatcher, metadata: Mapping[str, str]) -> list[str]:
    """Add a LoRA's ``egox.*`` metadata to a cloned model; the names on which it contradicts an
    earlier LoRA."""
    earlier = dict(lora_metadata(model))
    ours = {name: value for name, value in metadata.items() if name.startswith(PREFIX)}
    contradicting = sorted(
        name for name, value in ours.items() if earlier.get(name, value) != value
    )
    if ours:
        model.set_attachments(ATTACHMENT, {**earlier, **ours})
    return contradicting
