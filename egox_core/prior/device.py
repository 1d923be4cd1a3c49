"""Choose the device that points are drawn on, with the CPU as a fallback."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from ..errors import is_oom
from ..remarks import Remark, RemarkKind
from .options import CPU, PriorOptions

Drawn = TypeVar("Drawn")
log = logging.getLogger(__name__)


class DrawingDevice:
    """Device for drawing points, replaced by the CPU if it can't draw or runs out of memory.

    It can't without float64 (Apple's MPS), and from the moment its memory runs out.

    Attributes:
        notes: what was odd about the drawing, such as why it is the CPU instead.
    """

    def __init__(self, options: PriorOptions) -> None:
        self._device = options.torch_device()
        self.notes: tuple[Remark, ...] = ()
        try:
            torch.ones(1, device=self._device).double().add_(1)
        except (RuntimeError, TypeError, AssertionError) as error:  # the last: a torch without CUDA
            self._fall_back_to_cpu(error)

    def draw(self, picture: Callable[[torch.device], Drawn]) -> Drawn:
        """Draw by calling ``picture`` with this device, or with the CPU if memory runs out."""
        if self._device != CPU:
            try:
                return picture(self._device)
            except RuntimeError as error:
                if not is_oom(error):
                    raise
                self._fall_back_to_cpu(error)
        return picture(CPU)

    def _fall_back_to_cpu(self, error: Exception) -> None:
        reason = str(error).splitlines()[0].partition(". ")[0]
        warning = f"the prior is drawn on the CPU, not on {self._device}: {reason}"
        self._device, self.notes = CPU, (*self.notes, Remark(warning, RemarkKind.WARNING))
        log.warning("EgoX: %s", warning)
