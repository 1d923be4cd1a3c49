"""The Wan model's side of a canvas: its input, its names, its encoders, its schedule.

In: latents of exo, ego prior and noise, all in model space. Out: the 36 channels of the whole
canvas (:func:`build_mask`, :func:`model_input`; :func:`widen` puts the exo half beside what a
host samples), LoRA files under the names that a host reads (:func:`convert_lora`) and the authors'
noise levels (:func:`released_schedule`). The words: :mod:`.prompt`, and :mod:`.caption` where a
language model writes them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
