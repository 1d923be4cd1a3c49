"""Connect the exo cache and the drawing of points to ComfyUI's memory management."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MAIN_MEMORY_LEFT = 4 * 2**30
"""Bytes of main memory that stay free for other programs."""
DRAWING_BYTES = 2**30
"""Memory for drawing a prior. Without it, points are drawn on the CPU."""


def drawing_device() -> torch.device:
    """Choose ComfyUI's device to draw points on, and unload models if its memory is full."""
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        management.free_memory(DRAWING_BYTES, device)
    return device


class ComfyMemory:
    """Measure and reserve free memory for the exo cache through ComfyUI's memory management."""

    def __init__(self, model: ModelPatcher, canvas_shape: list[int]) -> None:
        # The model's own callbacks lead here: a strong reference would make a circle, and the host
        # then collects all garbage again before each later model that it loads.
        self._model = weakref.proxy(model)
        self._forward_bytes = int(model.memory_required(canvas_shape))

    def available_bytes(self, device: torch.device) -> int:
        """Compute how many bytes the exo cache may use on a device.

        Needed are those of a forward, of weights that are not loaded yet (on the model's
        device), and of other programs. A text encoder, CLIP and VAE stay on the device after
        their work until their memory is needed: 8 GB in the shipped graphs.
        """
        free_bytes = int(management.get_free_memory(device))
        if management.is_device_cpu(device):
            return free_bytes - MAIN_MEMORY_LEFT
        freed_bytes = sum(loaded.model_loaded_memory() for loaded in self._other_models(device))
        return free_bytes + freed_bytes - self._needed_bytes()

    def reserve(self, device: torch.device, size: int) -> None:
        """Free this many bytes on a device, by unloading other models if necessary."""
        if not management.is_device_cpu(device):
            leaving_models = self._other_models(device)
            kept_models = [
                loaded
                for loaded in management.current_loaded_models
                if loaded not in leaving_models
            ]
            management.free_memory(size + self._needed_bytes(), device, keep_loaded=kept_models)

    def _needed_bytes(self) -> int:
        bytes_to_load = self._model.model_size() - self._model.loaded_size()
        return bytes_to_load + self._forward_bytes + int(management.minimum_inference_memory())

    def _other_models(self, device: torch.device) -> list[Any]:
        """List ComfyUI's loaded models on the device that the current model doesn't need."""
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
        """Pin a tensor in main memory, within ComfyUI's limit, so that it is copied faster."""
        return management.pin_memory(tensor)

    def unpin(self, tensor: Tensor) -> None:
        """Unpin a tensor that :meth:`pin` pinned."""
        management.unpin_memory(tensor)
