"""The device that points are drawn on, and the CPU where that one can't."""

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
    """The device that options ask for, and the CPU where that one can't draw.

    It can't without float64 (Apple's MPS), and from the moment its memory runs out.

    Attributes:
        notes: what was odd about the drawing, such as why it is the CPU instead.
    """

    def __init__(self, options: PriorOptions) -> None:
        self._now = options.torch_device()
        self.notes: tuple[Remark, ...] = ()
        try:
            torch.ones(1, device=self._now).double().add_(1)
        except (RuntimeError, TypeError, AssertionError) as error:  # the last: a torch without CUDA
            self._give_up(error)

    def draw(self, picture: Callable[[torch.device], Drawn]) -> Drawn:
        """Draw the picture that ``picture`` makes on this device, or on the CPU if memory runs out."""
        if self._now != CPU:
            try:
                return picture(self._now)
            except RuntimeError as error:
                if not is_oom(error):
                    raise
                self._give_up(error)
        return picture(CPU)

    def _give_up(self, error: Exception) -> None:
        reason = str(error).splitlines()[0].partition(". ")[0]
        warning = f"the prior is drawn on the CPU, not on {self._now}: {reason}"
        self._now, self.notes = CPU, (*self.notes, Remark(warning, RemarkKind.WARNING))
        log.warning("EgoX: %s", warning)
