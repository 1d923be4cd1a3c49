"""The host's memory management, as the exo cache and drawing ask it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MAIN_MEMORY_LEFT = 4 * 2**30
"""Bytes of main memory that are left to the rest of the machine."""
DRAWING_BYTES = 2**30
"""Room for drawing a prior; where it is not enough, the CPU draws."""


def drawing_device() -> torch.device:
    """Choose the host's device to draw points on, for which models move out where its memory is
    full."""
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        management.free_memory(DRAWING_BYTES, device)
    return device


class HostMemory:
    """Room beside one model's full forward, and pinned main memory."""

    def __init__(self, model: ModelPatcher, canvas_shape: list[int]) -> None:
        # The model's own callbacks lead here: a strong reference would make a circle, and the host
        # then collects all garbage again before each later model that it loads.
        self._model = weakref.proxy(model)
        self._forward_bytes = int(model.memory_required(canvas_shape))

    def room(self, device: torch.device) -> int:
        """Bytes that are free or that other models give up, less those that a forward and weights
        that are still to come (on the model's device) or other programs need.

        A text encoder, CLIP and VAE whose work is done stay on the device for as long as nobody
        needs their room: 8 GB in the shipped graphs.
        """
        free = int(management.get_free_memory(device))
        if management.is_device_cpu(device):
            return free - MAIN_MEMORY_LEFT
        given_up = sum(one.model_loaded_memory() for one in self._others(device))
        return free + given_up - self._needed_bytes()

    def take(self, device: torch.device, size: int) -> None:
        """Have text encoders, VAEs and other models leave, if so much isn't free."""
        if not management.is_device_cpu(device):
            others = self._others(device)
            stay = [one for one in management.current_loaded_models if one not in others]
            management.free_memory(size + self._needed_bytes(), device, keep_loaded=stay)

    def _needed_bytes(self) -> int:
        to_load = self._model.model_size() - self._model.loaded_size()
        return to_load + self._forward_bytes + int(management.minimum_inference_memory())

    def _others(self, device: torch.device) -> list[Any]:
        """List the host's entries of models on the device that this one's forward doesn't need."""
        needed = (*self._model.get_nested_additional_models(), *self._model.model_patches_models())
        return [
            one
            for one in management.current_loaded_models
            if one.device == device
            and one.model is not None
            and one.model not in needed
            and not self._model.is_clone(one.model)
        ]

    def pin(self, tensor: Tensor) -> bool:
        """Pin within the host's own limit; beyond it the tensor is fetched more slowly."""
        return management.pin_memory(tensor)

    def unpin(self, tensor: Tensor) -> None:
        """Unpin a tensor that :meth:`pin` pinned."""
        management.unpin_memory(tensor)
