"""Geometry-guided attention: which exo tokens an ego query should look at, and attention that does
so (paper 3.2).

In: metric depth of exo and the ego camera's poses give :func:`gga_geometry`, unit directions of all
tokens of a canvas (a few MB, once a sampling run). Out: :func:`gga_attention`, self-attention
with the bias of mode and strength in :class:`GgaOptions`, for any host and for training. λ_g
acts in one formula, :func:`bias_from_cosine`.

diffusers' Wan transformer gets it from ``install_gga`` of :mod:`egox_train.wan.diffusers_processor`;
rows of a real attention to look at are in :mod:`.record`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
