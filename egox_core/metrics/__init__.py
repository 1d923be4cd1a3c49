"""Figures that a node shows: how far a generated view is off its path, PSNR, and the pairs of a
sweep.

In: generated and true ego video [T, H, W, 3] (float 0...1), the ego prior and its geometry. Out:
degrees and dB per frame (:mod:`.off_path`, :mod:`.image`); lists of λ_g and LoRA strength.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
