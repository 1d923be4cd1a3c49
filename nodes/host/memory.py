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
        """Count the bytes that are free or that other models give up, less those that are needed.

        Needed are those of a forward, of weights that are still to come (on the model's
        device), and of other programs. A text encoder, CLIP and VAE whose work is done stay
        on the device for as long as nobody needs their room: 8 GB in the shipped graphs.
        """
        free_bytes = int(management.get_free_memory(device))
        if management.is_device_cpu(device):
            return free_bytes - MAIN_MEMORY_LEFT
        freed_bytes = sum(loaded.model_loaded_memory() for loaded in self._others(device))
        return free_bytes + freed_bytes - self._needed_bytes()

    def take(self, device: torch.device, size: int) -> None:
        """Have text encoders, VAEs and other models leave, if so much isn't free."""
        if not management.is_device_cpu(device):
            leaving_models = self._others(device)
            kept_models = [
                loaded
                for loaded in management.current_loaded_models
                if loaded not in leaving_models
            ]
            management.free_memory(size + self._needed_bytes(), device, keep_loaded=kept_models)

    def _needed_bytes(self) -> int:
        to_load = self._model.model_size() - self._model.loaded_size()
        return to_load + self._forward_bytes + int(management.minimum_inference_memory())

    def _others(self, device: torch.device) -> list[Any]:
        """List the host's entries of models on the device that this one's forward doesn't need."""
        needed_models = (
            *self._model.get_nested_additional_models(),
            *self._model.model_patches_models(),
        )
        return [
            loaded
            for loaded in management.current_loaded_models
            if loaded.device == device
            and loaded.model is not None
            and loaded.model not in needed_models
            and not self._model.is_clone(loaded.model)
        ]

    def pin(self, tensor: Tensor) -> bool:
        """Pin a tensor within the host's own limit, beyond which it is fetched more slowly."""
        return management.pin_memory(tensor)

    def unpin(self, tensor: Tensor) -> None:
        """Unpin a tensor that :meth:`pin` pinned."""
        management.unpin_memory(tensor)
